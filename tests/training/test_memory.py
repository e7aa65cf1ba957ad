import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genreclf.data.reader import StoreDataset
from genreclf.errors import InputError
from genreclf.training import memory

Train = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_every_message_about_full_memory_is_recognised_a8(error: Exception) -> None:
    """A8: a batch that does not fit is one line, whichever library refuses it."""
    match = "batch_size=7 does not fit in the memory"
    with pytest.raises(memory.OutOfMemoryError, match=match), memory.report_exhaustion(7):
        raise RuntimeError("in the training step") from error


def test_other_errors_are_left_alone_a8() -> None:
    """A8: an error that only mentions CUDA is not blamed on the batch."""
    with pytest.raises(RuntimeError, match="device-side assert"), memory.report_exhaustion(7):
        raise RuntimeError("CUDA error: device-side assert triggered")


def test_memory_full_of_other_programs_is_not_final_a8(monkeypatch: pytest.MonkeyPatch) -> None:
    """A8: a study repeats such a run, and does not count it as one that does not fit."""
    assert memory.make_error(7).describe()["out_of_memory"]
    monkeypatch.setattr(memory, "measure_other_programs", lambda: 0.62)
    error = memory.make_error(7)
    assert "of which other programs use 62 %" in str(error)
    assert not error.describe()["out_of_memory"]


@pytest.mark.parametrize(
    ("place", "line", "out_of_memory"),
    [
        ("genreclf.training.run.fit", "batch_size=16 does not fit in the memory of", True),
        ("genreclf.training.run.make_data", "memory ran out; end other programs, or use", False),
    ],
)
def test_only_training_blames_the_batch_size_a8(
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    line: str,
    out_of_memory: bool,
) -> None:
    """A8: memory can also run out while the data are read, where a smaller batch does not help."""

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(place, fail)
    with pytest.raises(SystemExit):
        train("logger=none")
    assert f"genreclf: {line}" in capsys.readouterr().err
    (failure,) = tmp_path.glob("train/*/failure.json")
    assert json.loads(failure.read_text())["out_of_memory"] is out_of_memory


@pytest.mark.parametrize(
    "message",
    [
        "DataLoader worker (pid 12) is killed by signal: Killed. ",
        "DataLoader worker (pid(s) 12, 13) exited unexpectedly",
        "unable to open shared memory object </torch_1_2> in read-write mode: No space left (28)",
    ],
)
def test_a_killed_worker_is_one_line_d10(message: str) -> None:
    """D10, F9: the system kills a process that reads batches, or its shared memory is full."""
    match = "num_workers=0; the same command continues after"
    with pytest.raises(InputError, match=match), memory.report_killed_worker():
        raise RuntimeError(message)


@pytest.mark.slow
def test_a_worker_that_the_system_kills_is_one_line_d10(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """D10: a real process, killed while it reads a batch."""
    read = StoreDataset.__getitems__

    def read_or_die(self: StoreDataset, numbers: Any) -> Any:
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, numbers)

    monkeypatch.setattr(StoreDataset, "__getitems__", read_or_die)
    with pytest.raises(SystemExit):
        train("num_workers=1", "model=efficient_cnn", "logger=none")
    error = capsys.readouterr().err
    assert "genreclf: a process that reads batches was killed (out of memory?)" in error
    assert "Traceback" not in error
