"""A loss: Poly-1 (Leng and others 2022, arXiv:2204.12511)."""

from torch import Tensor, nn
from torch.nn import functional


class Poly1(nn.Module):
    """Cross-entropy plus `epsilon * (1 - p)`, with p the probability of the true genre."""

    def __init__(self, epsilon: float = 1.0) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the mean loss of a batch.

        Args:
            logits: (batch, classes).
            targets: classes (batch,), or probabilities (batch, classes), as with mixup.
        """
        if targets.ndim == 1:
            targets = functional.one_hot(targets, logits.shape[1]).float()
        probability = (logits.softmax(dim=1) * targets).sum(dim=1)
        return functional.cross_entropy(logits, targets) + self.epsilon * (1 - probability).mean()
