"""What a cell says: figures with their units, and how it stands with a phase or a point."""

import shlex
from collections.abc import Iterable
from typing import Any

from genreclf.evaluation.intervals import Estimate, average_figure, estimate_accuracy
from genreclf.evaluation.runs import Run
from genreclf.studies.study import Phase, Point, Study

NONE = "–"


def format_percent(value: float | None, digits: int = 2) -> str:
    """A share as a number of percent."""
    return NONE if value is None else f"{100 * value:.{digits}f}".replace("-", "−")


def format_points(value: float | None) -> str:
    """A difference of two shares as a number of points, with its sign."""
    return NONE if value is None else f"{100 * value:+.2f}".replace("-", "−")


def format_bounds(estimate: Estimate, signed: bool = False) -> str:
    """The 95 % interval of a share in percent, or of a difference in points."""
    if estimate.low is None or estimate.high is None:
        return NONE
    form = "+.1f" if signed else ".1f"
    return f"{100 * estimate.low:{form}} to {100 * estimate.high:{form}}".replace("-", "−")


def format_decimal(value: float | None, digits: int = 2) -> str:
    """A number with so many decimals."""
    return NONE if value is None else f"{value:.{digits}f}".replace("-", "−")


def format_size(count: float) -> str:
    """Bytes, in the unit that suits."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def format_duration(seconds: float) -> str:
    """Seconds, in the unit that suits."""
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 1000:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def find_phase(study: Study, name: str) -> Phase:
    """The phase of this name; one without points where the study has none."""
    found = (phase for phase in study.phases if phase.name == name)
    return next(found, Phase(name, left_out={name: "the study has no such phase"}))


def get_setting(point: Point, key: str) -> str | None:
    """What a point sets a key to, as it was written."""
    for override in point.overrides:
        name, _, value = override.partition("=")
        if name.lstrip("+") == key:
            return value
    return None


def select_point(config: dict[str, Any], key: str) -> Any:
    """The value at `group.name` of a run's config; None where there is none."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def group_by_setting(phase: Phase, key: str) -> dict[str, Point]:
    """The points by what they set a key to."""
    return {
        value: point for point in phase.points if (value := get_setting(point, key)) is not None
    }


def merge_keys(paper: Iterable[str], measured: Iterable[str]) -> list[str]:
    """The paper's keys in its order, then those that it lacks."""
    return list(dict.fromkeys([*paper, *measured]))


def describe_pending(phase: Phase) -> str:
    """Why a phase has nothing to show; empty where it has."""
    if any(point.runs or point.list_failures() for point in phase.points):
        return ""
    if phase.error:
        return f"Ended without a choice: {phase.error}."
    if phase.left_out:
        return " ".join(_left_out(phase))
    return "Not run yet."


def list_remarks(phase: Phase) -> list[str]:
    """What a reader of its figures has to know: points left out, runs that are still to come."""
    if why := describe_pending(phase):
        return [why]
    said = _left_out(phase)
    failures = [(point, failure) for point in phase.points for failure in point.list_failures()]
    said += [f"{point.name}: {failure['error']}." for point, failure in failures]
    if phase.error:
        said.append(f"Ended without a choice: {phase.error}.")
    if phase.count_finished() < phase.count_runs():
        said.append(f"So far {phase.count_finished()} of {phase.count_runs()} runs are finished.")
    return said


def _left_out(phase: Phase) -> list[str]:
    """A sentence for each reason."""
    reasons = dict.fromkeys(phase.left_out.values())
    named = {
        reason: ", ".join(name for name, why in phase.left_out.items() if why == reason)
        for reason in reasons
    }
    return [f"Left out: {names}, because {reason}." for reason, names in named.items()]


def describe_state(phase: Phase, point: Point | None, key: str = "", value: str = "") -> str:
    """Why a point has no figures; empty where it has."""
    if point is None:
        if f"{key}={value}" in phase.left_out:
            return "left out"
        return "not swept" if phase.points else "not run yet"
    if not point.fits_in_memory():
        return "did not fit in memory"
    if point.runs:
        return ""
    return "failed" if point.list_failures() else "not run yet"


def format_measured(point: Point) -> list[str]:
    """Validation accuracy of a point with runs, and its interval."""
    estimate = estimate_accuracy(point.runs)
    return [format_percent(estimate.value), format_bounds(estimate)]


def format_measured_accuracy(phase: Phase, point: Point | None, key: str, value: str) -> list[str]:
    """The same of any point; in their place, why there is none."""
    why = describe_state(phase, point, key, value)
    return [why, NONE] if why or point is None else format_measured(point)


def format_training_time(point: Point | None) -> str:
    """Mean over the seeds."""
    if point is None or not point.runs:
        return NONE
    return format_duration(average_figure(point.runs, lambda result: result["seconds"]))


def format_label(phase: Phase, point: Point | None, name: str) -> str:
    """The name, with a mark where the phase chose this point."""
    return f"{name} (chosen)" if point is not None and point is phase.chosen else name


def format_command(phase: Phase) -> str:
    """That repeats a phase by hand; empty where it is not known."""
    return shlex.join(["genreclf", *phase.command]) if phase.command and phase.points else ""


def collect_runs(study: Study) -> list[Run]:
    """Every finished run, in the order of the phases."""
    return [run for phase in study.phases for point in phase.points for run in point.runs]


def collect_best_runs(study: Study) -> list[Run]:
    """Of the configuration chosen last, one a seed: the final model, where that is trained."""
    chosen = [phase.chosen or _only(phase) for phase in study.phases]
    return next((point.runs for point in reversed(chosen) if point and point.runs), [])


def _only(phase: Phase) -> Point | None:
    return phase.points[0] if len(phase.points) == 1 else None
