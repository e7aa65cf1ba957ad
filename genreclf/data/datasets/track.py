"""A track: what is known about a piece of music before its audio is read."""

from dataclasses import dataclass

# Other names for the parts.
PARTS = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}


@dataclass(frozen=True)
class Track:
    """One piece of music. Empty text means unknown."""

    id: str
    genre: str
    artist: str = ""
    album: str = ""
    split: str = ""  # official part: train, val, test
    path: str = ""  # empty if the dataset provides the features
    license: str = ""
