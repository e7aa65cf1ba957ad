"""Names the genres of the labels in NumPy archives, which may be numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genreclf.data.datasets.arrays import convert_texts
from genreclf.data.datasets.track import find_genre_fault
from genreclf.errors import InputError


def check_classes(classes: Sequence[str] | None) -> list[str] | None:
    """Check the setting `data.classes`, and return it as texts.

    Raises:
        InputError: it is no list of different genres.
    """
    if classes is None:
        return None
    if isinstance(classes, str):
        raise InputError(f"data.classes={classes}: a list is needed: [{classes}]")
    names = [str(name) for name in classes]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"data.classes names {', '.join(sorted(twice))} more than once")
    for number, name in enumerate(names):
        if fault := find_genre_fault(name):
            raise InputError(f"data.classes: class {number}: {fault}")
    return names


def name_genres(labels: np.ndarray, classes: list[str] | None, file: Path) -> list[str]:
    """Name the genre of each track.

    Args:
        labels: what an archive holds: names or whole numbers (tracks,).
        classes: names of the classes, by number; None if labels are names, or to keep numbers.
        file: the archive, for messages.

    Raises:
        InputError: the labels are something else, or `classes` does not suit them.
    """
    if labels.ndim != 1:
        raise InputError(
            f"{file}: 'labels' of shape {labels.shape}; one genre for each track is needed "
            "(one-hot rows: labels.argmax(axis=1))"
        )
    if labels.dtype.kind not in "iuSU":
        raise InputError(
            f"{file}: 'labels' are {labels.dtype}, such as {labels[:1].tolist()}; names or "
            "whole numbers are needed"
        )
    genres = convert_texts(labels, file, "labels")
    for row, genre in enumerate(genres):
        if fault := find_genre_fault(genre):
            raise InputError(f"{file}: 'labels', row {row}: {fault}")
    if classes is None:
        return genres
    if labels.dtype.kind in "SU":
        raise InputError(
            f"{file}: data.classes names whole numbers, but these labels are names, such as "
            f"{', '.join(genres[:1])}; remove data.classes"
        )
    if labels.size and labels.max() >= len(classes):
        raise InputError(
            f"{file}: labels {labels.min()} to {labels.max()}, but data.classes names "
            f"{len(classes)} classes (0 to {len(classes) - 1})"
        )
    return [classes[label] for label in labels]
