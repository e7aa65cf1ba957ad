"""Tells which tracks are by the same artist, however the tags spell the name.

Names are compared without case, whitespace, punctuation, accents on Latin letters, a leading "the",
and everything after the first of several artists ("A feat. B", "A & B", "A; B"). So a name with "&"
counts as the same artist as its first part. For keeping the test honest, that is the safe side.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from genreclf.data.store import Store

# What follows the first of several artists, in casefolded text.
OTHERS = re.compile(
    r"""\s*(?:[;,&、\0]
    | \s(?:[/+×]|x|and|with|vs\.?)\s | \sw/
    | [\s(\[](?:feat|ft|featuring)\b)""",
    re.VERBOSE,
)
ACCENTS = re.compile(r"(?<=[a-z])[\u0300-\u036f]+")  # combining marks, after decomposition
IGNORED = ("C", "P", "S", "Z")  # Unicode categories: control, punctuation, symbols, separators


def identify_artists(store: Store) -> list[str]:
    """Name the artist of each row; equal texts for the same artist, empty where unknown.

    Rows are by the same artist if they have the same name, or the same number where the dataset
    numbers its artists. Two artists of one name therefore count as one, which is the safe side. An
    artist is named by the first spelling in the store.
    """
    firsts = _link_spellings(store.artists)
    links: dict[str, str] = {}  # a name or number to another one of the same artist
    rows = []
    for artist, artist_id in zip(store.artists, store.artist_ids, strict=True):
        key = _find_key(firsts, artist)
        marks = [f"name {key}"] * bool(key) + [f"id {artist_id}"] * bool(artist_id)
        if len(marks) == 2 and _follow(links, marks[1]) != _follow(links, marks[0]):
            links[_follow(links, marks[1])] = _follow(links, marks[0])
        rows.append(marks[0] if marks else "")
    names: dict[str, str] = {}
    for artist, mark in zip(store.artists, rows, strict=True):
        if mark and artist.strip():
            names.setdefault(_follow(links, mark), artist.strip())
    nameless = (f"artist {mark.removeprefix('id ')}" for mark in rows)
    return [
        names.get(_follow(links, mark), other) if mark else ""
        for mark, other in zip(rows, nameless, strict=True)
    ]


def identify_albums(store: Store, artists: Sequence[str]) -> list[str]:
    """Name the album of each row; equal texts for albums of one title by the same artist."""
    albums = zip(artists, store.albums, strict=True)
    return [f"{artist}: {compact(album)}" if album.strip() else "" for artist, album in albums]


@lru_cache(maxsize=100_000)
def compact(name: str) -> str:
    """Reduce a name to its letters and digits, without case and accents.

    A name without any, such as "!!!", keeps its symbols.
    """
    text = ACCENTS.sub("", unicodedata.normalize("NFKD", name.casefold()).casefold())
    kept = "".join(char for char in text if unicodedata.category(char)[0] not in IGNORED)
    return unicodedata.normalize("NFC", kept or "".join(text.split()))


def _find_key(firsts: dict[str, str], artist: str) -> str:
    """Reduce a name to that of its first artist; empty where nothing is known."""
    key = _compact_whole(artist)
    while firsts.get(key, key) != key:  # each step is shorter
        key = firsts[key]
    return key


def _follow(links: dict[str, str], mark: str) -> str:
    """Follow the links of a name or number to the end, which is the same for the same artist."""
    while mark in links:
        mark = links[mark]
    return mark


def _link_spellings(names: Sequence[str]) -> dict[str, str]:
    """Map each whole name to its first artist, which may itself be a whole name of several."""
    firsts: dict[str, str] = {}
    for name in set(names):
        whole, first = _compact_whole(name), _compact_first(name)
        firsts[whole] = min(firsts.get(whole, whole), first, key=lambda key: (len(key), key))
    return firsts


def _compact_whole(name: str) -> str:
    return compact(re.sub(r"^\s*the\s+(?=\S)", "", name, flags=re.IGNORECASE))


def _compact_first(name: str) -> str:
    """Compact the first of several artists; the whole name if nothing precedes the separator."""
    first = OTHERS.split(unicodedata.normalize("NFKC", name).casefold(), maxsplit=1)[0]
    return _compact_whole(first) or _compact_whole(name)
