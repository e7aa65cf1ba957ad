"""Networks: features (batch, bins, frames) -> logits (batch, classes).

A config, and a checkpoint, name one as `genreclf.models.NAME`.
"""

from torch import nn

from genreclf.models.attentive import AttentiveCNN
from genreclf.models.paper import CNNRNN, ConventionalCNN, EfficientCNN
from genreclf.models.svm import SVM

__all__ = ["CNNRNN", "SVM", "AttentiveCNN", "ConventionalCNN", "EfficientCNN", "parameter_count"]


def parameter_count(net: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
