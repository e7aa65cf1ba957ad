"""Watches worker processes from a thread, so that their limits hold while the caller is busy.

A worker that gives nothing for `STALL` seconds, or needs more than `MEMORY`, is killed. Time in
which it waits for a busy processor counts in part: a healthy file is not given up because the
machine is busy, and one that keeps a decoder busy for ever is, after a few times as long.
"""

import threading
import time
from collections.abc import Sequence

import psutil

from genreclf.audio.processes import Worker

STALL = 20.0  # s in which a worker has to give something
MEMORY = 1.5e9  # bytes, the most resident memory of a worker, without what its features hold
CHECK = 0.2  # s between two looks at the workers
WAITING = 1 / 3  # of the time that a worker waits for a processor, the share that counts
MOST_ELAPSED = 5.0  # s between two looks that count, if this process was stopped in between


class Watch:
    """Looks at workers until it is stopped.

    Args:
        workers: the list to which workers are added, and from which they are removed.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers, self._stopped = workers, threading.Event()
        self._looked = time.monotonic()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """Stop looking."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(CHECK):
            now = time.monotonic()
            elapsed, self._looked = min(now - self._looked, MOST_ELAPSED), now
            for worker in [*self._workers]:
                self._look_at(worker, elapsed)

    @staticmethod
    def _look_at(worker: Worker, elapsed: float) -> None:
        """Kill a worker that has exceeded a limit; note the reason and the item."""
        progress, number, held = worker.state
        if not progress:
            return
        try:
            process = psutil.Process(worker.process.pid)
            waited = _measure_time(worker, process, elapsed)
            worker.silent = worker.silent + waited if progress == worker.seen else 0.0
            worker.seen = progress
            memory = process.memory_info().rss - held
        except psutil.Error:  # it has just ended
            return
        if worker.silent > STALL:
            worker.give_up(int(number), f"no audio for {STALL:g} s: given up")
        elif memory > MEMORY:
            reason = f"needs more than {MEMORY / 1e9:g} GB of memory: given up"
            worker.give_up(int(number), reason)


def _measure_time(worker: Worker, process: psutil.Process, elapsed: float) -> float:
    """Return how much of the elapsed seconds counts."""
    times = process.cpu_times()
    used, worker.used = times.user + times.system - worker.used, times.user + times.system
    if process.status() != psutil.STATUS_RUNNING:  # it waits for something else
        return elapsed
    return min(elapsed, max(used, WAITING * elapsed))
