"""Sections V-A to V-C of the paper: batch size, learning rate, optimizer, scheduler."""

from collections.abc import Sequence

from genreclf import paper
from genreclf.evaluation.differences import estimate_difference
from genreclf.evaluation.intervals import have_predictions
from genreclf.evaluation.runs import Run
from genreclf.figures import curves
from genreclf.report import cells
from genreclf.report.section import MEASURED, PAPER, Column, Picture, Section, Table
from genreclf.studies.study import Phase, Point, Study

ACCURACY = [Column("val accuracy, %", MEASURED), Column("95 % interval", MEASURED)]
OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}


def build_batch_size_table(study: Study) -> Section:
    """Build Table IV."""
    phase = cells.find_phase(study, "batch_size")
    columns = [
        Column("batch size"),
        Column("val accuracy, %", PAPER),
        *ACCURACY,
        Column("training time", PAPER),
        Column("training time", MEASURED),
    ]
    measured = cells.group_by_setting(phase, "batch_size")
    rows = []
    for key in cells.merge_keys(paper.BATCH_SIZES, measured):
        point, printed = measured.get(key), paper.BATCH_SIZES.get(key)
        missing = "out of GPU memory" if key in paper.BATCH_SIZES else cells.NONE
        rows.append(
            [
                cells.format_label(phase, point, key),
                cells.format_percent(printed.val_accuracy) if printed else missing,
                *cells.format_measured_or_reason(phase, point, "batch_size", key),
                cells.format_duration(printed.seconds) if printed else cells.NONE,
                cells.format_training_time(point),
            ]
        )
    note = (
        "The paper's times are for at most 45 epochs on an RTX 4060. Whether a batch size fits "
        "depends on the memory of the device."
    )
    return Section(
        "table-4",
        "Table IV: batch size",
        table=Table(columns, rows),
        notes=[note, *cells.list_remarks(phase)],
        command=cells.format_command(phase),
    )


def build_learning_rate_figure(study: Study) -> Section:
    """Build Fig. 3."""
    phase = cells.find_phase(study, "learning_rate")
    measured = cells.group_by_setting(phase, "optimizer.lr")
    columns = [Column("learning rate"), Column("val accuracy", PAPER, text=True), *ACCURACY]
    rows = [
        [
            cells.format_label(phase, point, _format_rate(key)),
            "chosen" if _format_rate(key) == _format_rate(paper.LEARNING_RATE) else "curve only",
            *cells.format_measured_or_reason(phase, point, "optimizer.lr", key),
        ]
        for key, point in measured.items()
    ]
    text = "The paper shows only curves, without numbers; it chose 1e-3."
    return Section(
        "fig-3",
        "Fig. 3: learning rate",
        [text],
        Table(columns, rows) if rows else None,
        pictures=_draw_curves("fig-3", {_format_rate(key): p for key, p in measured.items()}),
        notes=cells.list_remarks(phase),
        command=cells.format_command(phase),
    )


def _format_rate(key: str | float) -> str:
    """Write a learning rate as the paper does: 1e-3."""
    try:
        digits, _, exponent = f"{float(key):e}".partition("e")
    except ValueError:  # not a number, such as an interpolation
        return str(key)
    return f"{float(digits):g}e{int(exponent)}"


def _draw_curves(name: str, measured: dict[str, Point]) -> list[Picture]:
    """Draw validation accuracy and loss by epoch, a line for each run of each point."""
    lines = {
        label: [history for run in point.runs if (history := run.result["history"])]
        for label, point in measured.items()
    }
    lines = {label: histories for label, histories in lines.items() if histories}
    if not lines:  # nothing has run, or nothing has epochs
        return []
    several = max(map(len, lines.values())) > 1
    caption = "Validation accuracy and loss by epoch" + ", a line for each seed" * several
    return [Picture(name, curves.draw_learning_curves(lines), f"{caption}.")]


def build_optimizer_figure(study: Study) -> Section:
    """Build Fig. 4."""
    phase = cells.find_phase(study, "optimizer")
    measured = cells.group_by_setting(phase, "optimizer")
    columns = [Column("optimizer"), Column("val accuracy", PAPER, text=True), *ACCURACY]
    rows = [
        [
            OPTIMIZERS.get(key, key),
            "curve only",
            *cells.format_measured_or_reason(phase, point, "optimizer", key),
        ]
        for key, point in measured.items()
    ]
    runs = [run for point in measured.values() for run in point.runs]
    schedulers = list(dict.fromkeys(run.result["choices"]["scheduler"] for run in runs))
    notes = cells.list_remarks(phase)
    pair = [measured[key] for key in ("adamw", "adam") if key in measured]
    if len(pair) == 2 and all(point.runs for point in pair):
        gain = estimate_difference(pair[0].runs, pair[1].runs)
        printed, found = (
            f"{cells.format_points(value)} points" for value in (paper.ADAMW_GAIN, gain.value)
        )
        rows.append(["AdamW minus Adam", printed, found, cells.format_bounds(gain, signed=True)])
        notes.append(_explain_difference(pair[0].runs, pair[1].runs))
    return Section(
        "fig-4",
        "Fig. 4: Adam and AdamW",
        [f"With scheduler={', '.join(schedulers)}; the paper chose the scheduler afterwards."]
        if schedulers
        else [],
        Table(columns, rows) if rows else None,
        pictures=_draw_curves("fig-4", {OPTIMIZERS.get(k, k): p for k, p in measured.items()}),
        notes=notes,
        command=cells.format_command(phase),
    )


def _explain_difference(first: Sequence[Run], second: Sequence[Run]) -> str:
    """Say in a sentence what the interval of a difference in validation accuracy covers."""
    several = min(cells.count_seeds(first), cells.count_seeds(second)) > 1
    if have_predictions([*first, *second], "val"):
        covers = (
            ", and covers tracks and seeds" if several else "; with one seed it covers only them"
        )
        return f"The interval of the difference pairs the tracks{covers}."
    covers = "tracks and seeds" if several else "only the tracks, as there is one seed"
    return (
        "Not all runs kept their predictions of the validation part, so the interval of the "
        f"difference comes from counts and is too wide; it covers {covers}."
    )


def build_scheduler_table(study: Study) -> Section:
    """Build Table V."""
    phase = cells.find_phase(study, "scheduler")
    columns = [
        Column("scheduler"),
        Column("val accuracy, %", PAPER),
        *ACCURACY,
        Column("train accuracy, %", PAPER),
        Column("train accuracy, %", MEASURED),
        Column("train loss", PAPER),
        Column("train loss", MEASURED),
        Column("val loss", PAPER),
        Column("val loss", MEASURED),
    ]
    measured = cells.group_by_setting(phase, "scheduler")
    keys = cells.merge_keys(paper.SCHEDULERS, measured)
    rows = [_make_scheduler_row(phase, measured.get(key), key) for key in keys]
    chosen = cells.find_phase(study, "optimizer").chosen
    optimizer = chosen and cells.get_setting(chosen, "optimizer")
    used = f"here {OPTIMIZERS.get(optimizer, optimizer)}" if optimizer else "here that of the study"
    note = (
        "Training accuracy and loss are those of the kept epoch, measured with dropout and "
        "augmentation. The paper prints the same validation accuracy, 58.35 %, for both rows, and "
        "chose the scheduler for its lower losses."
    )
    return Section(
        "table-5",
        "Table V: scheduler",
        [f"With the optimizer that was chosen before: AdamW in the paper, {used}."],
        Table(columns, rows),
        notes=[note, *cells.list_remarks(phase)],
        command=cells.format_command(phase),
    )


def _make_scheduler_row(phase: Phase, point: Point | None, key: str) -> list[str]:
    printed = paper.SCHEDULERS.get(key)
    given = (printed.train_accuracy, printed.train_loss, printed.val_loss) if printed else None
    found = point and tuple(
        cells.average_metric(point, name) for name in ("train/accuracy", "train/loss", "val/loss")
    )
    pairs = zip(_format_training(given), _format_training(found), strict=True)
    return [
        cells.format_label(phase, point, printed.printed if printed else key),
        cells.format_percent(printed.val_accuracy if printed else None),
        *cells.format_measured_or_reason(phase, point, "scheduler", key),
        *(cell for pair in pairs for cell in pair),
    ]


def _format_training(values: tuple[float | None, ...] | None) -> list[str]:
    """Format training accuracy, training loss and validation loss."""
    accuracy, *losses = values or (None, None, None)
    return [cells.format_percent(accuracy), *(cells.format_decimal(loss, 4) for loss in losses)]
