"""Worker processes: how they start, what they run, and how they end."""

import contextlib
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import get_temp_dir
from pathlib import Path
from types import GeneratorType
from typing import Any

import psutil
from threadpoolctl import threadpool_limits

from genreclf.audio.cores import keep_memory, release_memory
from genreclf.audio.sound_files import DecodeError
from genreclf.errors import InputError

KEPT = 300_000_000  # bytes of memory that a worker may keep for its next file
PIPE = 2**20  # bytes of results that may wait to be read, where Linux allows it
LONGEST_FOLDER = 70  # bytes; a socket's path may have 103, with the names that are added
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
        silent: seconds for which it has said nothing.
        computing: the features that it is computing; empty while it decodes.
        allowed: bytes of memory that features hold, besides what decoding may take.
    """

    process: BaseProcess
    tasks: Connection
    results: Connection
    assigned: deque[int] = field(default_factory=deque)
    started: bool = False
    silent: float = 0.0
    computing: str = ""
    allowed: int = 0

    def give(self, number: int, payload: bytes) -> bool:
        """Give it an item; returns False if it has died."""
        if not self.assigned:
            self.silent = 0.0
        self.assigned.append(number)
        try:
            self.tasks.send_bytes(payload)
        except OSError:
            return False
        return True

    def measure_memory(self) -> int:
        """Measure its resident memory in bytes; 0 if it has just died."""
        try:
            return psutil.Process(self.process.pid).memory_info().rss
        except psutil.Error:
            return 0

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
    folder = make_temporary_folder()
    temporary = folder if multiprocessing.parent_process() is None else ""  # else the parent's
    (received, tasks), (results, sent) = context.Pipe(False), context.Pipe(False)
    with contextlib.suppress(ImportError, AttributeError, OSError):  # only Linux has it
        import fcntl

        fcntl.fcntl(sent, fcntl.F_SETPIPE_SZ, PIPE)
    process = context.Process(target=_serve, args=(function, received, sent, temporary))
    try:
        with _block_ctrl_c(), _hide_script():
            process.start()
    except (OSError, EOFError) as error:
        raise InputError(f"the processes that decode do not start: {error}") from None
    received.close()
    sent.close()
    return Worker(process, tasks, results)


def make_temporary_folder() -> str:
    """Make the folder in which multiprocessing keeps this process's sockets.

    It would take TMPDIR, which may be too long for a socket, or not writable.

    Returns:
        Its path; multiprocessing deletes it at exit.

    Raises:
        InputError: there is no folder that can be written and whose path is short enough.
    """
    before = tempfile.tempdir
    chosen = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP", "XDG_RUNTIME_DIR"))
    for folder in filter(None, (before, *chosen, "/tmp", "/var/tmp", str(Path.cwd()))):
        try:
            if len(os.fsencode(folder)) <= LONGEST_FOLDER or os.name == "nt":
                tempfile.tempdir = str(Path(folder).absolute())
                return get_temp_dir()
        except OSError:  # the next one may be writable
            continue
        finally:
            tempfile.tempdir = before
    raise InputError(
        "no folder for temporary files: set TMPDIR to one that can be written and whose path has "
        f"at most {LONGEST_FOLDER} bytes"
    )


def start_forkserver(for_many: bool) -> None:
    """Start, ahead of time, the process that workers are forked from; that takes a second."""
    if (
        _choose_context(PRELOAD_FOR_MANY if for_many else PRELOAD).get_start_method()
        == "forkserver"
    ):
        make_temporary_folder()
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
    """Tells the parent of a worker whether it decodes, which is limited, or computes features."""

    def __init__(self) -> None:
        self.results: Connection | None = None  # in a worker
        self.number = 0  # of the item
        self.held = 0  # bytes that features hold

    def begin(self, number: int, results: Connection) -> None:
        self.results, self.number = results, number
        self.held = max(0, measure_memory() - KEPT)
        self.tell("")

    def tell(self, name: str) -> None:
        if self.results is not None:
            self.results.send(("stage", self.number, (name, self.held)))


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


def _serve(function: bytes, tasks: Connection, results: Connection, temporary: str) -> None:
    """Compute items until the parent closes the pipe: what a worker process runs."""
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
            _stages.begin(number, results)
            result = compute(item)
            if isinstance(result, GeneratorType):
                result = _send_values(result, number, results)
            results.send(("ended", number, result))
        except Exception as error:
            results.send(("failed", number, _make_portable(error)))
        del item
        if measure_memory() > KEPT:
            release_memory()


def _send_values(values: GeneratorType, number: int, results: Connection) -> Any:
    """Send what a generator yields; return what it returns."""
    while True:
        try:
            results.send(("value", number, next(values)))
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
