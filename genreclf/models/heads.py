"""Small classifiers on embeddings, or on statistics over time of other features.

They are trained in seconds. Statistics are each bin's mean, standard deviation and mean absolute
change over time; features of a single frame, such as embeddings, are used as they are.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genreclf.errors import InputError
from genreclf.models.layers import check_rates

UNSEEN = -30.0  # logit of a class without training tracks: a probability of 1e-13


def compute_statistics(features: Tensor) -> Tensor:
    """Compute statistics (batch, 3 * bins) of features (batch, bins, frames).

    Returns:
        For a single frame, the features themselves, (batch, bins).
    """
    if features.shape[2] == 1:
        return features[:, :, 0]
    change = features.diff(dim=2).abs().mean(dim=2)
    return torch.cat([features.mean(dim=2), features.std(dim=2), change], dim=1)


class Statistics(nn.Module):
    """`compute_statistics` as a layer."""

    def forward(self, features: Tensor) -> Tensor:
        """Compute statistics (batch, 3 * bins) of features (batch, bins, frames)."""
        return compute_statistics(features)


class Linear(nn.Module):
    """Multinomial logistic regression, which has a single best solution: `fit` finds it.

    Statistics are standardised; that and the regression are one linear layer afterwards.

    Args:
        classes: number of classes.
        C: inverse of the strength of the L2 penalty; smaller values suit many statistics and few
            tracks.

    Raises:
        InputError: `C` is not above 0.
    """

    min_size, without_epochs = 1, True

    def __init__(self, classes: int, C: float = 0.01) -> None:  # noqa: N803
        super().__init__()
        if not C > 0:
            raise InputError(f"model.C={C}: a number above 0 is needed")
        self.classes, self.C = classes, C
        self.statistics, self.head = Statistics(), nn.LazyLinear(classes)

    def fit(self, batches: Iterable[Tensor], labels: np.ndarray) -> None:
        """Fit to batches of features (batch, bins, frames) and to all labels (tracks,)."""
        from sklearn.linear_model import LogisticRegression  # slow to import
        from sklearn.preprocessing import StandardScaler

        rows = np.concatenate(
            [compute_statistics(batch.cpu().double()).numpy() for batch in batches]
        )
        scaler: Any = StandardScaler().fit(rows)
        regression: Any = LogisticRegression(C=self.C, max_iter=2000)
        regression.fit(scaler.transform(rows), labels)
        weight, bias = regression.coef_, regression.intercept_
        if len(weight) == 1:  # two classes: the second against the first
            weight, bias = np.stack([-weight[0], weight[0]]) / 2, np.array([-bias[0], bias[0]]) / 2
        weight = weight / scaler.scale_
        bias = bias - weight @ scaler.mean_
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.fill_(UNSEEN)
            self.head.weight[regression.classes_] = torch.from_numpy(weight).to(self.head.weight)
            self.head.bias[regression.classes_] = torch.from_numpy(bias).to(self.head.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Compute logits (batch, classes) of features (batch, bins, frames)."""
        return self.head(self.statistics(features))


class MLP(nn.Module):
    """Multilayer perceptron with one hidden layer.

    Args:
        classes: number of classes.
        hidden: number of hidden units.
        dropout: dropout rate of the statistics and of the hidden units.

    Raises:
        InputError: a rate is not in [0, 1), or `hidden` is not above 0.
    """

    min_size = 1

    def __init__(self, classes: int, hidden: int = 128, dropout: float = 0.4) -> None:
        super().__init__()
        check_rates(dropout=dropout)
        if hidden < 1:
            raise InputError(f"model.hidden={hidden}: at least 1 is needed")
        self.statistics = Statistics()
        self.trunk = nn.Sequential(
            nn.LazyBatchNorm1d(),
            nn.Dropout(dropout),
            nn.LazyLinear(hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(hidden, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Compute logits (batch, classes) of features (batch, bins, frames)."""
        return self.head(self.trunk(self.statistics(features)))
