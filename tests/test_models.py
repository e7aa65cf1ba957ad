import pytest
import torch

from genreclf.errors import InputError
from genreclf.models import CNNRNN, EfficientCNN, parameter_count


def test_parameter_counts_are_the_papers() -> None:
    assert parameter_count(EfficientCNN(8)) == 16_456
    assert parameter_count(CNNRNN(8)) == 38_889
    assert parameter_count(CNNRNN(8, axis="frequency")) == 38_889
    assert parameter_count(CNNRNN(8, cell="lstm")) == 46_185


@pytest.mark.parametrize("shape", [(8, 8), (12, 40), (128, 130)])
@pytest.mark.parametrize(
    "net",
    [EfficientCNN(5), CNNRNN(5), CNNRNN(5, axis="frequency"), CNNRNN(5, cell="lstm")],
    ids=["efficient", "gru-time", "gru-frequency", "lstm"],
)
def test_any_size_from_8_by_8_trains(net: torch.nn.Module, shape: tuple[int, int]) -> None:
    logits = net(torch.randn(3, *shape))
    assert logits.shape == (3, 5)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_the_sequence_axis_is_what_the_rnn_runs_over() -> None:
    lengths = {}
    for axis in ("time", "frequency"):
        net = CNNRNN(8, axis=axis).eval()
        net.rnn.register_forward_hook(
            lambda _, inputs, __, axis=axis: lengths.update({axis: inputs[0].shape[1]})
        )
        net(torch.randn(1, 128, 1292))
    assert lengths == {"time": 161, "frequency": 16}


def test_evaluation_is_deterministic_and_by_clip() -> None:
    net = CNNRNN(4).eval()
    clips = torch.randn(3, 32, 48)
    alone = torch.cat([net(clip[None]) for clip in clips])
    torch.testing.assert_close(net(clips), alone)


@pytest.mark.parametrize(
    "arguments",
    [{"cell": "rnn"}, {"axis": "depth"}, {"cnn_dropout": 1.0}, {"classifier_dropout": -0.1}],
)
def test_impossible_settings_are_refused(arguments: dict) -> None:
    with pytest.raises(InputError, match=f"model.{next(iter(arguments))}"):
        CNNRNN(4, **arguments)
