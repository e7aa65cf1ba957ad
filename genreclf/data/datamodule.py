"""Batches from a store: the LightningDataModule.

A batch is sent to the device as it is stored: values (batch, bins, frames); labels, int64 (batch,);
whether each track is an extra copy, bool (batch,); and the rows, int64 (batch,). On the device it
becomes (features, labels). The features are float32 and, in training, augmented; if the store holds
waveforms, they are computed there. With knowledge distillation, a training batch is (features,
labels, targets) with targets (batch, size).

With a cache, all values are read at the start, and the loader yields rows instead of values.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from genreclf.audio.features import Precomputed
from genreclf.audio.on_device import build_batch_features
from genreclf.audio.own_features import get_stored
from genreclf.audio.processes import make_temporary_folder
from genreclf.data import cache
from genreclf.data.reader import StoreDataset, StoredBatch, StoreReader, keep_batch
from genreclf.data.sampling import EpochShuffle, Oversampling, ProcessSampler, choose_batches
from genreclf.data.splits import Split
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.protocols import MakeSampler

Batch = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]


def check_loading(
    batch_size: int, num_workers: int, cached: str = "none", features: Any = None
) -> None:
    """Check the settings of loading.

    Raises:
        InputError: a number is not whole or too small, or the cache is unknown or does not suit the
            features.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size={batch_size!r}: a whole number of at least 1 is needed")
    if not isinstance(num_workers, int) or num_workers < 0:
        raise InputError(f"num_workers={num_workers!r}: a whole number of at least 0 is needed")
    cache.check_cache(cached, features)


class StoreDataModule(pl.LightningDataModule):
    """Training, validation and test batches of a split store.

    Args:
        store: store of the features, or of the waveforms they are computed from.
        split: rows of each part; "val" serves as "test" if there is no test part.
        batch_size: number of tracks per batch, over all processes.
        num_workers: number of processes that read; it does not affect results.
        augmentation: applied to training batches on the device.
        oversampling: which training tracks are repeated, and how the copies are augmented.
        seed: seed of the order of the training tracks.
        features: features that the store was made for; None if it stores them as they are.
        cached: where all stored values are kept, one of `cache.KINDS`; "none" reads each batch from
            the file.
        targets: targets of knowledge distillation in training, float32 (len(store), size).
        make_sampler: makes the sampler that chooses the training tracks of an epoch and their
            order, given `labels`, the genre of each item, int64 (items,), extra copies included,
            and `seed`; None for each item once, in random order.
        reader: reads the store; None for one that nobody else uses.

    Attributes:
        shape: (bins, frames) of the features.
        copies: the repeated rows of the training part.
        predicted_part: the part that `predict_dataloader` reads; by default the tested part.

    Raises:
        InputError: the batch size is under 1, the number of workers negative, or the cache
            unknown or unsuitable.
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
        features: Any = None,
        cached: str = "none",
        targets: np.ndarray | None = None,
        make_sampler: MakeSampler | None = None,
        reader: StoreReader | None = None,
    ) -> None:
        super().__init__()
        check_loading(batch_size, num_workers, cached, features)
        self.store, self.split, self.seed = store, split, seed
        self.batch_size, self.num_workers = batch_size, num_workers
        self.augmentation = augmentation or nn.Identity()
        self.oversampling = oversampling or Oversampling()
        features = features or Precomputed()
        self.shape = store.shape if get_stored(features) is features else features.shape
        self.batch_features = build_batch_features(features)
        self.copies = self.oversampling.repeat_rows(store, split.get("train", np.arange(0)))
        self.predicted_part = self.tested_part
        self.cached = cached
        self.targets = None if targets is None else torch.from_numpy(targets)
        self.make_sampler = make_sampler or EpochShuffle
        self._reader = reader or StoreReader(store)
        self._values: Tensor | None = None  # all stored values, if there is a cache

    def setup(self, stage: str = "") -> None:
        """Fill the cache, in each process that trains.

        Raises:
            InputError: `cached` is "float16", which cannot hold the values precisely enough.
        """
        if self._values is None:
            trainer: Any = self.trainer
            device = trainer.strategy.root_device if trainer else torch.device("cpu")
            self._values = self._reader.fill_cache(self.cached, device)

    def release_cache(self) -> None:
        """Free the memory of the cache; `setup` fills it again."""
        self._values = None

    @property
    def tested_part(self) -> str:
        """The part that `test_dataloader` reads: "test", or "val" if there is no test part."""
        return "test" if "test" in self.split else "val"

    def train_dataloader(self) -> DataLoader:
        """Load training batches; if there are several processes, each has its own tracks.

        If the tracks cannot be divided evenly among the processes, some are repeated. A last batch
        of one track joins the one before it.

        Raises:
            InputError: the sampler gives something other than numbers of tracks.
        """
        tracks = self._make_dataset(self.split["train"], self.copies)
        # Workers start to read before Lightning tells the sampler the epoch of a resumed run.
        progress: Any = self.trainer.fit_loop.epoch_progress.current if self.trainer else None
        epoch = progress.processed if progress else 0
        rank, processes = 0, 1
        if self.trainer:
            rank, processes = self.trainer.global_rank, self.trainer.world_size
        labels = self.store.labels[tracks.rows]
        order = ProcessSampler(self.make_sampler, labels, self.seed, epoch, rank, processes)
        return self._make_loader(tracks, **choose_batches(order, self.batch_size // processes))

    def val_dataloader(self) -> DataLoader:
        """Load validation batches, in the order of the rows; each process has all of them."""
        return self._make_ordered_loader("val")

    def test_dataloader(self) -> DataLoader:
        """Load batches of the tested part, in the order of the rows."""
        return self._make_ordered_loader(self.tested_part)

    def predict_dataloader(self) -> DataLoader:
        """Load batches of the predicted part, in the order of the rows."""
        return self._make_ordered_loader(self.predicted_part)

    def _make_ordered_loader(self, part: str) -> DataLoader:
        return self._make_loader(self._make_dataset(self.split[part]), batch_size=self.batch_size)

    def _make_dataset(self, rows: np.ndarray, copies: np.ndarray | None = None) -> StoreDataset:
        reader = self._reader if self._values is None else None
        return StoreDataset(self.store, rows, copies, reader)

    def _make_loader(self, tracks: StoreDataset, **batches: Any) -> DataLoader:
        if self.num_workers:
            make_temporary_folder()  # through whose sockets they send batches
        return DataLoader(
            tracks,
            **batches,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=keep_batch,
            generator=torch.Generator(),  # else each epoch draws from the global one
        )

    def on_after_batch_transfer(self, batch: StoredBatch, dataloader_idx: int) -> Batch:
        """Turn stored values into features, and augment them in training."""
        stored, labels, copied, rows = batch
        features = self.compute_features(stored)
        if self.trainer is None or not self.trainer.training:
            return features, labels
        features = self._augment(features, copied)
        if self.targets is None:
            return features, labels
        self.targets = self.targets.to(features.device)
        return features, labels, self.targets[rows]

    def compute_features(self, stored: Tensor) -> Tensor:
        """Compute float32 features (batch, bins, frames) of stored values, on their device.

        Args:
            stored: values (batch, bins, frames), or their rows (batch,) if there is a cache.
        """
        if self._values is not None:
            stored = self._values[stored.to(self._values.device)].to(stored.device)
        scaling = self.store.scaling
        values = stored.float() * scaling.scale + scaling.offset
        return self.batch_features.to(values.device)(values)

    def iterate_training_features(self) -> Iterator[Tensor]:
        """Yield the features of the training part in row order, without copies or augmentation."""
        for stored, *_ in self._make_ordered_loader("train"):
            yield self.compute_features(stored)

    def _augment(self, features: Tensor, copied: Tensor) -> Tensor:
        augmented = self.augmentation(features)
        if not len(self.copies):
            return augmented
        copies = self.oversampling.augmentation(features)
        return torch.where(copied[:, None, None], copies, augmented)
