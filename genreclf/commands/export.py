"""`genreclf export`: write a trained model, calibrated and with a model card, for publication.

The folder holds `model.safetensors` (weights, hashes of the training rows), `model.json` (model,
genres, features) and `README.md` (the card). It is accepted wherever a checkpoint is.
"""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from scipy.special import softmax

from genreclf import files
from genreclf.commands.compose import is_own_option, name_option_file
from genreclf.commands.own_parts import find_option_folders
from genreclf.errors import InputError
from genreclf.evaluation import metrics, runs
from genreclf.evaluation.provenance import shorten_commit
from genreclf.files import read_text
from genreclf.models.encoders.places import list_encoder_files, locate_encoders, name_encoders
from genreclf.models.model_files import (
    BUNDLED,
    CARD,
    PRETRAINED,
    TAGS,
    WEIGHTS,
    read_checkpoint,
    write_exported,
)
from genreclf.report.templates import render_template
from genreclf.trust import list_untrusted

NOTES = "<!-- What is written below this line is kept when a model is exported here again. -->"
OF_MUSICNN = ("MusicnnEmbedding", "MusicnnFrames")  # features that need its weights
log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Run the command: write the folder and print its path."""
    path = Path(str(config.checkpoint))
    path = path / files.BEST if path.is_dir() else path
    finished = runs.Run.read(path.parent)
    if str(config.folder) in (*BUNDLED, TAGS):
        raise InputError(
            f"folder={config.folder}: this name stands for a model of genreclf itself; choose "
            "another folder"
        )
    folder = Path(str(config.folder or Path(config.outputs, "export", path.parent.name)))
    if finished.result["tested_on"] != "val":
        raise InputError(
            f"checkpoint={path}: this run has a test result, but a model is calibrated on "
            "validation tracks; train it with test=false"
        )
    if (folder / CARD).exists() and not (folder / WEIGHTS).exists():
        raise InputError(
            f"folder={folder}: it already has another {CARD}; choose an empty or new folder"
        )
    files.check_writable(folder / WEIGHTS, "folder" if config.folder else "outputs")
    notes = _keep_notes(folder / CARD)
    checkpoint = read_checkpoint(path)
    predictions = finished.predictions
    temperature = metrics.fit_temperature(predictions.labels, predictions.scores)
    last = checkpoint["genreclf"]["last_layer"]
    if last is None:
        log.warning(
            "the last layer of this model is not known, so its scores are not calibrated; set its "
            "attribute last_layer to the name of that layer, and train again"
        )
        temperature = 1.0
    calibrated = softmax(np.log(np.maximum(predictions.scores, 1e-12)) / temperature, axis=1)
    for name in (f"{last}.weight", f"{last}.bias"):  # and so divide the logits
        if f"net.{name}" in checkpoint["state_dict"]:
            checkpoint["state_dict"][f"net.{name}"] /= temperature
    features = locate_encoders(checkpoint["genreclf"]["features"], path.parent)
    copied = list_encoder_files(features)
    checkpoint["genreclf"]["features"] = name_encoders(features)
    described = _describe(checkpoint, finished.result, [*copied])
    if copied:
        log.warning(
            "copied into the folder: %s; its license has to allow that you publish it",
            ", ".join(copied),
        )
    if described["encoders"]:
        log.warning(
            "the model needs what computes its features, which is not in the folder: %s; whoever "
            "uses the model puts it there",
            ", ".join(described["encoders"]),
        )
    card = render_template(
        "card.md.j2",
        **described,
        name=config.title or checkpoint["genreclf"]["model"]["_target_"].rpartition(".")[2],
        folder="pretrained" if folder.resolve() == PRETRAINED else folder,
        notice=config.notice,
        figures=metrics.evaluate(predictions.labels, calibrated, predictions.classes),
        temperature=temperature,
        before=metrics.compute_calibration_error(predictions.labels, predictions.scores),
        after=metrics.compute_calibration_error(predictions.labels, calibrated),
        reliability=metrics.compute_reliability(predictions.labels, calibrated),
    )
    write_exported(folder, checkpoint, card.rstrip() + notes, copied)
    log.info("temperature %.3f, chosen on %d validation tracks", temperature, len(calibrated))
    print(folder)


def _keep_notes(card: Path) -> str:
    """Return the end of a card, where notes are kept that someone has written by hand.

    Raises:
        InputError: the card cannot be read, so its notes would be lost.
    """
    try:
        written = read_text(card) if card.exists() else ""
    except UnicodeDecodeError as error:
        raise InputError(f"{card}: not UTF-8 ({error.reason}): save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{card}: {error.strerror}") from None
    notes = written.partition(NOTES)[2].strip()
    if notes:
        log.warning("%s: what follows %r is kept; check that it is still true", card, NOTES)
    return f"\n\n{NOTES}\n" + f"\n{notes}\n" * bool(notes)


def _describe(
    checkpoint: dict[str, Any], result: dict[str, Any], copied: list[str]
) -> dict[str, Any]:
    """Collect what the card says about the model, its data and its training."""
    described = checkpoint["genreclf"]
    return {
        "features": {"name": "", **described["features"]},
        "encoders": [name for name in _list_encoders(described["features"]) if name not in copied],
        "model": described["model"],
        "trust": list_untrusted([described["model"], described["features"]]),
        "classes": described["classes"],
        "bins": described["bins"],
        "novelty": bool(described.get("novelty")),
        "result": result,
        "split": result["data"]["split"],
        "shared_artists": result["data"]["leakage"]["train-val"]["tracks_of_shared_artists"],
        "unknown_artist": result["data"]["leakage"]["unknown_artist"],
        "seen_before": result["data"].get("seen_before", {}).get("val", 0),
        "commit": shorten_commit(result),
        "command": " ".join(
            [
                "genreclf train",
                *(["--config-dir FOLDER"] if _needs_folder(result["choices"]) else []),
                *(_shorten_paths(runs.hide_location(text)) for text in result["overrides"]),
            ]
        ),
    }


def _shorten_paths(override: str) -> str:
    """Replace absolute paths of features, which name folders of this machine, by file names."""
    if not override.lstrip("+").startswith("features"):
        return override
    return re.sub(r"(?<=[=:\s\[,'\"])(?:~|[A-Za-z]:)?/[^\s,'\"\]}]*/", "", override)


def _list_encoders(features: dict[str, Any]) -> list[str]:
    """List what computes the features and is neither in the folder nor part of genreclf."""
    kind, found = features.get("_target_", "").rpartition(".")[2], []
    for part in features.get("parts", []):
        found += _list_encoders(part)
    if kind in OF_MUSICNN:
        found.append("musicnn (genreclf download model=musicnn)")
    place = features.get("checkpoint" if kind == "ModelEmbedding" else "model")
    if isinstance(place, str) and place not in BUNDLED:
        found.append(place)
    return list(dict.fromkeys(found))


def _needs_folder(choices: dict[str, str]) -> bool:
    """Whether a run chose options of a folder of the user, which --config-dir named."""
    return any(
        not is_own_option(group, option)
        and not any(
            Path(folder, name_option_file(group, option)).is_file()
            for folder in find_option_folders().values()
        )
        for group, chosen in choices.items()
        for option in re.findall(r"[\w-]+", chosen)
    )
