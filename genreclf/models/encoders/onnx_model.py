"""ONNX files as encoders: what their input and outputs are, and how they are run."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from genreclf.errors import InputError, describe_failure
from genreclf.models.encoders.windowed import cut_patches

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
BATCH = 16  # inputs at a time, where the file leaves their number open


class OnnxModel:
    """An ONNX file with a single input.

    Args:
        path: the file.
        output: name or number of the output; None for the first.
        place: "core" (one core), "cpu" or "cuda".

    Attributes:
        shape: sizes of the input's axes; None where the file leaves them open.

    Raises:
        InputError: onnxruntime cannot read it, it has several inputs or one that is no array of
            real numbers, or no such output.
    """

    def __init__(self, path: Path, output: str | int | None, place: str) -> None:
        import onnxruntime

        self.where = f"features.model={path}"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        if place == "core":
            options.intra_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        if place == "cuda":
            providers.insert(0, "CUDAExecutionProvider")
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers)
        except Exception as error:
            raise InputError(describe_failure(self.where, error)) from None
        inputs = self.session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(each.name for each in inputs)
            raise InputError(f"{self.where}: {len(inputs)} inputs ({names}); one is needed")
        self.input = inputs[0]
        if self.input.type not in TYPES:
            raise InputError(f"{self.where}: its input {self.input.name} is {self.input.type}")
        self.shape = [size if isinstance(size, int) else None for size in self.input.shape]
        names = [each.name for each in self.session.get_outputs()]
        known = {**{str(number): name for number, name in enumerate(names)}, **dict.fromkeys(names)}
        if output is not None and str(output) not in known:
            raise InputError(
                f"features.output={output}: the outputs are {', '.join(names)}; choose one by its "
                f"name or number, 0 to {len(names) - 1}"
            )
        wanted = str(0 if output is None else output)
        self.output = known[wanted] or wanted

    def run(self, values: np.ndarray) -> np.ndarray:
        """Run the model on its input; return the chosen output.

        Raises:
            InputError: it fails, or the output is no array.
        """
        feed = {self.input.name: values.astype(TYPES[self.input.type], copy=False)}
        try:
            found: Any = self.session.run([self.output], feed)[0]
        except Exception as error:
            raise InputError(describe_failure(self.where, error)) from None
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
            raise InputError(f"{self.where}: its output {self.output} is no array of numbers")
        return found.astype(np.float32)

    def run_each(self, items: np.ndarray, rank: int) -> np.ndarray:
        """Run the model on items, (items, ...), and average its output over time for each.

        Args:
            items: what the last axes of the input take.
            rank: how many axes that are; in front of them, one axis for items, or none, and axes of
                size 1.

        Returns:
            Float32 (items, values). Of an output (items, values), the values; of (items, time,
            values) their mean over time, and of (items, values, ., .) over the last two axes.
        """
        front = self.shape[: len(self.shape) - rank]
        if not front:
            return np.stack([_average(self.run(item)[None]) for item in items])[:, 0]
        size = front[0] or BATCH
        rows = []
        for first in range(0, len(items), size):
            some = items[first : first + size]
            missing = size - len(some) if front[0] else 0  # the file states how many it takes
            filled = np.concatenate([some, np.zeros((missing, *some.shape[1:]), some.dtype)])
            given = filled.reshape(len(filled), *[1] * (len(front) - 1), *items.shape[1:])
            found = self.run(given)
            if size == 1 and found.shape[:1] != (1,):  # without an axis for items
                found = found[None]
            if len(found) != len(given):
                raise InputError(
                    f"{self.where}: its output {self.output} is {found.shape} for {len(given)} "
                    "inputs; the first axis has to be theirs"
                )
            rows.append(_average(found)[: len(some)])
        return np.concatenate(rows)


def _average(values: np.ndarray) -> np.ndarray:
    """Average an output (items, ...) to (items, values)."""
    if values.ndim == 1:
        return values[:, None]
    if values.ndim == 3:
        return values.mean(axis=1)
    return values.mean(axis=tuple(range(2, values.ndim)))


class OnnxEncoder:
    """An ONNX model of waveforms, (..., samples).

    Args:
        model: the ONNX model.
        rate: sample rate of its windows in Hz.
        window: length of the windows in seconds; None for the input's own, else `length`.
        length: see `window`.

    Raises:
        InputError: the input does not take waveforms, or states another length than `window`.
    """

    def __init__(self, model: OnnxModel, rate: int, window: float | None, length: float) -> None:
        self.model, self.samples = model, (model.shape or [None])[-1]
        check_front(model, 1, "waveforms are (samples,), (batch, samples) or (batch, 1, samples)")
        if self.samples and window is not None:
            raise InputError(
                f"features.window={window:g}: the model's input has {self.samples} samples; set "
                "features.window=null"
            )
        self.seconds = self.samples / rate if self.samples else window or length

    def embed(self, windows: np.ndarray) -> np.ndarray:
        """Compute embeddings, float32 (windows, values), of windows (windows, samples)."""
        if self.samples and windows.shape[1] < self.samples:  # repeated, as musicnn does
            windows = np.stack([np.resize(each, self.samples) for each in windows])
        return self.model.run_each(windows, 1)


class OnnxMelEncoder:
    """An ONNX model of mel bands: (..., bands, frames) or (..., frames, bands).

    Args:
        model: the ONNX model.
        compute_mel: computes (bands, frames) of a window (samples,).
        bands: their number.
        window: length of the windows in seconds; None for `length`.
        length: see `window`.

    Raises:
        InputError: the input does not take so many bands, or states its frames and `window` is set.
    """

    def __init__(
        self,
        model: OnnxModel,
        compute_mel: Callable[[np.ndarray], np.ndarray],
        bands: int,
        window: float | None,
        length: float,
    ) -> None:
        self.model, self.compute_mel = model, compute_mel
        wanted = f"mel bands are (bands, frames) or (frames, bands), with {bands} bands"
        check_front(model, 2, wanted)
        last = model.shape[-2:]
        if bands not in last:
            raise InputError(
                f"{model.where}: its input is {model.input.shape}; {wanted}: set features.n_mels"
            )
        self.transposed = last[1] == bands
        self.frames = last[0] if self.transposed else last[1]
        if self.frames and window is not None:
            raise InputError(
                f"features.window={window:g}: the model's input has {self.frames} frames; set "
                "features.window=null"
            )
        self.seconds = window or length

    def embed(self, windows: np.ndarray) -> np.ndarray:
        """Compute embeddings, float32 (windows, values), of windows (windows, samples).

        If the input states its number of frames, a window is divided into such patches, whose
        embeddings are averaged. If more than half a patch is left, one more ends there.
        """
        rows = []
        for window in windows:
            mel = self.compute_mel(window)
            patches = cut_patches(mel, self.frames) if self.frames else mel[None]
            given = patches.swapaxes(1, 2) if self.transposed else patches
            rows.append(self.model.run_each(given, 2).mean(axis=0))
        return np.stack(rows)


def check_front(model: OnnxModel, rank: int, wanted: str) -> None:
    """Check the input's axes before the last `rank`: one for items and some of size 1, or none.

    Raises:
        InputError: they are others.
    """
    front = model.shape[: max(0, len(model.shape) - rank)]
    if len(model.shape) < rank or len(front) > 2 or any(size != 1 for size in front[1:]):
        raise InputError(f"{model.where}: its input is {model.input.shape}; {wanted}")


@lru_cache(maxsize=4)
def load_model(path: Path, digest: str, output: str | int | None, place: str) -> OnnxModel:
    """Load an ONNX file once per process and place; `digest` tells whether it is the same."""
    return OnnxModel(path, output, place)
