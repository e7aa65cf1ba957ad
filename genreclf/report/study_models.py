"""Section IV of the paper: structure of the networks (Fig. 2), and their comparison (Table III)."""

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


def build_structure_figure(study: Study) -> Section:
    """Build Fig. 2."""
    title = "Fig. 2: structure"
    runs = cells.collect_best_runs(study) or cells.collect_runs(study)
    if not runs:
        return Section("fig-2", title, ["Not run yet."])
    result = runs[0].result
    classes, shape = len(result["data"]["classes"]), result["data"]["shape"]
    caption = "Efficient CNN, the network in the paper's Fig. 2."
    pictures = [Picture("fig-2", _draw_network(EfficientCNN(classes), shape), caption)]
    text = "Drawn from the PyTorch modules. The arrows show channels × bins × frames."
    target = result["config"]["model"]["_target_"]
    if target.endswith(".EfficientCNN"):
        return Section("fig-2", title, [f"{text} This study chose it too."], pictures=pictures)
    if not target.startswith("genreclf."):  # a result may come from a stranger
        note = f"{target}, which this study chose, is not part of genreclf and is not drawn."
        return Section("fig-2", title, [text], pictures=pictures, notes=[note])
    try:
        svg = _draw_network(build_model(result["config"]["model"], classes), shape)
    except InputError as error:  # torch.fx cannot trace it
        return Section("fig-2", title, [text], pictures=pictures, notes=[f"{error}."])
    pictures.append(Picture("fig-2-chosen", svg, "The network that this study chose."))
    return Section("fig-2", title, [text], pictures=pictures)


def _draw_network(net: nn.Module, shape: Sequence[int]) -> str:
    return style.render_svg(network.draw_network(network.trace_network(net, *shape)))


def build_models_table(study: Study) -> Section:
    """Build Table III."""
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
    parameters = f"{count_parameters(ConventionalCNN(count)):,}"
    untrained = ["not trained", "not trained", *[cells.NONE] * 3]
    rows = [["Conventional CNN", paper.CONVENTIONAL_CNN, parameters, *untrained]]
    measured = cells.group_by_setting(phase, "model")
    for key in cells.merge_keys(paper.MODELS, measured):
        rows.append(_make_model_row(phase, measured.get(key), key))
    notes = [
        "The paper dropped the conventional CNN because of its size, before training it. Its "
        "parameters are counted on the module.",
        "The paper's CNN-GRU and CNN-LSTM have 161 more parameters: a gate that its scripts create "
        "and never use. model.unused_gate=true adds it.",
        "“CNN-GRU” and “CNN-GRU-Attention” are the same network: it always has attention.",
        "Times depend on the machine and on early stopping. The paper used an RTX 4060.",
    ]
    if count != len(paper.CLASSES):
        notes.append(
            f"These networks have {count} classes, the paper's have 8, so the last layers differ."
        )
    return Section(
        "table-3",
        "Table III: models",
        table=Table(columns, rows),
        notes=[*notes, *cells.list_remarks(phase)],
        command=cells.format_command(phase),
    )


def _make_model_row(phase: Phase, point: Point | None, key: str) -> list[str]:
    printed = paper.MODELS.get(key)
    params = time = cells.NONE
    if point is not None and not cells.explain_missing(phase, point):
        params = cells.format_parameters(point.runs[0].result["params"])
        time = cells.format_training_time(point)
    return [
        cells.format_label(phase, point, printed.printed if printed else key),
        f"{printed.params:,}" if printed else cells.NONE,
        params,
        cells.format_duration(printed.seconds) if printed else cells.NONE,
        time,
        cells.format_percent(printed.val_accuracy) if printed else cells.NONE,
        *cells.format_measured_or_reason(phase, point, "model", key),
    ]
