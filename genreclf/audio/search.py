"""Searches folders for audio files."""

import os
from collections.abc import Iterator
from pathlib import Path

EXTENSIONS = (
    *(".mp3", ".wav", ".flac", ".ogg", ".opus", ".aif", ".aiff"),
    *(".m4a", ".aac", ".wma"),
)


def find_audio_files(folder: str | Path, skip: str = "") -> Iterator[Path]:
    """Find the files in a folder and its subfolders whose names end in one of EXTENSIONS.

    Symbolic links are followed; names that begin with a dot are skipped, and so are subfolders
    that hold a file of the name `skip`.
    """
    for parent, folders, names in os.walk(folder, followlinks=True):
        if skip in names and parent != str(folder):
            folders.clear()
            continue
        folders[:] = (name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS:
                yield Path(parent, name)
