"""The inputs of `inference.Model`: checks audio and device, and extracts features of audio."""

import contextlib
import math
import operator
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from genreclf.audio.batches import choose_work, compute_windows
from genreclf.audio.cores import count_available_cores
from genreclf.audio.pool import Event, run_in_workers
from genreclf.audio.sound_files import DecodeError
from genreclf.audio.workers import Audio, Window, extract_windows
from genreclf.errors import InputError

AudioInput = str | os.PathLike[str] | tuple[Any, float]  # a path, or (waveform, sample rate)
BATCH = 32  # windows that the network gets at once
LINGER = 0.5  # s to wait for that many
AHEAD = 64  # files for each process that may be finished while an earlier one is decoded
FILES_PER_PROCESS = 8  # with fewer, starting another process does not pay off
DEVICES = ("cpu", "cuda", "mps", "xpu")


def choose_device(name: str | torch.device) -> torch.device:
    """Return the device of this name; "auto" takes a GPU if there is one.

    Raises:
        InputError: there is no such device, or PyTorch does not find it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in DEVICES:
        raise InputError(f"device={name}: choose auto, cpu or cuda (cuda:1 for a second GPU)")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # no driver, no such number, or a build without CUDA
        raise InputError(
            f"device={name}: PyTorch finds no such device on this machine; use device=cpu"
        ) from None
    return device


def is_waveform(audio: Any) -> bool:
    """Whether this is (waveform, sample rate), whatever their values."""
    return isinstance(audio, tuple) and len(audio) == 2 and hasattr(audio[0], "__array__")


def check_audio(audio: Any) -> Audio:
    """Return a path as text, or a waveform as a float array with its rate as an integer.

    Raises:
        InputError: it is neither a path nor a valid waveform.
    """
    if isinstance(audio, str | os.PathLike):
        return os.fspath(audio)
    if not is_waveform(audio):
        raise InputError(f"a path or (waveform, sample_rate) is needed, not {type(audio).__name__}")
    waveform, rate = np.asarray(audio[0]), audio[1]
    if waveform.dtype.kind != "f" or waveform.ndim not in (1, 2):
        raise InputError(
            f"waveform: {waveform.dtype} of shape {waveform.shape}; floats in [-1, 1] of shape "
            "(samples,) or (channels, samples) are needed"
        )
    if waveform.ndim == 2 and not 0 < waveform.shape[0] <= waveform.shape[1]:
        raise InputError(
            f"waveform: shape {waveform.shape}; (channels, samples) is needed, transpose it"
        )
    number = isinstance(rate, int | float | np.number) and not isinstance(rate, bool)
    if not number or not 1 <= rate < 1e9:
        raise InputError(f"sample_rate={rate!r}: a number of Hz is needed")
    return waveform, round(float(rate))


def check_items(items: Sequence[Any]) -> None:
    """Check that each of several inputs is a path or a waveform.

    Raises:
        InputError: one is neither; for a single waveform, the line says how it is given.
    """
    numbers = [isinstance(item, int | float | np.number) for item in items]
    if len(items) == 2 and any(numbers):
        raise InputError(
            "predict: a waveform is given as (waveform, sample_rate), in this order, the waveform "
            "an array of floats: (numpy.asarray(samples, dtype='float32'), 44100)"
        )
    for item in items:
        if not isinstance(item, str | os.PathLike) and not is_waveform(item):
            check_audio(item)


def check_overlap(overlap: float) -> float:
    """Return the share of a window that the next one repeats.

    Raises:
        InputError: it is not at least 0 and below 1.
    """
    if isinstance(overlap, bool) or not isinstance(overlap, int | float) or not 0 <= overlap < 1:
        raise InputError(
            f"overlap={overlap}: the share of a window that the next one repeats is needed, at "
            "least 0 and below 1, such as 0.5"
        )
    return float(overlap)


def stream_input(audio: Audio, features: Any, overlap: float) -> Iterator[list[Event]]:
    """Yield events of the windows of one file, decoded in this process."""
    windows = extract_windows(audio, choose_work(features), overlap)
    while True:
        with threadpool_limits(1):  # with all cores it takes as long and ten times the CPU time
            batch, last = _collect_windows(windows)
        if batch or last:
            yield compute_windows(features, batch + last)
        if last:
            return


def _collect_windows(
    windows: Generator[Window | None, None, list[str]],
) -> tuple[list[Event], list[Event]]:
    """Take a batch of windows; also return the event of the end, if it is reached."""
    batch: list[Event] = []
    try:
        while len(batch) < BATCH:
            if (window := next(windows)) is not None:
                batch.append(Event(0, window))
    except StopIteration as stop:
        return batch, [Event(0, stop.value, ended=True)]
    except DecodeError as error:
        return batch, [Event(0, None, ended=True, error=error)]
    return batch, []


def stream_inputs(
    audio: Iterable[AudioInput], features: Any, overlap: float, paths: dict[int, str]
) -> Generator[list[Event], None, None]:
    """Yield events of the windows of files as they are decoded, by processes that are watched.

    Args:
        audio: files and waveforms.
        features: what is computed of each window.
        overlap: share of a window that the next one repeats.
        paths: gets the path of each file, by number; empty for a waveform.
    """

    def check_each() -> Iterator[Audio]:
        for number, item in enumerate(audio):
            checked = check_audio(item)
            paths[number] = checked if isinstance(checked, str) else ""
            yield checked

    cores = count_available_cores()
    count = operator.length_hint(audio, FILES_PER_PROCESS * cores)  # enough if it is unknown
    workers = max(1, min(cores, math.ceil(count / FILES_PER_PROCESS)))
    compute = partial(extract_windows, features=choose_work(features), overlap=overlap)
    events = run_in_workers(compute, check_each(), workers, ahead=AHEAD, most=BATCH, linger=LINGER)
    with contextlib.closing(events):
        for batch in events:
            yield compute_windows(features, batch)
