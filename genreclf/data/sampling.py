"""Which training tracks an epoch has, how often, and in what order."""

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
        augmentation: of the copies; the originals are augmented like all other tracks.
        genres: whose tracks are copied; upper and lower case are the same, and genres that the data
            lack are ignored.
        copies: how many of each track, the factor of Table VII of the paper.

    Raises:
        InputError: a negative number of copies, or `genres` is no list.
    """

    augmentation: nn.Module = field(default_factory=nn.Identity)
    genres: Sequence[str] = ()
    copies: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.copies, int) or self.copies < 0:
            raise InputError(f"oversampling.copies={self.copies!r}: at least 0 is needed")
        if isinstance(self.genres, str) or not isinstance(self.genres, Sequence | None):
            raise InputError(f"oversampling.genres: a list is needed: [{self.genres}]")
        object.__setattr__(self, "genres", tuple(str(name) for name in self.genres or ()))

    def repeat_rows(self, store: Store, rows: np.ndarray) -> np.ndarray:
        """Each of these rows that is of one of the genres, `copies` times."""
        chosen = {name.casefold() for name in self.genres}
        wanted = [label for label, name in enumerate(store.classes) if name.casefold() in chosen]
        return np.repeat(rows[np.isin(store.labels[rows], wanted)], self.copies)

    def find_unknown_genres(self, classes: Sequence[str]) -> list[str]:
        """Genres that are not among these classes; case does not matter."""
        known = {name.casefold() for name in classes}
        return [name for name in self.genres if name.casefold() not in known]


class EpochShuffle(Sampler):
    """Shuffles all items by seed and epoch alone, which makes a resumed run the same."""

    def __init__(self, count: int, seed: int, epoch: int = 0) -> None:
        self.count, self.seed, self.epoch = count, seed, epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        yield from np.random.default_rng([self.seed, self.epoch]).permutation(self.count).tolist()
