from typing import Any

import pytest
import torch

from genreclf.errors import InputError
from genreclf.models import CNNRNN, AttentiveCNN, ConventionalCNN, EfficientCNN, count_parameters


def test_parameter_counts_are_the_papers() -> None:
    assert count_parameters(EfficientCNN(8)) == 16_456
    assert count_parameters(CNNRNN(8)) == 38_889
    assert count_parameters(CNNRNN(8, axis="frequency")) == 38_889
    assert count_parameters(CNNRNN(8, cell="lstm")) == 46_185
    assert count_parameters(CNNRNN(8, unused_gate=True)) == 39_050
    assert count_parameters(CNNRNN(8, cell="lstm", unused_gate=True)) == 46_346
    assert count_parameters(ConventionalCNN(8)) == 3_404_648 > 1_000_000


@pytest.mark.parametrize("shape", [(8, 8), (12, 40), (128, 130)])
@pytest.mark.parametrize(
    "net",
    [EfficientCNN(5), CNNRNN(5), CNNRNN(5, axis="frequency"), CNNRNN(5, cell="lstm")],
    ids=["efficient", "gru-time", "gru-frequency", "lstm"],
)
def test_any_size_from_8_by_8_trains(net: torch.nn.Module, shape: tuple[int, int]) -> None:
    assert net.min_size == 8
    check_training(net, shape)


@pytest.mark.parametrize("shape", [(16, 16), (17, 40), (128, 130)])
def test_the_conventional_cnn_trains_from_16_by_16(shape: tuple[int, int]) -> None:
    assert ConventionalCNN.min_size == 16
    check_training(ConventionalCNN(5), shape)


@pytest.mark.parametrize("shape", [(16, 16), (17, 40), (40, 130), (128, 64), (200, 20)])
def test_the_attentive_cnn_trains_from_16_by_16(shape: tuple[int, int]) -> None:
    assert AttentiveCNN.min_size == 16
    assert count_parameters(AttentiveCNN(8)) == 955_000
    check_training(AttentiveCNN(5), shape)


def test_attentive_statistics_are_means_and_deviations_over_time() -> None:
    net, clips = AttentiveCNN(4).eval(), torch.randn(3, 128, 80)
    sequence = net._compute_sequence(clips)
    weights = net._compute_weights(sequence)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(3, 304))
    torch.testing.assert_close(net.compute_attention(clips), weights.mean(dim=1))
    mean = (weights * sequence).sum(dim=2, keepdim=True)
    deviation = (weights * (sequence - mean).square()).sum(dim=2).clamp(min=1e-5).sqrt()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(net._compute_weights(sequence).sum(dim=2), torch.ones(3, 304))
    statistics = torch.cat([mean.squeeze(2), deviation], dim=1)
    expected = net.classifier(net.norm(statistics))
    torch.testing.assert_close(net(clips), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"channels": [8, 8]}, "four channels and four kernels are needed"),
        ({"kernels": [9, 4, 3, 3]}, "odd kernels and frames"),
        ({"kernels": [[], 5, 3, 3]}, "odd kernels and frames"),
        ({"frames": 2}, "frames=2"),
        ({"squeeze": -1}, "squeeze=-1"),
        ({"encoders": 1, "mixed": 30}, "4 must divide"),
        ({"attention": -1}, "attention=-1"),
        ({"segments": 0}, "segments=0"),
    ],
)
def test_the_attentive_cnn_refuses_other_settings(setting: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        AttentiveCNN(4, **setting)


@pytest.mark.parametrize(
    ("setting", "more"),
    [
        ({"kernels": [[3, 9, 15], 5, 3, 3]}, 3 * (10 * 3 + 11 * 9 + 11 * 15 - 32 * 9)),
        ({"frames": 5}, 2 * (32 * 9 + 32 * 64 * 5 + 64 * 128 * 3 + 128 * 224 * 3)),
        ({"squeeze": 8}, sum(2 * c * (c // 8) + c // 8 + c for c in (32, 64, 128, 224))),
        ({"encoders": 1}, 4 * (304 * 304 + 304) + 2 * (304 * 304 + 304) + 4 * 304),
        ({"attention": 0}, -2 * 304 * 64 - 64 - 304),
    ],
)
def test_the_attentive_cnn_with_more_parts_trains(setting: dict[str, Any], more: int) -> None:
    assert count_parameters(AttentiveCNN(8, **setting)) == 955_000 + more
    check_training(AttentiveCNN(5, **setting), (40, 50))


def test_without_attention_every_step_weighs_the_same() -> None:
    net, clips = AttentiveCNN(4, attention=0).eval(), torch.randn(2, 40, 64)
    torch.testing.assert_close(net.compute_attention(clips), torch.full((2, 8), 1 / 8))
    sequence = net._compute_sequence(clips)
    deviation = sequence.var(2, correction=0).clamp(min=1e-5).sqrt()
    expected = net.classifier(net.norm(torch.cat([sequence.mean(2), deviation], dim=1)))
    torch.testing.assert_close(net(clips), expected, atol=1e-4, rtol=1e-4)


def test_parts_of_a_clip_are_scored_each_for_itself_outside_of_training() -> None:
    net, clips = AttentiveCNN(4, segments=3), torch.randn(2, 40, 64)
    plain = AttentiveCNN(4)
    plain.load_state_dict(net.state_dict())
    plain.eval(), net.eval()
    parts = [plain(clips[:, :, first : first + 32]) for first in (0, 16, 32)]
    torch.testing.assert_close(net(clips), torch.stack(parts).mean(dim=0))
    assert net(clips[:, :, :16]).shape == (2, 4)  # too short for parts


def check_training(net: torch.nn.Module, shape: tuple[int, int]) -> None:
    logits = net(torch.randn(3, *shape))
    assert logits.shape == (3, 5)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize(("axis", "steps"), [("time", 15), ("frequency", 16)])
def test_attention_weights_are_those_of_the_prediction(axis: str, steps: int) -> None:
    net, clips = CNNRNN(4, axis=axis).eval(), torch.randn(3, 128, 120)
    weights = net.compute_attention(clips)
    assert weights.shape == (3, steps)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))
    pooled = (weights[:, :, None] * net._compute_sequence(clips)).sum(dim=1)
    torch.testing.assert_close(net.classifier(pooled), net(clips))


def test_the_unused_gate_changes_no_number() -> None:
    logits = []
    for gate in (False, True):
        torch.manual_seed(0)
        logits.append(CNNRNN(4, unused_gate=gate).eval()(torch.ones(1, 16, 16)))
    torch.testing.assert_close(*logits)


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
