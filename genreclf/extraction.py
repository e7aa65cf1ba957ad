"""Rows of features for the tracks of a corpus, in their order, by several processes.

The processes import this module, which therefore does without PyTorch.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from genreclf import allocator, audio
from genreclf.corpora import Npz, Track
from genreclf.errors import InputError
from genreclf.features import Computed

Item = TypeVar("Item")
Result = TypeVar("Result")
Row = tuple[np.ndarray, float] | str  # features and seconds, or why there are none


@dataclass(frozen=True)
class Window:
    """A part of a file: its begin and end in seconds, its features (bins, frames)."""

    start: float
    end: float
    features: np.ndarray


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def precomputed(corpus: Npz, done: int) -> Iterator[Row]:
    """The corpus' own rows, after the first `done`; rows without content are refused."""
    for number, row in enumerate(corpus.rows()):
        if number < done:
            continue
        if not np.isfinite(row).all():
            yield "values that are not finite numbers"
        elif row.min() == row.max():
            yield f"silent: every value is {row.min()}"
        else:
            yield row, corpus.duration


def extracted(tracks: Iterable[Track], features: Computed, workers: int) -> Iterator[Row]:
    """Rows in the order of the tracks."""
    try:
        paths = (track.path for track in tracks)
        yield from in_order(partial(extract, features=features), paths, workers)
    except BrokenProcessPool:
        raise InputError(
            "a process that extracts features was killed (out of memory?); start again, it goes "
            "on from there, with fewer processes: workers=1"
        ) from None


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """What a function makes of items, by several processes, in the order of the items.

    They are a few items ahead, so that memory does not grow.

    Raises:
        BrokenProcessPool: a process was killed.
    """
    pool = ProcessPoolExecutor(workers, mp_context=_context(), initializer=_begin_worker)
    ahead: deque[Future[Result]] = deque()
    try:
        for item in items:
            with _ctrl_c_withheld(), _script_withheld():
                ahead.append(pool.submit(function, item))
            if len(ahead) >= 4 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def begin_workers() -> None:
    """Begin the process that workers are forked from, which takes a second, before it is needed."""
    if _context().get_start_method() == "forkserver":
        with _ctrl_c_withheld(), _script_withheld():
            forkserver.ensure_running()


def _context() -> BaseContext:
    """How processes begin: forked from one that has no threads and has imported what they need."""
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "librosa.feature.spectral"])
    return context


@contextlib.contextmanager
def _ctrl_c_withheld() -> Iterator[None]:
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
def _script_withheld() -> Iterator[None]:
    """Processes begun in here do not run the user's script again, guarded by a main or not."""
    main = sys.modules["__main__"]
    hidden = {name: vars(main).pop(name, None) for name in ("__file__", "__spec__")}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update({name: value for name, value in hidden.items() if value is not None})


def _begin_worker() -> None:
    """Decoders write to nobody; one core, memory kept from clip to clip, an end with the parent."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threadpool_limits(1)
    allocator.keep_memory()
    end_with_parent()


def end_with_parent() -> None:
    """End this process when its parent ends: one that is killed cannot see to that itself."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def extract(path: str, features: Computed) -> Row:
    """Features and decoded seconds of a file, or the reason why there are none."""
    try:
        waveform, rate = audio.load(path, features.sample_rate, features.duration)
    except audio.DecodeError as error:
        return str(error)
    return features(waveform, rate), len(waveform) / rate


def extract_windows(path: str, features: Computed) -> list[Window] | str:
    """The windows of a file of any length, or the reason why there are none."""
    try:
        if Path(path).is_dir():
            return f"no audio file in this folder ({', '.join(audio.EXTENSIONS)})"
        return [
            Window(start, start + len(waveform) / rate, features(waveform, rate))
            for start, waveform, rate in audio.windows(
                path, features.sample_rate, features.duration
            )
        ]
    except audio.DecodeError as error:
        return str(error)
    except OSError as error:  # a name that is too long, a folder that may not be entered
        return str(error.strerror or error)
