"""`make bench-gpu`: how fast a GPU trains: plain steps, CUDA graphs, several runs in one process.

python tests/bench/gpu.py [--minutes N] [--json FILE]

Everything is a `genreclf train` on random features of the paper's shape, so what is measured is
what users get. Correctness comes first; if it fails, nothing is timed. Without a GPU, the same
script runs at a small size, which tests it but says nothing about a GPU.
"""

import argparse
import contextlib
import io
import json
import math
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from genreclf.commands import hydra_app
from genreclf.training import memory

GRID, EPOCHS, CLIPS = 54, 30, 5600  # the paper's grid: runs, epochs of each, training clips
BATCH = 16
BYTES = 220e6  # a clip of 128 x 1292 at ideal fusion in bfloat16 (forward, backward)
RATES = [1e-3 * 0.97**number for number in range(GRID)]  # of the runs of a pack


@dataclass
class Sizes:
    """What is measured."""

    shapes: list[tuple[int, int]]  # bins, frames
    packs: list[int]
    clips: int  # of the store
    epochs: int  # timed epochs, after one that is not


FULL = Sizes([(128, 1292), (128, 128)], [2, 4, 8, 16, GRID], 800, 3)
SMALL = Sizes([(32, 48)], [2, 3], 80, 1)


class Timer(pl.Callback):
    """Notes when each epoch of each run ends, and the peak of the GPU's memory."""

    ends: list[tuple[int, float]]  # epoch, seconds; of all runs of the current measurement
    steps = 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait for the GPU, and note the time."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        Timer.ends.append((trainer.current_epoch, time.perf_counter()))
        Timer.steps = int(trainer.num_training_batches)


class Profile(pl.Callback):
    """Profiles some steps of the second epoch."""

    table = ""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the profiler."""
        self.profiler = None
        if trainer.current_epoch == 1:
            self.profiler = torch.profiler.profile()
            self.profiler.start()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop it and keep its table."""
        if self.profiler is not None:
            self.profiler.stop()
            key = "cuda_time_total" if torch.cuda.is_available() else "cpu_time_total"
            Profile.table = self.profiler.key_averages().table(sort_by=key, row_limit=20)


@dataclass
class Bench:
    """The measurements so far."""

    folder: Path
    sizes: Sizes
    deadline: float
    has_gpu: bool
    figures: dict[str, Any] = field(default_factory=dict)
    count: int = 0

    def train(
        self, shape: tuple[int, int], *overrides: str, callback: str = "Timer"
    ) -> list[dict[str, Any]]:
        """Run `genreclf train` on random features of a shape; return all its results."""
        self.count += 1
        outputs = self.folder / f"run{self.count}"
        Timer.ends = []
        given = [
            *("data=npz", f"data.path={self.make_features(shape)}", f"outputs={outputs}"),
            f"store={self.folder}/{shape[0]}x{shape[1]}.h5",
            *("trainer=gpu", f"batch_size={BATCH}", "scheduler=none", "report=false", "test=false"),
            f"trainer.callbacks=[{{_target_: gpu.{callback}}}]",
            *(["trainer.accelerator=cpu", "compile=false"] if not self.has_gpu else []),
            *overrides,
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            hydra_app.run("train", "config", given)
        results = [json.loads(path.read_text()) for path in outputs.glob("train/*/result.json")]
        return sorted(results, key=lambda result: -result["config"]["optimizer"]["lr"])

    def make_features(self, shape: tuple[int, int]) -> Path:
        """Write an archive of random features of 8 genres."""
        path = self.folder / f"{shape[0]}x{shape[1]}.npz"
        if not path.exists():
            random = np.random.default_rng(0)
            rows = random.standard_normal((self.sizes.clips, *shape), np.float32).astype(np.float16)
            numbers = np.arange(self.sizes.clips)
            np.savez(path, features=rows, labels=numbers % 8, track_ids=numbers)
        return path

    def has_time(self, seconds: float = 0) -> bool:
        """Whether there is time for something that takes so many seconds."""
        return time.monotonic() + seconds < self.deadline


def pack(number: int) -> list[str]:
    """List the overrides with which a number of runs share one process."""
    rates = ",".join(f"{rate:.6g}" for rate in RATES[:number])
    return ["-m", "hydra/launcher=packed", f"optimizer.lr={rates}"]


def check(bench: Bench) -> list[str]:
    """Compare 20 losses of graphs with plain steps, and of packed runs with single ones."""
    shape = bench.sizes.shapes[-1]
    problems = []
    steps = ["trainer.limit_train_batches=1", "trainer.max_epochs=20", "compile=false"]
    exact = ["trainer.precision=32-true", "trainer.deterministic=true"]
    for name, settings, tolerance in (("bf16", [], 1e-3), ("float32", exact, 1e-4)):
        alone = [f"optimizer.lr={RATES[0]:.6g}", *steps, *settings]
        (plain,) = bench.train(shape, *alone, "cuda_graphs=false")
        (graphed,) = bench.train(shape, *alone)
        packed = bench.train(shape, *steps, *settings, *pack(3))[0]
        for other, label in ((plain, "plain steps"), (packed, "packed")):
            pairs = zip(graphed["history"], other["history"], strict=True)
            gap = max(abs(one["train/loss"] - two["train/loss"]) for one, two in pairs)
            bench.figures[f"difference, {name}, {label}"] = gap
            print(f"first 20 losses, {name}, alone against {label}: differ by {gap:.1e}")
            if not gap <= tolerance:
                problems.append(f"{name}, {label}: {gap:.1e}, above {tolerance:.0e}")
    return problems


def measure_copy_rate() -> float:
    """Measure how many bytes per second the GPU reads and writes when it copies."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    for _ in range(3):
        target.copy_(source)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(20):
        target.copy_(source)
    torch.cuda.synchronize()
    return 20 * 2 * source.numel() / (time.perf_counter() - start)


def measure(bench: Bench, shape: tuple[int, int], runs: int, *overrides: str) -> dict[str, float]:
    """Time the steps of runs, from the end of their first epoch on."""
    if bench.has_gpu:
        torch.cuda.reset_peak_memory_stats()
    epochs = 1 + bench.sizes.epochs
    bench.train(shape, f"trainer.max_epochs={epochs}", *overrides)
    first = max(seconds for epoch, seconds in Timer.ends if epoch == 0)
    last = max(seconds for _, seconds in Timer.ends)
    step = (last - first) / (bench.sizes.epochs * Timer.steps * runs)
    peak = torch.cuda.max_memory_allocated() / 2**20 if bench.has_gpu else math.nan
    return {"ms per step": 1000 * step, "clips/s": BATCH / step, "peak, MiB": peak}


def tabulate(bench: Bench, copy_rate: float | None) -> None:
    """Measure and print one line per way of training and shape; validation is included."""
    print("| shape | way | ms per step of one run | clips/s | peak, MiB | of the limit |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    ways = {
        "plain steps": (1, ["compile=false", "cuda_graphs=false"]),
        "CUDA graphs": (1, ["compile=false"]),
        "CUDA graphs, compiled": (1, []),
        **{f"{n} packed": (n, ["compile=false", *pack(n)]) for n in bench.sizes.packs},
    }
    for shape in bench.sizes.shapes:
        for way, (runs, overrides) in ways.items():
            name = f"{shape[0]} x {shape[1]}, {way}"
            if not bench.has_time(20):
                print(f"| {name} | no time left |")
                continue
            found = measure(bench, shape, runs, *overrides)
            share = math.nan
            if copy_rate:
                limit = copy_rate / (BYTES * math.prod(shape) / (128 * 1292))  # clips per second
                share = found["clips/s"] / limit
            bench.figures[name] = {**found, "share of the bandwidth limit": share}
            print(
                f"| {shape[0]} x {shape[1]} | {way} | {found['ms per step']:.2f} | "
                f"{found['clips/s']:.0f} | {found['peak, MiB']:.0f} | {share:.1%} |",
                flush=True,
            )


def run_grid(bench: Bench) -> None:
    """Run the paper's grid on few clips, and extrapolate to all clips and epochs."""
    shape, epochs = bench.sizes.shapes[0], 2
    points = [] if bench.has_gpu else ["hydra.sweeper.params=null", "optimizer.beta2=0.98,0.999"]
    start = time.perf_counter()
    results = bench.train(
        shape,
        *("-m", "phase=grid", "hydra/launcher=packed", f"trainer.max_epochs={epochs}", *points),
    )
    seconds = time.perf_counter() - start
    first = max(end for epoch, end in Timer.ends if epoch == 0)
    second = max(end for _, end in Timer.ends) - first
    whole = second * (CLIPS / BATCH) / Timer.steps * EPOCHS / 60
    bench.figures["grid"] = {
        "runs": len(results),
        "steps per epoch": Timer.steps,
        "seconds of both epochs, with start": seconds,
        "seconds of the second epoch": second,
        "minutes, extrapolated": whole,
    }
    print(
        f"{len(results)} runs of the grid, {Timer.steps} steps per epoch: {seconds:.0f} s for "
        f"{epochs} epochs, {second:.1f} s for the second; EXTRAPOLATED to {CLIPS} clips and "
        f"{EPOCHS} epochs: {whole:.0f} min"
    )


def project(bench: Bench) -> None:
    """Print how long the whole grid would take on several GPUs, from the measured rates."""
    bins, frames = bench.sizes.shapes[0]
    steps = EPOCHS * CLIPS / BATCH
    for gpus in (1, 8, 64):
        runs = math.ceil(GRID / gpus)
        size = min((n for n in bench.sizes.packs if n >= runs), default=max(bench.sizes.packs))
        way = "CUDA graphs" if runs == 1 else f"{size} packed"
        measured = bench.figures.get(f"{bins} x {frames}, {way}")
        if measured is None:
            continue
        minutes = measured["ms per step"] * runs * steps / 60e3
        bench.figures[f"minutes, projected, {gpus} GPUs"] = minutes
        print(
            f"PROJECTED: the grid on {gpus} GPUs, {runs} runs each at the rate of {way}: "
            f"{minutes:.1f} min of training"
        )


def main() -> None:
    """Check, measure, print, and write the JSON file."""
    parser = argparse.ArgumentParser("make bench-gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8, help="when to stop; default: 8")
    parser.add_argument("--json", type=Path, default=Path("outputs/bench-gpu.json"))
    given = parser.parse_args()
    deadline, has_gpu = time.monotonic() + 60 * given.minutes, torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place), FULL if has_gpu else SMALL, deadline, has_gpu)
        bench.figures["device"] = memory.name_device() if has_gpu else "no GPU: a test, no result"
        bench.figures["versions"] = {"torch": torch.__version__, "cuda": torch.version.cuda}
        print(bench.figures["device"])
        if problems := check(bench):
            raise SystemExit("; ".join(problems))
        copy_rate = measure_copy_rate() if has_gpu else None
        if copy_rate:
            print(f"copying: {copy_rate / 1e12:.2f} TB/s")
        bench.figures["bytes per second of a copy"] = copy_rate
        tabulate(bench, copy_rate)
        project(bench)
        if bench.has_time(60):
            run_grid(bench)
        short = ["trainer.max_epochs=2", "trainer.limit_train_batches=5", "compile=false"]
        bench.train(bench.sizes.shapes[0], *short, callback="Profile")
        bench.figures["profile"] = Profile.table
        print(Profile.table)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(bench.figures, indent=1))
    print(given.json)


if __name__ == "__main__":
    import gpu  # the callbacks below, which Hydra imports by this name

    gpu.main()
