"""The inputs of `inference.Model`: checks audio and device, and extracts features of audio."""

import itertools
import math
import operator
import os
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from genreclf.audio.workers import (
    Audio,
    Window,
    count_available_cores,
    extract_windows,
    map_in_order,
)
from genreclf.errors import InputError

AudioInput = str | os.PathLike[str] | tuple[Any, float]  # a path, or (waveform, sample rate)
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


def name_audio(audio: Audio) -> str:
    """Return the path of a file; empty for a waveform."""
    return audio if isinstance(audio, str) else ""


def extract_input(audio: Audio, features: Any) -> list[Window] | str:
    """Extract windows on one core; with all cores it takes as long and ten times the CPU time."""
    with threadpool_limits(1):
        return extract_windows(audio, features)


def extract_inputs(
    audio: Iterable[AudioInput], features: Any
) -> Iterator[tuple[str, list[Window] | str]]:
    """Yield path and windows, or the reason for having none; decode a single file here."""
    decode = partial(extract_windows, features=features)
    cores = count_available_cores()
    count = operator.length_hint(audio, FILES_PER_PROCESS * cores)  # enough if it is unknown
    workers = min(cores, math.ceil(count / FILES_PER_PROCESS))
    named, decoded = itertools.tee(map(check_audio, audio))  # the latter is a few files ahead
    if count < 2:
        windows = (extract_input(item, features) for item in decoded)
    else:
        windows = map_in_order(decode, decoded, workers)
    for found in windows:
        yield name_audio(next(named)), found


def group_windows(
    decoded: Iterable[tuple[str, list[Window] | str]], size: int
) -> Iterator[list[tuple[str, list[Window] | str]]]:
    """Group files until there are at least `size` windows in each group, except the last."""
    group: list[tuple[str, list[Window] | str]] = []
    count = 0
    for path, windows in decoded:
        group.append((path, windows))
        count += 1 if isinstance(windows, str) else len(windows)
        if count >= size:
            yield group
            group, count = [], 0
    if group:
        yield group
