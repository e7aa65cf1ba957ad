"""Section V-E of the paper: extra copies of one genre (Tables VII and VIII)."""

from collections.abc import Sequence
from typing import Any

from genreclf import paper
from genreclf.evaluation.differences import estimate_difference
from genreclf.evaluation.intervals import (
    compute_mean,
    count_correct,
    estimate_recall,
)
from genreclf.evaluation.runs import Run
from genreclf.report import cells
from genreclf.report.section import MEASURED, PAPER, Column, Section, Table
from genreclf.studies.ranking import find_weakest_genre
from genreclf.studies.study import Phase, Point, Study

OPTION = "oversampling.copies"
POSITIVES = 106  # validation tracks of the paper's enhanced genre


def build_augmentation_table(study: Study) -> Section:
    """Build Table VII."""
    runs = _select_strong_runs(cells.find_phase(study, "enhancement"))
    runs = runs or cells.collect_best_runs(study)
    columns = [
        Column("augmentation"),
        Column("standard", PAPER, text=True),
        Column("all tracks", MEASURED, text=True),
        Column("strong enhanced", PAPER, text=True),
        Column("extra copies", MEASURED, text=True),
    ]
    standard = strong = [cells.NONE] * 5
    if runs:
        config = runs[0].result["config"]
        extra = config["oversampling"]
        genres = ", ".join(extra["genres"]) or "none"
        standard = _format_config(config["augmentation"], 0, "all genres")
        strong = _format_config(extra["augmentation"], extra["copies"], genres)
    rows = zip(
        ("Gaussian noise, σ", "time shift", "spectral masking", "extra copies", "applied to"),
        _format_paper(paper.STANDARD),
        standard,
        _format_paper(paper.STRONG),
        strong,
        strict=True,
    )
    notes = [
        "The paper does not state the unit of the noise. “Of the range” means a share of the range "
        "of values in a clip: 0.005 of 80 dB is 0.4 dB. The paper's scripts add the number to "
        "values in dB: 0.005 dB is practically no noise.",
        "The scripts shift less than the paper says: half as far for standard (5 %) and two thirds "
        "as far for strong (10 %). They fill the gap with 0 dB, the loudest value, and never mask.",
    ]
    table = Table(columns, [list(row) for row in rows])
    return Section("table-7", "Table VII: augmentation", table=table, notes=notes)


def _select_strong_runs(phase: Phase) -> list[Run]:
    """Select the runs with extra copies, or those without if there are none."""
    points = [point for point in phase.points if point.runs]
    strong = [point for point in points if cells.get_setting(point, OPTION) != "0"]
    return next((point.runs for point in [*strong, *points]), [])


def _format_paper(given: paper.Augmentation) -> list[str]:
    low, high = given.masking
    return [
        f"{given.noise:g}, unit not stated",
        f"±{100 * given.shift:.0f} %",
        f"{100 * low:.0f} to {100 * high:.0f} %",
        str(given.copies),
        given.applied_to,
    ]


def _format_config(given: dict[str, Any], copies: int, applied_to: str) -> list[str]:
    """Format the augmentation of a config as `_format_paper` does."""
    if given.get("_target_", "").endswith(".Identity"):
        return ["none", "none", "none", str(copies), applied_to]
    if not given.get("_target_", "").endswith(".NoiseShiftMask"):  # it has other settings
        return [*[cells.NONE] * 3, str(copies), applied_to]
    unit = {"range": "of the range", "value": "dB"}[given["noise_unit"]]
    masked = f"{100 * given['mask_min']:g} to {100 * given['mask_max']:g} %"
    return [
        f"{given['noise']:g} {unit}",
        f"±{100 * given['shift']:g} %",
        masked if given["mask_max"] else "none",
        str(copies),
        applied_to,
    ]


def build_enhancement_table(study: Study) -> Section:
    """Build Table VIII."""
    phase = cells.find_phase(study, "enhancement")
    columns = [
        Column("enhancement (extra copies of each track)"),
        Column("true positives", PAPER),
        Column("true positives", MEASURED),
        Column("recall, %", PAPER),
        Column("recall, %", MEASURED),
        Column("95 % interval", MEASURED),
        Column("F1", PAPER),
        Column("F1", MEASURED),
        Column("val accuracy, %", PAPER),
        Column("val accuracy, %", MEASURED),
        Column("95 % interval", MEASURED),
    ]
    measured = cells.group_by_setting(phase, OPTION)
    keys = cells.merge_keys(paper.ENHANCEMENT, measured)
    rows = [_make_row(phase, measured.get(key), key) for key in keys]
    rows.append(_make_gain_row([measured[key] for key in paper.ENHANCEMENT if key in measured]))
    runs = _select_strong_runs(phase)
    genre = _find_target_genre(runs[0].result) if runs else ""
    text = (
        "Metrics of one genre on the validation part. The paper's values are printed for "
        f"Experimental; {f'those measured are for {genre}' if genre else 'none is measured yet'}."
    )
    if genre and (before := _find_recall_before(study, phase, genre)) is not None:
        text += (
            f" The model chosen before recognised {cells.format_percent(before, 1)} % of its "
            "validation tracks, the lowest recall of all genres; the paper chose its genre so, too."
        )
    notes = [
        "The paper's class 1, printed as Experimental, is in fact Pop: its scripts number the "
        "genres in one order and name them in another.",
        "The paper's gain mixes two changes: along with adding the copies, its scripts also "
        "stopped augmenting all other tracks. Here the rows differ only in the extra copies.",
        *cells.list_remarks(phase),
    ]
    return Section(
        "table-8",
        "Table VIII: one genre, enhanced",
        [text],
        Table(columns, rows),
        notes=notes,
        command=cells.format_command(phase),
    )


def _find_recall_before(study: Study, phase: Phase, genre: str) -> float | None:
    """Find the recall of a genre by the last choice before a phase, if no genre has a lower one."""
    before = [each.chosen for each in study.phases[: study.phases.index(phase)] if each.chosen]
    if not before or find_weakest_genre(before[-1].runs) != genre:
        return None
    found = [run.result["val"]["per_genre"][genre]["recall"] for run in before[-1].runs]
    return compute_mean(found)


def _find_target_genre(result: dict[str, Any]) -> str:
    """Find the enhanced genre as the data spell it: upper and lower case do not matter."""
    genres = result["config"]["oversampling"]["genres"] or [""]
    classes = {name.casefold(): name for name in result["data"]["classes"]}
    return classes.get(genres[0].casefold(), genres[0])


def _list_target_metrics(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """List the validation metrics of the enhanced genre, of runs that validate on tracks of it."""
    found = (run.result["val"]["per_genre"].get(_find_target_genre(run.result)) for run in runs)
    return [metrics for metrics in found if metrics and metrics["support"]]


def _make_row(phase: Phase, point: Point | None, key: str) -> list[str]:
    printed = paper.ENHANCEMENT.get(key)
    accuracy, bounds = cells.format_measured_or_reason(phase, point, OPTION, key)
    correct = recall = recall_bounds = f1 = cells.NONE
    if point is not None and (genre := _list_target_metrics(point.runs)):
        name = _find_target_genre(point.runs[0].result)
        estimate = estimate_recall(point.runs, name, "val")
        recall, recall_bounds = cells.format_percent(estimate.value), cells.format_bounds(estimate)
        mean = compute_mean([count_correct(each) for each in genre])
        correct = f"{mean:g} of {compute_mean([each['support'] for each in genre]):g}"
        f1 = cells.format_decimal(compute_mean([each["f1"] for each in genre]))
    return [
        cells.format_label(phase, point, printed.printed if printed else key),
        f"{printed.true_positives} of {POSITIVES}" if printed else cells.NONE,
        correct,
        cells.format_percent(printed.recall if printed else None, 0),
        recall,
        recall_bounds,
        cells.format_decimal(printed.f1 if printed else None),
        f1,
        cells.format_percent(printed.val_accuracy if printed else None),
        accuracy,
        bounds,
    ]


def _make_gain_row(pair: Sequence[Point]) -> list[str]:
    """Make the row of strong minus standard."""
    before, after = paper.ENHANCEMENT["0"], paper.ENHANCEMENT["1"]
    correct = recall = f1 = accuracy = bounds = cells.NONE
    if len(pair) == 2 and all(point.runs for point in pair):
        gain = estimate_difference(pair[1].runs, pair[0].runs)
        accuracy, bounds = cells.format_points(gain.value), cells.format_bounds(gain, signed=True)
        standard, strong = (_list_target_metrics(point.runs) for point in pair)
        if standard and strong:
            low, high = (compute_mean(list(map(count_correct, g))) for g in (standard, strong))
            correct = cells.format_signed(high - low, "g")
            low, high = (compute_mean([each["recall"] for each in g]) for g in (standard, strong))
            recall = cells.format_points(high - low)
            low, high = (compute_mean([each["f1"] for each in g]) for g in (standard, strong))
            f1 = cells.format_signed(high - low)
    return [
        "strong minus standard",
        f"+{after.true_positives - before.true_positives}",
        correct,
        cells.format_points(after.recall - before.recall),
        recall,
        cells.NONE,
        cells.format_signed(after.f1 - before.f1),
        f1,
        cells.format_points(after.val_accuracy - before.val_accuracy),
        accuracy,
        bounds,
    ]
