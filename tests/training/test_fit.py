from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping

from genreclf.training import callbacks, fit


class BegunError(Exception):
    """Training would begin now."""


def test_pytorch_uses_the_cores_of_a_container_a16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A16: PyTorch starts a thread per core of the machine, which slows a small share down."""

    def begin(*_: Any) -> None:
        raise BegunError

    before = torch.get_num_threads()
    monkeypatch.setattr(fit, "History", begin)
    parts: Any = type("Parts", (), {"seed": 0})
    try:
        for cores, threads in ((2, 2), (8, 4)):  # a smaller number that was chosen is kept
            torch.set_num_threads(4)
            monkeypatch.setattr(fit, "count_available_cores", lambda cores=cores: cores)
            with pytest.raises(BegunError):
                fit.fit(parts, parts, parts, tmp_path)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_monitor_last_does_not_stop_early() -> None:
    for monitor, stops in (("val/loss", True), ("last", False)):
        kept = callbacks.make_callbacks(Path(), monitor, 1, callbacks.History(0))
        assert any(isinstance(each, EarlyStopping) for each in kept) is stops
