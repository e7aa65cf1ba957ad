"""A study, its phases and their points; read from and written to `study.json`.

A study is a sequence of phases. A phase is a sweep: its points differ in what it varies, and each
point has one run per seed. The winner of a phase is the point with the best validation metric,
averaged over the seeds; ties go to the lower validation loss, as in the paper's Table V, and then
to the point with the lower number. The last phase may be the test: its only point is the winner of
an earlier phase, whose runs are tested without training them again.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from genreclf.errors import InputError
from genreclf.evaluation.runs import FAILURE, RESULT, Run
from genreclf.files import read_json, write_json
from genreclf.studies.ranking import choose_best

STUDY = "study.json"


@dataclass
class Point:
    """One combination of the settings that a phase varies.

    Args:
        overrides: these settings, such as ["optimizer=adamw", "scheduler=none"].
        folders: the folders of its runs, one per seed, in the order of the study's seeds.
    """

    overrides: list[str]
    folders: list[str]

    @property
    def name(self) -> str:
        """The overrides in one line: `optimizer=adamw scheduler=none`."""
        return " ".join(self.overrides)

    @cached_property
    def runs(self) -> list[Run]:
        """The finished runs. They are read once: use this only after the phase has ended."""
        folders = map(Path, self.folders)
        return [Run.read(folder) for folder in folders if (folder / RESULT).exists()]

    def count_finished(self) -> int:
        """Count the runs with an outcome: a result, out of memory, or diverged."""
        outcomes = [failure for failure in self.list_failures() if is_outcome(failure)]
        return len(outcomes) + sum(Path(folder, RESULT).exists() for folder in self.folders)

    def list_failures(self) -> list[dict[str, Any]]:
        """List the failed runs: `folder`, `error` (one line), `out_of_memory`, `diverged`."""
        failures = []
        for folder in self.folders:
            if not Path(folder, RESULT).exists():
                with suppress(FileNotFoundError):  # no failure, or deleted by a retry just now
                    failures.append({"folder": folder, **read_json(Path(folder, FAILURE))})
        return failures

    def fits_in_memory(self) -> bool:
        """Whether no run ran out of memory."""
        return not any(failure["out_of_memory"] for failure in self.list_failures())

    def has_all_results(self) -> bool:
        """Whether each of its runs has a result, so that it can win."""
        return len(self.runs) == len(self.folders)

    def list_values(self, metric: str) -> list[float]:
        """List the metric, such as "val/accuracy", of each finished run at its kept epoch.

        Raises:
            InputError: a run has no such metric.
        """
        return [_read_metric(run, metric) for run in self.runs]

    def compute_mean(self, metric: str) -> float:
        """Compute the mean of the metric over the seeds; at least one run must be finished."""
        values = self.list_values(metric)
        return sum(values) / len(values)


def is_outcome(failure: dict[str, Any]) -> bool:
    """Whether a failure would happen again: out of memory, or diverged."""
    return failure["out_of_memory"] or failure.get("diverged", False)


def _read_metric(run: Run, metric: str) -> float:
    part, _, name = metric.partition("/")
    found = {**run.result["metrics"], **{f"val/{k}": v for k, v in run.result["val"].items()}}
    if metric not in found:
        raise InputError(
            f"{run.folder}: this run has no {part} {name}, because its model is not trained in "
            "epochs; choose another metric, such as study.metric=val/accuracy"
        )
    return found[metric]


@dataclass
class Phase:
    """One sweep of a study.

    Args:
        name: the name of its option in conf/phase/, or "test".
        command: the arguments of `genreclf` that repeat the phase by hand.
        points: in the order of the sweep; empty until it is planned, or if it is left out.
        left_out: overrides that the dataset rules out, and why.
        planned: planned number of runs, used until the points are known.
        winner: number of the chosen point; None if there is none yet.
        error: why the phase ended without a choice; empty otherwise.
    """

    name: str
    command: list[str] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    planned: int = 0
    winner: int | None = None
    error: str = ""

    @property
    def slug(self) -> str:
        """The name for files and links: an option may be in a folder, such as `mine/width`."""
        return self.name.replace("/", "-")

    @property
    def chosen(self) -> Point | None:
        """The winning point; None if there is none yet."""
        return None if self.winner is None else self.points[self.winner]

    def choose_winner(self, metric: str | None) -> None:
        """Set the winner, or the error if runs failed or no point has a result.

        Without a metric, the points are only compared and there is no winner.
        """
        unfinished = self.count_runs() - self.count_finished()
        if not unfinished:
            if metric is None:
                return
            self.winner = choose_best(self.points, metric)
            self.error = "" if self.chosen else self._explain_no_winner()
            return
        failures = [failure for point in self.points for failure in point.list_failures()]
        real = [failure for failure in failures if not is_outcome(failure)]
        first = f"; {real[0]['error']} ({real[0]['folder']})" if real else ""
        self.error = (
            f"phase {self.name}: {unfinished} of {self.count_runs()} runs failed, so nothing was "
            f"chosen{first}; run the same command again to retry them"
        )

    def _explain_no_winner(self) -> str:
        failures = [failure for point in self.points for failure in point.list_failures()]
        reasons = {
            "ran out of memory": sum(failure["out_of_memory"] for failure in failures),
            "diverged": sum(failure.get("diverged", False) for failure in failures),
        }
        counted = ", ".join(f"{count} runs {reason}" for reason, count in reasons.items() if count)
        return (
            f"phase {self.name}: no point has a result with every seed ({counted}), so nothing can "
            f"be chosen; {failures[0]['error']}"
        )

    def count_finished(self) -> int:
        """Count the runs that are finished; see `Point.count_finished`."""
        return sum(point.count_finished() for point in self.points)

    def forget_exhausted_runs(self) -> None:
        """Forget which runs ran out of memory, so that they are repeated."""
        for point in self.points:
            for failure in point.list_failures():
                if failure["out_of_memory"]:
                    Path(failure["folder"], FAILURE).unlink(missing_ok=True)

    def is_over(self) -> bool:
        """Whether there is nothing left to run."""
        planned = bool(self.points or self.left_out)
        return planned and not self.error and self.count_finished() == self.count_runs()

    def count_runs(self) -> int:
        """Count the runs: one per point and seed; an estimate until the points are known."""
        return sum(len(point.folders) for point in self.points) or self.planned


@dataclass
class Study:
    """A study and its progress.

    Args:
        name: the name of its option in conf/study/.
        metric: the metric that decides, such as "val/accuracy"; None if the phases do not choose.
        seeds: each point is run once with each seed.
        overrides: the user's overrides, which apply to all runs.
        phases: in order; those that have not started have no points yet.
        command: the arguments of `genreclf` that start or resume it.
        tested: the phase whose winner is tested; None if no winner is.
    """

    name: str
    metric: str | None
    seeds: list[int]
    overrides: list[str]
    phases: list[Phase]
    command: list[str] = field(default_factory=list)
    tested: str | None = None

    @classmethod
    def read(cls, folder: Path) -> "Study":
        """Read the study in a folder.

        Raises:
            InputError: there is none, or its file is damaged.
        """
        file = folder / STUDY
        if not file.exists():
            raise InputError(f"{folder}: not the folder of a study ({STUDY} is missing)")
        try:
            values = read_json(file)
            phases = [Phase(**phase) for phase in values.pop("phases")]
            for phase in phases:
                phase.points = [Point(**point) for point in phase.points]  # pyright: ignore
                for point in phase.points:
                    point.folders = [os.path.normpath(folder / run) for run in point.folders]
            return cls(**values, phases=phases)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{file}: damaged ({error})") from None

    def write(self, folder: Path) -> None:
        """Write it atomically, with relative paths, so that a study can be moved with its runs."""
        values = asdict(self)
        for phase in values["phases"]:
            for point in phase["points"]:
                point["folders"] = [os.path.relpath(run, folder) for run in point["folders"]]
        write_json(folder / STUDY, values)
