"""Worker processes that decode audio files and compute their features, in parallel.

Also contains `keep_memory`, which training uses as well.
"""

import contextlib
import ctypes
import math
import multiprocessing
import os
import platform
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from genreclf.audio import decode
from genreclf.audio.own_features import compute_features
from genreclf.audio.sound_files import DecodeError
from genreclf.errors import InputError
from genreclf.protocols import Features

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")  # lines such as "0::/user.slice" or "4:cpu,cpuacct:/a/b"


def keep_memory() -> None:
    """Keep freed memory in this process, ready for the next step; only glibc (Linux) can.

    Each training step, and each clip, needs the same large arrays. By default glibc returns them to
    the kernel, which zeroes every page again for the next: on long clips that takes longer than the
    arithmetic of training.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, 2**30)  # bytes; larger arrays are still returned
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)


Item = TypeVar("Item")
Result = TypeVar("Result")
Audio = str | tuple[np.ndarray, int]  # a file's path, or a waveform and its sample rate in Hz
Row = tuple[np.ndarray, float] | str  # features and seconds, or the reason for having none


@dataclass(frozen=True)
class Window:
    """Part of a file: start and end in seconds, features float32 (bins, frames)."""

    start: float
    end: float
    features: np.ndarray


def check_workers(workers: int | None) -> None:
    """Refuse, with InputError, a number of processes below 1."""
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers}: at least 1 is needed; null takes all cores")


def count_available_cores() -> int:
    """Count the cores that this process may use: its CPU affinity and its container's quota."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    quotas = [math.ceil(quota) for quota in _read_quotas()]
    return max(1, min([cores, *quotas]))


def _read_quotas() -> Iterator[float]:
    """Read the CPU quotas, in cores, of this process's control groups (cgroup v1 and v2)."""
    try:
        lines = [line.split(":", 2) for line in OWN_CGROUP.read_text().splitlines()]
    except OSError:  # not Linux
        return
    for number, controllers, place in (line for line in lines if len(line) == 3):
        if number == "0":
            roots, files = [CGROUPS, CGROUPS / "unified"], ["cpu.max"]
        elif "cpu" in controllers.split(","):
            roots = [CGROUPS / controllers, CGROUPS / "cpu"]
            files = ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        path = PurePosixPath(place.lstrip("/"))
        for folder in (root / each for root in roots for each in (path, *path.parents)):
            try:
                values = " ".join((folder / file).read_text() for file in files).split()
                quota, period = map(int, values)
            except (OSError, ValueError):  # no such group, or the quota is "max"
                continue
            if quota > 0 and period > 0:  # -1: no quota
                yield quota / period


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, computed by `workers` processes.

    At most `4 * workers` results are computed ahead, which bounds the memory.

    Raises:
        BrokenProcessPool: a worker process was killed.
    """
    pool = ProcessPoolExecutor(workers, mp_context=_choose_context(), initializer=_set_up_worker)
    ahead: deque[Future[Result]] = deque()
    try:
        for item in items:
            with _block_ctrl_c(), _hide_script():
                ahead.append(pool.submit(function, item))
            if len(ahead) >= 4 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def start_forkserver() -> None:
    """Start, ahead of time, the process that workers are forked from; that takes a second."""
    if _choose_context().get_start_method() == "forkserver":
        with _block_ctrl_c(), _hide_script():
            forkserver.ensure_running()


def _choose_context() -> BaseContext:
    """Fork workers from a process without threads that has imported what they need."""
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "librosa.feature.spectral"])
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


def extract(path: str, features: Features) -> Row:
    """Compute the features and decoded seconds of a file, or say why it has none.

    Raises:
        InputError: the features are not what they declare; the message names the file.
    """
    try:
        waveform, rate = decode.read_audio(path, features.sample_rate, features.duration)
    except DecodeError as error:
        return str(error)
    except OSError as error:  # such as a folder that may be listed but not entered
        return str(error.strerror or error)
    return _compute(features, waveform, rate, path), len(waveform) / rate


def _compute(features: Features, waveform: np.ndarray, rate: int, where: str) -> np.ndarray:
    try:
        return compute_features(features, waveform, rate)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except Exception as error:  # in features of the user's own
        error.add_note(f"while computing features={features.name} of {where}")
        raise


def extract_windows(audio: Audio, features: Features) -> list[Window] | str:
    """Compute the windows of a file or waveform of any length, or say why it has none.

    Raises:
        InputError: the features are not what they declare; the message names the file.
    """
    needed = features.sample_rate, features.duration
    where = audio if isinstance(audio, str) else "waveform"
    try:
        if isinstance(audio, tuple):
            windows = decode.split_waveform(*audio, *needed)
        elif Path(audio).is_dir():
            return "a folder; the paths of its files are needed"
        else:
            windows = decode.read_windows(audio, *needed)
        return [
            Window(start, start + len(samples) / rate, _compute(features, samples, rate, where))
            for start, samples, rate, _ in windows
        ]
    except DecodeError as error:
        return str(error)
    except OSError as error:  # such as a name that is too long or a missing permission
        return str(error.strerror or error)
