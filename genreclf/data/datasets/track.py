"""What is known of one piece of music before it is heard."""

from dataclasses import dataclass

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
