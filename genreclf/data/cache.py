"""All values of a store, kept in memory."""

import logging

import numpy as np
import torch
from torch import Tensor

from genreclf.data.store import Store

KINDS = ("none", "memory", "float16", "device")
ROWS_AT_ONCE = 256
log = logging.getLogger(__name__)


def fill_cache(store: Store, kind: str, device: torch.device) -> Tensor | None:
    """Read all stored values (rows, bins, frames); None for the kind "none".

    Args:
        store: the store to read.
        kind: "memory" for main memory; "float16" for the same, rounded to float16; or "device",
            which falls back to main memory unless twice the size fits on the device.
        device: the device that trains.
    """
    if kind == "none":
        return None
    dtype = store.dtype
    if kind == "float16" and dtype.itemsize > 2:
        dtype = np.dtype(np.float16)
    size = len(store) * int(np.prod(store.shape)) * dtype.itemsize
    if kind == "device" and 2 * size > _measure_free_memory(device):
        log.warning("cache=device: %.1f GB do not fit there twice; using cache=memory", size / 1e9)
        kind = "memory"
    values = torch.empty(
        (len(store), *store.shape),
        dtype=torch.from_numpy(np.empty(0, dtype)).dtype,
        device=device if kind == "device" else "cpu",
    )
    for rows in np.array_split(np.arange(len(values)), -(-len(values) // ROWS_AT_ONCE)):
        values[rows[0] : rows[-1] + 1] = torch.from_numpy(store.read(rows))
    return values


def _measure_free_memory(device: torch.device) -> float:
    """Return the free memory of a GPU in bytes; infinity for main memory."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
