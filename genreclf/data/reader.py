"""Reads the batches of a store; for several runs at once, what they share is read once."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from genreclf.data.cache import fill_cache
from genreclf.data.store import Store

StoredBatch = tuple[Tensor, Tensor, Tensor, Tensor]  # as `StoreDataset` gives it
KEPT = 2**28  # bytes of recent batches that a reader keeps for other runs


class StoreReader:
    """Reads rows of a store; if it is shared, it keeps recent batches and the caches.

    Args:
        store: the store.
        kept: the most bytes of batches to keep; 0 keeps none.
    """

    def __init__(self, store: Store, kept: int = 0) -> None:
        self.store, self.kept = store, kept
        self._batches: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._caches: dict[tuple[str, torch.device], Tensor | None] = {}

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read stored values (len(rows), bins, frames), which the caller must not change."""
        if not self.kept:
            return self.store.read(rows)
        key = rows.tobytes()
        values = self._batches.pop(key, None)
        if values is None:
            values = self.store.read(rows)
        self._batches[key] = values  # at the end: the batch that was used last
        while len(self._batches) > 1 and sum(v.nbytes for v in self._batches.values()) > self.kept:
            self._batches.popitem(last=False)
        return values

    def fill_cache(self, kind: str, device: torch.device) -> Tensor | None:
        """Read all stored values; see `cache.fill_cache`."""
        if not self.kept:
            return fill_cache(self.store, kind, device)
        if (kind, device) not in self._caches:
            self._caches[kind, device] = fill_cache(self.store, kind, device)
            if device.type == "cuda":  # each run has a stream of its own
                torch.cuda.synchronize(device)
        return self._caches[kind, device]


class StoreDataset(Dataset):
    """Some rows of a store, then extra copies; a whole batch is read in one call.

    Args:
        store: the store to read.
        rows: rows of the store.
        copies: rows to repeat.
        reader: reads the values; None if rows are returned instead, to be looked up in a cache.
    """

    def __init__(
        self,
        store: Store,
        rows: np.ndarray,
        copies: np.ndarray | None = None,
        reader: StoreReader | None = None,
    ) -> None:
        copies = rows[:0] if copies is None else copies
        self.store, self.rows = store, np.concatenate([rows, copies])
        self.copied = np.arange(len(self.rows)) >= len(rows)
        self.reader = reader

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, numbers: Sequence[int]) -> StoredBatch:
        """Return the batch of these items; DataLoader prefers this to one call per item."""
        rows = self.rows[np.asarray(numbers)]
        values = self.reader.read(rows) if self.reader else rows
        arrays = values, self.store.labels[rows], self.copied[np.asarray(numbers)], rows
        values, labels, copied, rows = map(torch.from_numpy, arrays)
        return values, labels, copied, rows


def keep_batch(batch: Any) -> StoredBatch:
    """Collate nothing: `StoreDataset.__getitems__` already returns a batch."""
    return batch
