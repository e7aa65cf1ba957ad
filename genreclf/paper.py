"""What the paper prints of each genre, and which genre it really was.

The published scripts number the classes by FMA's genre ids and then print their results under the
alphabetical names. So every per-genre figure of the report stands under another genre's name; here
the two names always go together.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Genre:
    """One class of the paper, with its row of Table IX (final model, test part)."""

    printed: str  # the name in the report
    true: str  # what was trained and tested under that name
    precision: float
    recall: float
    f1: float
    support: int


GENRES = (  # by class number
    Genre("Electronic", "International", 0.68, 0.68, 0.68, 213),
    Genre("Experimental", "Pop", 0.44, 0.44, 0.44, 213),
    Genre("Folk", "Rock", 0.63, 0.65, 0.64, 213),
    Genre("Hip-Hop", "Electronic", 0.64, 0.71, 0.67, 212),
    Genre("Instrumental", "Folk", 0.70, 0.65, 0.68, 212),
    Genre("International", "Hip-Hop", 0.76, 0.80, 0.78, 212),
    Genre("Pop", "Experimental", 0.57, 0.56, 0.56, 213),
    Genre("Rock", "Instrumental", 0.66, 0.59, 0.63, 212),
)
CLASSES = tuple(genre.true for genre in GENRES)  # of the published weights, by number
BY_TRUE_NAME = {genre.true: genre for genre in GENRES}
