import pytest
import torch
from torch import nn

from genreclf.errors import InputError
from genreclf.training import optimizers


@pytest.fixture
def optimizer() -> torch.optim.Optimizer:
    return optimizers.make_sgd(
        [nn.Parameter(torch.ones(1))], lr=1.0, momentum=0.9, nesterov=True, weight_decay=0.0
    )


def test_flat_settings_reach_the_optimizers() -> None:
    parameters = [nn.Parameter(torch.ones(1))]
    adamw = optimizers.make_adamw(parameters, lr=0.1, beta1=0.8, beta2=0.98, weight_decay=0.03)
    assert adamw.defaults["betas"] == (0.8, 0.98)
    assert (adamw.defaults["lr"], adamw.defaults["weight_decay"]) == (0.1, 0.03)
    adam = optimizers.make_adam(parameters, lr=0.1, beta1=0.8, beta2=0.98, weight_decay=0.03)
    assert type(adam) is torch.optim.Adam
    sgd = optimizers.make_sgd(parameters, lr=0.1, momentum=0.5, nesterov=False, weight_decay=0.03)
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"]) == (0.5, False)


def test_cosine_rises_then_falls_to_its_floor(optimizer: torch.optim.Optimizer) -> None:
    scheduler = optimizers.follow_cosine(optimizer, epochs=20, warmup=0.2, floor=0.1)["scheduler"]
    rates = []
    for _ in range(23):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[12] == pytest.approx(0.55)  # halfway down
    assert rates[20:] == pytest.approx([0.1] * 3)


@pytest.mark.parametrize(
    ("monitor", "mode", "value", "rate"),
    [
        ("val/loss", None, [1.0, 2.0, 2.0], 0.1),
        ("val/loss", None, [3.0, 2.0, 1.0], 1.0),
        ("val/accuracy", None, [0.5, 0.4, 0.4], 0.1),
        ("val/accuracy", "min", [0.5, 0.4, 0.3], 1.0),
    ],
)
def test_plateau_lowers_the_rate_where_nothing_gets_better(
    optimizer: torch.optim.Optimizer, monitor: str, mode: str | None, value: list, rate: float
) -> None:
    config = optimizers.reduce_on_plateau(optimizer, monitor, patience=1, factor=0.1, mode=mode)
    assert config["monitor"] == monitor
    for figure in value:
        config["scheduler"].step(figure)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_impossible_schedules_are_refused(optimizer: torch.optim.Optimizer) -> None:
    with pytest.raises(InputError, match="warmup=1"):
        optimizers.follow_cosine(optimizer, epochs=5, warmup=1.0, floor=0.0)
    with pytest.raises(InputError, match="mode=best"):
        optimizers.reduce_on_plateau(optimizer, "val/loss", patience=1, factor=0.1, mode="best")
    for mode in (None, "max"):
        with pytest.raises(InputError, match="monitor=loss"):
            optimizers.reduce_on_plateau(optimizer, "loss", patience=1, factor=0.1, mode=mode)
