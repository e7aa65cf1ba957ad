"""The outputs of ONNX files: which axis is time, and how values of a clip are made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genreclf.errors import InputError

NEEDED = (
    "(batch, values), (batch, time, values), (batch, values, time) or (batch, values, ., .) is "
    "needed"
)


def find_time_axis(where: str, shapes: Sequence[tuple[int, ...]]) -> int | None:
    """Find the axis of an output that grows with the length of the input.

    Args:
        where: begins the message.
        shapes: those of the output (items, ...) for inputs of two lengths; the first axis is left
            out of account.

    Returns:
        Its number; None if there is none.

    Raises:
        InputError: there are several, or the number of axes changes.
    """
    first, second = shapes
    if len(first) != len(second):
        raise InputError(f"{where} is {first}, for longer input {second}; {NEEDED}")
    changed = [axis for axis in range(1, len(first)) if first[axis] != second[axis]]
    if len(changed) > 1:
        names = " and ".join(map(str, changed))
        raise InputError(
            f"{where} is {first}: its axes {names} change with the length of the audio; {NEEDED}"
        )
    return changed[0] if changed else None


def average_output(where: str, values: np.ndarray, time: int | None) -> np.ndarray:
    """Average an output (items, ...) to (items, values).

    Args:
        where: begins the message.
        values: the output.
        time: the axis that is time; None if it is not known: then that of (items, time, values),
            or both of (items, values, ., .).

    Raises:
        InputError: the output has other axes.
    """
    axes = values.ndim
    if axes == 0 or axes > 4 or (axes == 4 and time == 1):
        raise InputError(f"{where} is {values.shape}; {NEEDED}")
    if axes == 4:
        return values.mean(axis=(2, 3))
    if axes == 3:
        return values.mean(axis=1 if time is None else time)
    if axes == 2 and time == 1:  # one value at a time
        return values.mean(axis=1, keepdims=True)
    return values.reshape(len(values), -1)
