"""Section V-E of the paper: extra copies of one genre (Tables VII, VIII)."""

from collections.abc import Sequence
from typing import Any

from genreclf import paper
from genreclf.evaluation.intervals import (
    compute_mean,
    count_correct,
    estimate_accuracy,
    estimate_recall,
)
from genreclf.evaluation.runs import Run
from genreclf.report import cells
from genreclf.report.section import MEASURED, PAPER, Column, Section, Table
from genreclf.studies.study import Phase, Point, Study

OPTION = "oversampling.copies"


def augmentation(study: Study) -> Section:
    """Table VII."""
    phase = cells.find_phase(study, "enhancement")
    runs = _strong_runs(phase) or cells.collect_best_runs(study)
    columns = [
        Column("augmentation"),
        *(Column("standard", PAPER, text=True), Column("all tracks", MEASURED, text=True)),
        *(Column("strong enhanced", PAPER, text=True), Column("extra copies", MEASURED, text=True)),
    ]
    printed = [_printed(paper.STANDARD), _printed(paper.STRONG)]
    measured = [[cells.NONE] * 5] * 2
    if runs:
        config = runs[0].result["config"]
        extra = config["oversampling"]
        genres = ", ".join(extra["genres"]) or "none"
        every = _settings(config["augmentation"], 0, "all genres")
        measured = [every, _settings(extra["augmentation"], extra["copies"], genres)]
    names = ("Gaussian noise, σ", "time shift", "spectral masking", "extra copies", "applied to")
    rows = [
        [name, *(cell for pair in cells_of_row for cell in pair)]
        for name, *cells_of_row in zip(
            names,
            *(zip(*pair, strict=True) for pair in zip(printed, measured, strict=True)),
            strict=True,
        )
    ]
    notes = [
        "The paper states no unit of the noise. “Of the range” is a share of a clip's range of "
        "values: 0.005 of 80 dB is 0.4 dB. Its scripts add the number to values in dB: 0.005 dB, "
        "in effect no noise.",
        "Its scripts shift by half as much as it says for standard and two thirds for strong (5 % "
        "and 10 %), fill the gap with 0 dB, the loudest value, and have no masking.",
    ]
    return Section(*("table-7", "Table VII: augmentation", []), Table(columns, rows), notes=notes)


def _strong_runs(phase: Phase) -> list[Run]:
    points = [point for point in phase.points if point.runs]
    strong = [point for point in points if cells.get_setting(point, OPTION) != "0"]
    return next((point.runs for point in [*strong, *points]), [])


def _printed(given: paper.Augmentation) -> list[str]:
    low, high = given.masking
    return [
        *(f"{given.noise:g}, unit not stated", f"±{100 * given.shift:.0f} %"),
        *(f"{100 * low:.0f} to {100 * high:.0f} %", str(given.copies), given.applied_to),
    ]


def _settings(given: dict[str, Any], copies: int, applied_to: str) -> list[str]:
    """The same of a config; one without augmentation has no settings."""
    if "noise" not in given:
        return [*["none"] * 3, str(copies), applied_to]
    unit = {"range": "of the range", "value": "dB"}[given["noise_unit"]]
    masked = f"{100 * given['mask_min']:g} to {100 * given['mask_max']:g} %"
    return [
        *(f"{given['noise']:g} {unit}", f"±{100 * given['shift']:g} %"),
        *(masked if given["mask_max"] else "none", str(copies), applied_to),
    ]


def enhancement(study: Study) -> Section:
    """Table VIII."""
    phase = cells.find_phase(study, "enhancement")
    columns = [
        Column("enhancement (extra copies of each track)"),
        *(Column("true positives", PAPER), Column("true positives", MEASURED)),
        *(Column("recall, %", PAPER), Column("recall, %", MEASURED)),
        Column("95 % interval", MEASURED),
        *(Column("F1", PAPER), Column("F1", MEASURED)),
        *(Column("val accuracy, %", PAPER), Column("val accuracy, %", MEASURED)),
        Column("95 % interval", MEASURED),
    ]
    measured = cells.group_by_setting(phase, OPTION)
    keys = cells.merge_keys(paper.ENHANCEMENT, measured)
    rows = [_enhancement(phase, measured.get(key), key) for key in keys]
    rows.append(_improvement([measured[key] for key in paper.ENHANCEMENT if key in measured]))
    runs = _strong_runs(phase)
    genre = _target(runs[0].result["config"]) if runs else ""
    of = f"Measured of {genre}" if genre else "Not measured yet"
    text = f"One genre on the validation part. {of}; the paper's figures are printed as of "
    notes = [
        "The paper's class 1, printed as Experimental, is really Pop: its scripts number the "
        "genres otherwise than they name them.",
        "The paper's gain mixes two changes: with the extra copies its scripts also took all "
        "augmentation from the other tracks. Here the rows differ in the extra copies alone.",
        *cells.list_remarks(phase),
    ]
    return Section(
        *("table-8", "Table VIII: one genre, enhanced", [f"{text}Experimental."]),
        Table(columns, rows),
        notes=notes,
        command=cells.format_command(phase),
    )


def _target(config: dict[str, Any]) -> str:
    genres = config["oversampling"]["genres"]
    return genres[0] if genres else ""


def _genre(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Validation figures of the target genre, one a run; none where the data lack it."""
    found = (run.result["val"]["per_genre"].get(_target(run.result["config"])) for run in runs)
    return [figures_of for figures_of in found if figures_of]


def _enhancement(phase: Phase, point: Point | None, key: str) -> list[str]:
    printed = paper.ENHANCEMENT.get(key)
    score, between = cells.describe_state(phase, point, OPTION, key), cells.NONE
    right, recall, recall_between, f1 = [cells.NONE] * 4
    if point is not None and point.runs:
        overall = estimate_accuracy(point.runs)
        score, between = cells.format_percent(overall.value), cells.format_bounds(overall)
        if genre := _genre(point.runs):
            estimate = estimate_recall(genre)
            recall, recall_between = (
                cells.format_percent(estimate.value),
                cells.format_bounds(estimate),
            )
            right = compute_mean([count_correct(each) for each in genre])
            right = f"{right:g} of {genre[0]['support']}"
            f1 = cells.format_decimal(compute_mean([each["f1"] for each in genre]))
    if printed is None:
        return [
            *(cells.format_label(phase, point, key), cells.NONE, right, cells.NONE, recall),
            *(recall_between, cells.NONE, f1, cells.NONE, score, between),
        ]
    return [
        *(
            cells.format_label(phase, point, printed.printed),
            f"{printed.true_positives} of 106",
            right,
        ),
        *(cells.format_percent(printed.recall, 0), recall, recall_between),
        *(
            cells.format_decimal(printed.f1),
            f1,
            cells.format_percent(printed.val_accuracy),
            score,
            between,
        ),
    ]


def _improvement(pair: Sequence[Point]) -> list[str]:
    """Strong less standard."""
    before, after = paper.ENHANCEMENT["0"], paper.ENHANCEMENT["1"]
    right = recall = f1 = score = cells.NONE
    if len(pair) == 2 and all(point.runs for point in pair):
        standard, strong = (_genre(point.runs) for point in pair)
        score = cells.format_points(
            estimate_accuracy(pair[1].runs).value - estimate_accuracy(pair[0].runs).value
        )
        if standard and strong:
            gains = [[count_correct(each) for each in genre] for genre in (standard, strong)]
            right = _signed(compute_mean(gains[1]) - compute_mean(gains[0]), "g")
            recall = cells.format_points(
                estimate_recall(strong).value - estimate_recall(standard).value
            )
            scores = [compute_mean([each["f1"] for each in genre]) for genre in (standard, strong)]
            f1 = _signed(scores[1] - scores[0])
    return [
        *("strong less standard", f"+{after.true_positives - before.true_positives}", right),
        *(cells.format_points(after.recall - before.recall), recall, cells.NONE),
        *(_signed(after.f1 - before.f1), f1),
        *(cells.format_points(after.val_accuracy - before.val_accuracy), score, cells.NONE),
    ]


def _signed(value: float, form: str = ".2f") -> str:
    return f"{value:+{form}}".replace("-", "−")
