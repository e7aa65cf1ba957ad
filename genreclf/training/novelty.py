"""Fits the novelty score of a run's model: how unlike its training data a file is."""

import logging
from typing import Any

import numpy as np
import torch

from genreclf.audio.descriptions import identify_features
from genreclf.data.datamodule import StoreDataModule
from genreclf.data.summaries import summarise_features
from genreclf.errors import format_error
from genreclf.files import digest_values
from genreclf.models.novelty import LEAST, MOST, Novelty, limit_band, make_copies
from genreclf.training.classifier import Classifier

TRACKS = {"train": 2000, "val": 1000}  # most tracks of each part that are read
BATCH = 32
log = logging.getLogger(__name__)
_recent: dict[tuple[Any, ...], dict[str, torch.Tensor] | None] = {}  # runs of a pack share one


def add_novelty(classifier: Classifier, data: StoreDataModule, features: Any) -> None:
    """Fit the novelty score on the training part and add it to what a checkpoint stores.

    It is calibrated on the validation part. No random numbers are drawn, and nothing that fails
    here stops the run.

    Args:
        classifier: its `description` gets the key `novelty`.
        data: the tracks.
        features: the features of the run.
    """
    if not callable(features) or not classifier.net.state_dict():
        return  # genreclf predict cannot use the model
    bins, frames = data.shape
    if frames == 1 and bins > MOST:
        log.info(
            "%d features are too many to tell what is unlike the tracks (%d at most): genreclf "
            "predict will not call any file unknown",
            *(bins, MOST),
        )
        return
    rows = {part: _choose_rows(data.split[part], most) for part, most in TRACKS.items()}
    if min(map(len, rows.values())) < LEAST:
        log.info(
            "%d training and %d validation tracks are too few to tell what is unlike them (%d "
            "each are needed): genreclf predict will not call any file unknown",
            *(*map(len, rows.values()), LEAST),
        )
        return
    try:
        chosen = (part.tobytes() for part in rows.values())
        key = (data.store.source.digest, digest_values(identify_features(features)), *chosen)
        if key not in _recent:
            _recent.clear()
            _recent[key] = fit_novelty(data, rows, features).list_tensors()
        classifier.description = {**classifier.description, "novelty": _recent[key]}
    except Exception as error:
        log.warning(
            "no novelty score (%s): genreclf predict will not call any file unknown",
            format_error(error),
        )


def fit_novelty(data: StoreDataModule, rows: dict[str, np.ndarray], features: Any) -> Novelty:
    """Fit the novelty score on rows of the training part, and calibrate it with others.

    If the bins are frequencies, copies of a third of the training tracks lack the upper bands, as
    music at a lower sample rate does.

    Args:
        data: computes the features of rows.
        rows: rows "train" and "val" of the store.
        features: the features of the model.
    """
    spectral = getattr(features, "bin_axis", "") == "frequency"
    training, held_out, copies = [], [], []
    for place, row in enumerate(_read_features(data, rows["train"])):
        training.append(summarise_features(row))
        if spectral and place % 3 == 0:
            training.append(summarise_features(limit_band(row, place // 3)))
    for place, row in enumerate(_read_features(data, rows["val"])):
        held_out.append(summarise_features(row))
        copies += map(summarise_features, make_copies(row, place, spectral))
    return Novelty.fit(*map(np.stack, (training, held_out, copies)))


def _read_features(data: StoreDataModule, rows: np.ndarray) -> Any:
    """Yield the features (bins, frames) of each row, as the network gets them."""
    scaling = data.store.scaling
    for start in range(0, len(rows), BATCH):
        stored = torch.from_numpy(data.store.read(rows[start : start + BATCH]))
        values = stored.float() * scaling.scale + scaling.offset
        with torch.inference_mode():
            yield from data.batch_features.to("cpu")(values).numpy()


def _choose_rows(rows: np.ndarray, most: int) -> np.ndarray:
    """Choose at most this many rows, evenly spaced."""
    if len(rows) <= most:
        return np.asarray(rows)
    return np.asarray(rows)[np.arange(most) * len(rows) // most]
