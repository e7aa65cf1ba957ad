"""ONNX files: what their input and outputs are, and how they are run."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from genreclf.errors import InputError, shorten_failure
from genreclf.models.encoders.onnx_outputs import average_output, find_time_axis

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
        options.log_severity_level = 4  # errors are raised as well
        if place == "core":
            options.intra_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        if place == "cuda":
            providers.insert(0, "CUDAExecutionProvider")
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers)
        except Exception as error:
            raise InputError(_explain_failure(self.where, error)) from None
        inputs = self.session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(each.name for each in inputs)
            raise InputError(f"{self.where}: {len(inputs)} inputs ({names}); one is needed")
        self.input = inputs[0]
        if self.input.type not in TYPES:
            raise InputError(
                f"{self.where}: its input {self.input.name} is {self.input.type}; one of real "
                "numbers is needed: tensor(float), tensor(float16) or tensor(double)"
            )
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
        self.result = f"{self.where}: its output {self.output}"
        self._leads = True  # whether the output of a single item has an axis for items
        self._time_axes: dict[tuple[int, ...], int | None] = {}

    def run(self, values: np.ndarray) -> np.ndarray:
        """Run the model on its input; return the chosen output.

        Raises:
            InputError: it fails, or the output is no array.
        """
        feed = {self.input.name: values.astype(TYPES[self.input.type], copy=False)}
        try:
            found: Any = self.session.run([self.output], feed)[0]
        except Exception as error:
            what = f"{self.where}: it fails on input of shape {values.shape}"
            raise InputError(shorten_failure(what, error)) from None
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
            raise InputError(f"{self.where}: its output {self.output} is no array of numbers")
        return found.astype(np.float32)

    def find_time(self, shape: tuple[int, ...], axis: int) -> int | None:
        """Find the axis of the output that is time, by trying inputs of two lengths.

        Args:
            shape: what the last axes of the longer input take.
            axis: which of them is time.

        Returns:
            Its number in (items, ...); None if the output has the same shape for both.

        Raises:
            InputError: the model fails, or several axes change.
        """
        if shape not in self._time_axes:
            longer = np.random.default_rng(0).normal(0, 0.1, (1, *shape)).astype(np.float32)
            shorter = longer.take(range((shape[axis] + 1) // 2), axis=axis + 1)
            expected = self.run_items(longer, len(shape))
            try:
                found = self.run_items(shorter.repeat(2, axis=0), len(shape))
            except InputError:  # too short for this model
                found = expected
            self._time_axes[shape] = find_time_axis(self.result, (expected.shape, found.shape))
        return self._time_axes[shape]

    def run_each(self, items: np.ndarray, rank: int, time: int | None = None) -> np.ndarray:
        """Run the model on items, (items, ...), and average its output over time for each.

        Args:
            items: what the last axes of the input take.
            rank: how many axes that are; in front of them, one axis for items, or none, and axes of
                size 1.
            time: the axis of the output that is time; None if it is not known.

        Returns:
            Float32 (items, values); see `onnx_outputs.average_output`.
        """
        size = self._count_items(rank)
        parts = [items[first : first + size] for first in range(0, len(items), size)]
        found = (self.run_items(part, rank) for part in parts)
        return np.concatenate([average_output(self.result, values, time) for values in found])

    def run_items(self, items: np.ndarray, rank: int) -> np.ndarray:
        """Run the model on few items, (items, ...); return its output (items, ...)."""
        front = self.shape[: len(self.shape) - rank]
        size = self._count_items(rank)
        if size == 1:  # the output may have an axis for items or not
            return np.stack([self._run_single(item, len(front)) for item in items])
        missing = (front[0] or len(items)) - len(items)  # the file may state how many it takes
        filled = np.concatenate([items, np.zeros((missing, *items.shape[1:]), items.dtype)])
        found = self.run(filled.reshape(len(filled), *[1] * (len(front) - 1), *items.shape[1:]))
        if found.shape[:1] != (len(filled),):
            raise InputError(
                f"{self.result} is {found.shape} for a batch of {len(filled)}; the first axis has "
                "to be the batch"
            )
        return found[: len(items)]

    def _run_single(self, item: np.ndarray, front: int) -> np.ndarray:
        found = self.run(item.reshape(*[1] * front, *item.shape))
        if found.ndim < 2:
            return np.atleast_1d(found)
        self._leads &= len(found) == 1  # what is 1 in short audio alone is its time
        return found[0] if self._leads else found

    def _count_items(self, rank: int) -> int:
        """Count how many items the model takes at once."""
        front = self.shape[: len(self.shape) - rank]
        return (front[0] or BATCH) if front else 1


def _explain_failure(where: str, error: Exception) -> str:
    """Say in one short line why onnxruntime cannot load a file."""
    text = str(error)
    if "data from external tensors" in text:
        return (
            f"{where}: it keeps the settings of an operation in another file, which onnxruntime "
            "cannot read; save it again with size_threshold=1024, the default"
        )
    if re.search("INVALID_PROTOBUF|Protobuf parsing failed|ModelProto does not have", text):
        return f"{where}: no ONNX file, or damaged"
    return shorten_failure(where, error)


@lru_cache(maxsize=4)
def load_model(path: Path, digest: str, output: str | int | None, place: str) -> OnnxModel:
    """Load an ONNX file once per process and place; `digest` tells whether it is the same."""
    return OnnxModel(path, output, place)
