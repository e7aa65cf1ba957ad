from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genreclf.data import split_by_fold, split_kfold, splits
from genreclf.data.audit import audit_split, count_tracks
from genreclf.data.datasets import Folder, Track
from genreclf.data.preview import StorePreview, check_split
from genreclf.data.store import Store
from genreclf.errors import InputError


@pytest.fixture
def store(make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]) -> Store:
    """4 genres x 10 artists x 6 tracks."""
    tracks = [
        Track(f"{genre}{artist}{n}", f"genre {genre}", f"artist {genre}{artist}", f"album {n % 2}")
        for genre in range(4)
        for artist in range(10)
        for n in range(6)
    ]
    return make_store(tracks, random_rows(240))


def assert_partition(split: splits.Split, count: int) -> None:
    rows = np.concatenate(list(split.values()))
    assert sorted(rows) == list(range(count))
    assert all((np.diff(rows) > 0).all() for rows in split.values())


def test_stratified_keeps_the_genres_alike(store: Store) -> None:
    split = splits.split_stratified(store)
    assert_partition(split, 240)
    assert {part: len(rows) for part, rows in split.items()} == {
        "train": 168,
        "val": 24,
        "test": 48,
    }
    assert set(Counter(store.labels[split["test"]]).values()) == {12}
    assert count_tracks(store, split)["val"]["genre 0"] == 6
    again = splits.split_stratified(store)
    assert all(np.array_equal(split[part], again[part]) for part in split)
    assert not np.array_equal(split["test"], splits.split_stratified(store, seed=1)["test"])


class FakeLabels:
    """Labels as the published scripts had them: 7,996 usable files."""

    labels = np.repeat(range(8), [998, 1000, 1000, 999, 1000, 1000, 999, 1000])

    def __len__(self) -> int:
        return len(self.labels)


def test_stratified_sizes_of_7996_labels() -> None:
    split = splits.split_stratified(FakeLabels())  # pyright: ignore[reportArgumentType]
    sizes = {part: len(rows) for part, rows in split.items()}
    assert sizes == {"train": 5596, "val": 800, "test": 1600}


def test_artist_keeps_artists_in_one_part(store: Store) -> None:
    split = splits.split_by_artist(store)
    assert_partition(split, 240)
    audit = audit_split(store, split)
    for pair in ("train-val", "train-test", "val-test"):
        assert audit[pair]["artists"] == audit[pair]["albums"] == 0
    sizes = {part: len(rows) / 240 for part, rows in split.items()}
    assert sizes == pytest.approx({"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.05)
    for rows in split.values():
        assert set(store.labels[rows]) == {0, 1, 2, 3}


def test_artist_with_three_artists_a_genre(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    tracks = [Track(str(n), f"g{n % 2}", f"a{n % 6}") for n in range(30)]
    split = splits.split_by_artist(make_store(tracks, random_rows(30)))
    assert_partition(split, 30)
    assert {part: len(rows) for part, rows in split.items()} == {"train": 10, "val": 10, "test": 10}


def test_artist_with_few_tracks_in_all(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    """Fewer tracks a genre than folds are asked for; every seed finds a division."""
    tracks = [Track(f"{g}{a}{n}", g, f"{g}{a}") for g in "xyz" for a in range(3) for n in range(3)]
    store = make_store(tracks, random_rows(27))
    for seed in range(5):
        split = splits.split_by_artist(store, seed=seed)
        assert_partition(split, 27)
        assert all(set(store.labels[rows]) == {0, 1, 2} for rows in split.values())


def test_one_small_genre_does_not_change_the_shares(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    artists = [(genre, n) for genre in range(7) for n in range(60)] + [(7, n) for n in range(3)]
    tracks = [Track(f"{genre}-{n}", f"g{genre}", f"a{genre}-{n}") for genre, n in artists]
    split = splits.split_by_artist(make_store(tracks, random_rows(len(tracks))))
    shares = {part: len(rows) / len(tracks) for part, rows in split.items()}
    assert shares == pytest.approx({"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.03)


def test_artist_refuses_too_few(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    tracks = [Track(str(n), f"g{n % 2}", f"a{n % 4}") for n in range(30)]
    with pytest.raises(InputError, match="fewer than 3 artists"):
        splits.split_by_artist(make_store(tracks, random_rows(30)))


def test_artist_refuses_a_set_without_any(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    with pytest.raises(InputError, match="no track has an artist"):
        splits.split_by_artist(make_store([Track(str(n), "g") for n in range(5)], random_rows(5)))


def test_unknown_artists_are_counted(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    tracks = [Track(str(n), f"g{n % 2}", f"a{n}" if n < 20 else "") for n in range(40)]
    store = make_store(tracks, random_rows(40))
    audit = audit_split(store, splits.split_by_artist(store))
    assert audit["unknown_artist"] == 20
    assert audit["train-test"]["artists"] == 0


def official(make_store: Callable[..., Store], rows: np.ndarray, parts: list[str]) -> splits.Split:
    tracks = [Track(str(n), "g", split=part) for n, part in enumerate(parts)]
    return splits.split_officially(make_store(tracks, rows[: len(parts)]))


def test_official(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    rows = random_rows(4)
    split = official(make_store, rows, ["train", "val", "test", "train"])
    assert {part: list(r) for part, r in split.items()} == {
        "train": [0, 3],
        "val": [1],
        "test": [2],
    }
    assert set(official(make_store, rows, ["train", "val", "train"])) == {"train", "val"}
    with pytest.raises(InputError, match=r"no val part \(the dataset names: train\)"):
        official(make_store, rows, ["train", "train"])


def test_official_says_what_it_leaves_out(
    make_store: Callable[..., Store],
    random_rows: Callable[..., np.ndarray],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A note of the split, kept when it is limited; splitting for a digest or a check logs none."""
    split = official(make_store, random_rows(4), ["train", "val", "holdout", "holdout"])
    notes = ["split=official leaves tracks out: 2 of part holdout"]
    assert splits.get_notes(split) == notes
    store = make_store([Track(n, "g") for n in range(4)], random_rows(4))
    assert splits.get_notes(splits.limit_tracks(store, split, 1)) == notes
    assert splits.get_notes({"train": np.arange(4)}) == []
    assert not caplog.text


def test_everything(store: Store) -> None:
    assert_partition(splits.select_all_tracks(store), 240)


def test_real_artists_a12(real_music: Path, make_store: Callable[..., Store]) -> None:
    """A12: Emotify has "Edward Martin", "Edward Martin and Paul Berget" and one more of these."""
    tracks = Folder(real_music).tracks()
    rows = np.arange(180, dtype=np.float32).repeat(4).reshape(180, 2, 2)
    store = make_store(tracks, rows)
    split = splits.split_by_artist(store)
    assert_partition(split, 180)
    assert audit_split(store, split)["train-test"]["tracks_of_shared_artists"] == 0
    assert {part: len(r) for part, r in split.items()} == {"train": 126, "val": 18, "test": 36}


@pytest.fixture
def official_store(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> Store:
    """60 training tracks in 12 blocks of 100 ids, and 6 of validation in the blocks of others."""
    ids = [100 * (n // 5) + 7 * (n % 5) for n in range(60)] + [100 * n + 50 for n in range(6)]
    parts = ["train"] * 60 + ["val"] * 6
    tracks = [
        Track(str(number), f"g{n % 2}", split=part)
        for n, (number, part) in enumerate(zip(ids, parts, strict=True))
    ]
    return make_store(tracks, random_rows(66))


def test_folds_keep_neighbours_together(official_store: Store) -> None:
    folds = [split_by_fold(official_store, number, folds=4, block=100) for number in range(4)]
    tested = np.sort(np.concatenate([fold["test"] for fold in folds]))
    assert list(tested) == list(range(60))
    for fold in folds:
        assert list(fold["val"]) == list(range(60, 66))
        train, test = (
            {int(official_store.track_ids[row]) // 100 for row in fold[part]}
            for part in ("train", "test")
        )
        assert not train & test
        assert len(train | test) == 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"number": 5}, "number from 0 to below"),
        ({"number": 0, "block": 0}, "block of at least 1"),
        ({"number": 0, "block": 1000}, "lie in 2 blocks of 1000"),
    ],
)
def test_impossible_folds(official_store: Store, settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_by_fold(official_store, **settings)


def test_folds_need_numbers_as_ids(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    tracks = [Track(f"t{n}", "g", split=part) for n, part in enumerate(["train", "train", "val"])]
    with pytest.raises(InputError, match="whole numbers"):
        split_by_fold(make_store(tracks, random_rows(3)), 0)


def test_fewer_tracks_in_every_part_d9(make_store: Callable[..., Store]) -> None:
    """D9: a quick trial validates and tests fewer tracks, too; a larger trial keeps them all."""
    rows = np.arange(200 * 128, dtype=np.float32).reshape(200, 8, 16)
    store = make_store([Track(str(n), "abbb"[n % 4]) for n in range(200)], rows)
    whole = splits.split_stratified(store)
    before: dict[str, set[int]] = {part: set() for part in whole}
    for most, sizes in ((1, (2, 2, 2)), (7, (14, 2, 4)), (60, (95, 14, 28)), (500, (140, 20, 40))):
        limited = splits.limit_tracks(store, whole, most)
        assert tuple(map(len, limited.values())) == sizes
        for part, kept in limited.items():
            assert before[part] <= set(kept) <= set(whole[part])
            assert kept.tolist() == sorted(kept)
            before[part] = set(kept)
    for most in (0, 2.5, True):
        with pytest.raises(InputError, match="tracks_per_genre="):
            splits.limit_tracks(store, whole, most)  # pyright: ignore[reportArgumentType]


def test_fold_needs_official_parts_d13(store: Store) -> None:
    """D13: split=fold on other data says so itself, and names the split that works."""
    message = r"split=fold divides the official training part, .* no train and no val part; split=k"
    with pytest.raises(InputError, match=message):
        split_by_fold(store, 0)


def split_in_folds(store: Store, folds: int = 5, seed: int = 42) -> list[splits.Split]:
    found = [split_kfold(store, number, folds, seed) for number in range(folds)]
    for split in found:
        assert_partition(split, len(store))
    tested = np.concatenate([split["test"] for split in found])
    assert sorted(tested) == list(range(len(store)))  # each track once
    return found


def test_kfold_keeps_artists_in_one_part_and_tests_each_track_once(store: Store) -> None:
    found = split_in_folds(store)
    for split in found:
        audit = audit_split(store, split)
        assert not any(audit[pair]["artists"] for pair in ("train-val", "train-test", "val-test"))
        assert {part: len(rows) / 240 for part, rows in split.items()} == pytest.approx(
            {"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.05
        )
        assert all(set(store.labels[rows]) == {0, 1, 2, 3} for rows in split.values())
        assert set(Counter(store.labels[split["test"]]).values()) == {12}
    again, other = split_in_folds(store), split_in_folds(store, seed=1)
    assert all(np.array_equal(a["val"], b["val"]) for a, b in zip(found, again, strict=True))
    assert not all(np.array_equal(a["test"], b["test"]) for a, b in zip(found, other, strict=True))


def test_kfold_counts_a_track_without_artist_as_its_own(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    tracks = [Track(n, f"g{n % 2}", f"a{n // 4}" if n < 40 else "") for n in range(80)]
    store = make_store(tracks, random_rows(80))
    for split in split_in_folds(store, folds=4):
        assert audit_split(store, split)["train-test"]["artists"] == 0
        assert any(row >= 40 for row in split["train"])
        assert any(row >= 40 for row in split["test"])


def test_kfold_without_artists_balances_genres(
    make_store: Callable[..., Store],
    random_rows: Callable[..., np.ndarray],
) -> None:
    store = make_store([Track(n, f"g{n % 2}") for n in range(40)], random_rows(40))
    for split in split_in_folds(store, folds=4):
        assert Counter(store.labels[split["test"]]) == {0: 5, 1: 5}
        assert set(store.labels[split["val"]]) == {0, 1}
        assert "no track has an artist" in splits.get_notes(split)[0]


def test_kfold_with_fewer_artists_than_folds(
    make_store: Callable[..., Store],
    random_rows: Callable[..., np.ndarray],
) -> None:
    """Some test parts lack a genre then, but no training or validation part does."""
    artists = [("many", n) for n in range(12)] + [("few", n) for n in range(3)]
    tracks = [Track(f"{g}{a}{n}", g, f"{g}{a}") for g, a in artists for n in range(3)]
    store = make_store(tracks, random_rows(len(tracks)))
    for split in split_in_folds(store):
        assert set(store.labels[split["train"]]) == set(store.labels[split["val"]]) == {0, 1}
        assert "some folds lack a genre" in splits.get_notes(split)[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"number": 5}, "number=5, folds=5; at least 2 folds"),
        ({"number": -1}, "number=-1"),
        ({"number": 1.0}, r"number=1\.0"),
        ({"number": 0, "folds": 1}, "folds=1"),
        ({"number": 0, "folds": 7}, "g1 has 6 tracks, fewer than 7 folds; .*split.folds=6"),
        ({"number": 0, "folds": 4}, "g1 has tracks by fewer than 3 artists"),
    ],
)
def test_impossible_kfolds(
    make_store: Callable[..., Store],
    random_rows: Callable[..., np.ndarray],
    settings: dict[str, int],
    message: str,
) -> None:
    tracks = [Track(n, "g0", f"a{n % 6}") for n in range(14)]
    tracks += [Track(100 + n, "g1", f"b{n % 2}") for n in range(6)]
    with pytest.raises(InputError, match=message):
        split_kfold(make_store(tracks, random_rows(20)), **settings)


def test_kfold_refuses_fewer_artists_than_folds(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    """Artists of several genres can be fewer than the folds; some folds would be empty."""
    tracks = [Track(n, f"g{n % 2}", f"a{n // 2 % 4}") for n in range(40)]
    with pytest.raises(InputError, match=r"4 artists cannot be .* 5 folds; .* split\.folds=4"):
        check_split(split_kfold, tracks)
    store = make_store(tracks, random_rows(40))
    assert_partition(split_kfold(store, folds=4), 40)


def test_fold_refuses_folds_that_cannot_be_filled(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    """One line also where every genre has fewer tracks than there are folds."""
    parts = ["train"] * 12 + ["val"] * 4
    tracks = [Track(n, f"g{n % 4}", split=part) for n, part in enumerate(parts)]
    store = make_store(tracks, random_rows(16))
    with pytest.raises(InputError, match="training part is too small for 5 folds"):
        split_by_fold(store, 0, block=1)


def test_the_message_names_the_number_of_artists_that_are_needed(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    tracks = [Track(n, "g", f"a{n % 2}") for n in range(9)]
    store, rows = make_store(tracks, random_rows(9)), np.flatnonzero(np.arange(9) % 2)
    artists = np.array(store.artists)
    with pytest.raises(InputError, match=r"fewer than 2 artists outside .* each of 2 parts"):
        splits.divide_by_artist(store, artists, rows, 8, 0, "artist")
    with pytest.raises(InputError, match="fewer than 3 artists, and each of 3 parts"):
        splits.split_by_artist(store)


def test_kfold_by_artist_on_real_tags(real_music: Path, make_store: Callable[..., Store]) -> None:
    rows = np.arange(180, dtype=np.float32).repeat(4).reshape(180, 2, 2)
    store = make_store(Folder(real_music).tracks(), rows)
    for split in split_in_folds(store):
        assert audit_split(store, split)["train-test"]["tracks_of_shared_artists"] == 0
        assert all(set(store.labels[part]) == {0, 1, 2, 3} for part in split.values())


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (splits.split_by_artist, "split=artist: no track has an artist"),
        (splits.split_officially, "split=official: no train"),
        (partial(split_by_fold, number=0), "split=fold divides"),
        (partial(split_kfold, number=7), "number=7"),
        (partial(split_kfold, folds=9), "fewer than 9 folds"),
    ],
)
def test_a_split_is_checked_before_anything_is_decoded(
    split: Callable[..., splits.Split],
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        check_split(split, [Track(n, f"g{n % 2}", path="a.mp3") for n in range(10)])


def test_a_genre_that_may_not_decode_is_no_reason_to_refuse_a_split() -> None:
    tracks = [Track(n, f"g{n % 2}", path="a.mp3") for n in range(40)]
    check_split(splits.split_stratified, [*tracks, Track(40, "garbage", path="a.mp3")])
    with pytest.raises(InputError, match="a few has 4 tracks, fewer than 5 folds"):
        check_split(split_kfold, tracks + [Track(n, "a few") for n in range(40, 44)])


def test_a_split_of_tracks_is_that_of_their_store(store: Store) -> None:
    tracks = [
        Track(*columns, path=f"{columns[0]}.mp3")
        for columns in zip(
            store.track_ids,
            (store.classes[label] for label in store.labels),
            store.artists,
            store.albums,
            strict=True,
        )
    ]
    preview: Any = StorePreview(tracks)
    for split in (splits.split_by_artist, split_kfold, splits.split_stratified):
        first, second = split(preview), split(store)
        assert all(np.array_equal(first[part], second[part]) for part in second)
