"""The artist effect: how much higher the accuracy is when both sides of a split share artists."""

from collections.abc import Sequence

from genreclf.evaluation.differences import estimate_difference
from genreclf.evaluation.intervals import compute_mean, estimate_accuracy
from genreclf.evaluation.runs import Run
from genreclf.figures import curves
from genreclf.report import cells
from genreclf.report.section import MEASURED, Column, Picture, Section, Table
from genreclf.studies.study import Phase, Point, Study

REFERENCE = "stratified"  # the paper's split
NAMES = {"stratified": "random (stratified)", "artist": "by artist", "official": "official"}


def list_test_accuracies(point: Point) -> list[float]:
    """List the accuracy of each seed on the part that was tested."""
    return [run.result["test"]["accuracy"] for run in point.runs]


def compute_shared_artists(runs: Sequence[Run]) -> float:
    """Average, over the runs, the share of tested tracks whose artist is in the training part."""
    shares = []
    for run in runs:
        pair = f"train-{run.result['tested_on']}"
        known = run.result["data"]["leakage"][pair]["tracks_of_shared_artists"]
        shares.append(known / run.result["test"]["n"])
    return compute_mean(shares)


def build_artists_table(study: Study) -> Section:
    """Build the table and figure of the artist effect: accuracy of each split, and the gap."""
    phase = cells.find_phase(study, "splits")
    measured = cells.group_by_setting(phase, "split")
    columns = [
        Column("split"),
        Column("accuracy, %", MEASURED),
        Column("95 % interval", MEASURED),
        Column("gap to random, points", MEASURED),
        Column("95 % interval", MEASURED),
        Column("tested tracks by artists in training, %", MEASURED),
        Column("tested tracks", MEASURED),
        Column("seeds", MEASURED),
    ]
    rows = [_make_row(phase, key, measured) for key in measured]
    text = (
        "The paper reports higher accuracy in validation than in training, and suspects that the "
        "cause is artists and albums that are on both sides of its random split. This phase trains "
        "and tests one configuration on several splits."
    )
    return Section(
        "artists",
        "The artist effect",
        [text],
        Table(columns, rows) if rows else None,
        pictures=_draw_accuracies(measured),
        notes=[*_list_notes(study, measured), *cells.list_remarks(phase)],
        command=cells.format_command(phase),
    )


def _make_row(phase: Phase, key: str, measured: dict[str, Point]) -> list[str]:
    point, reference = measured[key], measured.get(REFERENCE)
    name = NAMES.get(key, key)
    if why := cells.explain_missing(phase, point, "split", key):
        return [name, why, *[cells.NONE] * 6]
    runs = point.runs
    gap = gap_bounds = cells.NONE
    if reference is not None and reference is not point and reference.runs:
        lost = estimate_difference(point.runs, reference.runs, "test")
        gap, gap_bounds = cells.format_points(lost.value), cells.format_bounds(lost, signed=True)
    counts = sorted({run.result["test"]["n"] for run in runs})
    part = "" if runs[0].result["tested_on"] == "test" else " (validation)"
    return [
        name,
        *cells.format_measured(point, "test"),
        gap,
        gap_bounds,
        cells.format_percent(compute_shared_artists(runs), 1),
        " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1]))) + part,
        str(cells.count_seeds(runs)),
    ]


def _draw_accuracies(measured: dict[str, Point]) -> list[Picture]:
    rows = {
        NAMES.get(key, key): (list_test_accuracies(point), estimate_accuracy(point.runs, "test"))
        for key, point in measured.items()
        if point.runs
    }
    if not rows:
        return []
    caption = "Accuracy on each split: each seed is a dot, the mean a bar with its 95 % interval."
    return [Picture("artists", curves.draw_accuracies(rows), caption)]


def _list_notes(study: Study, measured: dict[str, Point]) -> list[str]:
    notes = [
        "The interval of a difference comes from a bootstrap: a track that several runs tested "
        "counts equally often in all of them, and runs with the same seed are paired."
    ]
    if len(study.seeds) < 2:
        notes.append("With one seed, it covers only the choice of the tracks.")
    runs = [run for point in measured.values() for run in point.runs]
    configs = [run.result["config"] for run in runs]
    if len({config.get("split_seed") for config in configs}) > 1:
        notes.append(
            "Each seed has its own random split; the official split is the same for all seeds."
        )
    unknown = max((run.result["data"]["leakage"]["unknown_artist"] for run in runs), default=0)
    if unknown:
        notes.append(f"The artist of {unknown:,} tracks is unknown: the shares are lower bounds.")
    return notes
