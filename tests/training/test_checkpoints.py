"""What a kill, a full disk or a damaged file does to the checkpoints of an interrupted run."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genreclf.training.callbacks import History
from genreclf.training.checkpoint_files import AtomicCheckpointIO

pytestmark = pytest.mark.slow  # each trains a model several times

Train = Callable[..., dict[str, Any]]
RUN = ["trainer.max_epochs=3", "model=efficient_cnn", "logger=none"]


@pytest.fixture
def cut(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was interrupted in its third epoch."""
    start, handler = History.on_train_epoch_start, signal.getsignal(signal.SIGINT)

    def interrupt(self: History, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt
        start(self, trainer, module)

    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_epoch_start", interrupt)
        with pytest.raises(SystemExit):
            train(*RUN)
    signal.signal(signal.SIGINT, handler)
    (last,) = tmp_path.glob("train/*/last.ckpt")
    return last.parent


@pytest.mark.parametrize(
    ("name", "damage"), [("last.ckpt", "cut off"), ("best.ckpt", "empty"), ("best.ckpt", "gone")]
)
def test_a_damaged_checkpoint_counts_as_absent_f1(
    train: Train, cut: Path, name: str, damage: str
) -> None:
    """F1: the run starts again instead of failing forever, and one line says why."""
    content = (cut / name).read_bytes()
    (cut / name).write_bytes(content[: len(content) // 2] if damage == "cut off" else b"")
    if damage == "gone":
        (cut / name).unlink()
    result = train(*RUN)
    assert [epoch["epoch"] for epoch in result["history"]] == [0, 1, 2]
    assert [session["epoch"] for session in result["sessions"]] == [0]
    log = (cut / "train.log").read_text()
    assert f"{name} cannot be read" in log


def test_a_full_disk_leaves_the_last_checkpoint_f1(
    train: Train, cut: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """F1: a checkpoint that cannot be written to its end replaces nothing, so the run continues."""
    before = (cut / "last.ckpt").read_bytes()
    write = torch.save

    def fill_the_disk(content: Any, file: Any) -> None:
        write(content, file)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fill_the_disk)
        with pytest.raises(SystemExit):
            train(*RUN)
    assert "No space left on device" in capsys.readouterr().err
    assert (cut / "last.ckpt").read_bytes() == before
    assert not list(cut.glob(".*.ckpt.*"))
    result = train(*RUN)
    assert [session["epoch"] for session in result["sessions"]] == [0, 2]


def test_nothing_of_a_checkpoint_is_written_elsewhere_f1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F1: if TMPDIR is on another file system, moving a file from there is not atomic."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    moved = []
    monkeypatch.setattr(shutil, "move", lambda *paths: moved.append(paths))
    replaced = []
    replace = os.replace

    def note(source: Any, target: Any) -> None:
        replaced.append((Path(source).parent, Path(target)))
        replace(source, target)

    monkeypatch.setattr(os, "replace", note)
    AtomicCheckpointIO().save_checkpoint({"epoch": 3}, tmp_path / "last.ckpt")
    assert not moved
    assert replaced in ([], [(tmp_path, tmp_path / "last.ckpt")])
    assert AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt") == {"epoch": 3}
    assert not list((tmp_path / "tmp").iterdir())


def test_what_a_killed_process_left_is_removed_f6(train: Train, cut: Path) -> None:
    """F6: files of a checkpoint's size would pile up in the run's folder."""
    (cut / ".last.ckpt.99999").write_bytes(b"half of it")
    train(*RUN)
    assert not list(cut.glob(".*.ckpt.*"))
