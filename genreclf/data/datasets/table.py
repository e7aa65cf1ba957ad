"""A table of audio files: CSV, TSV or Parquet, with a row for each track.

Columns, in any order and case: `path` and `genre`, and optionally `artist`, `album` and `split`
(train, val or test, and their usual other names). Other columns are not used; the log names them.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from genreclf.data.datasets.table_reader import Row, read_table
from genreclf.data.datasets.track import (
    MISSING,
    PARTS,
    Track,
    check_genre_list,
    choose_genres,
    find_genre_fault,
    rename_tracks,
)
from genreclf.data.spelling import check_renaming, check_spellings
from genreclf.errors import InputError
from genreclf.paths import expand_home, explain_irregular, find_path, locate_path


class Table:
    """Audio files that a table lists, with their genres.

    Args:
        path: a `.parquet` file (needs `pip install 'genreclf[parquet]'`), or a text file. Relative
            paths in it are relative to its folder.
        duration: how many seconds of each file features are computed from.
        genres: the genres to use; None means all.
        rename: new names of genres, such as {"hiphop": "Hip-Hop"}.
    """

    name = "table"

    def __init__(
        self,
        path: str | Path,
        duration: float = 30,
        genres: Sequence[str] | None = None,
        rename: Mapping[str, str] | str | None = None,
    ) -> None:
        self.path, self.duration = locate_path(path), duration
        self.chosen = check_genre_list(genres)
        self.rename = check_renaming(rename)

    def genres(self) -> list[str]:
        """List the genres of the tracks, sorted."""
        return sorted({track.genre for track in self._tracks})

    def tracks(self) -> list[Track]:
        """List the tracks in the order of the table.

        An id is the path relative to the table's folder, or, if files lie elsewhere, to the folder
        that contains them all.

        Raises:
            InputError: the table cannot be read, lacks a column or has no rows; or in some row, a
                value is missing or unknown, a file does not exist, or a path occurs again. The
                message names the line of a text file, or the row of a Parquet file.
        """
        return list(self._tracks)

    @cached_property
    def _tracks(self) -> list[Track]:
        rows = read_table(self.path)
        paths = self._locate(rows)
        ids = _shorten(list(paths), self.path.parent.absolute())
        tracks = [
            Track(
                id=track_id,
                genre=values["genre"],
                artist=values.get("artist", ""),
                album=values.get("album", ""),
                split=values.get("split", ""),
                path=path,
            )
            for track_id, path, (_, values) in zip(ids, paths, rows, strict=True)
        ]
        tracks = choose_genres(rename_tracks(tracks, self.rename), self.chosen, str(self.path))
        check_spellings((track.genre for track in tracks), str(self.path))
        return tracks

    def _locate(self, rows: Sequence[Row]) -> dict[str, str]:
        """Check each row; return where each path is, in order."""
        folder, places, missing = self.path.parent.absolute(), dict[str, str](), list[str]()
        folders = _Folders()
        for where, values in rows:
            if fault := _find_fault(values):
                raise InputError(f"{self.path}, {where}: {fault}")
            path = os.path.normpath(folder / expand_home(values["path"]))
            if path in places:
                raise InputError(f"{self.path}, {where}: the same path as in {places[path]}")
            places[path] = where
            if not folders.contain(path):
                found = find_path(path)
                if found is not None and found.is_file():  # with accents of another form
                    places[str(found)] = places.pop(path)
                    continue
                what = explain_irregular(path)
                missing.append(f"{where}: {what}: {path}")
        if missing:
            more = f" (and {len(missing) - 1} more of {len(rows)})" if len(missing) > 1 else ""
            raise InputError(f"{self.path}, {missing[0]}{more}")
        return places


class _Folders:
    """Lists each folder once: looking up every file would take as long as reading the table."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def contain(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if folder not in self._names:
            try:
                with os.scandir(folder) as entries:
                    self._names[folder] = {each.name for each in entries if each.is_file()}
            except OSError:
                self._names[folder] = set()
        # A file system may ignore case, or spell accents in another way.
        return name in self._names[folder] or os.path.isfile(path)  # noqa: PTH113


def _find_fault(values: Mapping[str, str]) -> str:
    """Say what is wrong with the values of a row; empty if nothing is."""
    if not values["path"]:
        return "the path is empty"
    part = values.get("split", "").casefold()
    known = {"train", "val", "test", *PARTS}
    if part and part not in known:
        near = difflib.get_close_matches(part, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"split {values['split']!r} is not train, val or test{hint}"
    for name, value in values.items():
        if value in MISSING and name != "genre":
            return f"{name} is {value!r}, a missing value; leave it empty where nothing is known"
    return find_genre_fault(values["genre"])


def _shorten(paths: Sequence[str], folder: Path) -> list[str]:
    """Name files by their paths relative to a folder, or else to the folder they have in common."""
    base = str(folder)
    if any(os.path.commonpath([base, path]) != base for path in paths):
        base = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    return [Path(os.path.relpath(path, base)).as_posix() for path in paths]
