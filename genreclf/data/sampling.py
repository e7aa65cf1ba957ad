"""Which training tracks come, how often, and in what order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn
from torch.utils.data import BatchSampler, Sampler

from genreclf.data.store import Store
from genreclf.errors import InputError


@dataclass(frozen=True)
class Oversampling:
    """Extra copies of the training tracks of some genres, augmented in a way of their own.

    Args:
        augmentation: of the copies; the originals are augmented like all other tracks.
        genres: whose tracks are copied, whatever their case; those that the data lacks are passed
            over.
        copies: of each track, the factor of Table VII of the paper.
    """

    augmentation: nn.Module = field(default_factory=nn.Identity)
    genres: Sequence[str] = ()
    copies: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.copies, int) or self.copies < 0:
            raise InputError(
                f"oversampling.copies={self.copies!r}: a number of at least 0 is needed"
            )
        if isinstance(self.genres, str) or not isinstance(self.genres, Sequence | None):
            raise InputError(f"oversampling.genres: a list is needed: [{self.genres}]")
        object.__setattr__(self, "genres", tuple(str(name) for name in self.genres or ()))

    def rows(self, store: Store, rows: np.ndarray) -> np.ndarray:
        """The copies of these rows: each row of the genres, `copies` times."""
        chosen = {name.casefold() for name in self.genres}
        wanted = [label for label, name in enumerate(store.classes) if name.casefold() in chosen]
        return np.repeat(rows[np.isin(store.labels[rows], wanted)], self.copies)

    def unknown(self, classes: Sequence[str]) -> list[str]:
        """Genres that are not among these; case does not matter."""
        known = {name.casefold() for name in classes}
        return [name for name in self.genres if name.casefold() not in known]


class EpochShuffle(Sampler):
    """All items in an order that depends on seed and epoch alone, so that a resumed run agrees."""

    def __init__(self, count: int, seed: int, epoch: int = 0) -> None:
        self.count, self.seed, self.epoch = count, seed, epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        yield from np.random.default_rng([self.seed, self.epoch]).permutation(self.count).tolist()


class Shares(Sampler[list[int]]):
    """One process's share of each batch of training items.

    Together the shares are the batch of a single process. The last batch may have fewer items than
    there are processes; one without a share then gets an item of weight 0, since all have to take
    part in each step. Batch normalisation counts that item all the same.

    Args:
        sampler: of all items, in the same order in every process.
        batch_size: of the whole batch, at least `processes`.
        rank: of this process, from 0.
        processes: how many there are.
    """

    def __init__(self, sampler: EpochShuffle, batch_size: int, rank: int, processes: int) -> None:
        self.sampler, self.batch_size = sampler, batch_size  # Lightning tells `sampler` the epoch
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in BatchSampler(self.sampler, self.batch_size, drop_last=False):
            yield batch[self.rank :: self.processes] or batch[:1]

    def count(self, number: int) -> int:
        """Items of the whole batch of this number."""
        return min(self.batch_size, len(self.sampler) - number * self.batch_size)

    def weight(self, number: int) -> float:
        """By which the mean over this share is to be multiplied.

        The mean over all processes is then that over the batch.
        """
        count = self.count(number)
        return len(range(self.rank, count, self.processes)) * self.processes / count
