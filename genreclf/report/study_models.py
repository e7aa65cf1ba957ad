"""Section IV of the paper: structure of the nets (Fig. 2), and which was best (Table III)."""

from collections.abc import Sequence

from torch import nn

from genreclf import paper
from genreclf.errors import InputError
from genreclf.figures import network, style
from genreclf.models import ConventionalCNN, EfficientCNN, count_parameters
from genreclf.models.checkpoint import build_model
from genreclf.report import cells
from genreclf.report.section import MEASURED, PAPER, Column, Picture, Section, Table
from genreclf.studies.study import Phase, Point, Study


def structure(study: Study) -> Section:
    """Fig. 2."""
    title = "Fig. 2: structure"
    runs = cells.collect_best_runs(study) or cells.collect_runs(study)
    if not runs:
        return Section("fig-2", title, ["Not run yet."])
    result = runs[0].result
    classes = len(result["data"]["classes"])
    efficient = _drawn("fig-2", EfficientCNN(classes), result["data"]["shape"])
    pictures = [Picture(*efficient, "Efficient CNN, the net of the paper's Fig. 2.")]
    text = "Drawn from the modules themselves. Arrows carry channels × bins × frames."
    try:
        net = build_model(result["config"]["model"], classes)
    except InputError as error:  # a net from elsewhere
        return Section("fig-2", title, [text], pictures=pictures, notes=[f"{error}."])
    if isinstance(net, EfficientCNN):
        return Section("fig-2", title, [f"{text} This study chose it too."], pictures=pictures)
    chosen = _drawn("fig-2-chosen", net, result["data"]["shape"])
    pictures.append(Picture(*chosen, "The net that this study chose."))
    return Section("fig-2", title, [text], pictures=pictures)


def _drawn(name: str, net: nn.Module, shape: Sequence[int]) -> tuple[str, str]:
    return name, style.render_svg(network.draw_network(network.trace_network(net, *shape)))


def models(study: Study) -> Section:
    """Table III."""
    phase = cells.find_phase(study, "models")
    columns = [
        Column("model"),
        Column("parameters", PAPER),
        Column("parameters", MEASURED),
        Column("training time", PAPER),
        Column("training time", MEASURED),
        Column("val accuracy, %", PAPER),
        Column("val accuracy, %", MEASURED),
        Column("95 % interval", MEASURED),
    ]
    runs = cells.collect_runs(study)
    count = len(runs[0].result["data"]["classes"]) if runs else len(paper.CLASSES)
    conventional = f"{count_parameters(ConventionalCNN(count)):,}"
    rows = [
        [
            *("Conventional CNN", paper.CONVENTIONAL_CNN, conventional),
            *("not trained", "not trained", *[cells.NONE] * 3),
        ]
    ]
    measured = cells.group_by_setting(phase, "model")
    for key in cells.merge_keys(paper.MODELS, measured):
        rows.append(_model(phase, measured.get(key), key))
    notes = [
        "The paper dropped the conventional CNN for its size before training it; its parameters "
        "are counted here on the module itself.",
        "The 161 parameters that the paper has more in CNN-GRU and CNN-LSTM are a gate that its "
        "scripts make and never use; model.unused_gate=true adds it.",
        "“CNN-GRU” and “CNN-GRU-Attention” are one network: attention is in it from the start.",
        "Times depend on the machine and on early stopping. The paper's is an RTX 4060.",
        *_classes_note(count),
        *cells.list_remarks(phase),
    ]
    return Section(
        *("table-3", "Table III: models", []),
        Table(columns, rows),
        notes=notes,
        command=cells.format_command(phase),
    )


def _classes_note(count: int) -> list[str]:
    if count == len(paper.CLASSES):
        return []
    return [f"These nets tell {count} genres apart, the paper's 8: the last layer differs."]


def _model(phase: Phase, point: Point | None, key: str) -> list[str]:
    printed = paper.MODELS.get(key)
    val_accuracy, between = cells.format_measured_accuracy(phase, point, "model", key)
    params = time = cells.NONE
    if point is not None and not cells.describe_state(phase, point):
        params = f"{point.runs[0].result['params']:,}"
        time = cells.format_training_time(point)
    return [
        cells.format_label(phase, point, printed.printed if printed else key),
        *(f"{printed.params:,}" if printed else cells.NONE, params),
        *(cells.format_duration(printed.seconds) if printed else cells.NONE, time),
        *(
            cells.format_percent(printed.val_accuracy) if printed else cells.NONE,
            val_accuracy,
            between,
        ),
    ]
