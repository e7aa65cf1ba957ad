"""Worker processes, seen from their parent: how they start and how they end."""

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any

from genreclf.audio.serving import serve
from genreclf.errors import InputError

KILLED = 9  # the signal SIGKILL, which Windows does not define
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
        computing: the features that it is computing; empty while it decodes.
        state: what `serving` writes there.
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
    folder = make_temporary_folder()
    temporary = folder if multiprocessing.parent_process() is None else ""  # else the parent's
    (received, tasks), (results, sent) = context.Pipe(False), context.Pipe(False)
    with contextlib.suppress(ImportError, AttributeError, OSError):  # only Linux has it
        import fcntl

        fcntl.fcntl(sent, fcntl.F_SETPIPE_SZ, PIPE)
    state = context.Array("d", 3, lock=False)
    process = context.Process(target=serve, args=(function, received, sent, state, temporary))
    try:
        with _block_ctrl_c(), _hide_script():
            process.start()
    except (OSError, EOFError) as error:
        raise InputError(f"the processes that decode do not start: {error}") from None
    received.close()
    sent.close()
    return Worker(process, tasks, results, state=state)


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


def explain_no_start(code: int | None) -> str:
    """Say that workers do not start, by the exit code of one."""
    return f"the processes that decode do not start ({describe_end(code)})"


def describe_end(code: int | None, computing: str = "") -> str:
    """Say how a process ended, by its exit code, and what it was doing."""
    if code == -KILLED:
        text = f"the decoder was killed (signal {KILLED}): out of memory?"
    elif code is not None and code < 0:
        text = f"the decoder crashed (signal {-code})"
    else:
        text = f"the decoder ended its process (exit status {code})"
    return text.replace("the decoder", f"computing {computing}") if computing else text
