"""A checkpoint says which code of the user it was trained with."""

import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from genreclf.audio import Mel
from genreclf.audio.descriptions import describe_features
from genreclf.errors import InputError
from genreclf.models.checkpoint import load_checkpoint
from genreclf.models.own_code import identify_own_code

MODULE = """
from torch import nn


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(4, classes)

    def forward(self, features):
        return self.head(features.mean(dim=1)[:, :4])
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "coded.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "coded.py"
    sys.modules.pop("coded", None)


def change(module: Path, old: str, new: str) -> None:
    """Edit the module, which is imported again."""
    module.write_text(module.read_text().replace(old, new))
    sys.modules.pop("coded", None)
    importlib.invalidate_caches()


def write(folder: Path, **described: Any) -> Path:
    """Write a checkpoint of the model as training does."""
    model, features = {"_target_": "coded.Net"}, describe_features(Mel())
    net = importlib.import_module("coded").Net(2)
    known = {"format": 1, "classes": ["a", "b"], "bins": 128, "trained_on": {}}
    code = identify_own_code(model, features)
    torch.save(
        {
            "genreclf": {**known, "model": model, "features": features, "code": code, **described},
            "state_dict": {f"net.{key}": value for key, value in net.state_dict().items()},
            "epoch": 0,
        },
        folder / "best.ckpt",
    )
    return folder


def test_a4_changed_code_of_a_model_is_one_warning(
    module: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A4: after an edit, predict and evaluate gave other scores without a word."""
    caplog.set_level(logging.WARNING)
    folder = write(tmp_path)
    load_checkpoint(folder, ["coded"])
    assert not caplog.records
    change(module, "mean(dim=1)", "amax(dim=1)")
    load_checkpoint(folder, ["coded"])
    (record,) = caplog.records
    assert "the code of coded.Net has changed since this model was trained" in record.getMessage()
    load_checkpoint(write(tmp_path, code={}), ["coded"])  # of an earlier version
    assert len(caplog.records) == 1


def test_d22_a_renamed_layer_is_one_line(module: Path, tmp_path: Path) -> None:
    """D22: the line names the class whose code does not fit, without \\n and \\t."""
    folder = write(tmp_path)
    change(module, "self.head", "self.last")
    with pytest.raises(InputError) as error:
        load_checkpoint(folder, ["coded"])
    text = str(error.value)
    assert "its weights do not fit the code of coded.Net: " in text
    assert 'Missing key(s) in state_dict: "last.weight"' in text
    assert "\\n" not in text
    assert "\n" not in text


def test_d22_a_missing_folder_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        load_checkpoint(tmp_path / "nowhere")
