"""A pool of worker processes that are watched: a file that breaks one costs only its own result.

Decoders are C code that reads files from anywhere: a file may crash one, stall it, or make it take
all memory. A worker that ends is replaced, as is one that exceeds a limit and is killed (`watch`).
Its file gets a `DecodeError` with the reason; all other files are computed. The limits are for
decoding. Features may take as long and as much memory as they need: these are of a size that does
not depend on the file, and encoders need minutes to load.
"""

import atexit
import contextlib
import pickle
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any, NamedTuple

from genreclf.audio.processes import KILLED, Worker, describe_end, explain_no_start, start_worker
from genreclf.audio.serving import restore_error
from genreclf.audio.sound_files import DecodeError
from genreclf.audio.watch import CHECK, Watch
from genreclf.errors import InputError

SMALL = 2**14  # bytes of an item that fits into a worker's pipe while the worker is busy


class Event(NamedTuple):
    """Something about an item: one of its values, or its end.

    Attributes:
        number: of the item, counted from 0.
        value: what the function yielded or, at the end, returned.
        ended: whether this is the item's last event.
        error: why there is no result, as a rule at the end: a DecodeError if that is due to the
            item.
    """

    number: int
    value: Any = None
    ended: bool = False
    error: Exception | None = None


def run_in_workers(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    workers: int,
    *,
    ahead: int = 4,
    most: int = 1,
    linger: float = 0.0,
) -> Generator[list[Event], None, None]:
    """Compute `function(item)` for each item in worker processes; yield events as they arrive.

    Args:
        function: returns a result, or is a generator function, whose values arrive one by one;
            those that are None only show that it is not stalled. It raises DecodeError if the item
            has no result.
        items: what it takes.
        workers: number of processes.
        ahead: how many items for each worker may be ahead of the oldest unfinished one.
        most: number of events that are enough to be yielded together.
        linger: seconds to wait for as many, after the first one.

    Raises:
        InputError: the processes cannot start.
    """
    pool = _Pool(pickle.dumps(function), iter(items), workers, ahead * workers)
    atexit.register(pool.close)  # for an iterator that is left unfinished and kept
    try:
        while events := pool.gather(most, linger):
            yield events
    finally:
        atexit.unregister(pool.close)
        pool.close()


def map_in_order(
    function: Callable[[Any], Any], items: Iterable[Any], workers: int
) -> Generator[Any, None, None]:
    """Yield `function(item)` for each item in order, or the DecodeError of one without a result.

    At most `4 * workers` results are computed ahead, which bounds the memory.

    Raises:
        InputError: the processes cannot start.
        Exception: what the function raised, when it is its item's turn.
    """
    done: dict[int, Event] = {}
    turn = 0
    with contextlib.closing(run_in_workers(function, items, workers)) as batches:
        for event in (event for batch in batches for event in batch):
            done[event.number] = event
            while turn in done:
                ended = done.pop(turn)
                turn += 1
                if ended.error and not isinstance(ended.error, DecodeError):
                    raise ended.error
                yield ended.error or ended.value


@dataclass
class _Task:
    """An item that is handed out and not finished."""

    payload: bytes
    began: bool = False  # whether one of its values has been delivered
    repeated: bool = False


@dataclass
class _Pool:
    """The state of `run_in_workers`."""

    function: bytes
    items: Iterator[Any]
    count: int  # of workers
    ahead: int  # items
    workers: list[Worker] = field(default_factory=list)
    tasks: dict[int, _Task] = field(default_factory=dict)  # unfinished, by number
    waiting: deque[int] = field(default_factory=deque)  # tasks to be handed out
    alone: deque[int] = field(default_factory=deque)  # tasks to be repeated while no other runs
    following: int = 0  # number of the next item
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(self.workers)

    def gather(self, most: int, linger: float) -> list[Event]:
        """Wait for events; none are left if there is none."""
        events: list[Event] = []
        until = 0.0
        while True:
            self._hand_out()
            now = time.monotonic()
            rest = until - now if events else CHECK
            if not self.tasks or len(events) >= most or rest <= 0:
                return events
            got = self._receive(min(rest, CHECK))
            if got and not events:
                until = time.monotonic() + linger
            events += got

    def close(self) -> None:
        """End all workers, which keep nothing that is worth saving."""
        self.watch.stop()
        for worker in self.workers:
            worker.end(kill=True)
        self.workers.clear()

    def _hand_out(self) -> None:
        """Give each worker something to do, and one more item for afterwards."""
        while (worker := self._choose_worker()) and (number := self._choose_task()) is not None:
            payload = self.tasks[number].payload
            if worker.assigned and len(payload) > SMALL:  # sending it would block
                self.waiting.appendleft(number)
                return
            if not worker.give(number, payload) and len(worker.assigned) == 1:  # died while idle
                self.workers.remove(worker)
                code = worker.end(kill=True)
                if not worker.started:
                    raise InputError(explain_no_start(code))
                self.waiting.appendleft(number)

    def _choose_worker(self) -> Worker | None:
        """Choose the worker with the least to do, or None if all have enough."""
        repeated = any(task.repeated for task in self.tasks.values())
        if repeated and any(worker.assigned for worker in self.workers):
            return None
        idle = min(self.workers, key=lambda worker: len(worker.assigned), default=None)
        if idle is None or (idle.assigned and len(self.workers) < self.count):
            if not self.waiting and not self.alone and not self._take_item():
                return None
            idle = start_worker(self.function)
            self.workers.append(idle)
        return idle if len(idle.assigned) < 2 else None

    def _choose_task(self) -> int | None:
        if self.alone:
            return self.alone.popleft()
        return self.waiting.popleft() if self.waiting or self._take_item() else None

    def _take_item(self) -> bool:
        """Take the next item, if it is not too far ahead."""
        if self.following - min(self.tasks, default=self.following) >= self.ahead:
            return False
        for item in self.items:
            self.tasks[self.following] = _Task(pickle.dumps((self.following, item)))
            self.waiting.append(self.following)
            self.following += 1
            return True
        return False

    def _receive(self, seconds: float) -> list[Event]:
        """Wait for messages of the busy workers."""
        busy = [worker for worker in self.workers if worker.assigned]
        ready = connection.wait([worker.results for worker in busy], seconds)
        return [event for worker in busy if worker.results in ready for event in self._read(worker)]

    def _read(self, worker: Worker) -> list[Event]:
        """Read one message of a worker."""
        try:
            kind, number, content = pickle.loads(worker.results.recv_bytes())
        except (EOFError, OSError):
            return self._replace(worker)
        if kind == "started":
            worker.started = True
            return []
        if kind == "useless":  # it cannot import the function
            raise restore_error(*content)
        if kind == "stage":
            worker.computing = content
            return []
        if kind == "value":
            if content is None:
                return []
            self.tasks[number].began = True
            return [Event(number, content)]
        worker.assigned.popleft()
        del self.tasks[number]
        if kind == "failed":
            return [Event(number, None, True, restore_error(*content))]
        return [Event(number, content, True)]

    def _replace(self, worker: Worker) -> list[Event]:
        """Bury a worker that has died, and give up or repeat what it was doing.

        The kernel kills the largest process when memory is short, which need not be the fault of
        its file: that file is tried once more, with no other worker busy.
        """
        self.workers.remove(worker)
        code = worker.end(kill=bool(worker.given_up))
        if not worker.started:
            raise InputError(explain_no_start(code))
        number, task = worker.assigned[0], self.tasks[worker.assigned[0]]
        blamed, reason = worker.given_up or (number, "")
        if blamed != number and not task.began:  # it finished that one at the last moment
            self.waiting.extendleft(reversed(worker.assigned))
            return []
        worker.assigned.popleft()
        self.waiting.extendleft(reversed(worker.assigned))
        if not reason and code == -KILLED and not task.began and not task.repeated:
            task.repeated = True
            self.alone.append(number)
            return []
        del self.tasks[number]
        reason = reason or describe_end(code, worker.computing)
        return [Event(number, None, True, DecodeError(reason))]
