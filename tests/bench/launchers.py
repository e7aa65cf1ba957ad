"""`make bench-launchers`: the demo's grid of 54 runs with several launchers: time and memory.

python tests/bench/launchers.py [--points N] [--json FILE]

The runs of `make demo`, each with one thread, by joblib in one process per core, packed into one
process, and packed into one process per core. Memory is the proportional set size of all processes
together, the largest of two measurements per second.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).parents[2]
CORES = os.cpu_count() or 1
LAUNCHERS = {
    "joblib": ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={CORES}"],
    "packed": ["hydra/launcher=packed"],
    "packed by joblib": [
        *("hydra/launcher=packed", "hydra.launcher.inner=joblib"),
        f"+hydra.launcher.settings.n_jobs={CORES}",
    ],
}


def list_overrides(points: int | None) -> list[str]:
    """List the overrides of the demo's grid: all points, or only the first ones of each setting."""
    study = yaml.safe_load((ROOT / "conf/study/demo.yaml").read_text())
    grid = yaml.safe_load((ROOT / "conf/phase/grid.yaml").read_text())
    swept = {k: v.split(",") for k, v in grid["hydra"]["sweeper"]["params"].items()}
    while points and len(list(itertools.product(*swept.values()))) > points:
        longest = max(swept, key=lambda key: len(swept[key]))
        swept[longest].pop()
    ranges = [f"{key}={','.join(values)}" for key, values in swept.items()]
    return [*study["overrides"], "test=false", "report=false", *ranges]


def measure(
    command: list[str],
    environment: dict[str, str],
    stdout: Any = subprocess.DEVNULL,
    accepted: Sequence[int] = (0,),
) -> dict[str, float]:
    """Run a command; return its seconds, CPU seconds and peak memory in MiB."""
    before, start = os.times(), time.perf_counter()
    process = psutil.Popen(command, env=environment, stdout=stdout)
    peak = 0
    while process.poll() is None:
        used = 0
        for each in [process, *process.children(recursive=True)]:
            try:
                used += each.memory_full_info().pss
            except psutil.Error:  # it has ended
                continue
        peak = max(peak, used)
        time.sleep(0.5)
    if process.returncode not in accepted:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    after = os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])  # of child processes
    return {"s": time.perf_counter() - start, "CPU s": cpu, "MiB": peak / 2**20}


def main() -> None:
    """Measure each launcher in turn, and print a table."""
    parser = argparse.ArgumentParser("make bench-launchers", description=__doc__)
    parser.add_argument("--points", type=int, help="at most so many runs; default: all 54")
    parser.add_argument("--json", type=Path, default=Path("outputs/bench-launchers.json"))
    given = parser.parse_args()
    overrides = list_overrides(given.points)
    genreclf = [sys.executable, "-m", "genreclf"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        store = [f"store={place}/store.h5"]
        prepare = [text for text in overrides if text.startswith("features")]
        subprocess.run([*genreclf, "prepare", *prepare, *store], check=True, env=environment)
        print("| launcher | runs | s | CPU s | peak memory, MiB |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for name, launcher in LAUNCHERS.items():
            outputs = f"{place}/{name.replace(' ', '-')}"
            words = ["train", "-m", *overrides, *store, f"outputs={outputs}", *launcher]
            found = measure([*genreclf, *words], environment)
            runs = len([*Path(outputs).glob("train/*/result.json")])
            figures[name] = {"runs": runs, **found}
            values = (found["s"], found["CPU s"], found["MiB"])
            print(f"| {name} | {runs} |", " | ".join(f"{x:.0f}" for x in values), "|", flush=True)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(figures, indent=1))
    print(given.json)


if __name__ == "__main__":
    main()
