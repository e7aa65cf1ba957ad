from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genreclf.loggers import wandb_logger


def test_wandb_is_offline_unless_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.netrc
    monkeypatch.setattr("wandb.login", lambda **_: False)
    assert wandb_logger(tmp_path, "p")._offline
    monkeypatch.setattr("wandb.login", lambda **_: True)
    assert not wandb_logger(tmp_path, "p")._offline


def test_a_run_logs_to_wandb_offline(train: Callable[..., dict[str, Any]]) -> None:
    folder = train("logger=wandb")["folder"]
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))
