"""What is known of one piece of music before it is heard."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# What the parts are called elsewhere.
PARTS = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}


@dataclass(frozen=True)
class Track:
    """One piece of music. Empty text means unknown."""

    id: str
    genre: str
    artist: str = ""
    album: str = ""
    split: str = ""  # official part: train, val, test
    path: str = ""  # empty where the dataset brings the features along
    license: str = ""


def fingerprint(files: Iterable[Path], root: Path) -> str:
    """Count and digest of the files' paths below `root`, sizes and times of change."""
    # A link to nowhere has no stat of its own; decoding it will say so.
    stats = [(p.relative_to(root), p.stat() if p.exists() else p.lstat()) for p in files]
    listing = "\n".join(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats)
    return f"{len(stats)} files {hashlib.sha1(os.fsencode(listing)).hexdigest()[:12]}"
