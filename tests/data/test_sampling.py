"""Which training tracks an epoch has, and in what order (D21)."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import RandomSampler, Sampler, WeightedRandomSampler

from genreclf.data.datamodule import StoreDataModule
from genreclf.data.datasets import Track
from genreclf.data.sampling import BalancedSampler, EpochShuffle, Oversampling, ProcessSampler
from genreclf.data.store import Store
from genreclf.errors import InputError

LABELS = np.array([0] * 9 + [2] * 2 + [5])


def draw(make_sampler: Callable[..., Any], epoch: int = 0, **given: int) -> list[int]:
    return list(ProcessSampler(make_sampler, LABELS, 7, epoch, **given))


def make_weighted(labels: np.ndarray, seed: int) -> Sampler:
    """PyTorch's own, which draws from its global generator."""
    return WeightedRandomSampler([1.0] * len(labels), 8)


def test_the_shuffled_order_is_frozen() -> None:
    """A run that was interrupted before samplers could be chosen continues in the same order."""
    assert draw(EpochShuffle, 3) == np.random.default_rng([7, 3]).permutation(12).tolist()
    assert draw(EpochShuffle) == [4, 6, 10, 0, 1, 3, 8, 7, 2, 5, 9, 11]


def test_every_genre_is_drawn_equally_often() -> None:
    counts = Counter(LABELS[item] for item in draw(BalancedSampler))
    assert counts == {0: 4, 2: 4, 5: 4}
    seen = {item for epoch in range(20) for item in draw(BalancedSampler, epoch)}
    assert seen == set(range(12))
    uneven = BalancedSampler(np.array([0, 0, 0, 1]), 0)
    assert len(uneven) == len(list(uneven)) == 4
    assert len(BalancedSampler(np.array([0, 0, 0, 0, 1]), 0)) == 6


@pytest.mark.parametrize("make_sampler", [EpochShuffle, BalancedSampler, make_weighted])
def test_an_epoch_depends_on_seed_and_epoch_alone(make_sampler: Callable[..., Any]) -> None:
    """Also with a sampler that knows no epoch and uses the global generator, which is restored."""
    torch.manual_seed(1)
    first = draw(make_sampler)
    state = torch.get_rng_state()
    torch.rand(5)
    assert draw(make_sampler) == first
    assert draw(make_sampler, 1) != first
    assert list(ProcessSampler(make_sampler, LABELS, 8)) != first
    torch.set_rng_state(state)
    draw(make_sampler)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("make_sampler", [EpochShuffle, BalancedSampler, make_weighted])
def test_processes_share_the_items(make_sampler: Callable[..., Any]) -> None:
    shares = [draw(make_sampler, 2, rank=rank, processes=5) for rank in range(5)]
    size = {make_weighted: 2}.get(make_sampler, 3)
    assert {len(share) for share in shares} == {size}
    if make_sampler is EpochShuffle:
        assert {item for share in shares for item in share} == set(range(12))
    else:
        mixed = [item for items in zip(*shares, strict=True) for item in items]
        whole = draw(make_sampler, 2)
        assert mixed == whole + whole[: len(mixed) - len(whole)]


class Wrong(Sampler):
    def __init__(self, items: list[Any], count: int | None = None) -> None:
        self.items, self.count = items, len(items) if count is None else count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


@pytest.mark.parametrize(
    ("sampler", "line"),
    [
        (Wrong([0, 12]), "sampler: Wrong gives 12; whole numbers from 0 to 11 are needed"),
        (Wrong([-1]), "gives -1; whole"),
        (Wrong([0.5]), r"gives 0\.5; whole"),
        (Wrong([[0, 1]]), r"gives \[0, 1\]; whole"),
        (Wrong([0, 1], 3), "gives 2 items, but its length is 3"),
        (Wrong([0, 1], 1), "gives more items, but its length is 1"),
        (Wrong([]), "gives no items"),
        (range(3).__iter__(), "has no length: give it a method __len__"),
    ],
)
def test_a_wrong_sampler_is_refused(sampler: Any, line: str) -> None:
    with pytest.raises(InputError, match=line):
        draw(lambda labels, seed: sampler)


def test_numbers_of_any_type_are_items() -> None:
    items = [np.int64(3), torch.tensor(4), 5]
    assert draw(lambda labels, seed: Wrong(items)) == [3, 4, 5]
    assert sorted(draw(lambda labels, seed: RandomSampler(labels))) == list(range(12))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_of_a_balanced_epoch_with_copies(
    make_store: Callable[..., Store], num_workers: int
) -> None:
    """Copies are items of their genre; the number of workers changes nothing."""
    rows = np.arange(20, dtype=np.uint8).repeat(128).reshape(20, 8, 16)
    store = make_store([Track(str(n), "ab"[n % 5 == 0]) for n in range(20)], rows)
    split = {"train": np.arange(12), "val": np.arange(12, 20)}
    data = StoreDataModule(
        *(store, split, 5, num_workers),
        oversampling=Oversampling(genres=["b"], copies=2),
        cached="memory" if num_workers else "none",
        make_sampler=BalancedSampler,
    )
    data.setup()
    batches = list(data.train_dataloader())
    labels, copied, drawn = (torch.cat(column) for column in list(zip(*batches, strict=True))[1:])
    assert labels.bincount().tolist() == [9, 9]
    assert copied[labels == 1].any()
    assert not copied[labels == 0].any()
    expected = ProcessSampler(BalancedSampler, np.r_[store.labels[:12], [1] * 6], 0)
    rows = np.r_[:12, [0, 0, 5, 5, 10, 10]]
    assert drawn.tolist() == rows[list(expected)].tolist()


@pytest.mark.slow
def test_a_run_with_balanced_batches(train: Callable[..., dict[str, Any]], tmp_path: Any) -> None:
    """Choosing the sampler makes another run; one outside the package needs only an option file."""
    plain = train()
    balanced = train("sampler=balanced")
    assert balanced["folder"] != plain["folder"]
    option = tmp_path / "conf" / "sampler" / "weighted.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("_target_: test_sampling.make_weighted\n")
    place = [f"outputs={tmp_path}", "--config-dir", str(tmp_path / "conf")]
    own = train("sampler=weighted", *place)
    assert own["folder"] not in (plain["folder"], balanced["folder"])
