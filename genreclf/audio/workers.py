"""How this process gets its memory from the system.

Each step of training, and each clip in extraction, needs the same large arrays again. By default
the C library of Linux gives their memory back after each, and the kernel clears it anew, page by
page, at the next: on long clips that costs more time than the arithmetic of training.
"""

import contextlib
import ctypes
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
from pathlib import Path
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from genreclf.audio import decode, workers
from genreclf.audio.features import Computed

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def keep_memory() -> None:
    """Keep freed memory for the next step; has effect with glibc alone."""
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, 2**30)  # bytes; greater tensors still come and go
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)


Item = TypeVar("Item")
Result = TypeVar("Result")
Audio = str | tuple[np.ndarray, int]  # a file's path, or a waveform and its sample rate in Hz
Row = tuple[np.ndarray, float] | str  # features and seconds, or why there are none


@dataclass(frozen=True)
class Window:
    """A part of a file: its begin and end in seconds, its features (bins, frames)."""

    start: float
    end: float
    features: np.ndarray


def count_available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """What a function makes of items, by several processes, in the order of the items.

    They are a few items ahead, so that memory does not grow.

    Raises:
        BrokenProcessPool: a process was killed.
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
    """Begin the process that workers are forked from, which takes a second, before it is needed."""
    if _choose_context().get_start_method() == "forkserver":
        with _block_ctrl_c(), _hide_script():
            forkserver.ensure_running()


def _choose_context() -> BaseContext:
    """How processes begin: forked from one that has no threads and has imported what they need."""
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "librosa.feature.spectral"])
    return context


@contextlib.contextmanager
def _block_ctrl_c() -> Iterator[None]:
    """Processes begun in here never see Ctrl-C: the parent gets it, and ends them."""
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
    """Processes begun in here do not run the user's script again, guarded by a main or not."""
    main = sys.modules["__main__"]
    hidden = {name: vars(main).pop(name, None) for name in ("__file__", "__spec__")}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update({name: value for name, value in hidden.items() if value is not None})


def _set_up_worker() -> None:
    """Decoders write to nobody; one core, memory kept from clip to clip, an end with the parent."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threadpool_limits(1)
    workers.keep_memory()
    exit_with_parent()


def exit_with_parent() -> None:
    """End this process when its parent ends: one that is killed cannot see to that itself."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def extract(path: str, features: Computed) -> Row:
    """Features and decoded seconds of a file, or the reason why there are none."""
    try:
        waveform, rate = decode.read_audio(path, features.sample_rate, features.duration)
    except decode.DecodeError as error:
        return str(error)
    return features(waveform, rate), len(waveform) / rate


def extract_windows(audio: Audio, features: Computed) -> list[Window] | str:
    """The windows of a file or waveform of any length, or the reason why there are none."""
    needed = features.sample_rate, features.duration
    try:
        if isinstance(audio, tuple):
            windows = decode.split_waveform(*audio, *needed)
        elif Path(audio).is_dir():
            return "a folder; the paths of its files are needed"
        else:
            windows = decode.read_windows(audio, *needed)
        return [
            Window(start, start + len(waveform) / rate, features(waveform, rate))
            for start, waveform, rate in windows
        ]
    except decode.DecodeError as error:
        return str(error)
    except OSError as error:  # a name that is too long, a folder that may not be entered
        return str(error.strerror or error)
