"""Python processes that need not import the libraries: forks of a server that has done so.

Of the seconds that a small `genreclf train` takes in a process of its own, nearly all go to the
import of PyTorch and Lightning. The server imports libraries only: each fork imports genreclf
itself, so that it sees its imports as a user does. Where the start of a process is what is tested,
or when a signal has to reach a group of processes, use `subprocess`.
"""

import atexit
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

LIBRARIES = [
    *("pytorch_lightning", "torch.distributed.elastic.multiprocessing", "hydra.main", "h5py"),
    *("librosa.feature.spectral", "soundfile", "sklearn.model_selection", "sklearn.metrics"),
    *("matplotlib.figure", "matplotlib.backends.backend_svg", "jinja2", "rich.progress"),
]
THREADED = "onnxruntime"
SERVER = "GENRECLF_TESTS_FORK_SERVER"  # the variable with the address of the server


class Fork:
    """A running `python WORDS`, with `-m MODULE` or `-c CODE` first.

    Args:
        words: Python's arguments.
        cwd: its working directory, which is also the first place that it imports from.
        env: its environment variables; by default those of this process.
    """

    def __init__(
        self,
        *words: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._files = tempfile.TemporaryDirectory()
        self._paths = [str(Path(self._files.name, name)) for name in ("stdout", "stderr")]
        self._words = [*map(str, words)]
        environment = {**(os.environ if env is None else env), SERVER: find_server()}
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(environment[SERVER])
        request = [self._words, str(cwd or Path.cwd()), environment, self._paths]
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        self._answers = self._connection.makefile()
        self.pid = int(self._answers.readline())

    def wait(self, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Wait for its end.

        Raises:
            TimeoutError: it takes longer; it is killed.
        """
        self._connection.settimeout(timeout)
        try:
            status = int(self._answers.readline())
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            raise
        finally:
            self._answers.close()
            self._connection.close()
        output, errors = (Path(path).read_text() for path in self._paths)
        self._files.cleanup()
        return subprocess.CompletedProcess(self._words, status, output, errors)

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return not select.select([self._connection], [], [], 0)[0]


def run(*words: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS` to its end; see `Fork`."""
    return Fork(*words, **settings).wait()


def run_ranks(*words: str | Path, cwd: Path) -> list[subprocess.CompletedProcess[str]]:
    """Run `python WORDS` in the two processes of one run, as Slurm's srun starts them.

    Nobody ends a process because the other has failed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    slurm = {"STEP_NUM_TASKS": "2", "NTASKS": "2", "NODEID": "0", "JOB_ID": "1"}
    shared = {f"SLURM_{name}": value for name, value in slurm.items()}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [{"SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in ("0", "1")]
    both = [Fork(*words, cwd=cwd, env={**os.environ, **shared, **rank}) for rank in ranks]
    return [fork.wait() for fork in both]


class Process:
    """What `genreclf study` uses of `multiprocessing.Process`."""

    def __init__(self, target: Callable[..., None], args: tuple) -> None:
        work = f"from {target.__module__} import {target.__name__} as work; work(*{args!r})"
        self._words, self.exitcode = ("-c", work), None

    def start(self) -> None:
        self._fork = Fork(*self._words)

    def is_alive(self) -> bool:
        return self.exitcode is None and self._fork.is_running()

    def join(self, timeout: float | None = None) -> None:
        if self.exitcode is None and select.select([self._fork._connection], [], [], timeout)[0]:
            self.exitcode = self._fork.wait().returncode

    def terminate(self) -> None:
        if self.is_alive():
            os.kill(self._fork.pid, signal.SIGTERM)


@cache
def find_server() -> str:
    """Return the address of the server, which is started if there is none."""
    if SERVER in os.environ:
        return os.environ[SERVER]
    folder = tempfile.TemporaryDirectory()
    server = subprocess.Popen(
        [sys.executable, __file__, f"{folder.name}/server"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    def stop() -> None:
        server.communicate()
        folder.cleanup()

    atexit.register(stop)
    assert server.stdout
    assert server.stdout.readline() == b"ready\n"
    return f"{folder.name}/server"


def serve(address: str) -> tuple[list[str], str, dict[str, str], list[str]]:
    """Fork for each request until standard input ends; return in the fork, with the request."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                if os.fork():
                    continue
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # this one waits for the other
                request = json.loads(connection.makefile().readline())
                if not (pid := os.fork()):
                    return request
                connection.sendall(f"{pid}\n".encode())
                _, status = os.waitpid(pid, 0)
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
                os._exit(0)
    os._exit(0)


def run_words(
    words: list[str], folder: str, environment: dict[str, str], outputs: list[str]
) -> None:
    """Do in this process what `python WORDS` does in a new one."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate([os.devnull, *outputs]):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = dict.fromkeys([folder, *given, *sys.path[1:], str(Path(__file__).parent)])
    option, content, *arguments = words
    sys.argv = [option if option == "-c" else content, *arguments]
    if option == "-c":
        sys.modules["__main__"] = ModuleType("__main__")
        exec(content, vars(sys.modules["__main__"]))
    else:
        runpy.run_module(content, run_name="__main__", alter_sys=True)


def import_libraries() -> None:
    """Import them, but not ONNX Runtime, which TorchMetrics imports wherever it is installed.

    It starts threads, which a fork does not have and yet waits for at its end.
    """
    empty = ModuleType(THREADED)
    empty.__spec__ = ModuleSpec(THREADED, None)
    vars(empty)["InferenceSession"] = None
    sys.modules[THREADED] = empty
    for name in LIBRARIES:
        importlib.import_module(name)
    del sys.modules[THREADED]


if __name__ == "__main__":
    import_libraries()
    run_words(*serve(sys.argv[1]))
