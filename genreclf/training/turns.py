"""What a run knows of the pack it is in (`training.pack`), if it is in one.

Imports no PyTorch: every `genreclf train` asks.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from filelock import BaseFileLock

from genreclf.locks import acquire_lock, try_lock

_current = threading.local()


class Stopped(BaseException):
    """Ends a member whose pack was interrupted. No `except Exception` may catch it."""


class Member:
    """A job of a pack, in a thread of its own.

    Attributes:
        number: its number in the pack, from 0.
        result: what the job returned; None if it was stopped.
        error: what the job raised.
        steps: its training steps so far.
        sharing: the largest number of members that ran at the same time as this one, itself
            included.
        exhausted: whether it ran out of memory while others ran, so that it should be run alone.
        shared: values that all members share, by name.
    """

    def __init__(self, number: int, job: Callable[[], Any], shared: dict[Any, Any]) -> None:
        self.number, self.shared = number, shared
        self.result: Any = None
        self.error: BaseException | None = None
        self.steps, self.sharing, self.exhausted, self.ended = 0, 1, False, False
        self.waited = 0.0  # seconds in which others ran
        self.is_blocked = False  # by a file that somebody has locked
        self._stopping = False
        self._job: Callable[[], Any] | None = job
        self._turn, self._passed = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=f"run {number}", daemon=True)
        self._streams: set[Any] = set()

    def run_turn(self, stop: bool) -> None:
        """Let the member run until it passes its turn or ends.

        Args:
            stop: whether it must end instead.
        """
        self._stopping = stop
        if self._thread.ident is None:
            self._thread.start()
        self._turn.release()
        self._passed.acquire()

    def pass_turn(self) -> None:
        """Let the other members run.

        Raises:
            Stopped: the pack was interrupted.
        """
        started = time.perf_counter()
        self._passed.release()
        self._turn.acquire()
        self.waited += time.perf_counter() - started
        if self._stopping:
            raise Stopped

    def use_own_stream(self, device: Any) -> None:
        """Let all further work of this member on a GPU go to a stream of its own."""
        import torch

        if device not in self._streams:
            self._streams.add(device)
            torch.cuda.set_stream(torch.cuda.Stream(device))  # of this thread

    def _run(self) -> None:
        self._turn.acquire()
        _current.member = self
        try:
            if not self._stopping and self._job:
                self.result = self._job()
        except Stopped:
            pass
        except BaseException as error:  # raised again by `Pack.run`
            self.error = error
        finally:
            self._job, self.ended = None, True
            self._passed.release()


def get_member() -> Member | None:
    """Return the member that the calling thread runs; None outside a pack."""
    return getattr(_current, "member", None)


def read_clock() -> float:
    """Read a clock, in seconds, that stands still while other members run.

    The times of all members add up to the time of their pack.
    """
    member = get_member()
    return time.perf_counter() - (member.waited if member else 0.0)


def note_exhaustion() -> int:
    """Note that memory ran out; return how many other runs share it: the run is then repeated."""
    member = get_member()
    if member is None or member.sharing == 1:
        return 0
    member.exhausted = True
    return member.sharing - 1


def share(key: Any, make: Callable[[], Any]) -> Any:
    """Return what a member of this pack has made under this key before; outside a pack, make it."""
    member = get_member()
    if member is None:
        return make()
    if key not in member.shared:
        member.shared[key] = make()
    return member.shared[key]


@contextlib.contextmanager
def hold(lock: BaseFileLock) -> Iterator[None]:
    """Hold the lock of a file; a member of a pack lets the others run while it waits for it."""
    member = get_member()
    if member is None:
        acquire_lock(lock, "the same run")
    else:
        while not try_lock(lock):
            member.is_blocked = True
            member.pass_turn()
        member.is_blocked = False
    try:
        yield
    finally:
        lock.release()
