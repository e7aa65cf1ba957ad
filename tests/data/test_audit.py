from collections.abc import Callable

import numpy as np
import pytest

from genreclf.data.audit import audit_split, format_groups
from genreclf.data.datasets import Track
from genreclf.data.store import Store
from genreclf.errors import InputError


def test_audit_counts_what_is_shared(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    tracks = [
        Track(f"{genre}{artist}{n}", f"genre {genre}", f"artist {genre}{artist}", f"album {n % 2}")
        for genre in range(4)
        for artist in range(10)
        for n in range(6)
    ]
    store = make_store(tracks, random_rows(240))
    split = {"train": np.arange(0, 237), "val": np.array([237]), "test": np.array([238, 239])}
    audit = audit_split(store, split)
    assert audit["train-test"] == {
        "identical": [],
        "near_duplicates": [],
        "artists": 1,
        "albums": 2,
        "tracks_of_shared_artists": 2,
    }


def test_identical_rows_are_an_error_unless_allowed(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    rows = random_rows(6)
    rows[5] = rows[0]
    store = make_store([Track(f"t{n}", "g") for n in range(6)], rows)
    split = {"train": np.arange(4), "val": np.array([4]), "test": np.array([5])}
    with pytest.raises(InputError, match=r"1 recordings .*\(t0 = t5\).*allow_identical"):
        audit_split(store, split)
    for allowed in (["t5"], ["t0"], "t5", "all"):
        assert audit_split(store, split, allowed)["train-test"]["identical"] == [["t0", "t5"]]
    with pytest.raises(InputError):
        audit_split(store, split, ["t1"])
    inside = {"train": np.array([0, 1, 5]), "val": np.array([2]), "test": np.array([3])}
    assert audit_split(store, inside)["duplicates"] == [["t0", "t5"]]  # leaks nothing, is told
    with pytest.raises(InputError, match="allow_identical: no track t9"):
        audit_split(store, split, ["t9"])


def test_groups_of_identical_rows_stay_small_a16(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    """A16: 2,000 equal rows are one group of 2,000 ids, not two million pairs in result.json."""
    store = make_store(
        [Track(f"t{n}", "g") for n in range(2000)], random_rows(1).repeat(2000, axis=0)
    )
    rows = np.arange(2000)
    split = {"train": rows[:1500], "val": rows[1500:1600], "test": rows[1600:]}
    audit = audit_split(store, split, "all")
    assert [len(group) for group in audit["duplicates"]] == [1500, 100, 400]
    assert [len(group) for group in audit["train-test"]["identical"]] == [1900]
    with pytest.raises(InputError, match="1 recordings lie in different parts") as error:
        audit_split(store, split)
    assert len(str(error.value)) < 250
    assert format_groups(audit["duplicates"]) == ", ".join(
        [f"t{n} = t{n + 1} = t{n + 2} = t{n + 3} = t{n + 4} = ..." for n in (0, 1500, 1600)]
    )


def test_a_group_is_allowed_by_the_tracks_that_leave_one_part(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    rows = random_rows(4)
    rows[[1, 3]] = rows[0]
    store = make_store([Track(f"t{n}", "g") for n in range(4)], rows)
    split = {"train": np.array([0, 1]), "val": np.array([2]), "test": np.array([3])}
    assert audit_split(store, split, ["t3"])["train-test"]["identical"] == [["t0", "t1", "t3"]]
    with pytest.raises(InputError, match="t1 = t3"):
        audit_split(store, split, ["t0"])


def test_spellings_of_an_artist_are_one_in_the_audit_a12(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    """A12: leakage through "Ann feat. Bob" in training and "ann" in the test is counted."""
    names = [("Ann feat. Bob", "One"), ("Cid", ""), ("ann ", "one!")]
    store = make_store([Track(n, "g", *pair) for n, pair in enumerate(names)], random_rows(3))
    audit = audit_split(
        store, {"train": np.array([0]), "val": np.array([1]), "test": np.array([2])}
    )
    assert audit["train-test"]["artists"] == audit["train-test"]["albums"] == 1
