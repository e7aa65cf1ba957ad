"""The windows of files: collected as they arrive, computed in batches, summed up for each file."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from genreclf.audio.pool import Event
from genreclf.audio.sound_files import DecodeError


@dataclass
class FileWindows:
    """The windows of a file, and what the network gave for each; or the reason for having none."""

    spans: list[tuple[float, float]] = field(default_factory=list)  # start and end, s
    audible: list[float] = field(default_factory=list)  # s
    values: list[np.ndarray] = field(default_factory=list)  # of shape (size,)
    ended: bool = False
    failure: Exception | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def error(self) -> str:
        """Why there is no result; empty if there is."""
        if self.failure is None and not np.isfinite(self.values).all():
            return "the model's results for this file are not finite numbers"
        return str(self.failure or "")

    def average(self) -> np.ndarray:
        """Return the mean of the values, weighted by the seconds that are audible."""
        return np.average(np.stack(self.values), axis=0, weights=self.audible)


def compute_files(
    batches: Iterable[list[Event]], compute: Callable[[Sequence[np.ndarray]], np.ndarray]
) -> Iterator[FileWindows]:
    """Compute the windows of each batch, and yield each file when it is complete and its turn.

    Args:
        batches: events of `genreclf.audio.workers.extract_windows`, of one or several files.
        compute: takes features (bins, frames) of any number of windows, and returns as many rows.

    Raises:
        InputError: the features of a file are not what they declare, or `compute` raises it.
    """
    files: defaultdict[int, FileWindows] = defaultdict(FileWindows)
    turn = 0
    for batch in batches:
        arrived = [event for event in batch if not event.ended]
        rows = compute([event.value.features for event in arrived])
        for event, values in zip(arrived, rows, strict=True):
            file, window = files[event.number], event.value
            file.failure = file.failure or event.error
            file.spans.append((window.start, window.end))
            file.audible.append(window.audible)
            file.values.append(values)
        for event in batch:
            if event.ended:
                file = files[event.number]
                file.ended, file.notes = True, event.value or []
                file.failure = event.error or file.failure
        while turn in files and files[turn].ended:
            file = files.pop(turn)
            turn += 1
            if file.failure and not isinstance(file.failure, DecodeError):
                raise file.failure
            yield file
