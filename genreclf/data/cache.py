"""All values of a store, kept in memory."""

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genreclf.audio.own_features import get_stored
from genreclf.data.store import Store
from genreclf.errors import InputError

KINDS = ("none", "memory", "float16", "device")
ROWS_AT_ONCE = 256
PRECISION = 1e-3  # largest rounding error of float16 allowed, as a share of the range of values
log = logging.getLogger(__name__)


def fill_cache(store: Store, kind: str, device: torch.device) -> Tensor | None:
    """Read all stored values (rows, bins, frames); None for the kind "none".

    Args:
        store: the store to read.
        kind: "memory" for main memory; "float16" for the same, rounded to float16; or "device",
            which falls back to main memory unless twice the size fits on the device.
        device: the device that trains.

    Raises:
        InputError: float16 cannot hold the values, or not precisely enough.
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
    error, low, high = 0.0, np.inf, -np.inf
    for rows in np.array_split(np.arange(len(values)), -(-len(values) // ROWS_AT_ONCE)):
        read = store.read(rows)
        values[rows[0] : rows[-1] + 1] = torch.from_numpy(read)
        if dtype != store.dtype:
            kept = values[rows[0] : rows[-1] + 1].numpy().astype(np.float64)
            error = max(error, float(np.abs(kept - read).max()))  # infinite if it overflows
            low, high = min(low, float(read.min())), max(high, float(read.max()))
    if error and error > PRECISION * (high - low):
        raise InputError(
            f"cache=float16 would change values of {store.path} by up to {error:.3g}; they go from "
            f"{low:.5g} to {high:.5g}: use cache=memory"
        )
    return values


def check_cache(kind: str, features: Any) -> None:
    """Check the kind of cache, and that it suits the features.

    Raises:
        InputError: there is no such kind, or float16 would round waveforms, which differ by many
            orders of magnitude.
    """
    if kind not in KINDS:
        raise InputError(f"cache={kind}: choose one of {', '.join(KINDS)}")
    if kind == "float16" and get_stored(features) is not features:
        raise InputError(
            "cache=float16 would round the waveforms that features.on_device=true stores; use "
            "cache=memory"
        )


def _measure_free_memory(device: torch.device) -> float:
    """Return the free memory of a GPU in bytes; infinity for main memory."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
