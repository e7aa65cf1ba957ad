"""Reads a store for several runs at once: what they share is read once."""

from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor

from genreclf.data.cache import fill_cache
from genreclf.data.store import Store

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
