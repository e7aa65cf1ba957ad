"""Tags of audio files, whatever their format."""

from pathlib import Path
from typing import Any

import mutagen

# mutagen's names for each tag, and the ID3 frames for formats such as WAV that lack these names.
NAMES = {
    "title": ("title", "TIT2"),
    "artist": ("artist", "TPE1", "albumartist", "TPE2"),
    "album": ("album", "TALB"),
}


def read_tags(path: Path) -> dict[str, str]:
    """Read title, artist and album of a file; "" for a tag that is missing or cannot be parsed."""
    try:
        file = mutagen.File(path, easy=True)  # pyright: ignore[reportPrivateImportUsage]
    except mutagen.MutagenError:  # pyright: ignore[reportPrivateImportUsage]
        file = None
    tags = (file.tags if file is not None else None) or {}
    return {name: _find_first(tags, names) for name, names in NAMES.items()}


def _find_first(tags: Any, names: tuple[str, ...]) -> str:
    """Return the first of these tags that is present and not empty."""
    found = ("; ".join(map(str, tags[name])).strip() for name in names if name in tags)
    return next(filter(None, found), "")
