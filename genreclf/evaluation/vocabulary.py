"""What a model's answer is made of: genres, and tags that are not genres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from genreclf.evaluation.genre_map import GenreMap, is_built_in, read_genre_map
from genreclf.models.checkpoint import TrainedModel

LEAST = 1e-12  # probability of a genre
TEMPERATURE = 0.5  # of musicnn's tags in a map; without, their shares are far too cautious


@dataclass(frozen=True)
class Vocabulary:
    """The genres and tags of an answer, and how a model's scores become theirs.

    Args:
        name: what they are called, such as "musicnn's 50 tags".
        genres: names of genres; one of them is the answer.
        tags: names of what else may apply, such as moods.
        sources: for each genre, then each tag: the numbers of the model's classes that count for
            it.
        multi_label: as in `TrainedModel`. The score of a genre with several classes is their sum;
            if they can all apply at the same time, it is the highest.
        mapped: whether the genres are those of a map. Their scores are then shares, which add up to
            1: how likely each is for music of one of them; those of tags with a temperature of .5
            (make bench-tags).
        left_out: genres of the model that a map does not use.
    """

    name: str
    genres: list[str]
    tags: list[str]
    sources: list[list[int]]
    multi_label: bool = False
    mapped: bool = False
    left_out: Sequence[str] = ()

    @classmethod
    def choose(cls, trained: TrainedModel, genre_map: GenreMap | None = None) -> Self:
        """Choose the vocabulary of a model, or of a map from its classes.

        Args:
            trained: the model.
            genre_map: as for `read_genre_map`; None for the model's own genres.

        Raises:
            InputError: as `read_genre_map`.
        """
        others = set(trained.no_genres)
        genres = {label: [label] for label in trained.classes if label not in others}
        title = trained.vocabulary or f"{len(genres)} genres: {', '.join(genres)}"
        left_out: Sequence[str] = ()
        if genre_map is not None:
            genres, own = read_genre_map(genre_map, trained.classes), genres
            title = f"{_name_map(genre_map, len(genres))}, from {title.partition(':')[0]}"
            used = {label for named in genres.values() for label in named}
            left_out = [label for label in own if label not in used]
            others -= used
        tags = [label for label in trained.classes if label in others]
        numbers = {label: number for number, label in enumerate(trained.classes)}
        sources = [[numbers[label] for label in named] for named in genres.values()]
        sources += [[numbers[label]] for label in tags]
        mapped = genre_map is not None
        return cls(title, [*genres], tags, sources, trained.multi_label, mapped, left_out)

    def combine(self, scores: np.ndarray) -> np.ndarray:
        """Combine scores (n, classes) to those of the genres and tags, (n, genres + tags)."""
        unite = np.max if self.multi_label else np.sum
        found = np.stack([unite(scores[:, own], axis=1) for own in self.sources], axis=1)
        if self.mapped:
            genres = np.maximum(found[:, : len(self.genres)], LEAST)
            if self.multi_label:
                genres = genres ** (1 / TEMPERATURE)
            found[:, : len(self.genres)] = genres / genres.sum(axis=1, keepdims=True)
        return found


def _name_map(given: GenreMap, count: int) -> str:
    if isinstance(given, Mapping):
        return f"{count} genres of your map"
    return f"{count} genres of FMA" if is_built_in(given) else f"{count} genres of {given}"
