"""Chooses the training tracks of an epoch: which, how often, and in what order."""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import BatchSampler, DistributedSampler, Sampler

from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.protocols import MakeSampler


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

    def __init__(self, labels: np.ndarray, seed: int) -> None:
        self.count, self.seed, self.epoch = len(labels), seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0, whose order is drawn next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        yield from np.random.default_rng([self.seed, self.epoch]).permutation(self.count).tolist()


class BalancedSampler(Sampler):
    """Draws every genre equally often, each time any of its items (with replacement).

    An epoch has as many items as the training part, rounded up to a multiple of the number of
    genres. The draw depends on seed and epoch only.

    Args:
        labels: int64 (items,), genre of each item, including extra copies.
        seed: seed of the run.
    """

    def __init__(self, labels: np.ndarray, seed: int) -> None:
        self.seed, self.epoch = seed, 0
        self.items = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self.each = -(-len(labels) // len(self.items))  # of a genre in an epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0, whose items are drawn next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.each * len(self.items)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        drawn = [random.choice(items, self.each) for items in self.items]
        yield from random.permutation(np.concatenate(drawn)).tolist()


class ProcessSampler(Sampler):
    """The items of one epoch for one process, from any sampler.

    The random numbers that a sampler takes from PyTorch's global generator depend on seed and epoch
    here. So a resumed run continues with the same items, and all processes draw the same ones, of
    which each takes its share; some are repeated if they cannot be divided evenly.

    Args:
        make_sampler: makes the sampler.
        labels: int64 (items,), genre of each item, including extra copies.
        seed: seed of the run.
        epoch: the first epoch, from 0.
        rank: number of this process, from 0.
        processes: number of processes that train together.

    Raises:
        InputError: the sampler has no length, or gives something other than numbers of items.
    """

    def __init__(
        self,
        make_sampler: MakeSampler,
        labels: np.ndarray,
        seed: int,
        epoch: int = 0,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.sampler = make_sampler(labels=labels, seed=seed)
        self.items, self.seed, self.rank, self.processes = len(labels), seed, rank, processes
        if processes > 1 and isinstance(self.sampler, EpochShuffle):  # PyTorch's own order
            items: Any = range(len(labels))
            self.sampler = DistributedSampler(items, processes, rank, seed=seed)
            self.rank, self.processes = 0, 1
        try:
            self.count = len(self.sampler)  # pyright: ignore[reportArgumentType]
        except TypeError:
            raise InputError(f"{self._name()} has no length: give it a method __len__") from None
        if not self.count:
            raise InputError(f"{self._name()} gives no items: correct its __len__")
        self.set_epoch(epoch)

    def _name(self) -> str:
        return f"sampler: {type(self.sampler).__name__}"

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this at the start of each."""
        self.epoch = epoch
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)  # pyright: ignore[reportAttributeAccessIssue]

    def __len__(self) -> int:
        return -(-self.count // self.processes)

    def __iter__(self) -> Iterator[int]:
        order = islice(cycle(self._draw()), len(self) * self.processes)
        yield from islice(order, self.rank, None, self.processes)

    def _draw(self) -> list[int]:
        seed = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)[0]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(seed))  # of the CPU alone
            drawn: list[Any] = list(islice(self.sampler, self.count + 1))
        if len(drawn) != self.count:
            raise InputError(
                f"{self._name()} gives {'more' if len(drawn) > self.count else len(drawn)} items, "
                f"but its length is {self.count}: correct one of them"
            )
        numbers = [_read_number(item) for item in drawn]
        for number, item in zip(numbers, drawn, strict=True):
            if not 0 <= number < self.items:
                raise InputError(
                    f"{self._name()} gives {item!r}; whole numbers from 0 to {self.items - 1} are "
                    "needed, each the place of an item in `labels`"
                )
        return numbers


def _read_number(item: Any) -> int:
    """Read a whole number of any type; -1 if it is none."""
    try:
        return operator.index(item)
    except (TypeError, ValueError):
        return -1


def choose_batches(sampler: Sampler, batch_size: int) -> dict[str, Any]:
    """Choose the arguments of a `DataLoader` for batches of at most `batch_size` items.

    A last batch of a single item joins the one before it: batch norm of one clip is undefined.
    """
    if batch_size > 1 and len(sampler) > batch_size and len(sampler) % batch_size == 1:  # pyright: ignore
        return {"batch_sampler": BatchesWithoutRest(sampler, batch_size, drop_last=False)}
    return {"batch_size": batch_size, "sampler": sampler}


class BatchesWithoutRest(BatchSampler):
    """Batches of which the last one also has what is left over."""

    def __iter__(self) -> Iterator[list[int]]:
        *whole, last, rest = super().__iter__()
        yield from [*whole, last + rest]

    def __len__(self) -> int:
        return super().__len__() - 1
