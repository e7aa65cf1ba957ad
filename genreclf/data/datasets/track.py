"""A track: what is known about a piece of music before its audio is read.

Also contains the checks that every dataset's list of tracks has to pass.
"""

import logging
import math
import numbers
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from genreclf.data.spelling import check_renamed, suggest_genre
from genreclf.errors import InputError

log = logging.getLogger(__name__)

# Other names for the parts.
PARTS = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}
# What Python, NumPy and pandas make of a missing value; "Nat" and "Nan" are names.
MISSING = {"nan", "NaN", "NAN", "none", "None", "NONE", "<NA>", "NaT"}
SHOWN = 5  # examples in a message
NO_GENRES = (
    "these tracks have no genres, as with data=files: choose data=folder, whose folders are "
    "genres, or data=table"
)


@dataclass(frozen=True)
class Track:
    """One piece of music. Empty text means unknown.

    `Track(1, "rock", path="a.mp3")` is enough: numbers as ids and `pathlib` paths become text,
    None becomes empty text, the names of parts become "train", "val" and "test", and bytes that are
    not UTF-8 become readable (`repair_text`), except those of the path. Genres are in the composed
    form of Unicode (NFC).

    Args:
        id: identifies the track in its dataset, such as a number or a relative path.
        genre: its one genre.
        artist: its artist, as spelled in the tags; splits ignore spelling.
        album: its album.
        split: its official part: train, val or test; or any other name.
        path: its audio file; empty if the dataset provides the features.
        license: its licence.
        artist_id: identifies the artist if the dataset numbers them, besides the name.
        title: its title, as in the tags; None if the dataset has not read them. Stores do not keep
            it.
    """

    id: str
    genre: str
    artist: str = ""
    album: str = ""
    split: str = ""
    path: str = ""
    license: str = ""
    artist_id: str = ""
    title: str | None = None

    def __post_init__(self) -> None:
        values: dict[str, Any] = {
            field.name: ""
            for field in fields(self)
            if getattr(self, field.name) is None and field.name != "title"
        }
        values["path"] = os.fspath(self.path or "")
        for name in ("id", "artist_id"):
            if isinstance(number := getattr(self, name), numbers.Integral):
                values[name] = str(number)
        if isinstance(self.split, str):
            part = self.split.strip().casefold()
            values["split"] = PARTS.get(part, part)
        for name in ("id", "genre", "artist", "album", "split", "license", "artist_id", "title"):
            if isinstance(text := values.get(name, getattr(self, name)), str):
                values[name] = repair_text(text)
        if isinstance(genre := values.get("genre"), str):
            values["genre"] = unicodedata.normalize("NFC", genre)
        for name, value in values.items():
            object.__setattr__(self, name, value)


def repair_text(text: str) -> str:
    """Make a text valid that has bytes which are not UTF-8, such as a file name in Latin-1.

    Such bytes, which Python reads as surrogates, are taken for those of Windows-1252, a superset of
    Latin-1: a wrong letter is better than music that cannot be used.
    """
    return text if text.isascii() else re.sub("[\ud800-\udfff]", _repair_byte, text)


def _repair_byte(match: re.Match[str]) -> str:
    byte = ord(match[0]) - 0xDC00
    if not 0x80 <= byte <= 0xFF:  # not a byte
        return "\ufffd"
    try:
        return bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:
        return chr(byte)


@lru_cache(maxsize=1024)
def find_genre_fault(genre: str) -> str:
    """Say why a text is not the name of one genre; return an empty text if it is."""
    if not genre.strip():
        return "the genre is empty"
    if re.search("[\ud800-\udfff]", genre):
        return f"the genre {genre!r} is not valid text"
    if re.search("[\0-\x1f\x7f\u2028\u2029]", genre):
        return f"the genre {genre!r} has a line break or another control character; rename it"
    if genre.strip() in MISSING:
        return f"the genre is {genre!r}, a missing value"
    if re.fullmatch(r"[-+]?(\d+\.\d*|\.\d+|\d+)(e[-+]?\d+)?", genre.strip(), re.I) and not (
        genre.strip().isdecimal()
    ):
        return f"the genre is {genre!r}: a name or a whole number is needed"
    if re.search(r"[;|]|^\s*[\[{].*[\]}]\s*$", genre):
        return f"the genre {genre!r} looks like several; each track needs exactly one"
    return ""


def check_genre_list(genres: Sequence[str] | None) -> list[str] | None:
    """Check the value of `data.genres`; return it sorted, or None for all genres.

    Raises:
        InputError: it is not a list, or it is empty.
    """
    if genres is None:
        return None
    if isinstance(genres, str):
        raise InputError(f"data.genres={genres}: a list is needed: [{genres}]")
    if not list(genres):
        raise InputError("data.genres is empty; name some genres, or null for all")
    return sorted({unicodedata.normalize("NFC", str(genre)) for genre in genres})


def rename_tracks(tracks: Iterable[Track], rename: Mapping[str, str]) -> list[Track]:
    """Give genres their new names.

    Args:
        tracks: the tracks.
        rename: value of `check_renaming`.

    Raises:
        InputError: a genre to be renamed does not occur.
    """
    tracks = list(tracks)
    check_renamed(rename, (track.genre for track in tracks))
    return [replace(track, genre=rename.get(track.genre, track.genre)) for track in tracks]


def choose_genres(tracks: Iterable[Track], chosen: list[str] | None, source: str) -> list[Track]:
    """Keep the tracks of the chosen genres; None keeps all.

    Args:
        tracks: the tracks.
        chosen: value of `check_genre_list`.
        source: what the tracks come from, for messages.

    Raises:
        InputError: a chosen genre does not occur.
    """
    tracks = list(tracks)
    known = sorted({track.genre for track in tracks})
    if unknown := [genre for genre in chosen or () if genre not in known]:
        near = suggest_genre(unknown[0], known)
        hint = f"did you mean {near}?" if near else f"it has {', '.join(known)}"
        raise InputError(f"data.genres: {source} has no {', '.join(unknown)}; {hint}")
    return [track for track in tracks if chosen is None or track.genre in chosen]


def list_tracks(dataset: Any, with_audio: bool = True) -> list[Track]:
    """List the tracks of a dataset, after checking that they can be used.

    Args:
        dataset: anything that satisfies `genreclf.protocols.Dataset`.
        with_audio: whether each track needs the path of its audio.

    Raises:
        InputError: the dataset has no usable name or duration, it has no tracks, a track lacks an
            id, a genre (unless `has_genres` is False) or a path, or an id occurs twice.
    """
    name = getattr(dataset, "name", None)
    if not isinstance(name, str) or not name or re.search(r"[/\\\0]", name):
        raise InputError(f"the dataset's name {name!r} must be a text without slashes")
    duration = getattr(dataset, "duration", None)
    if not isinstance(duration, int | float) or not 0 < duration < math.inf:
        raise InputError(f"data={name}: duration={duration!r}; seconds above 0 are needed")
    with_genre = getattr(dataset, "has_genres", True)
    tracks = list(dataset.tracks())
    if not tracks:
        raise InputError(f"data={name} has no tracks")
    for number, track in enumerate(tracks):
        if fault := _find_fault(track, with_audio, with_genre):
            named = getattr(track, "id", None)
            raise InputError(f"data={name}: track {number + 1} (id {named!r}): {fault}")
    check_unique([track.id for track in tracks], f"data={name}")
    return tracks


def check_genres(dataset: Any, tracks: Sequence[Track]) -> None:
    """Check that a dataset's `genres()` are those of its tracks, sorted.

    Raises:
        InputError: they are not.
    """
    genres, name = list(dataset.genres()), dataset.name
    texts = [str(genre) for genre in genres]
    if genres != sorted(set(texts)):
        raise InputError(
            f"data={name}: genres() must be names, sorted, each once; it gives {', '.join(texts)}"
        )
    found = {track.genre for track in tracks}
    if unknown := sorted(found.difference(genres)):
        raise InputError(
            f"data={name}: genres() lacks {', '.join(unknown[:SHOWN])}, which tracks have"
        )
    if empty := [genre for genre in genres if genre not in found]:
        log.warning("data=%s has no tracks of %s", name, ", ".join(empty))


def check_unique(ids: Iterable[str], source: str) -> None:
    """Refuse, with InputError, ids that occur more than once."""
    if twice := [track_id for track_id, count in Counter(ids).items() if count > 1]:
        shown = ", ".join(twice[:SHOWN]) + ", ..." * (len(twice) > SHOWN)
        raise InputError(
            f"{source}: {len(twice)} track ids occur more than once ({shown}); "
            "each track may be there only once, or it ends up in training and in test"
        )


def _find_fault(track: Any, with_audio: bool, with_genre: bool) -> str:
    for field in fields(Track):
        if field.name == "title" and getattr(track, "title", None) is None:  # nothing needs it
            continue
        if not hasattr(track, field.name):
            return f"{type(track).__name__} has no {field.name}; use genreclf.data.Track"
        if not isinstance(value := getattr(track, field.name), str):
            return f"{field.name}={value!r} is not a text"
    if not track.id:
        return "the id is empty"
    if with_audio and not track.path:
        return "no path to its audio"
    return find_genre_fault(track.genre) if with_genre or track.genre else ""
