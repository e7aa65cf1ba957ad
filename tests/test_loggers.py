import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY

from genreclf.loggers import wandb_logger


def test_wandb_is_online_when_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for logged_in, mode in ((True, None), (False, "offline")):
        monkeypatch.setattr("wandb.login", lambda logged_in=logged_in, **_: logged_in)
        assert wandb_logger(tmp_path, "p")._wandb_init["mode"] == mode


def test_a_sweep_logs_offline_when_not_logged_in(music: Path, tmp_path: Path) -> None:
    """As a user has it who never heard of W&B: no key, no terminal, no setting."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    arguments = ["train", "-m", "data=folder", f"data.root={music}", "data.duration=2.5", *TINY]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "genreclf", *arguments, "logger=wandb", "seed=0,1"),
            "trainer.max_epochs=1",
            f"outputs={tmp_path}",
        ],
        env={**kept, "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("train/*/wandb/offline-run-*/*.wandb"))) == 2
