"""A dataset: the tracks that a playlist per genre lists."""

from pathlib import Path

from genreclf.data import Track
from genreclf.errors import InputError


class Playlists:
    """The tracks of M3U playlists, one playlist per genre: `blues.m3u`, `rock.m3u`.

    Args:
        root: the folder of the playlists; paths in them are relative to it.
        duration: seconds of each track that features are made from.

    Raises:
        InputError: there are no playlists in this folder.
    """

    name = "playlists"

    def __init__(self, root: str, duration: float = 30.0) -> None:
        self.duration = duration
        self.playlists = sorted(Path(root).glob("*.m3u"))
        if not self.playlists:
            raise InputError(f"data.root={root}: no *.m3u in this folder")

    def tracks(self) -> list[Track]:
        """List all tracks, always in the same order."""
        return [
            Track(id=line, genre=playlist.stem, path=str(playlist.parent / line))
            for playlist in self.playlists
            for line in playlist.read_text(encoding="utf-8").splitlines()
            if line and not line.startswith("#")
        ]

    def genres(self) -> list[str]:
        """List the names of the genres, sorted."""
        return [playlist.stem for playlist in self.playlists]
