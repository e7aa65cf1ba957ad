"""Batches of a store: the LightningDataModule.

A batch travels to the device as it is stored: values (batch, bins, frames), labels int64 (batch,),
and which tracks are extra copies, bool (batch,). There it becomes (features, labels), the features
float32, augmented in training; where the store holds waveforms, they are computed there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from genreclf.batch_features import batch_features
from genreclf.errors import InputError
from genreclf.features import Features, Precomputed
from genreclf.splits import Split
from genreclf.store import Store

StoredBatch = tuple[Tensor, Tensor, Tensor]
Batch = tuple[Tensor, Tensor]


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


class StoreDataset(Dataset):
    """Some rows of a store, then extra copies; a whole batch is read in one call."""

    def __init__(self, store: Store, rows: np.ndarray, copies: np.ndarray | None = None) -> None:
        copies = rows[:0] if copies is None else copies
        self.store, self.rows = store, np.concatenate([rows, copies])
        self.copied = np.arange(len(self.rows)) >= len(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, numbers: Sequence[int]) -> StoredBatch:
        """The batch of these items; DataLoader prefers this to one call an item."""
        rows = self.rows[np.asarray(numbers)]
        arrays = self.store.read(rows), self.store.labels[rows], self.copied[np.asarray(numbers)]
        values, labels, copied = map(torch.from_numpy, arrays)
        return values, labels, copied


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


def _as_batch(batch: Any) -> StoredBatch:
    """Collation: `StoreDataset.__getitems__` has made a batch already."""
    return batch


def check_loading(batch_size: int, num_workers: int) -> None:
    """Refuse impossible numbers, with InputError."""
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size={batch_size!r}: a whole number of at least 1 is needed")
    if not isinstance(num_workers, int) or num_workers < 0:
        raise InputError(f"num_workers={num_workers!r}: a whole number of at least 0 is needed")


class StoreDataModule(pl.LightningDataModule):
    """Training, validation and test batches of a split store.

    Args:
        store: where the features are, or the waveforms of which they are computed.
        split: rows of each part; "val" serves as "test" where there is no such part.
        batch_size: tracks a batch.
        num_workers: processes that read; the numbers do not depend on it.
        augmentation: applied to training batches on the device.
        oversampling: which training tracks come more than once, and how the copies are augmented.
        seed: of the order of the training tracks.
        features: which the store was made for.

    Attributes:
        shape: (bins, frames) of the features.
        copies: rows of the training part that come again.
        predicted_part: the part that `predict_dataloader` reads; the tested one unless changed.
    """

    def __init__(
        self,
        store: Store,
        split: Split,
        batch_size: int = 16,
        num_workers: int = 0,
        augmentation: nn.Module | None = None,
        oversampling: Oversampling | None = None,
        seed: int = 0,
        features: Features | None = None,
    ) -> None:
        super().__init__()
        check_loading(batch_size, num_workers)
        self.store, self.split, self.seed = store, split, seed
        self.batch_size, self.num_workers = batch_size, num_workers
        self.augmentation = augmentation or nn.Identity()
        self.oversampling = oversampling or Oversampling()
        features = features or Precomputed()
        self.shape = store.shape if isinstance(features, Precomputed) else features.shape
        self.batch_features = batch_features(features)
        self.copies = self.oversampling.rows(store, split.get("train", np.arange(0)))
        self.predicted_part = self.tested_part

    @property
    def tested_part(self) -> str:
        """The part that `test_dataloader` reads: "test", or "val" where there is no test part."""
        return "test" if "test" in self.split else "val"

    def train_dataloader(self) -> DataLoader:
        """Shuffled training batches."""
        tracks = StoreDataset(self.store, self.split["train"], self.copies)
        # Workers begin to read before Lightning tells the sampler the epoch of a resumed run.
        progress: Any = self.trainer.fit_loop.epoch_progress.current if self.trainer else None
        epoch = progress.processed if progress else 0
        order = EpochShuffle(len(tracks), self.seed, epoch)
        if self.trainer is None or self.trainer.world_size == 1:
            return self._loader(tracks, batch_size=self.batch_size, sampler=order)
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        return self._loader(tracks, batch_sampler=Shares(order, self.batch_size, rank, processes))

    def val_dataloader(self) -> DataLoader:
        """Validation batches, in the order of the rows; each process has all of them."""
        return self._in_order("val")

    def test_dataloader(self) -> DataLoader:
        """Batches of the tested part, in the order of the rows."""
        return self._in_order(self.tested_part)

    def predict_dataloader(self) -> DataLoader:
        """Batches of the predicted part, in the order of the rows."""
        return self._in_order(self.predicted_part)

    def _in_order(self, part: str) -> DataLoader:
        tracks = StoreDataset(self.store, self.split[part])
        return self._loader(tracks, batch_size=self.batch_size)

    def _loader(self, tracks: StoreDataset, **batches: Any) -> DataLoader:
        return DataLoader(
            tracks,
            **batches,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=_as_batch,
            generator=torch.Generator(),  # else each epoch takes a number from the global one
        )

    def on_after_batch_transfer(self, batch: StoredBatch, dataloader_idx: int) -> Batch:
        """Stored values to features, augmented in training."""
        stored, labels, copied = batch
        features = self.features_of(stored)
        if self.trainer is not None and self.trainer.training:
            features = self._augmented(features, copied)
        return features, labels

    def features_of(self, stored: Tensor) -> Tensor:
        """Features float32 (batch, bins, frames) of stored values, on their device."""
        scaling = self.store.scaling
        values = stored.float() * scaling.scale + scaling.offset
        return self.batch_features.to(values.device)(values)

    def training_batches(self) -> Iterator[Tensor]:
        """Features of the training part in the order of its rows, neither copied nor augmented."""
        for stored, *_ in self._in_order("train"):
            yield self.features_of(stored)

    def _augmented(self, features: Tensor, copied: Tensor) -> Tensor:
        augmented = self.augmentation(features)
        if not len(self.copies):
            return augmented
        copies = self.oversampling.augmentation(features)
        return torch.where(copied[:, None, None], copies, augmented)
