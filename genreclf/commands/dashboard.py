"""`genreclf dashboard`: the paper's figures as a workspace of Weights & Biases.

A workspace shows the runs that its list of runs shows. Curves and the grid are to be compared
within one phase of one study, so `group=` (a study) and `job_type=` (a phase) restrict the list, as
its filter does in the browser.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from genreclf.errors import InputError, format_error
from genreclf.files import write_json
from genreclf.training.wandb import CONFUSION, ROC

try:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr
    from wandb_workspaces.reports.v2.interface import ParallelCoordinatesPlotColumn
except ModuleNotFoundError:
    raise InputError(
        "genreclf dashboard needs an extra: pip install 'genreclf[dashboard]'"
    ) from None


ACCURACY = "best/val/accuracy"  # of the kept epoch
GRID = {  # the axes of Fig. 5
    "optimizer.beta2": "beta 2",
    "model.cnn_dropout": "dropout, CNN",
    "model.classifier_dropout": "dropout, classifier",
    "optimizer.weight_decay": "weight decay",
}
RUNS = 100  # that a panel shows; the grid has 54


def run(config: DictConfig) -> None:
    """The command: save the workspace in W&B and print its address, or write it to a file."""
    entity = config.entity or (_default_entity() if config.file is None else "")
    built = workspace(entity, config.project, config.name, config.group, config.job_type)
    if config.file is None:
        print(_save(built))
    else:
        write_json(Path(config.file), built._spec["spec"])
        print(config.file)


def _default_entity() -> str:
    """Of the user who is logged in.

    Raises:
        InputError: nobody is, or W&B does not answer.
    """
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise InputError("not logged in to W&B: run wandb login first, or write it to file=...")
    try:
        entity = wandb.Api().default_entity
    except wandb.Error as error:
        raise InputError(f"W&B: {format_error(error)}") from None
    if entity is None:
        raise InputError("you have no default entity in W&B: entity=... is needed")
    return entity


def _save(built: ws.Workspace) -> str:
    """Its address."""
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    try:
        return built.save().url
    except (wandb.Error, WandbApiFailedError) as error:  # nobody logged in; or W&B refuses
        raise InputError(f"W&B: {format_error(error)}") from None


def workspace(
    entity: str, project: str, name: str, group: str | None = None, job_type: str | None = None
) -> ws.Workspace:
    """The workspace, not yet saved.

    Args:
        entity: team or user.
        project: of the runs.
        name: of the workspace.
        group: the study whose runs it shows; None is all.
        job_type: the phase whose runs it shows; None is all.
    """
    names = {"Group": group, "JobType": job_type}
    wanted = [expr.Metric(key) == name for key, name in names.items() if name]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=sections(),
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=RUNS),
        runset_settings=ws.RunsetSettings(
            filters=expr.And(*wanted) if wanted else "",
            order=[expr.Ordering(expr.Summary(ACCURACY), ascending=False)],
            pinned_columns=[f"summary:{ACCURACY}", "summary:test/accuracy", "summary:params"],
        ),
    )


def sections() -> list[ws.Section]:
    """The figures in the order of the paper, then what the net got wrong."""
    tables = (_chart("confusion_matrix", *CONFUSION), _chart("roc", *ROC))
    found = (wr.MediaBrowser(media_keys=["spectrograms"], num_columns=2), _wrong_tracks())
    panels: dict[str, Sequence[Any]] = {
        "Learning rates, Fig. 3": [*_curves("optimizer.lr"), _curve("lr", "optimizer.lr")],
        "Optimizers, Fig. 4": [*_curves("optimizer._target_"), *_curves("scheduler._target_")],
        "Grid, Fig. 5": [_grid(), wr.ParameterImportancePlot(with_respect_to=ACCURACY)],
        "Confusion matrix and ROC, Figs. 6 and 7": tables,
        "Wrongly classified tracks": found,
    }
    return [
        ws.Section(name=name, panels=list(shown), is_open=True) for name, shown in panels.items()
    ]


def _curves(setting: str) -> list[wr.LinePlot]:
    """Validation by epoch, one line for each value of a setting."""
    return [_curve(metric, setting) for metric in ("val/accuracy", "val/loss")]


def _curve(metric: str, setting: str) -> wr.LinePlot:
    return wr.LinePlot(
        title=f"{metric} by {setting.removesuffix('._target_')}",
        x="epoch",
        y=[metric],
        groupby=wr.Config(setting),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=RUNS,
    )


def _grid() -> wr.ParallelCoordinatesPlot:
    axes: dict[Any, str] = {wr.Config(key): title for key, title in GRID.items()}
    axes[wr.SummaryMetric(ACCURACY)] = "val/accuracy"
    columns = [
        ParallelCoordinatesPlotColumn(metric=metric, display_name=title)
        for metric, title in axes.items()
    ]
    return wr.ParallelCoordinatesPlot(title="Grid", columns=columns)


def _chart(key: str, definition: str, fields: dict[str, str]) -> wr.CustomChart:
    """A chart that `loggers.log_results` logs under this key, of the runs that are shown."""
    return wr.CustomChart(
        query={"summaryTable": {"tableKey": f"{key}_table"}},
        chart_name=definition,
        chart_fields=fields,
        chart_strings={"title": key.replace("_", " ")},
    )


def _wrong_tracks() -> wr.WeavePanelSummaryTable:
    return wr.WeavePanelSummaryTable(table_name="wrong_tracks")
