"""`genreclf export`: a trained net as a folder to give away, calibrated, with a model card.

The folder holds `model.safetensors` (weights), `model.json` (how the net is built, its genres, its
features, what it was trained on) and `README.md` (the card); `checkpoint=FOLDER` takes it wherever
a checkpoint is taken.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from scipy.special import softmax

from genreclf import files
from genreclf.errors import InputError
from genreclf.evaluation import metrics, runs
from genreclf.models.checkpoint import (
    DESCRIPTION,
    PRETRAINED,
    find_last_layer,
    read_checkpoint,
    write_exported,
)
from genreclf.report.templates import render_template

log = logging.getLogger(__name__)
CARD = "README.md"


def run(config: DictConfig) -> None:
    """The command: write the folder, print its path."""
    path = Path(str(config.checkpoint))
    finished = runs.Run.read(path.parent)
    if str(config.folder) == "pretrained":
        raise InputError("folder=pretrained: checkpoint=pretrained is the net of the package")
    folder = Path(str(config.folder or Path(config.outputs, "export", path.parent.name)))
    if finished.result["tested_on"] != "val":
        raise InputError(
            f"checkpoint={path}: the run was tested, and it is calibrated on validation tracks: "
            "train with test=false"
        )
    if (folder / CARD).exists() and not (folder / DESCRIPTION).exists():
        raise InputError(
            f"folder={folder} has a {CARD} of its own: choose a folder for the net alone"
        )
    checkpoint = read_checkpoint(path)
    predictions = finished.predictions
    temperature = metrics.fit_temperature(predictions.labels, predictions.scores)
    cooled = softmax(np.log(np.maximum(predictions.scores, 1e-12)) / temperature, axis=1)
    _cool(checkpoint["state_dict"], temperature)
    write_exported(folder, checkpoint)
    card = render_template(
        "card.md.j2",
        **_described(checkpoint, finished.result),
        name=config.title or checkpoint["genreclf"]["model"]["_target_"].rpartition(".")[2],
        folder="pretrained" if folder.resolve() == PRETRAINED else folder,
        notice=config.notice,
        figures=metrics.evaluate(predictions.labels, cooled, predictions.classes),
        temperature=temperature,
        before=metrics.compute_calibration_error(predictions.labels, predictions.scores),
        after=metrics.compute_calibration_error(predictions.labels, cooled),
        reliability=metrics.compute_reliability(predictions.labels, cooled),
    )
    files.write_text(folder / CARD, card)
    log.info("temperature %.3f, chosen on %d validation tracks", temperature, len(cooled))
    print(folder)


def _cool(weights: dict[str, Any], temperature: float) -> None:
    """Divide the logits by the temperature."""
    last = find_last_layer(weights)
    for name in (f"{last}.weight", f"{last}.bias"):
        weights[name] = weights[name] / temperature


def _described(checkpoint: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    described = checkpoint["genreclf"]
    return {
        "features": described["features"],
        "model": described["model"],
        "classes": described["classes"],
        "bins": described["bins"],
        "result": result,
        "split": result["data"]["split"],
        "shared_artists": result["data"]["leakage"]["train-val"]["tracks_of_shared_artists"],
        "unknown_artist": result["data"]["leakage"]["unknown_artist"],
        "seen_before": result["data"].get("seen_before", {}).get("val", 0),
        "commit": runs.shorten_commit(result),
        "command": "genreclf train " + " ".join(map(runs.hide_location, result["overrides"])),
    }
