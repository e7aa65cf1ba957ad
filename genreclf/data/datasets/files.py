"""Any audio files, wherever they lie below a folder: a music library, without genres."""

import logging
from functools import cached_property
from pathlib import Path

from genreclf.audio import search
from genreclf.data.datasets.folder import read_tracks
from genreclf.data.datasets.track import Track
from genreclf.errors import InputError
from genreclf.paths import explain_no_folder, format_path, locate_path

log = logging.getLogger(__name__)


class Files:
    """All audio files below a folder, at any depth; artist and album from their tags.

    They have no genres, so nothing can be trained on them. Hidden files and folders are skipped,
    symbolic links are followed; the log says what is skipped.

    Args:
        root: the folder.
        duration: how many seconds of each file features are computed from.
    """

    name = "files"
    has_genres = False

    def __init__(self, root: str | Path, duration: float = 30) -> None:
        self.root = locate_path(root)
        self.duration = duration

    def genres(self) -> list[str]:
        """List the only genre: an empty text, which stands for unknown."""
        return [""]

    def tracks(self) -> list[Track]:
        """List one track per file, sorted by path; its id is the path relative to the root.

        Raises:
            InputError: there is no such folder, or it holds no audio files.
        """
        return list(self._tracks)

    @cached_property
    def _tracks(self) -> list[Track]:
        if fault := explain_no_folder(self.root):
            raise InputError(f"data.root={format_path(self.root)}: {fault}")
        skipped = search.Skipped()
        paths = sorted(search.find_audio_files(self.root, skipped))
        for line in skipped.describe():
            log.warning("data.root: %s", line)
        if not paths:
            raise InputError(
                f"data.root={format_path(self.root)}: no audio file in this folder ({search.SHOWN})"
            )
        # Two names whose bytes are not UTF-8 remain two.
        return read_tracks(self.root, [("", path) for path in paths], make_id=format_path)
