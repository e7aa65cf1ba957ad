"""Sections V-A to V-C of the paper: batch size, learning rate, optimizer, scheduler."""

from genreclf import paper
from genreclf.evaluation.differences import estimate_difference
from genreclf.evaluation.intervals import average_runs
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
            "chosen" if float(key) == paper.LEARNING_RATE else "curve only",
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


def _format_rate(key: str) -> str:
    """Write a learning rate as the paper does: 1e-3."""
    digits, _, exponent = f"{float(key):e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}"


def _draw_curves(name: str, measured: dict[str, Point]) -> list[Picture]:
    """Draw validation accuracy and loss by epoch, a line for each run of each point."""
    lines = {
        label: [run.result["history"] for run in point.runs]
        for label, point in measured.items()
        if point.runs
    }
    if not lines:
        return []
    several = max(map(len, lines.values())) > 1
    caption = "Validation accuracy and loss by epoch" + ", a line for each seed" * several
    return [Picture(name, curves.draw_learning_curves(lines), f"{caption}.")]


def build_optimizer_figure(study: Study) -> Section:
    """Build Fig. 4."""
    phase = cells.find_phase(study, "optimizer")
    scheduler, measured = _select_scheduler(phase)
    columns = [Column("optimizer"), Column("val accuracy", PAPER, text=True), *ACCURACY]
    rows = [
        [
            OPTIMIZERS.get(key, key),
            "curve only",
            *cells.format_measured_or_reason(phase, point, "optimizer", key),
        ]
        for key, point in measured.items()
    ]
    notes = cells.list_remarks(phase)
    pair = [measured[key] for key in ("adamw", "adam") if key in measured]
    if len(pair) == 2 and all(point.runs for point in pair):
        gain = estimate_difference(pair[0].runs, pair[1].runs)
        printed, found = (
            f"{cells.format_points(value)} points" for value in (paper.ADAMW_GAIN, gain.value)
        )
        rows.append(["AdamW minus Adam", printed, found, cells.format_bounds(gain, signed=True)])
        notes.append(cells.explain_difference(pair[0].runs, pair[1].runs))
    return Section(
        "fig-4",
        "Fig. 4: Adam and AdamW",
        [f"Both with scheduler={scheduler}."] if scheduler else [],
        Table(columns, rows) if rows else None,
        pictures=_draw_curves("fig-4", {OPTIMIZERS.get(k, k): p for k, p in measured.items()}),
        notes=notes,
        command=cells.format_command(phase),
    )


def _select_scheduler(phase: Phase) -> tuple[str, dict[str, Point]]:
    """Select a scheduler (plateau if it was swept) and the point of each optimizer with it."""
    schedulers = list(cells.group_by_setting(phase, "scheduler"))
    wanted = "plateau" if "plateau" in schedulers else (schedulers or [None])[0]
    same = [point for point in phase.points if cells.get_setting(point, "scheduler") == wanted]
    found = {name: point for point in same if (name := cells.get_setting(point, "optimizer"))}
    return wanted or "", found


def build_scheduler_table(study: Study) -> Section:
    """Build Table V."""
    phase = cells.find_phase(study, "optimizer")
    columns = [
        Column("scheduler, with AdamW"),
        Column("val accuracy, %", PAPER),
        *ACCURACY,
        Column("train accuracy, %", PAPER),
        Column("train accuracy, %", MEASURED),
        Column("train loss", PAPER),
        Column("train loss", MEASURED),
        Column("val loss", PAPER),
        Column("val loss", MEASURED),
    ]
    adamw = [p for p in phase.points if cells.get_setting(p, "optimizer") in ("adamw", None)]
    measured = {name: p for p in adamw if (name := cells.get_setting(p, "scheduler"))}
    keys = cells.merge_keys(paper.SCHEDULERS, measured)
    rows = [_make_scheduler_row(phase, measured.get(key), key) for key in keys]
    note = (
        "Training accuracy and loss are those of the kept epoch, measured with dropout and "
        "augmentation. The paper prints the same validation accuracy, 58.35 %, for both rows."
    )
    return Section(
        "table-5",
        "Table V: scheduler",
        table=Table(columns, rows),
        notes=[note, *cells.list_remarks(phase)],
        command=cells.format_command(phase),
    )


def _make_scheduler_row(phase: Phase, point: Point | None, key: str) -> list[str]:
    printed = paper.SCHEDULERS.get(key)
    given = (printed.train_accuracy, printed.train_loss, printed.val_loss) if printed else None
    found = None
    if point is not None and point.runs:
        found = tuple(
            average_runs(point.runs, lambda result, name=name: result["metrics"][name])
            for name in ("train/accuracy", "train/loss", "val/loss")
        )
    pairs = zip(_format_training(given), _format_training(found), strict=True)
    return [
        cells.format_label(phase, point, printed.printed if printed else key),
        cells.format_percent(printed.val_accuracy if printed else None),
        *cells.format_measured_or_reason(phase, point, "scheduler", key),
        *(cell for pair in pairs for cell in pair),
    ]


def _format_training(values: tuple[float, ...] | None) -> list[str]:
    """Format training accuracy, training loss and validation loss."""
    accuracy, *losses = values or (None, None, None)
    return [cells.format_percent(accuracy), *(cells.format_decimal(loss, 4) for loss in losses)]
