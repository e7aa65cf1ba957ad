"""What cannot be made from a config is one line: the key, the target and what is needed."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from genreclf.commands.instantiation import instantiate, locate_target
from genreclf.commands.parts import _list_named
from genreclf.errors import InputError

MODULE = """
import torch
from torch import nn
from pytorch_lightning import Callback


class SmallNet(nn.Module):
    def __init__(self, classes, sizes=(1,)):
        super().__init__()
        self.sizes, self.head = sizes, nn.Linear(4, classes)


class Buggy(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = self.missing


class Plain:
    def __call__(self, logits, targets):
        return 0


class Noise(nn.Module):
    pass


class Loud(nn.Module):
    def __init__(self, silence):
        super().__init__()
        self.silence = silence


def make_net(num_classes, width=8):
    return nn.Linear(width, num_classes)


def my_loss(logits, targets):
    return 0


def compute(waveform, rate):
    return waveform
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "parts.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("parts", "broken"):
        sys.modules.pop(name, None)


def make(group: str, name: str = "", passed: dict[str, Any] | None = None, **settings: Any) -> Any:
    """Make a part from a config as it is in a run."""
    part = {"_target_" if key == "target" else key: value for key, value in settings.items()}
    config = OmegaConf.create({group: {name: part} if name else part})
    return instantiate(config[group][name] if name else config[group], **(passed or {}))


@pytest.mark.parametrize(
    ("key", "target", "line"),
    [
        (
            "model._target_",
            "parts.SmallNett",
            "no SmallNett in parts; did you mean parts.SmallNet?",
        ),
        ("model._target_", "prts.SmallNet", "there is no prts, or it is not installed"),
        ("loss._target_", "torch.nn.CrossEntropyLos", "did you mean torch.nn.CrossEntropyLoss?"),
        ("loss._target_", "broken.Loss", "fails in broken.py, line 1: ModuleNotFoundError: No mod"),
        ("loss._target_", "parts.SmallNet.a.b", "there is no a in parts.SmallNet"),
    ],
)
def test_c10_d18_a_misspelled_target_is_one_line(key: str, target: str, line: str) -> None:
    """C10, D18: the line names the key, what is missing, and the nearest name."""
    with pytest.raises(InputError) as error:
        locate_target(key, target)
    assert str(error.value).startswith(f"{key}={target}: ")
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_c10_every_target_of_a_part_is_located() -> None:
    """C10: the same line for a class inside the settings of another."""
    layer = {"_target_": "torch.nn.Flaten"}
    with pytest.raises(InputError, match=r"^model\.0\._target_|did you mean torch.nn.Flatten"):
        make("model", target="torch.nn.Sequential", _args_=[layer])


@pytest.mark.parametrize(
    ("group", "settings", "passed", "line"),
    [
        (
            *("model", {"target": "parts.SmallNet", "_partial_": True}, {"classes": 2}),
            "model: parts.SmallNet with _partial_: true is a function; a torch.nn.Module is needed",
        ),
        (
            *("loss", {"target": "parts.my_loss", "_partial_": True}, {}),
            "loss: parts.my_loss with _partial_: true is a function; a torch.nn.Module is needed",
        ),
        (
            *("loss", {"target": "parts.my_loss"}, {}),
            "missing 2 required positional arguments: 'logits' and 'targets'; a torch.nn.Module",
        ),
        (
            *("loss", {"target": "parts.Plain"}, {}),
            "loss: parts.Plain gives a Plain; a torch.nn.Module is needed, whose forwa",
        ),
        (
            *("features", {"target": "parts.compute", "_partial_": True}, {}),
            "a class with name, sample_rate, duration, shape and __call__ is needed",
        ),
        (
            *("model", {"target": "parts.Buggy"}, {"classes": 2}),
            "model: parts.Buggy fails in parts.py, line 16: AttributeError: 'Buggy' object ",
        ),
        (
            *("model", {"target": "parts.make_net"}, {"classes": 2}),
            "takes no argument classes, which genreclf passes (the number of genres); name a func",
        ),
        (
            *("loss", {"target": "torch.nn.CrossEntropyLoss", "weight": [1.0, 2.0]}, {}),
            "where a tensor is needed, write a class that makes one of the list",
        ),
    ],
)
def test_c11_c12_d16_d18_a_part_of_the_wrong_kind_is_one_line(
    group: str, settings: dict[str, Any], passed: dict[str, Any], line: str
) -> None:
    """C11, C12, D16, D18: no traceback; the line says what the group needs."""
    with pytest.raises(InputError) as error:
        make(group, passed=passed, **settings)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("group", "target", "line"),
    [
        (
            "metric",
            "parts.my_loss",
            "metric.mine: parts.my_loss with _partial_: true is a f",
        ),
        (
            "callback",
            "parts.Plain",
            "callback.mine: parts.Plain gives a Plain; a pytorch_lig",
        ),
    ],
)
def test_c12_metrics_and_callbacks_are_checked_by_name(group: str, target: str, line: str) -> None:
    """C12: a function is no metric, and not every class is a callback."""
    partial = {"_partial_": True} if group == "metric" else {}
    with pytest.raises(InputError) as error:
        make(group, "mine", target=target, **partial)
    assert str(error.value).startswith(line)


def test_d16_a_class_with_num_classes_gets_an_example() -> None:
    """D16: what to write for a model that names the number of genres differently."""
    with pytest.raises(
        InputError, match=r"def make\(classes\): return make_net\(num_classes=class"
    ):
        make("model", target="parts.make_net", passed={"classes": 2})


def test_d17_silence_is_passed_to_what_takes_it() -> None:
    """D17: an augmentation of your own need not take `silence`."""
    assert make("augmentation", target="parts.Loud", passed={"silence": (1.0,)}).silence == [1.0]
    for target in ("parts.Noise", "torch.nn.Dropout"):
        assert make("augmentation", target=target, passed={"silence": (1.0,)})


def test_lists_in_settings_arrive_as_lists() -> None:
    """D18: code that knows nothing of OmegaConf gets plain values."""
    model = make("model", target="parts.SmallNet", sizes=[1, 2], passed={"classes": 3})
    assert type(model.sizes) is list


def test_d14_a_metric_without_a_name_says_what_to_write() -> None:
    """D14: _target_ at the top of a metric's file was 'Cannot instantiate config of type str'."""
    config = OmegaConf.create({"metric": {"_target_": "parts.Kappa"}, "callback": {"a": 3}})
    line = r"metric: a metric needs a name: .* \'\+metric.NAME=\{_target_: parts.Kappa\}\'"
    with pytest.raises(InputError, match=line):
        _list_named(config.metric)
    with pytest.raises(InputError, match=r"callback.a=3: a group of settings with _target_ is nee"):
        _list_named(config.callback)


def test_d21_a_value_that_refers_to_another_key_is_not_blamed() -> None:
    """D21: data.duration=0 was reported as features.duration=0."""
    config = OmegaConf.create(
        {
            "data": {"duration": 0},
            "features": {
                "_target_": "genreclf.audio.Mel",
                "duration": "${oc.select:data.duration,30.0}",
            },
        }
    )
    with pytest.raises(InputError, match=r"^data\.duration=0: set a number above 0"):
        instantiate(config.features)
