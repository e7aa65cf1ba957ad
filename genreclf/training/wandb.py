"""Weights & Biases: its logger, and what it shows about a finished run."""

import os
import re
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from pytorch_lightning.loggers import WandbLogger

from genreclf.data.datamodule import StoreDataModule
from genreclf.evaluation import metrics
from genreclf.evaluation.runs import Predictions, Run
from genreclf.figures.style import STYLE
from genreclf.files import BEST
from genreclf.training import turns

NAME_LENGTH = 128  # maximum length in W&B
SPECTROGRAMS = 6  # number of tested tracks to show
WRONG = ("track_id", "artist", "genre", "predicted", "probability", "probability of genre")


# W&B's own charts: the name of the definition on its server, and the column for each field.
CONFUSION = (
    "wandb/confusion_matrix/v1",
    {name: name for name in ("Actual", "Predicted", "nPredictions")},
)
ROC = ("wandb/area-under-curve/v0", {"x": "fpr", "y": "tpr", "class": "class"})


def make_wandb_logger(
    save_dir: str | Path,
    project: str,
    entity: str | None = None,
    group: str | None = None,
    job_type: str | None = None,
    name: str | None = None,
) -> WandbLogger:
    """Make a W&B run below a folder; it is offline unless the user is logged in.

    The environment variable `WANDB_MODE` overrides this. `wandb sync` uploads an offline run.

    Args:
        save_dir: the run's folder.
        project: W&B project.
        entity: W&B team or user; None for the user's default.
        group: the study.
        job_type: the phase.
        name: the settings that differ from the defaults; None or empty for the folder's name.
    """
    import wandb

    folder = Path(save_dir)
    offline = "WANDB_MODE" not in os.environ and not wandb.login(prompt=False, verify=False)
    if offline or os.environ.get("WANDB_MODE") == "offline":
        # W&B's telemetry, which asks for its server's address even then.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    return WandbLogger(
        name=_shorten_name(name or folder.name, folder),
        save_dir=folder,
        project=project,
        entity=entity,
        group=group,
        job_type=job_type,
        mode="offline" if offline else None,  # Lightning's own switch comes too late after login()
        **_list_pack_settings(),
    )


def _list_pack_settings() -> dict[str, Any]:
    """List what W&B needs to know where several runs are open in one process at a time."""
    if turns.get_member() is None:
        return {}
    import wandb

    # It would log what all of them print as the output of each.
    return {"reinit": "create_new", "settings": wandb.Settings(console="off")}


def _shorten_name(name: str, folder: Path) -> str:
    """Shorten a name that is too long to its beginning and the folder's digest."""
    end = f"... {folder.name[-8:]}"
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - len(end)] + end


def draw_over_epochs(logger: WandbLogger) -> None:
    """Make epochs the horizontal axis of all charts."""
    logger.experiment.define_metric("epoch")
    logger.experiment.define_metric("*", step_metric="epoch", step_sync=True)


def finish_run(logger: WandbLogger, status: Literal["success", "failed"]) -> None:
    """End the W&B run, so that the next run of a sweep in this process gets its own."""
    import wandb

    run = wandb if turns.get_member() is None else logger.experiment
    run.finish(exit_code=0 if status == "success" else 1)


def log_result(
    logger: WandbLogger, run: Run, data: StoreDataModule, summary: dict[str, Any]
) -> None:
    """Log a run's result: metrics, charts, wrong tracks, spectrograms, checkpoint.

    Args:
        logger: the logger of the run.
        run: a run with `metrics`, `best_epoch` and `tested_on` in its result.
        data: the data module with the tested tracks, without a cache.
        summary: the metrics of the kept epoch.
    """
    logger.experiment.summary.update(summary)
    logger.experiment.log(_make_media(run, data))
    logger.experiment.log_artifact(_make_artifact(run), aliases=["best"])


def _make_media(run: Run, data: StoreDataModule) -> dict[str, Any]:
    import wandb

    part, found = run.result["tested_on"], run.predictions
    counts, rates = (
        _list_confusions(run.result["test"]["confusion"], found.classes),
        _list_roc_points(found),
    )
    order = _rank_by_error(found)
    wrong = [number for number in order if found.scores[number].argmax() != found.labels[number]]
    rows: Any = [_describe_track(number, run, data) for number in wrong]
    return {
        "confusion_matrix": _make_chart(*CONFUSION, counts, f"Confusion matrix, {part} part"),
        "roc": _make_chart(*ROC, rates, f"ROC, {part} part"),
        "wrong_tracks": wandb.Table(columns=list(WRONG), data=rows),
        "spectrograms": [_draw_spectrogram(number, run, data) for number in order[:SPECTROGRAMS]],
    }


def _rank_by_error(found: Predictions) -> np.ndarray:
    """Sort the numbers of all tested tracks by the probability of their genre, lowest first."""
    return np.argsort(found.scores[np.arange(len(found.labels)), found.labels], kind="stable")


def _describe_track(number: int, run: Run, data: StoreDataModule) -> list[Any]:
    """Describe a tested track, in the columns of `WRONG`."""
    found = run.predictions
    label, scores = found.labels[number], found.scores[number]
    return [
        found.track_ids[number],
        data.store.artists[data.split[run.result["tested_on"]][number]],
        found.classes[label],
        found.classes[scores.argmax()],
        float(scores.max()),
        float(scores[label]),
    ]


def _make_chart(definition: str, fields: dict[str, str], rows: Any, title: str) -> Any:
    import wandb

    table = wandb.Table(columns=list(fields.values()), data=rows)
    return wandb.plot_table(definition, table, fields, {"title": title})


def _list_confusions(confusion: list[list[int]], classes: list[str]) -> list[list[Any]]:
    """Count the tracks of each pair of true and predicted genre."""
    return [
        [true, predicted, count]
        for true, counts in zip(classes, confusion, strict=True)
        for predicted, count in zip(classes, counts, strict=True)
    ]


def _list_roc_points(found: Predictions) -> list[list[Any]]:
    """List the points of each genre's ROC curve; W&B's own `roc_curve` needs pandas."""
    curves = metrics.compute_roc_curves(found.labels, found.scores, found.classes)
    return [
        [float(false_rate), float(true_rate), name]
        for name, (false_rates, true_rates, _) in curves.items()
        for false_rate, true_rate in zip(false_rates, true_rates, strict=True)
    ]


def _draw_spectrogram(number: int, run: Run, data: StoreDataModule) -> Any:
    """Draw the features of a tested track, as the network receives them."""
    import torch
    import wandb

    row = data.split[run.result["tested_on"]][number]
    features = data.compute_features(torch.from_numpy(data.store.read([row])))[0].numpy()
    track, artist, genre, predicted, probability, _ = _describe_track(number, run, data)
    without_grid: dict[Any, Any] = {**STYLE, "axes.grid": False}
    with mpl.rc_context(without_grid):
        figure = Figure(figsize=(6, 2.5), layout="constrained")
        axes = figure.subplots()
        axes.imshow(features, "magma", origin="lower", aspect="auto", interpolation="none")
        axes.set(xlabel="frame", ylabel="bin")
        axes.set_title(f"{genre}, predicted {predicted}", parse_math=False)
    caption = f"{track} {artist}: {genre}, predicted {predicted} ({100 * probability:.0f} %)"
    return wandb.Image(figure, caption=caption)


def _make_artifact(run: Run) -> Any:
    """Make an artifact of the checkpoint, named after the run: W&B counts versions by name."""
    import wandb

    name = re.sub(r"[^\w.-]", "-", f"model-{run.folder.name}")[:NAME_LENGTH]
    described = {"best_epoch": run.result["best_epoch"], **run.result["metrics"]}
    artifact = wandb.Artifact(name, type="model", metadata=described)
    # Refer to the file in the run's folder: copies would fill the home directory.
    if (run.folder / BEST).exists():  # a support vector machine has none
        artifact.add_file(str(run.folder / BEST), policy="immutable", skip_cache=True)
    return artifact
