from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from genreclf.audio import Mel
from genreclf.data import cache
from genreclf.data.datamodule import StoreDataModule
from genreclf.data.datasets import Track
from genreclf.data.sampling import Oversampling
from genreclf.data.store import Scaling, Store
from genreclf.errors import InputError


@pytest.fixture
def store(make_store: Callable[..., Store]) -> Store:
    """20 rows, each filled with its number; one class for even, one for odd."""
    rows = np.arange(20, dtype=np.uint8).repeat(8 * 16).reshape(20, 8, 16)
    tracks = [Track(str(n), ("even", "odd")[n % 2]) for n in range(20)]
    return make_store(tracks, rows, Scaling(scale=0.5, offset=-80, silence=(-80,)))


SPLIT = {"train": np.arange(12), "val": np.arange(12, 16), "test": np.arange(16, 20)}


def order(data: StoreDataModule, epoch: int) -> list[int]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [int(row[0, 0]) for features, *_ in loader for row in features]


def test_the_order_depends_on_seed_and_epoch_alone(store: Store) -> None:
    first = order(StoreDataModule(store, SPLIT, 5, seed=1), 0)
    assert sorted(first) == list(range(12))
    assert order(StoreDataModule(store, SPLIT, 5, seed=1, num_workers=2), 0) == first
    assert order(StoreDataModule(store, SPLIT, 5, seed=1), 1) != first
    assert order(StoreDataModule(store, SPLIT, 5, seed=2), 0) != first


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(5, [5, 5, 2]), (11, [12]), (12, [12]), (13, [12]), (1, [1] * 12)]
)
def test_a_last_batch_of_one_track_joins_the_one_before(
    store: Store, batch_size: int, sizes: list[int]
) -> None:
    """Batch norm is undefined for one clip: 12 tracks in batches of 11 were an error."""
    loader = StoreDataModule(store, SPLIT, batch_size).train_dataloader()
    batches = [rows.tolist() for *_, rows in loader]
    assert [len(rows) for rows in batches] == sizes
    assert len(loader) == len(sizes)
    assert sorted(row for rows in batches for row in rows) == list(range(12))
    loader.batch_sampler.sampler.set_epoch(1)  # as Lightning does
    assert [rows.tolist() for *_, rows in loader] != batches


def test_batches_are_stored_values_with_their_labels(store: Store) -> None:
    batches = list(StoreDataModule(store, SPLIT, 3).test_dataloader())
    assert [len(labels) for _, labels, *_ in batches] == [3, 1]
    features, labels, copied, rows = batches[0]
    assert features.dtype == torch.uint8
    assert features[:, 0, 0].tolist() == [16, 17, 18]
    assert labels.tolist() == [0, 1, 0]
    assert not copied.any()
    assert rows.tolist() == [16, 17, 18]


def test_features_are_scaled_on_the_device(store: Store) -> None:
    data = StoreDataModule(store, SPLIT, 4)
    features, _ = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    assert features.dtype == torch.float32
    assert features[:, 0, 0].tolist() == [-74, -73.5, -73, -72.5]


def test_copies_of_a_genre_come_with_their_own_augmentation(store: Store) -> None:
    oversampling = Oversampling(Minus(), genres=["ODD", "unheard of"], copies=2)
    data = StoreDataModule(store, SPLIT, 24, oversampling=oversampling)
    (batch,) = data.train_dataloader()
    values, labels, copied, rows = batch
    assert rows[copied].remainder(2).all()
    assert oversampling.find_unknown_genres(store.classes) == ["unheard of"]
    assert sorted(values[copied, 0, 0].tolist()) == sorted([1, 3, 5, 7, 9, 11] * 2)
    assert sorted(values[~copied, 0, 0].tolist()) == list(range(12))
    assert labels[copied].tolist() == [1] * 12
    features = data.compute_features(values)
    augmented = data._augment(features, copied)
    assert torch.equal(augmented[copied], -features[copied])
    assert torch.equal(augmented[~copied], features[~copied])
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert not any(flags.any() for *_, flags, _ in loader)


class Minus(torch.nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return -features


def test_training_batches_are_the_training_part_as_it_is(store: Store) -> None:
    data = StoreDataModule(store, SPLIT, 5, augmentation=Minus())
    rows = torch.cat(list(data.iterate_training_features()))
    assert rows[:, 0, 0].tolist() == [0.5 * n - 80 for n in range(12)]


@pytest.mark.parametrize("arguments", [{"copies": -1}, {"genres": "Pop"}, {"genres": 5}])
def test_impossible_oversampling_is_refused(arguments: dict) -> None:
    with pytest.raises(InputError, match=f"oversampling.{next(iter(arguments))}"):
        Oversampling(**arguments)


def test_validation_serves_where_there_is_no_test_part(store: Store) -> None:
    split = {"train": SPLIT["train"], "val": SPLIT["val"]}
    data = StoreDataModule(store, split, 4)
    assert data.tested_part == "val"
    assert next(iter(data.test_dataloader()))[0][0, 0, 0] == 12


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"num_workers": -1}])
def test_impossible_settings_are_refused(store: Store, arguments: dict) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        StoreDataModule(store, SPLIT, **arguments)


@pytest.mark.parametrize("kind", ["memory", "float16", "device"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_cache_gives_what_the_file_gives(store: Store, kind: str, num_workers: int) -> None:
    plain = StoreDataModule(store, SPLIT, 5, seed=1)
    data = StoreDataModule(store, SPLIT, 5, num_workers, seed=1, cached=kind)
    data.setup("fit")
    store.read = None  # pyright: ignore: it is not read any more
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        del store.read
        expected = [plain.on_after_batch_transfer(batch, 0) for batch in getattr(plain, loader)()]
        store.read = None  # pyright: ignore
        found = [data.on_after_batch_transfer(batch, 0) for batch in getattr(data, loader)()]
        for (features, labels), (others, other_labels) in zip(found, expected, strict=True):
            torch.testing.assert_close(features, others, atol=0, rtol=0)
            assert labels.tolist() == other_labels.tolist()


def test_float16_takes_half_of_the_memory(make_store: Callable[..., Store]) -> None:
    tracks = [Track(str(n), ("even", "odd")[n % 2]) for n in range(20)]
    values = np.random.default_rng(0).uniform(-80, 0, (20, 8, 16)).astype(np.float32)
    data = StoreDataModule(make_store(tracks, values), SPLIT, cached="float16")
    data.setup("fit")
    assert data._values.dtype == torch.float16
    (batch,) = data.val_dataloader()
    features, _ = data.on_after_batch_transfer(batch, 0)
    np.testing.assert_allclose(features, values[SPLIT["val"]], atol=0.04)  # dB, of 80


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (np.array([0, 70_000], np.int32), r"by up to inf; they go from 0 to 70000: use cache=mem"),
        (np.array([0, 2e5], np.float32), "by up to inf"),
        (np.array([10_000, 10_001, 10_003], np.float64), "from 10000 to 10003: use cache=memory"),
        (np.array([1e-9, 3e-9], np.float32), "use cache=memory"),
        (np.array([0, 40_001], np.uint32), ""),
        (np.array([0, 255], np.int64), ""),
        (np.array([0, 65_535], np.uint16), ""),  # no larger than float16: kept as it is
        (np.array([-80, -33.3, 0], np.float64), ""),
    ],
)
def test_float16_is_refused_where_it_would_change_values_a24(
    make_store: Callable[..., Store], values: np.ndarray, line: str
) -> None:
    """A24: large integers must not become infinite, nor small differences vanish."""
    rows = np.resize(values, (20, 8, 16))
    data = StoreDataModule(
        make_store([Track(str(n), "ab"[n % 2]) for n in range(20)], rows), SPLIT, cached="float16"
    )
    if line:
        with pytest.raises(InputError, match=line):
            data.setup()
        return
    data.setup()
    (batch,) = data.val_dataloader()
    features, _ = data.on_after_batch_transfer(batch, 0)
    np.testing.assert_allclose(features, rows[SPLIT["val"]], atol=1e-3 * np.ptp(values))


def test_float16_is_refused_for_waveforms_a24(store: Store) -> None:
    """A24: rounded to float16, a waveform gives features that are wrong by 0.17 dB."""
    with pytest.raises(InputError, match=r"would round the waveforms .* use cache=memory"):
        StoreDataModule(store, SPLIT, cached="float16", features=Mel(on_device=True))


def test_what_is_too_large_for_the_device_stays_in_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache, "_measure_free_memory", lambda device: 2 * 20 * 8 * 16 - 1)
    values = cache.fill_cache(store, "device", torch.device("meta"))
    assert values.device.type == "cpu"
    assert "do not fit there twice; using cache=memory" in caplog.text


def test_an_unknown_cache_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match="cache=disk: choose one of none, memory, float16, device"):
        StoreDataModule(store, SPLIT, cached="disk")


def test_distillation_targets_are_given_in_training_alone(store: Store) -> None:
    targets = np.arange(len(store), dtype=np.float32)[:, None]
    data = StoreDataModule(store, SPLIT, 5, targets=targets)
    seen: dict[str, list[Any]] = {"train": [], "val": []}

    class Noting(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch: Any) -> torch.Tensor:
            seen["train"].append(batch)
            return self.weight.sum()

        def validation_step(self, batch: Any) -> None:
            seen["val"].append(batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([self.weight])

    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    quiet["enable_checkpointing"] = False
    pl.Trainer(max_epochs=1, logger=False, accelerator="cpu", **quiet).fit(Noting(), data)
    assert {len(batch) for batch in seen["val"]} == {2}
    for features, _, target in seen["train"]:
        assert torch.equal(2 * (features[:, 0, 0] + 80), target[:, 0])
