"""Sections V-A to V-C of the paper: batch size, learning rate, optimizer, scheduler."""

from collections.abc import Sequence

from genreclf import paper
from genreclf.evaluation.intervals import average_figure, estimate_difference
from genreclf.figures import comparison
from genreclf.report import cells
from genreclf.report.section import MEASURED, PAPER, Column, Picture, Section, Table
from genreclf.studies.study import Phase, Point, Study

ACCURACY = [Column("val accuracy, %", MEASURED), Column("95 % interval", MEASURED)]
TWO_SEEDS = "An interval of the difference needs two seeds or more."


def batch_size(study: Study) -> Section:
    """Table IV."""
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
                *cells.format_measured_accuracy(phase, point, "batch_size", key),
                cells.format_duration(printed.seconds) if printed else cells.NONE,
                cells.format_training_time(point),
            ]
        )
    return Section(
        *("table-4", "Table IV: batch size", []),
        Table(columns, rows),
        notes=[
            "The paper's times are of at most 45 epochs on an RTX 4060. Whether a batch size fits "
            "depends on the memory of the device.",
            *cells.list_remarks(phase),
        ],
        command=cells.format_command(phase),
    )


def learning_rate(study: Study) -> Section:
    """Fig. 3."""
    phase = cells.find_phase(study, "learning_rate")
    measured = cells.group_by_setting(phase, "optimizer.lr")
    columns = [Column("learning rate"), Column("val accuracy", PAPER, text=True), *ACCURACY]
    rows = []
    for key, point in measured.items():
        shown = "chosen" if float(key) == paper.LEARNING_RATE else "curve only"
        given = cells.format_measured_accuracy(phase, point, "optimizer.lr", key)
        rows.append([cells.format_label(phase, point, _rate(key)), shown, *given])
    text = "The paper draws the curves without printing a figure; 1e-3 is what it chose."
    return Section(
        *("fig-3", "Fig. 3: learning rate", [text]),
        Table(columns, rows) if rows else None,
        pictures=_curves("fig-3", {_rate(key): point for key, point in measured.items()}),
        notes=cells.list_remarks(phase),
        command=cells.format_command(phase),
    )


def _rate(key: str) -> str:
    """A learning rate as the paper writes it: 1e-3."""
    digits, _, exponent = f"{float(key):e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}"


def _curves(name: str, measured: dict[str, Point]) -> list[Picture]:
    """Validation accuracy and loss by epoch, a line for each run of each point."""
    lines = {
        label: [run.result["history"] for run in point.runs]
        for label, point in measured.items()
        if point.runs
    }
    if not lines:
        return []
    several = max(map(len, lines.values())) > 1
    caption = "Validation accuracy and loss by epoch" + ", a line for each seed." * several
    return [Picture(name, comparison.draw_learning_curves(lines), caption.rstrip(".") + ".")]


def optimizer(study: Study) -> Section:
    """Fig. 4."""
    phase = cells.find_phase(study, "optimizer")
    scheduler, measured = _same_scheduler(phase)
    columns = [Column("optimizer"), Column("val accuracy", PAPER, text=True), *ACCURACY]
    rows = [
        [
            _optimizer_name(key),
            "curve only",
            *cells.format_measured_accuracy(phase, point, "optimizer", key),
        ]
        for key, point in measured.items()
    ]
    notes = cells.list_remarks(phase)
    pair = [measured[key] for key in ("adamw", "adam") if key in measured]
    if len(pair) == 2 and all(point.runs for point in pair):
        gain = estimate_difference(*(point.list_values("val/accuracy") for point in pair))
        printed = f"{cells.format_points(paper.ADAMW_GAIN)} points"
        rows.append(
            [
                *("AdamW less Adam", printed),
                *(
                    f"{cells.format_points(gain.value)} points",
                    cells.format_bounds(gain, signed=True),
                ),
            ]
        )
        notes += [TWO_SEEDS] * (gain.low is None)
    text = f"Both with scheduler={scheduler}." if scheduler else ""
    return Section(
        *("fig-4", "Fig. 4: Adam and AdamW", [text] if text else []),
        Table(columns, rows) if rows else None,
        pictures=_curves("fig-4", {_optimizer_name(key): at for key, at in measured.items()}),
        notes=notes,
        command=cells.format_command(phase),
    )


def _optimizer_name(key: str) -> str:
    return {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}.get(key, key)


def _same_scheduler(phase: Phase) -> tuple[str, dict[str, Point]]:
    """The points of each optimizer with one scheduler: plateau, where that was swept."""
    schedulers = list(cells.group_by_setting(phase, "scheduler"))
    wanted = "plateau" if "plateau" in schedulers else (schedulers or [None])[0]
    same = [point for point in phase.points if cells.get_setting(point, "scheduler") == wanted]
    found = {name: point for point in same if (name := cells.get_setting(point, "optimizer"))}
    return wanted or "", found


def scheduler(study: Study) -> Section:
    """Table V."""
    phase = cells.find_phase(study, "optimizer")
    metrics = ("val accuracy, %", "train accuracy, %", "train loss", "val loss")
    columns = [Column("scheduler, with AdamW")]
    for name in metrics:
        columns += [Column(name, PAPER), Column(name, MEASURED)]
        columns += [Column("95 % interval", MEASURED)] * (name == metrics[0])
    adamw = [p for p in phase.points if cells.get_setting(p, "optimizer") in ("adamw", None)]
    measured = {name: p for p in adamw if (name := cells.get_setting(p, "scheduler"))}
    rows = [
        _scheduler(phase, measured.get(key), key)
        for key in cells.merge_keys(paper.SCHEDULERS, measured)
    ]
    note = (
        "Training accuracy and loss are taken with dropout and augmentation, and are those of the "
        "kept epoch. The paper's two validation accuracies are the same 58.35 %."
    )
    return Section(
        *("table-5", "Table V: scheduler", []),
        Table(columns, rows),
        notes=[note, *cells.list_remarks(phase)],
        command=cells.format_command(phase),
    )


def _scheduler(phase: Phase, point: Point | None, key: str) -> list[str]:
    """A row of Table V."""
    paper_row = paper.SCHEDULERS.get(key)
    printed: Sequence[str] = [cells.NONE] * 4
    if paper_row:
        shares = (paper_row.val_accuracy, paper_row.train_accuracy)
        losses = (paper_row.train_loss, paper_row.val_loss)
        printed = [
            *map(cells.format_percent, shares),
            *(cells.format_decimal(loss, 4) for loss in losses),
        ]
    val, between = cells.format_measured_accuracy(phase, point, "scheduler", key)
    rest = [cells.NONE] * 3
    if point is not None and point.runs:
        train, *losses = (
            average_figure(point.runs, lambda result, name=name: result["metrics"][name])
            for name in ("train/accuracy", "train/loss", "val/loss")
        )
        rest = [cells.format_percent(train), *(cells.format_decimal(loss, 4) for loss in losses)]
    name = cells.format_label(phase, point, paper_row.printed if paper_row else key)
    pairs = zip(printed[1:], rest, strict=True)
    return [name, printed[0], val, between, *(cell for pair in pairs for cell in pair)]
