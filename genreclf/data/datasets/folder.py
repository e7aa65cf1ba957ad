"""A folder of genre folders: any collection of audio files."""

import logging
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from genreclf.audio.search import EXTENSIONS, find_audio_files
from genreclf.audio.tags import read_tags
from genreclf.data.datasets.track import Track, check_genre_list, repair_text
from genreclf.errors import InputError
from genreclf.files import GENERATED

log = logging.getLogger(__name__)


class Folder:
    """Audio files under `<root>/<genre>/`, at any depth; artist and album from their tags.

    Hidden files and folders are skipped, symbolic links are followed. Folders without audio files
    are skipped as well, and so are clips that genreclf itself made or downloaded: the root may be
    the folder in which genreclf runs.

    Args:
        root: the folder of genre folders.
        duration: how many seconds of each file features are computed from.
        genres: the genre folders to use; None means all.
    """

    name = "folder"

    def __init__(
        self, root: str | Path, duration: float = 30, genres: Sequence[str] | None = None
    ) -> None:
        self.root = Path(root).expanduser()
        self.duration = duration
        self.chosen = check_genre_list(genres)

    def files(self) -> list[tuple[str, Path]]:
        """List (genre, path) of each audio file, sorted.

        Raises:
            InputError: there is no such folder, no genre folder with audio files, or a chosen genre
                without audio files.
        """
        return list(self._files)

    @cached_property
    def _files(self) -> list[tuple[str, Path]]:
        if not self.root.is_dir():
            raise InputError(f"data.root={self.root}: no such folder")
        folders: dict[str, list[Path]] = {}
        for entry in os.scandir(self.root):
            if _is_genre(entry):  # its name may not be UTF-8
                folders.setdefault(repair_text(entry.name), []).append(self.root / entry.name)
        genres = sorted(folders) if self.chosen is None else self.chosen
        if missing := [genre for genre in genres if genre not in folders]:
            raise InputError(f"data.genres: {self.root} has no folder {', '.join(missing)}")
        if not genres:
            raise InputError(f"data.root={self.root}: no genre folders (<root>/<genre>/*.mp3)")
        found = {
            genre: sorted(
                path
                for folder in folders[genre]
                for path in find_audio_files(folder, skip=GENERATED)
            )
            for genre in genres
        }
        empty = [genre for genre, paths in found.items() if not paths]
        if empty and (self.chosen is not None or len(empty) == len(genres)):
            raise InputError(
                f"genre folder {self.root / empty[0]} holds no audio files "
                f"({', '.join(EXTENSIONS)}): add some or remove the folder"
            )
        if empty:
            log.warning("data.root: skipped folders without audio files: %s", ", ".join(empty))
        return [(genre, path) for genre, paths in found.items() for path in paths]

    def genres(self) -> list[str]:
        """List the names of the genre folders with audio files, sorted."""
        return sorted({genre for genre, _ in self.files()})

    def tracks(self) -> list[Track]:
        """List one track per file; its id is the path relative to the root."""
        root = self.root.resolve()
        return [self._make_track(genre, path, root) for genre, path in self.files()]

    def _make_track(self, genre: str, path: Path, root: Path) -> Track:
        tags, relative = read_tags(path), path.relative_to(self.root)
        return Track(
            id=relative.as_posix(),
            genre=genre,
            artist=tags["artist"],
            album=tags["album"],
            path=str(root / relative),
        )


def _is_genre(entry: os.DirEntry[str]) -> bool:
    """Whether a folder may be one of a genre: visible, and not of clips that genreclf made."""
    return (
        not entry.name.startswith(".")
        and entry.is_dir()
        and not os.path.exists(os.path.join(entry.path, GENERATED))  # noqa: PTH110, PTH118
    )
