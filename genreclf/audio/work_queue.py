"""A queue of work for one pool of processes, to which more can be added while it is worked on."""

import contextlib
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from genreclf.audio.pool import Event, run_in_workers
from genreclf.audio.sound_files import DecodeError


class WorkQueue:
    """Computes a function of items in worker processes, which live as long as the queue.

    What is urgent overtakes the rest, of which no more is begun at a time than there are processes.

    Args:
        function: as for `run_in_workers`.
        workers: number of processes.
    """

    def __init__(self, function: Callable[[Any], Any], workers: int) -> None:
        self._workers = workers
        self._urgent, self._rest = deque[Hashable](), deque[Hashable]()
        self._begun: list[Hashable] = []  # by the pool's numbers
        self._running = 0
        self._ended: dict[Hashable, Event] = {}
        self._batches = run_in_workers(function, self, workers)

    def __iter__(self) -> Iterator[Hashable]:
        return self

    def __next__(self) -> Hashable:
        """Give the pool the next item; StopIteration means that there is none for now."""
        if not self._urgent and self._running >= self._workers:
            raise StopIteration
        queue = self._urgent or self._rest
        if not queue:
            raise StopIteration
        self._begun.append(queue.popleft())
        self._running += 1
        return self._begun[-1]

    def add(self, items: Iterable[Hashable], urgent: bool = False) -> None:
        """Add items, none of which may be in the queue already."""
        (self._urgent if urgent else self._rest).extend(items)

    def get(self, item: Hashable) -> Any:
        """Wait for an item that was added, and take its result, or the DecodeError of one without.

        Raises:
            InputError: the processes cannot start.
            Exception: what the function raised.
        """
        while item not in self._ended:
            for event in next(self._batches):
                if event.ended:
                    self._running -= 1
                    self._ended[self._begun[event.number]] = event
        event = self._ended.pop(item)
        if event.error and not isinstance(event.error, DecodeError):
            raise event.error
        return event.error or event.value

    def close(self) -> None:
        """End the processes."""
        with contextlib.suppress(RuntimeError):  # it is closed from within
            self._batches.close()
