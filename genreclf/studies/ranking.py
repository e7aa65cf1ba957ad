"""Ranks the points of a phase, and finds the genre that a model recognises worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from genreclf.evaluation.metrics import find_direction
from genreclf.evaluation.runs import Run

if TYPE_CHECKING:
    from genreclf.studies.study import Point


def rank_points(points: Sequence[Point], metric: str) -> list[Point]:
    """Sort the points that have a result, best first: by the mean metric, then the lower loss.

    Points that are equal in both keep their order. Means are compared to nine digits: the order in
    which seeds are added up must not decide.
    """
    sign = 1 if find_direction(metric) == "min" else -1

    def rank(point: Point) -> tuple[float, float]:
        loss = round(point.compute_mean("val/loss"), 9)
        return sign * round(point.compute_mean(metric), 9), loss

    return sorted((point for point in points if point.runs), key=rank)


def choose_best(points: Sequence[Point], metric: str) -> int | None:
    """Return the number of the best point that has a result for each seed, or None."""
    candidates = (point for point in rank_points(points, metric) if point.has_all_results())
    return next((points.index(point) for point in candidates), None)


def find_weakest_genre(runs: Sequence[Run]) -> str:
    """Find the genre with the lowest recall on the validation part, averaged over the runs.

    Genres without validation tracks do not count; ties go to the first in the order of the classes.
    """
    genres = [run.result["val"]["per_genre"] for run in runs]
    means = {
        name: sum(each[name]["recall"] for each in genres) / len(genres)
        for name in genres[0]
        if all(each[name]["support"] for each in genres)
    }
    return min(means, key=lambda name: round(means[name], 9))
