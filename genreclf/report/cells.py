"""Texts of table cells: numbers with their units, and the state of a phase or a point."""

import math
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from genreclf.evaluation.intervals import (
    Count,
    Estimate,
    average_runs,
    compute_mean,
    estimate_accuracy,
    find_fold_range,
)
from genreclf.evaluation.runs import Run, get_key
from genreclf.studies.study import Phase, Point, Study

NONE = "–"


def format_percent(value: float | None, digits: int = 2) -> str:
    """Format a share from 0 to 1 in percent; a dash for None and NaN."""
    return (
        NONE
        if value is None or math.isnan(value)
        else f"{100 * value:.{digits}f}".replace("-", "−")
    )


def format_parameters(count: int) -> str:
    """Format a number of trainable parameters; a dash for a model without any, such as the SVM."""
    return f"{count:,}" if count else NONE


def format_points(value: float | None) -> str:
    """Format a difference of two shares in percentage points, with its sign."""
    return NONE if value is None else format_signed(100 * value)


def format_signed(value: float, form: str = ".2f") -> str:
    """Format a difference with its sign."""
    return f"{value:+{form}}".replace("-", "−")


def format_bounds(estimate: Estimate, signed: bool = False) -> str:
    """Format the 95 % interval of a share in percent, or of a difference in points."""
    if estimate.low is None or estimate.high is None:
        return NONE
    form = "+.1f" if signed else ".1f"
    return f"{100 * estimate.low:{form}} to {100 * estimate.high:{form}}".replace("-", "−")


def format_fold_range(counts: Sequence[Count]) -> str:
    """Format the lowest and the highest accuracy of a fold in percent."""
    found = find_fold_range(counts)
    return format_bounds(Estimate(0, *found)) if found else NONE


def format_folds(counts: Sequence[Count], total: str = "") -> str:
    """Format the number of folds of each seed: "5", or "1 to 2 of 5" if some are missing.

    Args:
        counts: counts of one configuration.
        total: number of folds of the split; empty if it is not known.
    """
    by_seed: dict[int, set[str]] = {}
    for count in counts:
        by_seed.setdefault(count.seed, set()).add(count.fold)
    found = set.union(*by_seed.values())
    most = int(total) if total.isdecimal() and found != {""} else len(found)
    shown = format_range(map(len, by_seed.values()))
    return shown if shown == str(most) else f"{shown} of {most}"


def format_range(numbers: Iterable[int]) -> str:
    """Format the smallest and the largest number, for example "5" or "1 to 5"."""
    ordered = sorted(numbers)
    return " to ".join(map(str, dict.fromkeys((ordered[0], ordered[-1]))))


def format_decimal(value: float | None, digits: int = 2) -> str:
    """Format a number with `digits` decimals; a dash for None and NaN."""
    return NONE if value is None or math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def format_size(count: float) -> str:
    """Format a number of bytes in kB, MB or GB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def format_duration(seconds: float) -> str:
    """Format seconds in s, min or h."""
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 1000:
        return f"{seconds / 60:.1f} min"
    if seconds < 0.05:
        return "< 0.1 s"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def find_phase(study: Study, name: str) -> Phase:
    """Return the phase of this name; an empty one if the study has none."""
    found = (phase for phase in study.phases if phase.name == name)
    return next(found, Phase(name, left_out={name: "the study has no such phase"}))


def get_setting(point: Point, key: str) -> str | None:
    """Return the value that a point sets a key to, as it was written."""
    for override in point.overrides:
        if get_key(override) == key:
            return override.partition("=")[2]
    return None


def get_config_value(config: dict[str, Any], key: str) -> Any:
    """Return the value at `group.name` of a run's config; None if there is none."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def group_by_setting(phase: Phase, key: str) -> dict[str, Point]:
    """Map each value of a key to the point that sets it."""
    return {
        value: point for point in phase.points if (value := get_setting(point, key)) is not None
    }


def merge_keys(paper: Iterable[str], measured: Iterable[str]) -> list[str]:
    """List the paper's keys in its order, then those that only the study has."""
    return list(dict.fromkeys([*paper, *measured]))


def describe_pending(phase: Phase) -> str:
    """Say why a phase has nothing to show; empty if it has something."""
    if any(point.runs or point.list_failures() for point in phase.points):
        return ""
    if phase.error:
        return f"{phase.error[0].upper()}{phase.error[1:]}."
    if phase.left_out:
        return " ".join(_explain_left_out(phase))
    return "Not run yet."


def list_remarks(phase: Phase) -> list[str]:
    """List what a reader should know about a phase: points left out, failures, missing runs."""
    if why := describe_pending(phase):
        return [why]
    remarks = _explain_left_out(phase)
    failures = [(point, failure) for point in phase.points for failure in point.list_failures()]
    remarks += [f"{point.name}: {failure['error']}." for point, failure in failures]
    if phase.error:
        remarks.append(f"{phase.error[0].upper()}{phase.error[1:]}.")
    if phase.count_finished() < phase.count_runs():
        remarks.append(
            f"So far {phase.count_finished()} of {phase.count_runs()} runs are finished."
        )
    return remarks


def _explain_left_out(phase: Phase) -> list[str]:
    """Say which points were left out, in a sentence for each reason."""
    reasons = dict.fromkeys(phase.left_out.values())
    named = {
        reason: ", ".join(name for name, why in phase.left_out.items() if why == reason)
        for reason in reasons
    }
    return [f"Left out: {names} ({reason})." for reason, names in named.items()]


def explain_missing(phase: Phase, point: Point | None, key: str = "", value: str = "") -> str:
    """Say why a point has no measured values; empty if it has some."""
    if point is None:
        if f"{key}={value}" in phase.left_out:
            return "left out"
        return "not swept" if phase.points else "not run yet"
    failures = point.list_failures()
    for reason, text in (("out_of_memory", "did not fit in memory"), ("diverged", "diverged")):
        if any(failure.get(reason) for failure in failures):
            return text
    if point.runs:
        return ""
    return "failed" if failures else "not run yet"


def count_seeds(runs: Sequence[Run]) -> int:
    """Count the different seeds of runs."""
    return len({run.result["config"]["seed"] for run in runs})


def format_measured(point: Point, part: str = "val") -> list[str]:
    """Format accuracy and interval of a point that has runs, with a note if some are missing."""
    estimate = estimate_accuracy(point.runs, part)
    done, planned = len(point.runs), len(point.folders)
    missing = f" ({done} of {planned} runs)" if done < planned else ""
    return [f"{format_percent(estimate.value)}{missing}", format_bounds(estimate)]


def format_measured_or_reason(phase: Phase, point: Point | None, key: str, value: str) -> list[str]:
    """Format validation accuracy and interval of any point, or why there are none: two cells."""
    why = explain_missing(phase, point, key, value)
    return [why, NONE] if why or point is None else format_measured(point)


def format_training_time(point: Point | None) -> str:
    """Format the mean training time over the seeds."""
    if point is None or not point.runs:
        return NONE
    return format_duration(average_runs(point.runs, lambda result: result["seconds"]))


def average_metric(point: Point, metric: str) -> float | None:
    """Average a metric of the kept epoch; None if a run lacks it, such as one without epochs."""
    return average([run.result["metrics"].get(metric) for run in point.runs])


def average(values: Sequence[float | None]) -> float | None:
    """Average values; None if there is none, or one was not measured."""
    known = [value for value in values if value is not None]
    return compute_mean(known) if known and len(known) == len(values) else None


def format_label(phase: Phase, point: Point | None, name: str) -> str:
    """Add "(chosen)" to the name if the phase chose this point."""
    return f"{name} (chosen)" if point is not None and point is phase.chosen else name


def format_command(phase: Phase) -> str:
    """Format the command that repeats a phase; empty if it is not known."""
    return shlex.join(["genreclf", *phase.command]) if phase.command and phase.points else ""


def collect_runs(study: Study) -> list[Run]:
    """Collect all finished runs, in the order of the phases."""
    return [run for phase in study.phases for point in phase.points for run in point.runs]


def collect_best_runs(study: Study) -> list[Run]:
    """Collect the runs of the last choice, one per seed: the final model once it is trained."""
    for phase in reversed(study.phases):
        point = phase.chosen or (phase.points[0] if len(phase.points) == 1 else None)
        if point and point.runs:
            return point.runs
    return []
