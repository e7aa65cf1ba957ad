"""Timing: each side of a comparison has its own process, and they run in turn, A B A B ...

Each side is prepared once, then repeated. Taking turns means that a machine that slows down affects
both. The result is the median of the ratios, with the least and the greatest.
"""

import contextlib
import multiprocessing
import os
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

import psutil

Repeat = Callable[[], dict[str, float]]  # does the work once; returns figures, including "rate"
Prepare = Callable[..., Repeat]


@dataclass
class Side:
    """One way to do the work: `prepare(*arguments)`, on so many cores and threads."""

    name: str
    prepare: Prepare
    arguments: tuple[Any, ...] = ()
    cores: int = 2
    figures: list[dict[str, float]] = field(default_factory=list)
    memory_mb: float = 0.0  # peak of all its processes

    def median(self, key: str = "rate") -> float:
        """Median of the repetitions."""
        return statistics.median(figures[key] for figures in self.figures)


def measure_in_turn(sides: list[Side], repetitions: int) -> None:
    """Warm up each side once, then repeat all in turn and record their figures."""
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory())
        turns = [stack.enter_context(_start(context, side, place)) for side in sides]
        for _ in range(repetitions):
            for side, turn in zip(sides, turns, strict=True):
                turn.send(True)
                figures, memory = turn.recv()
                side.figures.append(figures)
                side.memory_mb = memory


def compute_ratio(side: Side, other: Side, key: str = "rate") -> dict[str, float]:
    """Median, least and greatest ratio of one side to the other over the repetitions."""
    pairs = zip(side.figures, other.figures, strict=True)
    ratios = [a[key] / b[key] for a, b in pairs]
    return {"median": statistics.median(ratios), "least": min(ratios), "greatest": max(ratios)}


@contextlib.contextmanager
def _start(context: Any, side: Side, place: str) -> Iterator[Connection]:
    """Start the process of a side; its temporary files go to `place`."""
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, side.prepare, side.arguments, side.cores))
    threads = {f"{name}_NUM_THREADS": str(side.cores) for name in ("OMP", "OPENBLAS", "MKL")}
    with mock.patch.dict(os.environ, threads, TMPDIR=place):  # before its libraries are imported
        process.start()
    there.close()
    try:
        here.recv()  # warmed up
        yield here
        here.send(False)
        process.join(60)
    finally:
        process.kill()
        process.join()


def _serve(turn: Connection, prepare: Prepare, arguments: tuple[Any, ...], cores: int) -> None:
    """Run a side in its process, once per message."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    peak = Peak()
    repeat = prepare(*arguments)
    repeat()
    turn.send(None)
    while turn.recv():
        turn.send((repeat(), peak.mb))


class Peak:
    """Peak memory of this process and its descendants; shared pages count once."""

    def __init__(self) -> None:
        self.mb = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(1):
            processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
            self.mb = max(self.mb, sum(map(_share, processes)) / 2**20)


def _share(process: psutil.Process) -> int:
    """Bytes of a process, with its share of shared pages; 0 if it has ended."""
    try:
        full: Any = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return getattr(full, "pss", full.uss)
