"""The answer for a file: genres, tags and a timeline, summed up from its windows."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from genreclf.evaluation.genre_map import UNKNOWN
from genreclf.evaluation.vocabulary import Vocabulary
from genreclf.evaluation.windows import FileWindows
from genreclf.models.novelty import THRESHOLD


class TimelineEntry(NamedTuple):
    """The most likely genre of one window, or "unknown"."""

    start: float  # s
    end: float  # s
    genre: str
    score: float  # the probability of the most likely one
    novelty: float | None = None  # as in `Prediction`


@dataclass(frozen=True)
class Prediction:
    """The genres of a file or waveform.

    Args:
        path: path of the file, as given; empty for a waveform.
        scores: probability of each genre, highest first; empty if there is an error. They add up
            to 1, except those of musicnn's tags without a map: several may apply, or none.
        timeline: the windows in order; silent ones are left out.
        error: why there are no scores, such as "no such file"; empty if there are.
        notes: remarks about the file, each a line, such as that it is truncated.
        novelty: how unlike the training data it is, 0 to 1: the share of held-out tracks that were
            less so, as a mean over the windows, weighted as the scores are. None if there is an
            error or the model cannot tell.
        threshold: the novelty above which the genre is "unknown".
        tags: probability of each label that is not a genre, such as a mood, highest first; empty
            for models that know only genres.
        vocabulary: what the genres and tags are called, such as "musicnn's 50 tags".
    """

    path: str
    scores: dict[str, float]
    timeline: list[TimelineEntry]
    error: str = ""
    notes: list[str] = field(default_factory=list)
    novelty: float | None = None
    threshold: float = THRESHOLD
    tags: dict[str, float] = field(default_factory=dict)
    vocabulary: str = ""

    @property
    def is_unknown(self) -> bool:
        """Whether it is unlike the training data: speech, noise, or music far from every genre."""
        return self.novelty is not None and self.novelty > self.threshold

    @property
    def genre(self) -> str:
        """The most likely genre, or "unknown"; empty if there is an error."""
        return UNKNOWN if self.is_unknown else next(iter(self.scores), "")


def summarise_windows(
    path: str, found: FileWindows, vocabulary: Vocabulary, rated: bool, threshold: float
) -> Prediction:
    """Make the prediction of a file.

    Args:
        path: path of the file; empty for a waveform.
        found: its windows: the scores of the vocabulary's genres and tags, and the novelty.
        vocabulary: what the scores are of.
        rated: whether the model has a novelty score; otherwise the last value means nothing.
        threshold: the novelty above which a window or file is unknown.
    """
    names, tags = vocabulary.genres, vocabulary.tags
    if error := found.error:
        return Prediction(path, {}, [], error, found.notes, vocabulary=vocabulary.name)
    timeline = []
    for span, (*own, strange) in zip(found.spans, found.values, strict=True):
        best = int(np.argmax(own[: len(names)]))
        genre = UNKNOWN if rated and strange > threshold else names[best]
        novelty = float(strange) if rated else None
        timeline.append(TimelineEntry(*span, genre, float(own[best]), novelty))
    *mean, strange = found.average()
    return Prediction(
        path,
        _sort_scores(names, mean[: len(names)]),
        timeline,
        "",
        found.notes,
        float(strange) if rated else None,
        threshold,
        _sort_scores(tags, mean[len(names) :]),
        vocabulary.name,
    )


def _sort_scores(names: list[str], scores: list[float]) -> dict[str, float]:
    """Sort scores: highest first, equal ones as they come."""
    order = np.argsort(-np.array(scores), kind="stable")
    return {names[int(i)]: float(scores[int(i)]) for i in order}
