"""A support vector machine on statistics over time: a baseline that is not a network."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genreclf.errors import InputError
from genreclf.models.heads import compute_statistics


class SVM(nn.Module):
    """Support vector machine with an RBF kernel on each bin's mean, deviation and mean change.

    It has no parameters to train by gradients: `fit` takes all training features together. Features
    of a single frame, such as embeddings, are used as they are.

    Args:
        classes: number of classes.
        C: penalty for training tracks on the wrong side of the margin.
        gamma: gamma of the RBF kernel; "scale" for 1 / (number of statistics * their variance).

    Raises:
        InputError: `C` or `gamma` is not above 0.
    """

    min_size, without_epochs = 1, True

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
        """Fit to batches of features (batch, bins, frames) and to all labels (tracks,)."""
        rows = np.concatenate([_compute_rows(batch) for batch in batches])
        self.machine.fit(rows, labels)

    def forward(self, features: Tensor) -> Tensor:
        """Compute decision values (batch, classes) of features (batch, bins, frames).

        The predicted class has the highest value; a class without training tracks has minus
        infinity. The values are not log-probabilities, so a cross-entropy of them means little.
        """
        decided = self.machine.decision_function(_compute_rows(features))
        known = self.machine[-1].classes_
        if len(known) == 2:
            decided = np.stack([-decided, decided], axis=1)
        values = torch.full((len(features), self.classes), -torch.inf)
        values[:, torch.from_numpy(known)] = torch.from_numpy(decided).float()
        return values.to(features.device)


def _compute_rows(features: Tensor) -> np.ndarray:
    return compute_statistics(features.cpu().double()).numpy()
