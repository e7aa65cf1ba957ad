"""Chooses the training tracks of an epoch: which, how often, and in what order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn
from torch.utils.data import Sampler

from genreclf.data.store import Store
from genreclf.errors import InputError


@dataclass(frozen=True)
class Oversampling:
    """Extra copies of the training tracks of some genres, with their own augmentation.

    Args:
        augmentation: applied to the copies; the originals are augmented like all other tracks.
        genres: the genres whose tracks are copied, ignoring upper and lower case; genres that the
            data lack are ignored.
        copies: number of copies per track, the factor in Table VII of the paper.

    Raises:
        InputError: the number of copies is negative, or `genres` is not a list.
    """

    augmentation: nn.Module = field(default_factory=nn.Identity)
    genres: Sequence[str] = ()
    copies: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.copies, int) or self.copies < 0:
            raise InputError(f"oversampling.copies={self.copies!r}: at least 0 is needed")
        if self.genres is None:
            raise InputError("oversampling.genres=[...] is needed: whose tracks get extra copies?")
        if isinstance(self.genres, str) or not isinstance(self.genres, Sequence):
            raise InputError(f"oversampling.genres: a list is needed: [{self.genres}]")
        object.__setattr__(self, "genres", tuple(map(str, self.genres)))

    def repeat_rows(self, store: Store, rows: np.ndarray) -> np.ndarray:
        """Repeat each of these rows that has one of the genres, `copies` times."""
        chosen = {name.casefold() for name in self.genres}
        wanted = [label for label, name in enumerate(store.classes) if name.casefold() in chosen]
        return np.repeat(rows[np.isin(store.labels[rows], wanted)], self.copies)

    def find_unknown_genres(self, classes: Sequence[str]) -> list[str]:
        """Find the genres that are not among these classes, ignoring case."""
        known = {name.casefold() for name in classes}
        return [name for name in self.genres if name.casefold() not in known]


class EpochShuffle(Sampler):
    """Shuffles all items by seed and epoch only, so a resumed run has the same order."""

    def __init__(self, count: int, seed: int, epoch: int = 0) -> None:
        self.count, self.seed, self.epoch = count, seed, epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this at the start of each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        yield from np.random.default_rng([self.seed, self.epoch]).permutation(self.count).tolist()
