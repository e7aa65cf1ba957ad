"""What a worker process runs: it computes items, and tells its parent how far it is."""

import contextlib
import multiprocessing
import os
import pickle
import shutil
import threading
import time
import traceback
from collections.abc import Iterator
from functools import cache
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


def _set_up_worker(temporary: str) -> None:
    """Silence the decoders' warnings, use one core, keep memory, and exit with the parent."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threadpool_limits(1)
    keep_memory()
    exit_with_parent(temporary)


def exit_with_parent(temporary: str = "") -> None:
    """End this process when its parent ends, even if the parent was killed.

    Args:
        temporary: a folder of the parent's to delete then.
    """
    parent = multiprocessing.parent_process()

    def wait(parent: BaseProcess) -> None:
        parent.join()
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        os._exit(1)

    if parent is not None:
        threading.Thread(target=wait, args=(parent,), daemon=True).start()


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


def serve(
    function: bytes, tasks: Connection, results: Connection, state: Any, temporary: str
) -> None:
    """Compute items until the parent closes the pipe.

    Args:
        function: what is computed, pickled.
        tasks: where the numbers of the items and the items come from.
        results: where the results go.
        state: three shared numbers, for `_Stages`.
        temporary: as for `exit_with_parent`.
    """
    _set_up_worker(temporary)
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


def restore_error(error: Exception, text: str) -> Exception:
    """Return the exception of a worker, with its traceback there as the cause."""
    if text:
        error.__cause__ = RuntimeError(f"in a worker process:\n{text}")
    return error
