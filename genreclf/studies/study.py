"""What a study leaves, `study.json`: its phases, their points and runs, and how a phase chooses.

A study is a list of phases in order. A phase is a sweep: its points differ in what it varies, and
each point is one run a seed. The winner of a phase is the point whose mean over the seeds of the
study's metric, on the validation part, is best; ties go to the point with the lower number.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from genreclf.errors import InputError
from genreclf.evaluation.metrics import find_direction
from genreclf.evaluation.runs import FAILURE, RESULT, Run
from genreclf.files import read_json, write_json

STUDY = "study.json"


@dataclass
class Point:
    """One choice of what a phase varies.

    Args:
        overrides: what it varies, e.g. ["optimizer=adamw", "scheduler=none"].
        folders: of its runs, one a seed, in the order of the study's seeds.
    """

    overrides: list[str]
    folders: list[str]

    @property
    def name(self) -> str:
        """For people: `optimizer=adamw scheduler=none`."""
        return " ".join(self.overrides)

    @cached_property
    def runs(self) -> list[Run]:
        """The finished runs; read once, so only when they are."""
        return [Run.read(folder) for folder in self._folders() if (folder / RESULT).exists()]

    def count_finished(self) -> int:
        """How many runs have a result, or were too large for the memory, which is one as well."""
        failures = [self._read_failure(folder) for folder in self._folders()]
        return sum(
            (folder / RESULT).exists() or bool(failure and failure["out_of_memory"])
            for folder, failure in zip(self._folders(), failures, strict=True)
        )

    def list_failures(self) -> list[dict[str, Any]]:
        """What went wrong: dicts of `folder`, `error` (one line) and `out_of_memory`."""
        found = [(folder, self._read_failure(folder)) for folder in self._folders()]
        return [{"folder": str(folder), **failure} for folder, failure in found if failure]

    def fits_in_memory(self) -> bool:
        """Whether no run was too large for the memory."""
        return not any(failure["out_of_memory"] for failure in self.list_failures())

    def list_values(self, metric: str) -> list[float]:
        """The metric of the kept epoch of each finished run, such as "val/accuracy"."""
        return [run.result["metrics"][metric] for run in self.runs]

    def compute_mean(self, metric: str) -> float:
        """Of the metric, over the seeds; there is a result."""
        values = self.list_values(metric)
        return sum(values) / len(values)

    def _read_failure(self, folder: Path) -> dict[str, Any] | None:
        """Why the run in this folder has no result; None where it has one, or did not fail."""
        file = folder / FAILURE
        return read_json(file) if file.exists() and not (folder / RESULT).exists() else None

    def _folders(self) -> list[Path]:
        return [Path(folder) for folder in self.folders]


@dataclass
class Phase:
    """One sweep of a study.

    Args:
        name: of its option in conf/phase/.
        command: the arguments of `genreclf` that repeat it by hand.
        points: in the order of the sweep; empty where the phase was left out.
        left_out: points that the data rule out, and why.
        planned: how many runs it will have, as long as the points are not known.
        winner: number of the point chosen; None until then.
        error: why it ended without a choice; empty where it did not.
    """

    name: str
    command: list[str] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    planned: int = 0
    winner: int | None = None
    error: str = ""

    @property
    def chosen(self) -> Point | None:
        """The winner."""
        return None if self.winner is None else self.points[self.winner]

    def choose_winner(self, metric: str | None) -> None:
        """Note the winner; or, where runs failed or none fits in memory, why there is none.

        Without a metric the points are only compared.
        """
        lacking = self.count_runs() - self.count_finished()
        if not lacking:
            if metric is None:
                return
            self.winner = choose_best(self.points, metric)
            self.error = "" if self.chosen else f"phase {self.name}: no run fits in memory"
            return
        failures = [failure for point in self.points for failure in point.list_failures()]
        real = [failure for failure in failures if not failure["out_of_memory"]]
        first = f"; {real[0]['error']} ({real[0]['folder']})" if real else ""
        self.error = (
            f"phase {self.name}: {lacking} of {self.count_runs()} runs failed, so nothing was "
            f"chosen{first}; run the same command again to retry them"
        )

    def count_finished(self) -> int:
        """How many of its runs have a result."""
        return sum(point.count_finished() for point in self.points)

    def is_over(self) -> bool:
        """Whether nothing is left of it to run."""
        begun = bool(self.points or self.left_out)
        return begun and not self.error and self.count_finished() == self.count_runs()

    def count_runs(self) -> int:
        """How many runs it has."""
        return sum(len(point.folders) for point in self.points) or self.planned


@dataclass
class Study:
    """A study as its folder tells of it.

    Args:
        name: of its option in conf/study/.
        metric: by which the phases choose, such as "val/accuracy"; None where they do not.
        seeds: with each of which every point is run.
        overrides: what the user gave to all runs.
        phases: in order; those that have not begun have no points yet.
        command: the arguments of `genreclf` that run it, or what is left of it.
    """

    name: str
    metric: str | None
    seeds: list[int]
    overrides: list[str]
    phases: list[Phase]
    command: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> "Study":
        """The study in a folder.

        Raises:
            InputError: there is none.
        """
        file = folder / STUDY
        if not file.exists():
            raise InputError(f"{folder}: no study there ({STUDY} is missing)")
        try:
            values = read_json(file)
            phases = [Phase(**phase) for phase in values.pop("phases")]
            for phase in phases:
                phase.points = [_make_point(folder, **point) for point in phase.points]  # pyright: ignore
            return cls(**values, phases=phases)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{file}: damaged ({error})") from None

    def write(self, folder: Path) -> None:
        """Write it, whole or not at all; with its runs it can be moved to another place."""
        values = asdict(self)
        for phase in values["phases"]:
            for point in phase["points"]:
                point["folders"] = [os.path.relpath(run, folder) for run in point["folders"]]
        write_json(folder / STUDY, values)


def _make_point(study: Path, overrides: list[str], folders: list[str]) -> Point:
    return Point(overrides, [os.path.normpath(study / folder) for folder in folders])


def rank_points(points: Sequence[Point], metric: str) -> list[Point]:
    """Those that have a result, the best mean of the metric first; ties in their order."""
    sign = 1 if find_direction(metric) == "min" else -1
    return sorted(
        (p for p in points if p.runs), key=lambda point: sign * point.compute_mean(metric)
    )


def choose_best(points: Sequence[Point], metric: str) -> int | None:
    """Number of the first of the ranked points; None where no point has a result.

    A point that did not fit in memory with every seed is no candidate.
    """
    fitting = (point for point in rank_points(points, metric) if point.fits_in_memory())
    return next((points.index(point) for point in fitting), None)
