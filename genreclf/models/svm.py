"""A support vector machine on statistics over time: a yardstick, no network."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genreclf.errors import InputError


class SVM(nn.Module):
    """Radial basis functions on each bin's mean, deviation and mean change over time.

    It has no parameters that gradients could reach: `fit` takes all training features at once.
    Features of a single frame, such as embeddings, are taken as they are.

    Args:
        classes: number of classes.
        C: how much a track on the wrong side costs.
        gamma: of the radial basis functions; "scale" for 1 / number of statistics.
    """

    min_size = 1

    def __init__(self, classes: int, C: float = 1.0, gamma: float | str = "scale") -> None:  # noqa: N803
        super().__init__()
        if not C > 0 or not (gamma == "scale" or (isinstance(gamma, int | float) and gamma > 0)):
            raise InputError(f"model.C={C}, model.gamma={gamma}: numbers above 0, or gamma=scale")
        from sklearn.pipeline import make_pipeline  # slow to import, and no network needs it
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        self.classes = classes
        machine: Any = SVC(C=C, gamma=gamma, break_ties=True)  # pyright: ignore
        self.machine = make_pipeline(StandardScaler(), machine)

    def fit(self, batches: Iterable[Tensor], labels: np.ndarray) -> None:
        """Learn from batches of features (batch, bins, frames) and all their labels (tracks,)."""
        self.machine.fit(np.concatenate([compute_statistics(batch) for batch in batches]), labels)

    def forward(self, features: Tensor) -> Tensor:
        """Decision values (batch, classes) of features (batch, bins, frames); the highest wins.

        They are no log-probabilities, so that a loss computed of them says little.

        A class that was not trained on has minus infinity.
        """
        decided = self.machine.decision_function(compute_statistics(features))
        known = self.machine[-1].classes_
        if len(known) == 2:
            decided = np.stack([-decided, decided], axis=1)
        values = torch.full((len(features), self.classes), -torch.inf)
        values[:, torch.from_numpy(known)] = torch.from_numpy(decided).float()
        return values.to(features.device)


def compute_statistics(features: Tensor) -> np.ndarray:
    """(tracks, bins, frames) -> (tracks, 3 * bins), or (tracks, bins) where there is one frame."""
    values = features.cpu().double()
    if values.shape[2] == 1:
        return values[:, :, 0].numpy()
    change = values.diff(dim=2).abs().mean(dim=2)
    return torch.cat([values.mean(dim=2), values.std(dim=2), change], dim=1).numpy()
