"""Runs that share a reader read each batch and fill each cache once."""

from typing import Any

import numpy as np
import torch

from genreclf.data import reader
from genreclf.data.reader import StoreReader


class Rows:
    """Stands for a store of 100 rows of 8 bytes."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, rows: np.ndarray) -> np.ndarray:
        self.reads += 1
        return rows.astype(np.float64).reshape(-1, 1, 1)


def test_a_batch_is_read_once_while_others_need_it() -> None:
    rows: Any = Rows()
    shared = StoreReader(rows, kept=4 * 8)
    batches = [np.arange(start, start + 2) for start in (0, 2, 4)]
    for batch in (batches[0], batches[1], batches[0]):
        np.testing.assert_array_equal(shared.read(batch).ravel(), batch)
    assert rows.reads == 2
    shared.read(batches[2])  # in the place of the one that was used least recently
    shared.read(batches[0])
    assert rows.reads == 3
    shared.read(batches[1])
    assert rows.reads == 4


def test_a_batch_larger_than_the_limit_is_kept_alone() -> None:
    rows: Any = Rows()
    shared = StoreReader(rows, kept=8)
    for _ in range(3):
        shared.read(np.arange(50))
    assert rows.reads == 1


def test_a_reader_of_one_run_keeps_nothing() -> None:
    rows: Any = Rows()
    alone = StoreReader(rows)
    for _ in range(2):
        alone.read(np.arange(3))
    assert rows.reads == 2


def test_a_cache_is_filled_once(monkeypatch: Any) -> None:
    monkeypatch.setattr(reader, "fill_cache", lambda store, kind, device: torch.zeros(3))
    rows: Any = Rows()
    cpu = torch.device("cpu")
    shared, alone = StoreReader(rows, kept=1), StoreReader(rows)
    assert shared.fill_cache("memory", cpu) is shared.fill_cache("memory", cpu)
    assert shared.fill_cache("memory", cpu) is not shared.fill_cache("float16", cpu)
    assert alone.fill_cache("memory", cpu) is not alone.fill_cache("memory", cpu)
