"""Rows of features for the tracks of a corpus, in their order, by several processes."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext

import numpy as np
from threadpoolctl import threadpool_limits

from genreclf import allocator, audio
from genreclf.corpora import Npz, Track
from genreclf.errors import InputError
from genreclf.features import Computed

Row = tuple[np.ndarray, float] | str  # features and seconds, or why there are none


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
    """Rows in the order of the tracks; a few tracks ahead at a time, so memory does not grow."""
    pool = ProcessPoolExecutor(workers, mp_context=_context(), initializer=_begin_worker)
    ahead: deque[Future[Row]] = deque()
    try:
        for track in tracks:
            with _ctrl_c_withheld(), _script_withheld():
                ahead.append(pool.submit(extract, track.path, features))
            if len(ahead) >= 4 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    except BrokenProcessPool:
        raise InputError(
            "a process that extracts features was killed (out of memory?); start again, it goes "
            "on from there, with fewer processes: workers=1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


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
