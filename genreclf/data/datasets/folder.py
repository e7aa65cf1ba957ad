"""A folder of genre folders: any collection of audio files."""

from collections.abc import Sequence
from pathlib import Path

from genreclf.audio.decode import EXTENSIONS, find_audio_files
from genreclf.audio.tags import read_tags
from genreclf.data.datasets.track import Track
from genreclf.errors import InputError


class Folder:
    """Audio files under `<root>/<genre>/`, at any depth; artist and album from their tags.

    Hidden files and folders are skipped, symbolic links are followed.

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
        if isinstance(genres, str):
            raise InputError(f"data.genres={genres}: a list is needed: [{genres}]")
        self.chosen = [str(genre) for genre in genres] if genres is not None else None

    def files(self) -> list[tuple[str, Path]]:
        """List (genre, path) of each audio file, sorted.

        Raises:
            InputError: there is no such folder, no genre folder, or a genre without audio files.
        """
        if not self.root.is_dir():
            raise InputError(f"data.root={self.root}: no such folder")
        present = sorted(p.name for p in self.root.iterdir() if p.is_dir() and _is_visible(p.name))
        genres = present if self.chosen is None else sorted(set(self.chosen))
        if missing := [genre for genre in genres if genre not in present]:
            raise InputError(f"data.genres: {self.root} has no folder {', '.join(missing)}")
        if not genres:
            raise InputError(f"data.root={self.root}: no genre folders (<root>/<genre>/*.mp3)")
        found = []
        for genre in genres:
            paths = sorted(find_audio_files(self.root / genre))
            if not paths:
                raise InputError(
                    f"genre folder {self.root / genre} holds no audio files "
                    f"({', '.join(EXTENSIONS)}): add some or remove the folder"
                )
            found += [(genre, path) for path in paths]
        return found

    def genres(self) -> list[str]:
        """List the names of the genre folders, sorted."""
        return sorted({genre for genre, _ in self.files()})

    def tracks(self) -> list[Track]:
        """List one track per file; its id is the path relative to the root."""
        return [self._make_track(genre, path) for genre, path in self.files()]

    def _make_track(self, genre: str, path: Path) -> Track:
        tags = read_tags(path)
        return Track(
            id=path.relative_to(self.root).as_posix(),
            genre=genre,
            artist=tags["artist"],
            album=tags["album"],
            path=str(path.resolve()),
        )


def _is_visible(name: str) -> bool:
    return not name.startswith(".")
