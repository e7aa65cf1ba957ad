"""Worker processes: how they start, what they run, and how they end."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import GeneratorType
from typing import Any

import psutil
from threadpoolctl import threadpool_limits

from genreclf.audio.cores import keep_memory, release_memory
from genreclf.audio.sound_files import DecodeError
from genreclf.errors import InputError

KEPT = 300_000_000  # bytes of memory that a worker may keep for its next file
PIPE = 2**20  # bytes of results that may wait to be read, where Linux allows it
PRELOAD = ["genreclf.audio.workers"]  # what workers import before they are forked
PRELOAD_FOR_MANY = [*PRELOAD, "librosa.feature.spectral"]  # slow, and only some features need it


@dataclass
class Worker:
    """A worker process, seen from its parent.

    Attributes:
        process: the process.
        tasks: where it is given items.
        results: where it answers.
        assigned: numbers of the items that it has been given and has not finished.
        started: whether it has said so.
        computing: the features that it is computing; empty while it decodes.
        state: what `_Stages` writes there.
        seen: the time in `state` at the last look.
        silent: seconds for which that time has been the same.
        used: seconds of processor time that it had used at the last look.
        given_up: the item for which it was killed, and why.
    """

    process: BaseProcess
    tasks: Connection
    results: Connection
    assigned: deque[int] = field(default_factory=deque)
    started: bool = False
    computing: str = ""
    state: Any = (0.0, 0.0, 0.0)
    seen: float = 0.0
    silent: float = 0.0
    used: float = 0.0
    given_up: tuple[int, str] | None = None

    def give(self, number: int, payload: bytes) -> bool:
        """Give it an item; returns False if it has died."""
        self.assigned.append(number)
        try:
            self.tasks.send_bytes(payload)
        except OSError:
            return False
        return True

    def give_up(self, number: int, reason: str) -> None:
        """Kill it because of an item."""
        if self.given_up is None:
            self.given_up = number, reason
            self.process.kill()

    def end(self, kill: bool) -> int | None:
        """End it, and return its exit code, negative for a signal."""
        if kill:
            self.process.kill()
        self.tasks.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(1)  # one that waits for a dead disk cannot even be killed
        self.results.close()
        return self.process.exitcode


def start_worker(function: bytes) -> Worker:
    """Start a process that computes a pickled function of the items that it is given.

    Raises:
        InputError: the system refuses.
    """
    context = _choose_context(PRELOAD_FOR_MANY)
    (received, tasks), (results, sent) = context.Pipe(False), context.Pipe(False)
    with contextlib.suppress(ImportError, AttributeError, OSError):  # only Linux has it
        import fcntl

        fcntl.fcntl(sent, fcntl.F_SETPIPE_SZ, PIPE)
    state = context.Array("d", 3, lock=False)
    process = context.Process(target=_serve, args=(function, received, sent, state))
    try:
        with _block_ctrl_c(), _hide_script():
            process.start()
    except (OSError, EOFError) as error:
        raise InputError(f"the processes that decode do not start: {error}") from None
    received.close()
    sent.close()
    return Worker(process, tasks, results, state=state)


def start_forkserver(for_many: bool) -> None:
    """Start, ahead of time, the process that workers are forked from; that takes a second."""
    if (
        _choose_context(PRELOAD_FOR_MANY if for_many else PRELOAD).get_start_method()
        == "forkserver"
    ):
        with _block_ctrl_c(), _hide_script():
            forkserver.ensure_running()


def _choose_context(preload: list[str]) -> Any:
    """Fork workers from a process without threads that has imported what they need."""
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preload)  # without effect once it runs
    return context


@contextlib.contextmanager
def _block_ctrl_c() -> Iterator[None]:
    """Let processes that are started here ignore Ctrl-C: the parent gets it and stops them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _hide_script() -> Iterator[None]:
    """Keep processes that are started here from running the user's script again.

    This makes a script work without the usual `if __name__ == "__main__"`.
    """
    main = sys.modules["__main__"]
    hidden = {name: vars(main).pop(name, None) for name in ("__file__", "__spec__")}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update({name: value for name, value in hidden.items() if value is not None})


def _set_up_worker() -> None:
    """Silence the decoders' warnings, use one core, keep memory, and exit with the parent."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threadpool_limits(1)
    keep_memory()
    exit_with_parent()


def exit_with_parent() -> None:
    """End this process when its parent ends, even if the parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


class _Stages:
    """Tells the parent of a worker whether it decodes, which is limited, or computes features.

    Memory that both share holds the time of the last progress, or 0 while nothing is limited, the
    number of the item, and the bytes that features hold. Messages would arrive only when they are
    read.
    """

    def __init__(self) -> None:
        self.results: Connection | None = None  # in a worker
        self.state: Any = None
        self.number = 0  # of the item
        self.held = 0  # bytes

    def begin(self, number: int, results: Connection, state: Any) -> None:
        self.results, self.number, self.state = results, number, state
        self.held = max(0, measure_memory() - KEPT)
        self.tell("")

    def tell(self, name: str) -> None:
        if self.results is not None:
            self.send("stage", name)
            self.state[1:] = self.number, self.held
            self.state[0] = 0.0 if name else time.monotonic()

    def send(self, kind: str, content: Any) -> None:
        """Send a message about the item, which takes until the parent has read enough."""
        if self.results is not None:
            self.state[0] = 0.0
            self.results.send((kind, self.number, content))
            self.state[0] = 0.0 if kind in ("ended", "failed") else time.monotonic()


_stages = _Stages()


@contextlib.contextmanager
def lift_limits(name: str) -> Iterator[None]:
    """Lift the pool's limits, which are for decoders, while features are computed.

    Outside a worker process, this has no effect.

    Args:
        name: what is computed, such as "features=mel"; messages about the worker name it.
    """
    before = measure_memory() if _stages.results else 0
    _stages.tell(name)
    try:
        yield
    finally:
        if _stages.results:
            _stages.held += max(0, measure_memory() - before)
        _stages.tell("")


def measure_memory() -> int:
    """Measure the resident memory of this process in bytes."""
    return _find_process(os.getpid()).memory_info().rss


_find_process = cache(psutil.Process)  # finding it takes longer than measuring


def _serve(function: bytes, tasks: Connection, results: Connection, state: Any) -> None:
    """Compute items until the parent closes the pipe: what a worker process runs."""
    _set_up_worker()
    try:
        compute = pickle.loads(function)
    except Exception as error:  # such as a module of the user's that is not importable here
        results.send(("useless", 0, _make_portable(error)))
        return
    results.send(("started", 0, None))
    while True:
        try:
            number, item = pickle.loads(tasks.recv_bytes())
        except EOFError:
            return
        try:
            _stages.begin(number, results, state)
            result = compute(item)
            if isinstance(result, GeneratorType):
                result = _send_values(result)
            _stages.send("ended", result)
        except Exception as error:
            _stages.send("failed", _make_portable(error))
        del item
        if measure_memory() > KEPT:
            release_memory()


def _send_values(values: GeneratorType) -> Any:
    """Send what a generator yields; return what it returns."""
    while True:
        try:
            _stages.send("value", next(values))
        except StopIteration as stop:
            return stop.value


def _make_portable(error: Exception) -> tuple[Exception, str]:
    """Return an exception that can be pickled, and its traceback unless it is expected."""
    expected = isinstance(error, InputError | DecodeError)
    text = "" if expected else "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}"), text
    return error, text
