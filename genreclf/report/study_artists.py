"""The artist effect: how much a split flatters that has tracks of one artist on both sides."""

from collections.abc import Sequence

from genreclf.evaluation.intervals import compute_mean, estimate_accuracy, estimate_difference
from genreclf.evaluation.runs import Run
from genreclf.figures import curves
from genreclf.report import cells
from genreclf.report.section import MEASURED, Column, Picture, Section, Table
from genreclf.studies.study import Phase, Point, Study

REFERENCE = "stratified"  # the paper's
NAMES = {"stratified": "random (stratified)", "artist": "by artist", "official": "official"}


def tested(point: Point) -> list[float]:
    """Accuracy of each seed on the part that was tested."""
    return [run.result["test"]["accuracy"] for run in point.runs]


def shared_artists(runs: Sequence[Run]) -> float:
    """Share of the tested tracks whose artist is in the training part, a mean over the seeds."""
    counts = []
    for run in runs:
        pair = f"train-{run.result['tested_on']}"
        known = run.result["data"]["leakage"][pair]["tracks_of_shared_artists"]
        counts.append(known / run.result["test"]["n"])
    return compute_mean(counts)


def artists(study: Study) -> Section:
    """Accuracy of each split, and what is lost against the paper's."""
    phase = cells.find_phase(study, "splits")
    measured = cells.group_by_setting(phase, "split")
    columns = [
        Column("split"),
        Column("accuracy, %", MEASURED),
        Column("95 % interval", MEASURED),
        Column("gap to random, points", MEASURED),
        Column("95 % interval", MEASURED),
        Column("tested tracks of artists trained on, %", MEASURED),
        Column("tested tracks", MEASURED),
        Column("seeds", MEASURED),
    ]
    rows = [_split(phase, key, measured) for key in measured]
    title = "The artist effect"
    text = [
        "The paper sees higher accuracy in validation than in training, and suspects that tracks "
        "of one artist or album on both sides of its random split are the cause. So one "
        "configuration was trained and tested on several splits.",
    ]
    return Section(
        *("artists", title, text),
        Table(columns, rows) if rows else None,
        pictures=_picture(measured),
        notes=[*_notes(study, measured), *cells.list_remarks(phase)],
        command=cells.format_command(phase),
    )


def _split(phase: Phase, key: str, measured: dict[str, Point]) -> list[str]:
    point, reference = measured[key], measured.get(REFERENCE)
    name = NAMES.get(key, key)
    if why := cells.describe_state(phase, point, "split", key):
        return [name, why, *[cells.NONE] * 6]
    runs = point.runs
    score = estimate_accuracy(runs, "test")
    gap = gap_between = cells.NONE
    if reference is not None and reference is not point and reference.runs:
        lost = estimate_difference(tested(point), tested(reference))
        gap, gap_between = cells.format_points(lost.value), cells.format_bounds(lost, signed=True)
    counts = sorted({run.result["test"]["n"] for run in runs})
    part = "" if runs[0].result["tested_on"] == "test" else " (validation)"
    return [
        *(name, cells.format_percent(score.value), cells.format_bounds(score), gap, gap_between),
        cells.format_percent(shared_artists(runs), 1),
        " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1]))) + part,
        str(len(runs)),
    ]


def _picture(measured: dict[str, Point]) -> list[Picture]:
    rows = {
        NAMES.get(key, key): (tested(point), estimate_accuracy(point.runs, "test"))
        for key, point in measured.items()
        if point.runs
    }
    if not rows:
        return []
    caption = "Accuracy on each split: every seed a dot, the mean a bar with its 95 % interval."
    return [Picture("artists", curves.draw_accuracies(rows), caption)]


def _notes(study: Study, measured: dict[str, Point]) -> list[str]:
    notes = [
        "The interval of a difference is Welch's, over the seeds. The tested parts of two seeds "
        "overlap, so that seeds are not quite independent."
    ]
    if len(study.seeds) < 2:
        notes = ["With one seed a difference has no interval."]
    divided = any(
        cells.select_point(run.result["config"], "split_seed") is not None
        for point in measured.values()
        for run in point.runs
    )
    if divided and len(study.seeds) > 1:
        notes.append(
            "Each seed has a random split of its own. The official split is the same for all, so "
            "that its interval holds the chance of training alone."
        )
    audits = [run.result["data"]["leakage"] for p in measured.values() for run in p.runs]
    if unknown := max((audit["unknown_artist"] for audit in audits), default=0):
        notes.append(f"{unknown:,} tracks have no known artist: shares are a lower bound.")
    return notes
