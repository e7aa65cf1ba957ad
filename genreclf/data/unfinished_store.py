"""A store that is not finished: its layout, and its rows so far, which another store may copy.

While it is being written, the file is called `NAME.partial`. All rows are allocated at the start,
and a `state` is kept for each track. So a writer that is killed leaves a readable file.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from genreclf.paths import name_sibling, refuse_special

ACCEPTED, REJECTED = 1, 2  # states of tracks; 0: not yet known
LONGEST = 300  # bytes of a reason or note
PARTIAL = ".h5.partial"  # end of the names of unfinished stores


def name_partial(path: Path) -> Path:
    """Name the file in which a store is written until it is finished."""
    return name_sibling(path, ".partial")


class UnfinishedRows:
    """The rows so far of a store that was interrupted; another store may copy them.

    Args:
        path: the unfinished file.

    Attributes:
        identity: class, version and settings of the features.
        contents: digest of the audio of each row.
        durations: float32 (n,), seconds of audio of each row.
        notes: what the user should know about the file of each row; empty if nothing.

    Raises:
        OSError: the file is damaged, or another process is writing it.
        KeyError: it is of an earlier version.
    """

    def __init__(self, path: Path) -> None:
        refuse_special(path)
        with h5py.File(path, "r") as opened:  # fails while another process writes
            file: Any = opened
            progress = file["progress"][:]
            accepted = np.flatnonzero(progress["state"] == ACCEPTED)
            self.identity = json.loads(file.attrs["identity"])
            self.durations = progress["duration"][accepted]
            self.notes = decode_reasons(progress["reason"][accepted])
            self.contents = file["content"].asstr()[:][accepted].tolist()
        # Who continues it later adds rows and leaves these as they are, so it needs no lock.
        self._file: Any = h5py.File(path, "r", locking=False)

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """Read the stored values (len(rows), bins, frames) of these rows."""
        return np.stack([self._file["features"][row] for row in rows])


def encode_reason(text: str) -> bytes:
    """Encode the reason for which a track has no row, or the note on one that has one."""
    return text.encode(errors="backslashreplace")[:LONGEST]


def decode_reasons(reasons: Iterable[bytes]) -> list[str]:
    """Decode reasons or notes."""
    return [reason.decode(errors="replace") for reason in reasons]
