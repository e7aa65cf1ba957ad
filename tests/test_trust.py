"""Checkpoints and configs of strangers: nothing is imported that the user has not named."""

import sys
from pathlib import Path

import pytest
import torch

from genreclf.errors import InputError
from genreclf.trust import build_part, list_targets

PAYLOAD = """
from pathlib import Path
Path({marker!r}).write_text("ran")

import os
import subprocess
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, size=4, inner=None):
        super().__init__()
        self.head = nn.Linear(size, classes)
        self.inner = inner

def make_net(classes):
    return Net(classes)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable module that writes a file when it is imported; yields that file."""
    marker = tmp_path / "marker"
    (tmp_path / "stranger.py").write_text(PAYLOAD.format(marker=str(marker)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    return marker


@pytest.mark.parametrize("trust", [[], ["strange"], ["stranger.Other"], ["numpy"]])
def test_an_unnamed_package_is_not_imported(package: Path, trust: list[str]) -> None:
    with pytest.raises(InputError, match=r"stranger.Net is not part of genreclf.*trust=\[stranger"):
        build_part({"_target_": "stranger.Net"}, trust, classes=2)
    assert not package.exists()


def test_a_nested_part_of_an_unnamed_package_is_not_imported(package: Path) -> None:
    settings = {
        "_target_": "genreclf.models.EfficientCNN",
        "cnn_dropout": [{"deep": {"_target_": "stranger.Net", "classes": 2}}],
    }
    with pytest.raises(InputError, match=r"stranger\.Net is not part"):
        build_part(settings, classes=2)
    assert not package.exists()


@pytest.mark.parametrize("trust", ["stranger", "stranger.Net"])
def test_a_named_package_is_built(package: Path, trust: str) -> None:
    inner = {"_target_": "genreclf.models.EfficientCNN", "classes": 2}
    net = build_part({"_target_": "stranger.Net", "size": 3, "inner": inner}, [trust], classes=2)
    assert net.head.weight.shape == (2, 3)
    assert type(net.inner).__name__ == "EfficientCNN"
    assert package.exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"_target_": "stranger.os.system", "_args_": ["touch {}"]},
        {"_target_": "stranger.subprocess.Popen", "_args_": [["touch", "{}"]]},
        {"_target_": "stranger.make_net", "classes": 2},
        {"_target_": "stranger.os"},
    ],
)
def test_a_named_package_lends_nothing_that_it_imports(
    package: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    """Trusting a package allows its classes: not its functions, nor what it has imported."""
    with pytest.raises(InputError, match="is not a class of a trusted package"):
        build_part(settings, ["stranger"])


def test_a_function_is_called_if_it_is_named_in_full(package: Path) -> None:
    target = "stranger.make_net"
    assert isinstance(build_part({"_target_": target}, [target], classes=2), torch.nn.Module)


def test_all_that_is_not_trusted_is_named_at_once_and_in_full(package: Path) -> None:
    """Classes of PyTorch too: trusting torch would trust every class of it."""
    settings = {"_target_": "stranger.Net", "inner": {"_target_": "torch.nn.Tanh"}}
    with pytest.raises(
        InputError,
        match=r"stranger.Net and torch.nn.Tanh are not part .*add trust=\[stranger.Net,torch.nn",
    ):
        build_part(settings, classes=2)
    with pytest.raises(InputError, match=r"torch.nn.Tanh is not part .* trust=\[torch.nn.Tanh\]"):
        build_part(settings, ["stranger"], classes=2)
    assert not package.exists()
    build_part(settings, ["stranger", "torch.nn.Tanh"], classes=2)


def test_a_single_text_is_one_name(package: Path) -> None:
    build_part({"_target_": "stranger.Net"}, "stranger", classes=2)
    assert isinstance(
        build_part({"_target_": "stranger.make_net"}, "stranger.make_net", classes=2),
        torch.nn.Module,
    )


def test_what_cannot_be_built_is_one_line() -> None:
    with pytest.raises(InputError, match=r"missing_package.Net cannot be imported.*PYTHONPATH"):
        build_part({"_target_": "missing_package.Net"}, ["missing_package"])
    with pytest.raises(InputError, match=r"collections\.Nothing cannot be imported"):
        build_part({"_target_": "collections.Nothing"}, ["collections"])
    with pytest.raises(InputError, match=r"EfficientCNN rejects its settings: TypeError.*typo"):
        build_part({"_target_": "genreclf.models.EfficientCNN", "typo": 1}, classes=2)
    with pytest.raises(InputError, match="settings without a _target_"):
        build_part({})
    with pytest.raises(InputError, match=r"genreclf\.models\.nn\.Linear is not part"):
        build_part({"_target_": "genreclf.models.nn.Linear"})


def test_targets_are_listed_at_any_depth() -> None:
    settings = {"_target_": "a.A", "b": [{"_target_": "b.B", "c": {"_target_": "c.C"}}, 1]}
    assert list_targets(settings) == ["a.A", "b.B", "c.C"]
