"""W&B sweeps, without a server: the YAML, and the command line that an agent makes of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from conftest import TINY
from wandb.sdk.launch.sweeps import utils

from genreclf.__main__ import COMMANDS
from genreclf.commands import wandb_sweep

Printed = pytest.CaptureFixture[str]


def read_sweep(capsys: Printed, *arguments: str) -> dict[str, Any]:
    assert wandb_sweep.main(arguments) == 0
    return yaml.safe_load(capsys.readouterr().out)


def make_command_line(sweep: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """The arguments that W&B's agent starts `genreclf` with, for these values."""
    filled = utils.create_sweep_command_args(
        {"args": {key: {"value": value} for key, value in values.items()}}
    )
    known = {**filled, "env": ["/usr/bin/env"], "program": [sweep["program"]]}
    words = []
    for word in utils.create_sweep_command(sweep["command"]):
        words += known[word[2:-1]] if word.startswith("${") else [word]
    assert words[:2] == ["/usr/bin/env", "genreclf"]
    return words[2:]


def test_lists_and_intervals_become_parameters(capsys: Printed) -> None:
    sweep = read_sweep(
        capsys,
        *("model=cnn_gru,efficient_cnn", "optimizer.lr=tag(log, interval(1e-4, 1e-2))"),
        *("model.cnn_dropout=interval(0.1, 0.5)", "patience=interval(5, 9)", "ema=null,0.995"),
        *("batch_size=range(8, 25, 8)", "oversampling.genres=[Rock],[]", "fast=true,false"),
        *("data=folder", "data.root=music", "logger.project=mine", "--method", "random"),
    )
    assert sweep["parameters"] == {
        "model": {"values": ["cnn_gru", "efficient_cnn"]},
        "optimizer.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "model.cnn_dropout": {"distribution": "uniform", "min": 0.1, "max": 0.5},
        "patience": {"distribution": "int_uniform", "min": 5, "max": 9},
        "ema": {"values": ["null", 0.995]},
        "batch_size": {"values": [8, 16, 24]},
        "oversampling.genres": {"values": ["[Rock]", "[]"]},
        "fast": {"values": [True, False]},
    }
    assert (sweep["method"], sweep["project"]) == ("random", "mine")
    assert sweep["command"] == [
        *("${env}", "${program}", "train", "logger=wandb", "data=folder", "data.root=music"),
        *("logger.project=mine", "${args_no_hyphens}"),
    ]


def test_options_of_your_own_are_searched(capsys: Printed, tmp_path: Path) -> None:
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "mine.yaml").write_text("# Mine.\ndefaults:\n  - adam\n")
    folder = ["--config-dir", str(tmp_path)]
    sweep = read_sweep(capsys, "optimizer=adam,mine", *folder)
    assert sweep["parameters"] == {"optimizer": {"values": ["adam", "mine"]}}
    assert sweep["command"][3:5] == folder


@pytest.mark.parametrize(
    ("monitor", "metric"),
    [
        ("val/loss", {"name": "val/loss", "goal": "minimize"}),
        ("val/accuracy", {"name": "val/accuracy", "goal": "maximize"}),
        ("last", {"name": "val/loss", "goal": "minimize"}),
    ],
)
def test_the_metric_is_the_one_that_chooses_the_epoch(
    capsys: Printed, monitor: str, metric: dict[str, str]
) -> None:
    assert read_sweep(capsys, "seed=0,1", f"monitor={monitor}")["metric"] == metric


@pytest.mark.slow
def test_an_agents_command_trains(
    capsys: Printed,
    command: Callable[..., str],
    music: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever values W&B picks, the run takes them, and logs to the run that the agent made."""
    data = ["data=folder", f"data.root={music}", "data.duration=2.5", *TINY, f"outputs={tmp_path}"]
    sweep = read_sweep(
        capsys,
        *("model=cnn_gru,efficient_cnn", "optimizer.lr=interval(1e-5,1e-2)", "ema=null,0.9"),
        *(*data, "trainer.max_epochs=1"),
    )
    values = {"model": "efficient_cnn", "optimizer.lr": 1.25e-05, "ema": "null"}
    name, *arguments = make_command_line(sweep, values)
    assert name in COMMANDS
    found = []
    for run_id in ("first1", "again1"):  # the second agent gets the finished run, from its result
        wandb.teardown()  # an agent starts a process for each run
        monkeypatch.setenv("WANDB_RUN_ID", run_id)
        result = json.loads(Path(command(name, *arguments)).read_text())
        found += [path.name.rpartition("-")[2] for path in tmp_path.glob("train/*/wandb/offline-*")]
    assert result["config"]["optimizer"]["lr"] == 1.25e-05
    assert result["config"]["ema"] is None
    assert set(found) == {"first1", "again1"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["optimizer.lr=1e-3"], "nothing to search: give a key several values"),
        (["mdel=cnn_gru,svm"], "Could not override 'mdel'. Did you mean model?"),
        (["model=cnn_gru,cnn"], "Could not find 'model/cnn'"),
        (["optimizer.lr=interval(1, 0.1)"], "the lower number comes first"),
        (["optimizer.lr=tag(log, interval(0, 1))"], "a logarithmic scale begins above 0"),
        (["model=interval(0, 1)"], "needs a key whose default is a number"),
        (["optimizer.lr=interval(0, 1)", "--method=grid"], "--method grid needs a list"),
        (["model=glob(*)"], "model: list the values"),
    ],
)
def test_what_cannot_be_searched_is_one_line(
    capsys: Printed, arguments: list[str], line: str
) -> None:
    assert wandb_sweep.main(arguments) == 1
    error = capsys.readouterr().err
    assert line in error
    assert error.startswith("genreclf: ")
    assert len(error.splitlines()) == 1
