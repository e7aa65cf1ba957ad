"""A folder of genre folders: any collection of audio files."""

import logging
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from genreclf.audio import search
from genreclf.audio.tags import describe_damaged, read_all_tags
from genreclf.data.datasets.track import Track, check_genre_list, repair_text
from genreclf.data.spelling import (
    check_renamed,
    check_renaming,
    check_spellings,
    rename_genre,
    suggest_genre,
)
from genreclf.errors import InputError
from genreclf.files import GENERATED
from genreclf.paths import explain_no_folder, format_path, locate_path

log = logging.getLogger(__name__)


class Folder:
    """Audio files under `<root>/<genre>/`, at any depth; artist and album from their tags.

    Hidden files and folders are skipped, symbolic links are followed. Folders without audio files
    are skipped as well, and so are clips that genreclf itself made or downloaded: the root may be
    the folder in which genreclf runs. The log says what is skipped.

    Args:
        root: the folder of genre folders.
        duration: how many seconds of each file features are computed from.
        genres: the genres to use; None means all.
        rename: new names of genre folders, such as {"hiphop": "Hip-Hop"}; two folders may get the
            same name.
    """

    name = "folder"

    def __init__(
        self,
        root: str | Path,
        duration: float = 30,
        genres: Sequence[str] | None = None,
        rename: Mapping[str, str] | str | None = None,
    ) -> None:
        self.root = locate_path(root)
        self.duration = duration
        self.chosen = check_genre_list(genres)
        self.rename = check_renaming(rename)

    def files(self) -> list[tuple[str, Path]]:
        """List (genre, path) of each audio file, sorted.

        Raises:
            InputError: there is no such folder, no genre folder with audio files, a chosen genre
                without audio files, or two folders whose names differ only in spelling.
        """
        return list(self._files)

    @cached_property
    def _files(self) -> list[tuple[str, Path]]:
        if fault := explain_no_folder(self.root):
            raise InputError(f"data.root={format_path(self.root)}: {fault}")
        skipped = search.Skipped()
        folders = self._find_genres(skipped)
        genres = sorted(folders) if self.chosen is None else self.chosen
        if missing := [genre for genre in genres if genre not in folders]:
            near = suggest_genre(missing[0], folders)
            hint = f"; did you mean {near}?" if near else ""
            raise InputError(f"data.genres: {self.root} has no folder {', '.join(missing)}{hint}")
        if not genres:
            raise InputError(f"data.root={self.root}: no genre folders (<root>/<genre>/*.mp3)")
        # Each genre is searched by itself: what links lead to may belong to several, and training
        # refuses the same audio in several genres.
        elsewhere = search.list_parents(self.root)
        elsewhere |= {os.path.realpath(each) for places in folders.values() for each in places}
        found = {
            genre: sorted(
                path
                for folder in folders[genre]
                for path in search.find_audio_files(folder, skipped, GENERATED, elsewhere)
            )
            for genre in genres
        }
        empty = [genre for genre, paths in found.items() if not paths]
        if empty and (self.chosen is not None or len(empty) == len(genres)):
            raise InputError(
                f"genre folder {folders[empty[0]][0]} holds no audio files ({search.SHOWN}): add "
                "some or remove the folder"
            )
        if empty:
            named = format_path(", ".join(empty))
            log.warning("data.root: skipped folders without audio files: %s", named)
        for line in skipped.describe():
            log.warning("data.root: %s", line)
        check_spellings((genre for genre, paths in found.items() if paths), "data.root")
        return [(genre, path) for genre, paths in found.items() for path in paths]

    def _find_genres(self, skipped: search.Skipped) -> dict[str, list[Path]]:
        """Find the folders of each genre; a link to one of them, or to the root, is skipped."""
        with os.scandir(self.root) as entries:
            listed = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
        folders: defaultdict[str, list[Path]] = defaultdict(list)
        searched = search.list_parents(self.root)
        for entry in listed:
            if not search.is_folder(entry) or os.path.exists(  # noqa: PTH110
                os.path.join(entry.path, GENERATED)  # noqa: PTH118
            ):
                continue
            if search.is_system_folder(entry.name):
                skipped.paths[search.HIDDEN].append(entry.path)
            elif (real := os.path.realpath(entry.path)) in searched:
                skipped.paths[search.LINK_TO_FOLDER].append(entry.path)
            else:
                searched.add(real)
                name = unicodedata.normalize("NFC", repair_text(entry.name))
                folders[name].append(self.root / entry.name)
        check_renamed(self.rename, folders)
        genres: defaultdict[str, list[Path]] = defaultdict(list)
        for name, places in folders.items():
            genres[rename_genre(name, self.rename)] += places
        return genres

    def genres(self) -> list[str]:
        """List the names of the genre folders with audio files, sorted."""
        return sorted({genre for genre, _ in self.files()})

    def tracks(self) -> list[Track]:
        """List one track per file; its id is the path relative to the root."""
        return read_tracks(self.root, self.files())


def read_tracks(
    root: Path, files: Sequence[tuple[str, Path]], make_id: Callable[[str], str] = str
) -> list[Track]:
    """Read the tags of files in a folder; the log says how many are damaged.

    Args:
        root: the folder.
        files: genre and path of each.
        make_id: makes the id of a track from the path relative to the folder.
    """
    resolved, damaged = root.resolve(), list[str]()  # once: the disk is asked about each folder
    tracks = []
    tags = read_all_tags([path for _, path in files], damaged)
    for (genre, path), found in zip(files, tags, strict=True):
        relative = path.relative_to(root)
        tracks.append(
            Track(
                id=make_id(relative.as_posix()),
                genre=genre,
                artist=found["artist"],
                album=found["album"],
                title=found["title"],
                path=str(resolved / relative),
            )
        )
    if damaged:
        log.warning("data.root: %s", describe_damaged(damaged, len(tracks)))
    return tracks
