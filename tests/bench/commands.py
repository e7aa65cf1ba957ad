"""Whole commands, timed from outside their process."""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 16
SMALL = ("features.n_mels=32", "features.hop_length=1024", "trainer.max_epochs=8", "report=false")
GRID = ("seed=0,1,2,3,4,5,6,7", "model=efficient_cnn,cnn_gru")
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def time_command(arguments: list[str], folder: Path | None = None) -> float:
    """Time a command, in seconds."""
    command = [sys.executable, "-m", "genreclf", *arguments]
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def sweep(repetitions: int) -> tuple[list[float], list[float], float]:
    """Time a grid of small runs in turn and with joblib; also the overhead of a run. In seconds."""
    in_turn, parallel, overheads = [], [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        time_command(["prepare", *SMALL[:2]], folder)
        for _ in range(repetitions):
            for launcher, taken in (((), in_turn), (JOBLIB, parallel)):
                shutil.rmtree(folder / "outputs" / "train", ignore_errors=True)
                taken.append(time_command(["train", "-m", *GRID, *SMALL, *launcher], folder))
                if not launcher:
                    overheads += _compute_overheads(folder / "outputs" / "train")
    return in_turn, parallel, statistics.median(overheads)


def _compute_overheads(folder: Path) -> list[float]:
    """Seconds from the end of one run to the end of the next, minus its training."""
    results = sorted(folder.glob("*/result.json"), key=lambda path: path.stat().st_mtime)
    ends = [path.stat().st_mtime for path in results]
    trained = [json.loads(path.read_text())["seconds"] for path in results]
    return [
        end - before - training
        for before, end, training in zip(ends, ends[1:], trained[1:], strict=False)
    ]
