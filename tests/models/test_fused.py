import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from genreclf.models import CNNRNN, ConventionalCNN, conv_norm_relu, fused
from genreclf.models.fused import FusedSequential, fuse


def net_with_any_gains(make: type[nn.Module]) -> nn.Module:
    """Negative gains of batch norm are rare, and go another way."""
    torch.manual_seed(0)
    net = make(8)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 1)
            module.weight.data[::3] *= -1
            nn.init.uniform_(module.bias, -1, 1)
        elif isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    return net


def trained_once(net: nn.Module, features: Tensor) -> Tensor:
    logits = net.train()(features)
    logits.square().sum().backward()
    return logits.detach()


@pytest.mark.parametrize("make", [CNNRNN, ConventionalCNN])
@pytest.mark.parametrize("part_size", [30_000, 10**9], ids=["clip by clip", "all clips"])
@pytest.mark.parametrize("kept", [0, 10**9], ids=["repeated", "kept"])
def test_the_fused_net_is_the_plain_one_but_for_rounding(
    make: type[nn.Module], part_size: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are compared with the plain net in double precision."""
    monkeypatch.setattr(conv_norm_relu, "PART_SIZE", part_size)
    monkeypatch.setattr(conv_norm_relu, "KEPT", kept)
    plain = net_with_any_gains(make)
    fast, exact = fuse(copy.deepcopy(plain)), copy.deepcopy(plain).double()
    features = torch.randn(5, 33, 47)  # odd sizes: the last bin and frame are not pooled
    expected = trained_once(exact, features.double()).float()
    torch.testing.assert_close(trained_once(fast, features), expected, atol=1e-5, rtol=0)
    gradients = [parameter.grad.float() for parameter in exact.parameters()]
    greatest = max(float(gradient.abs().max()) for gradient in gradients)
    for parameter, gradient in zip(fast.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-3 * greatest, rtol=1e-3)
    for (name, buffer), (_, other) in zip(fast.named_buffers(), exact.named_buffers(), strict=True):
        torch.testing.assert_close(buffer, other.to(buffer.dtype), atol=1e-5, rtol=1e-5, msg=name)
    torch.testing.assert_close(
        fast.eval()(features), exact.eval()(features.double()).float(), atol=1e-5, rtol=0
    )


def test_parameters_keep_their_names() -> None:
    net = CNNRNN(8)
    state = copy.deepcopy(net.state_dict())
    fused_net = fuse(net)
    assert isinstance(fused_net.trunk.block2, FusedSequential)
    assert list(fused_net.state_dict()) == list(state)
    fuse(CNNRNN(8)).load_state_dict(state)


def test_moments_of_a_long_clip_are_exact() -> None:
    """PyTorch's own lose three digits here: see `_compute_moments`."""
    values = (torch.randn(2, 3, 128, 1292) + 5).to(memory_format=torch.channels_last)
    mean, variance = conv_norm_relu._compute_moments(values)
    of_each = values.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean, of_each.mean(1).float(), atol=0, rtol=1e-6)
    torch.testing.assert_close(variance, of_each.var(1, correction=0).float(), atol=0, rtol=1e-6)


@pytest.mark.parametrize("pool", [(), (nn.MaxPool2d(2),)], ids=["no pool", "pool"])
def test_gradients_reach_what_came_before(pool: tuple[nn.Module, ...]) -> None:
    net = FusedSequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), *pool)
    plain = nn.Sequential(*copy.deepcopy(list(net)))
    one, other = (torch.linspace(-1, 1, 4 * 2 * 9 * 8).sin().reshape(4, 2, 9, 8) for _ in range(2))
    for values, module in ((one.requires_grad_(), net), (other.requires_grad_(), plain)):
        module(values).square().sum().backward()
    torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "modules",
    [
        (nn.Conv2d(1, 2, 3, stride=2), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2)),
        (nn.Conv2d(1, 2, 3, padding="same"), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2)),
        (nn.Conv2d(1, 2, 3), nn.SyncBatchNorm(2), nn.ReLU(), nn.MaxPool2d(2)),
        (nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, affine=False), nn.ReLU(), nn.MaxPool2d(2)),
        (nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GELU(), nn.MaxPool2d(2)),
        (nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.MaxPool2d(2)),
    ],
)
def test_what_is_not_the_papers_block_goes_one_by_one(
    modules: tuple[nn.Module, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "apply_conv_norm_relu", None)  # a call would fail
    values = torch.randn(3, 1, 12, 12)
    expected = nn.Sequential(*copy.deepcopy(modules)).eval()(values)
    torch.testing.assert_close(FusedSequential(*modules).eval()(values), expected)


def test_other_precisions_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "apply_conv_norm_relu", None)
    net = fuse(CNNRNN(8)).eval()
    assert net.double()(torch.randn(2, 16, 16).double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        net.float()(torch.randn(2, 16, 16))


class OwnNet(nn.Module):
    """A network as people write them: an activation used twice, and `view`."""

    def __init__(self) -> None:
        super().__init__()
        relu = nn.ReLU()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), relu, nn.MaxPool2d(2)),
            *(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), relu, nn.MaxPool2d(2)),
        )
        self.head = nn.Linear(6 * 6 * 6, 3)

    def forward(self, features: Tensor) -> Tensor:
        values = self.layers(features[:, None])
        return self.head(values.view(len(values), -1))


def test_a_module_used_twice_stays_in_both_places() -> None:
    torch.manual_seed(0)
    plain, features = OwnNet(), torch.randn(3, 30, 30)
    fast = fuse(copy.deepcopy(plain))
    assert isinstance(fast.layers, FusedSequential)
    assert fast.layers[2] is fast.layers[6]
    assert list(fast.state_dict()) == list(plain.state_dict())
    expected = trained_once(plain, features)
    torch.testing.assert_close(trained_once(fast, features), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("normalise", [nn.utils.spectral_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_layers_with_hooks_are_not_fused(normalise: Callable[[nn.Module], nn.Module]) -> None:
    """The hooks compute the weight; without them it would never be trained."""
    torch.manual_seed(0)
    layers = [normalise(nn.Conv2d(1, 4, 3)), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    net = fuse(nn.Sequential(*layers))
    weight = next(value for name, value in net.named_parameters() if name.endswith(("_orig", "_v")))
    for _ in range(2):
        net.zero_grad()
        net(torch.randn(2, 1, 9, 9)).square().mean().backward()
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0
