from collections.abc import Callable

import numpy as np
import pytest

from genreclf.data import split_by_artist, split_kfold
from genreclf.data.artists import identify_artists
from genreclf.data.datasets import Track
from genreclf.data.store import Store


@pytest.fixture
def identify(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> Callable[..., list[str]]:
    """The artists that rows with these tags count as."""

    def name(*artists: str) -> list[str]:
        tracks = [Track(n, "g", artist) for n, artist in enumerate(artists)]
        return identify_artists(make_store(tracks, random_rows(len(tracks))))

    return name


@pytest.mark.parametrize(
    "spellings",
    [
        ("Artist", "artist", " ARTIST ", "Art-ist", "Ａｒｔｉｓｔ"),
        ("A", "A feat. B", "a ft B", "A (feat. C)", "A & D", "A;E", "A featuring Z", "A feat.B"),
        (
            "A",
            "A, B",
            "A and B",
            "A + B",
            "A x B",
            "A vs. B",
            "A / B",
            "A with B",
            "A w/ B",
            "A、B",
            "A＆B",
            "A [ft. B]",
        ),
        ("Beyoncé", "Beyonce\u0301", "BEYONCÉ", "Beyonce"),
        ("The Beatles", "beatles", "Beatles, The"),
        ("Tyler, The Creator", "Tyler The Creator", "Tyler The Creator feat. B"),
        ("Simon & Garfunkel", "Simon and Garfunkel"),
        ("AC/DC", "AC-DC", "ACDC", "ac dc"),
        ("Straße", "STRASSE"),
        ("!!!", "! ! !"),
    ],
)
def test_spellings_are_one_artist_a12(
    identify: Callable[..., list[str]], spellings: tuple[str, ...]
) -> None:
    """A12: an artist in two spellings would be in training and in the test at once."""
    assert identify(*spellings) == [spellings[0]] * len(spellings)


@pytest.mark.parametrize(
    "names",
    [
        ("A", "B", "B feat. A"),
        ("AC/DC", "AC"),
        ("Malcolm X", "Malcolm"),
        ("Daft Punk", "Daf"),
        ("が", "か"),
        ("!!!", "+/-"),
        ("The The", "The Thes"),
    ],
)
def test_other_artists_stay_apart(
    identify: Callable[..., list[str]], names: tuple[str, ...]
) -> None:
    assert len({*identify(*names)}) == min(len(names), 2)


def test_unknown_artists_stay_unknown(identify: Callable[..., list[str]]) -> None:
    assert identify("", "  ", "A") == ["", "", "A"]


def test_artists_of_one_name_or_one_number_are_one_a12(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    """A12: numbers join spellings; two numbers of one name count as one artist, the safe side."""
    pairs = [("Ann", "1"), ("Ann", "2"), ("ANN feat. Bob", "1"), ("Bob", ""), ("", "3")]
    pairs += [("Eve", "2"), ("Bob", "4"), ("Robert", "4"), ("Zoë", "5"), ("", "")]
    tracks = [Track(n, "g", name, artist_id=number) for n, (name, number) in enumerate(pairs)]
    store = make_store(tracks, random_rows(len(tracks)))
    assert identify_artists(store) == [
        *("Ann", "Ann", "Ann", "Bob", "artist 3", "Ann", "Bob", "Bob", "Zoë", "")
    ]
    assert store.artist_ids[:5] == ["1", "2", "1", "", "3"]


def test_spellings_stay_in_one_part_a12(
    make_store: Callable[..., Store], random_rows: Callable[..., np.ndarray]
) -> None:
    """A12: in both splits by artist, a part has all spellings of an artist or none."""
    forms = ("Artist {}", "artist {} ", "ARTIST {} feat. Guest", "Artist-{} & Co")
    tracks = [
        Track(f"{genre} {n} {form}", genre, form.format(f"{genre}{chr(97 + n)}"))
        for genre in ("x", "y")
        for n in range(10)
        for form in forms
    ]
    store = make_store(tracks, random_rows(len(tracks)))
    truth = np.array([track.id[:3] for track in tracks])
    for split in (split_by_artist(store), split_kfold(store, 1)):
        parts = [set(truth[rows]) for rows in split.values()]
        assert sum(map(len, parts)) == 20
