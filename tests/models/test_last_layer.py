"""The last layer, which export calibrates, is the one whose outputs are the logits."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genreclf.errors import InputError
from genreclf.models import CNNRNN, SVM, AttentiveCNN, ConventionalCNN, EfficientCNN
from genreclf.models.checkpoint import find_last_layer

CLIPS = torch.randn(2, 32, 64, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Linear layers on the mean over time; `forward` is that of one of them, or a mix."""

    def __init__(self, forward: Any) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 4), nn.Linear(32, 4)
        self.frozen = nn.Dropout().eval()
        self._forward = forward

    def forward(self, features: Tensor) -> Tensor:
        return self._forward(self, features.mean(dim=2), features.transpose(1, 2))


def attend(net: Net, _: Tensor, frames: Tensor) -> Tensor:
    return (net.first(frames).softmax(dim=1) * net.second(frames)).sum(dim=1)


@pytest.mark.parametrize(
    ("forward", "name"),
    [
        (lambda net, mean, _: net.second(mean), "second"),
        (lambda net, mean, _: net.second(mean) + net.first(mean), None),
        (lambda net, mean, _: (net.second(mean), net.first(mean))[1], "first"),
        (lambda net, mean, _: (net.second(mean + 1), net.second(mean))[1], None),
        (attend, None),
    ],
    ids=["last", "sum", "not the last one defined", "called twice", "attention per class"],
)
def test_a_layer_is_the_last_one_only_if_it_gives_the_logits(forward: Any, name: str) -> None:
    """Dividing the weights of another layer by a temperature would not divide the logits."""
    net = Net(forward)
    assert find_last_layer(net, 4, CLIPS) == name
    assert (net.training, net.frozen.training) == (True, False)


@pytest.mark.parametrize(("named", "line"), [("first", "are not the logits"), ("x", "no layer")])
def test_a_wrong_name_is_refused(named: str, line: str) -> None:
    net = Net(lambda net, mean, _: net.second(mean))
    net.last_layer = named  # pyright: ignore
    with pytest.raises(InputError, match=line):
        find_last_layer(net, 4, CLIPS)
    net.last_layer = "second"  # pyright: ignore
    assert find_last_layer(net, 4, CLIPS) == "second"


@pytest.mark.parametrize(
    ("net", "name"),
    [
        (AttentiveCNN(4, [4, 4, 4, 4], mixed=8), "classifier.1"),
        (CNNRNN(4), "classifier.1"),
        (ConventionalCNN(4), "classifier.7"),
        (EfficientCNN(4), "classifier.4"),
        (SVM(4), None),
    ],
    ids=lambda each: type(each).__name__,
)
def test_the_last_layers_of_our_models(net: nn.Module, name: str | None) -> None:
    assert find_last_layer(net, 4, CLIPS.repeat(1, 4, 2)) == name
