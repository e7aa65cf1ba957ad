"""Batches of a store: the LightningDataModule.

A batch is (features, labels): stored values (batch, bins, frames), and int64 (batch,). They travel
to the device as they are stored, and become float32 features there, augmented in training.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from genreclf.errors import InputError
from genreclf.splits import Split
from genreclf.store import Store

Batch = tuple[Tensor, Tensor]


class StoreDataset(Dataset):
    """Some rows of a store; a whole batch is read in one call."""

    def __init__(self, store: Store, rows: np.ndarray) -> None:
        self.store, self.rows = store, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, numbers: Sequence[int]) -> Batch:
        """The batch of these items; DataLoader prefers this to one call an item."""
        rows = self.rows[np.asarray(numbers)]
        return torch.from_numpy(self.store.read(rows)), torch.from_numpy(self.store.labels[rows])


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


def _as_batch(batch: Any) -> Batch:
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
        store: where the features are.
        split: rows of each part; "val" serves as "test" where there is no such part.
        batch_size: tracks a batch.
        num_workers: processes that read; the numbers do not depend on it.
        augmentation: applied to training batches on the device.
        seed: of the order of the training tracks.
    """

    def __init__(
        self,
        store: Store,
        split: Split,
        batch_size: int = 16,
        num_workers: int = 0,
        augmentation: nn.Module | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_loading(batch_size, num_workers)
        self.store, self.split, self.seed = store, split, seed
        self.batch_size, self.num_workers = batch_size, num_workers
        self.augmentation = augmentation or nn.Identity()

    @property
    def tested_part(self) -> str:
        """The part that `test_dataloader` reads: "test", or "val" where there is no test part."""
        return "test" if "test" in self.split else "val"

    def train_dataloader(self) -> DataLoader:
        """Shuffled training batches."""
        rows = self.split["train"]
        # Workers begin to read before Lightning tells the sampler the epoch of a resumed run.
        progress: Any = self.trainer.fit_loop.epoch_progress.current if self.trainer else None
        epoch = progress.processed if progress else 0
        return self._loader(rows, EpochShuffle(len(rows), self.seed, epoch))

    def val_dataloader(self) -> DataLoader:
        """Validation batches, in the order of the rows."""
        return self._loader(self.split["val"])

    def test_dataloader(self) -> DataLoader:
        """Batches of the tested part, in the order of the rows."""
        return self._loader(self.split[self.tested_part])

    predict_dataloader = test_dataloader

    def _loader(self, rows: np.ndarray, sampler: Sampler | None = None) -> DataLoader:
        return DataLoader(
            StoreDataset(self.store, rows),
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=_as_batch,
            generator=torch.Generator(),  # else each epoch takes a number from the global one
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Stored values to features, augmented in training."""
        stored, labels = batch
        scaling = self.store.scaling
        features = stored.float() * scaling.scale + scaling.offset
        if self.trainer is not None and self.trainer.training:
            features = self.augmentation(features)
        return features, labels
