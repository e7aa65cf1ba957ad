"""Rows of concatenated features, put together from the stores of their parts.

Who has stores of both parts needs no decoding for `features=concat`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np


class Rows(Protocol):
    """Rows that may be copied: those of a `Store`, or of one that is not finished.

    Attributes:
        contents: digest of the audio of each row.
        durations: seconds of audio of each row.
        notes: what the user should know about the file of each row; empty if nothing.
    """

    contents: list[str]
    durations: Any
    notes: list[str]

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """Read the stored values (len(rows), bins, frames) of these rows."""
        ...


class JoinedRows:
    """The rows of all tracks of which each part has a row somewhere.

    A part that takes clips as long as the whole says how long they are; without one, there are no
    rows. Where such a part has a row, the whole has one: both begin with the same audio.

    Args:
        features: has `built`, its parts, and `concatenate`.
        found: for each part, by the digest of the audio, where its row is.

    Attributes:
        contents, durations, notes: as for `Rows`.
    """

    def __init__(self, features: Any, found: Sequence[Mapping[str, tuple[Rows, int]]]) -> None:
        self._features, self._found = features, found
        lengths = [part.duration for part in features.built]
        self.contents: list[str] = []
        self.durations: list[float] = []
        self.notes: list[str] = []
        if features.duration in lengths:
            longest = found[lengths.index(features.duration)]
            common = [each for each in longest if all(each in part for part in found)]
            places = [longest[content] for content in common]
            self.contents = common
            self.durations = [float(rows.durations[row]) for rows, row in places]
            self.notes = [rows.notes[row] for rows, row in places]

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """Put together the values (len(rows), bins, frames) of these rows."""
        values = []
        for part in self._found:
            places = (part[self.contents[row]] for row in rows)
            values.append([stored.read([place])[0] for stored, place in places])
        return np.stack(self._features.concatenate(values))
