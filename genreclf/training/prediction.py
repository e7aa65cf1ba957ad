"""Predicts the parts of a split with a trained model, batch by batch on the trainer's device."""

import numpy as np
import pytorch_lightning as pl
import torch

from genreclf.data.datamodule import StoreDataModule
from genreclf.errors import InputError
from genreclf.models.checkpoint import TrainedModel
from genreclf.models.fused import fuse
from genreclf.training.classifier import Classifier


def predict_part(
    trainer: pl.Trainer, trained: TrainedModel, data: StoreDataModule, part: str, fast: bool = True
) -> np.ndarray:
    """Predict class probabilities, float32 (n, classes), of a part in the order of its rows.

    Args:
        trainer: a Trainer with a single process.
        trained: the model.
        data: the store and its split.
        part: the part, such as "test".
        fast: whether layers are fused, which changes only the rounding.

    Raises:
        InputError: a probability is not a finite number.
    """
    net = fuse(trained.net) if fast else trained.net
    classifier = Classifier(net, trained.classes, normalise=trained.normalise)
    data.predicted_part = part
    batches = trainer.predict(classifier, datamodule=data)
    scores = torch.cat(batches).float().cpu().numpy()  # pyright: ignore[reportArgumentType]
    if wrong := int((~np.isfinite(scores)).any(axis=1).sum()):
        raise InputError(
            f"the model's scores of {wrong} of {len(scores)} tracks are not finite numbers: its "
            "weights are damaged, or it was trained on other features"
        )
    return scores
