"""`genreclf dashboard`: a Weights & Biases workspace with the paper's figures.

Its panels show the runs in the workspace's run list. Curves and the grid are meant to compare the
runs of one phase of one study, so `group=` (a study) and `job_type=` (a phase) filter this list,
like the filter in the browser.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from genreclf.errors import InputError, format_error
from genreclf.files import check_writable, write_json
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


ACCURACY = "best/val/accuracy"  # at the best epoch
GRID = {  # the axes of Fig. 5
    "optimizer.beta2": "beta 2",
    "model.cnn_dropout": "dropout, CNN",
    "model.classifier_dropout": "dropout, classifier",
    "optimizer.weight_decay": "weight decay",
}
RUNS = 100  # shown by a panel; the grid has 54


def run(config: DictConfig) -> None:
    """Save the workspace in W&B and print its URL, or write it to a file and print its path."""
    if config.file is not None:
        check_writable(Path(config.file), "file")
    entity = config.entity or (_find_default_entity() if config.file is None else "")
    workspace = make_workspace(entity, config.project, config.name, config.group, config.job_type)
    if config.file is None:
        print(_save_workspace(workspace))
    else:
        write_json(Path(config.file), workspace._spec["spec"])
        print(config.file)


def _find_default_entity() -> str:
    """Return the default entity of the user who is logged in to W&B.

    Raises:
        InputError: nobody is logged in, W&B does not answer, or the user has no default.
    """
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise InputError(
            "not logged in to W&B: run wandb login first, or write the workspace to file=..."
        )
    try:
        entity = wandb.Api().default_entity
    except wandb.Error as error:
        raise InputError(f"W&B: {format_error(error)}") from None
    if entity is None:
        raise InputError("you have no default entity in W&B; choose one: entity=...")
    return entity


def _save_workspace(workspace: ws.Workspace) -> str:
    """Save the workspace in W&B and return its URL."""
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    try:
        return workspace.save().url
    except (wandb.Error, WandbApiFailedError) as error:  # not logged in, or refused
        raise InputError(f"W&B: {format_error(error)}") from None


def make_workspace(
    entity: str, project: str, name: str, group: str | None = None, job_type: str | None = None
) -> ws.Workspace:
    """Make the workspace without saving it.

    Args:
        entity: W&B team or user.
        project: W&B project of the runs.
        name: name of the workspace.
        group: show only the runs of this study; None shows all.
        job_type: show only the runs of this phase; None shows all.
    """
    names = {"Group": group, "JobType": job_type}
    wanted = [expr.Metric(key) == name for key, name in names.items() if name]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=_make_sections(),
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=RUNS),
        runset_settings=ws.RunsetSettings(
            filters=expr.And(*wanted) if wanted else "",
            order=[expr.Ordering(expr.Summary(ACCURACY), ascending=False)],
            pinned_columns=[f"summary:{ACCURACY}", "summary:test/accuracy", "summary:params"],
        ),
    )


def _make_sections() -> list[ws.Section]:
    """Make the figures in the order of the paper, then the misclassified tracks."""
    test_charts = (_make_chart("confusion_matrix", *CONFUSION), _make_chart("roc", *ROC))
    misclassified = (
        wr.MediaBrowser(media_keys=["spectrograms"], num_columns=2),
        wr.WeavePanelSummaryTable(table_name="wrong_tracks"),
    )
    panels: dict[str, Sequence[Any]] = {
        "Learning rates, Fig. 3": [
            *_make_validation_curves("optimizer.lr"),
            _make_curve("lr", "optimizer.lr"),
        ],
        "Optimizers, Fig. 4": [
            *_make_validation_curves("optimizer._target_"),
            *_make_validation_curves("scheduler._target_"),
        ],
        "Grid, Fig. 5": [_make_grid(), wr.ParameterImportancePlot(with_respect_to=ACCURACY)],
        "Confusion matrix and ROC, Figs. 6 and 7": test_charts,
        "Misclassified tracks": misclassified,
    }
    return [
        ws.Section(name=name, panels=list(shown), is_open=True) for name, shown in panels.items()
    ]


def _make_validation_curves(setting: str) -> list[wr.LinePlot]:
    """Plot the validation metrics by epoch, one line per value of a setting."""
    return [_make_curve(metric, setting) for metric in ("val/accuracy", "val/loss")]


def _make_curve(metric: str, setting: str) -> wr.LinePlot:
    return wr.LinePlot(
        title=f"{metric} by {setting.removesuffix('._target_')}",
        x="epoch",
        y=[metric],
        groupby=wr.Config(setting),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=RUNS,
    )


def _make_grid() -> wr.ParallelCoordinatesPlot:
    axes: dict[Any, str] = {wr.Config(key): title for key, title in GRID.items()}
    axes[wr.SummaryMetric(ACCURACY)] = "val/accuracy"
    columns = [
        ParallelCoordinatesPlotColumn(metric=metric, display_name=title)
        for metric, title in axes.items()
    ]
    return wr.ParallelCoordinatesPlot(title="Grid", columns=columns)


def _make_chart(key: str, definition: str, fields: dict[str, str]) -> wr.CustomChart:
    """Make a chart of the table that `training.wandb.log_results` logs under this key."""
    return wr.CustomChart(
        query={"summaryTable": {"tableKey": f"{key}_table"}},
        chart_name=definition,
        chart_fields=fields,
        chart_strings={"title": key.replace("_", " ")},
    )
