"""hydra/sweeper=optuna: search space, order of trials, resuming, failures."""

import json
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from hydra.core.override_parser.overrides_parser import OverridesParser

from genreclf.commands import train
from genreclf.commands.optuna_sweeper import make_distribution
from genreclf.errors import InputError

optuna = pytest.importorskip("optuna")

SEARCH = ["-m", "hydra/sweeper=optuna", "optimizer.lr=tag(log, interval(1e-4, 1e-2))"]
Command = Callable[..., str]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configs of the runs, which train nothing: the best learning rate is 3e-3."""
    configs: list[Any] = []

    def run(config: Any) -> float:
        configs.append(config)
        return abs(config.optimizer.lr - 3e-3)

    monkeypatch.setattr(train, "run", run)
    return configs


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("interval(0, 1)", optuna.distributions.FloatDistribution(0, 1)),
        ("tag(log, interval(1e-4, 1))", optuna.distributions.FloatDistribution(1e-4, 1, log=True)),
        ("int(interval(1, 9))", optuna.distributions.IntDistribution(1, 9)),
        ("range(2, 9, 2)", optuna.distributions.IntDistribution(2, 8, step=2)),
        ("range(0.5, 2, 0.5)", optuna.distributions.FloatDistribution(0.5, 1.5, step=0.5)),
        ("choice(a, 1)", optuna.distributions.CategoricalDistribution(["a", "1"])),
        ("[1],[2,3]", optuna.distributions.CategoricalDistribution(["[1]", "[2,3]"])),
        ("true,null", optuna.distributions.CategoricalDistribution(["True", "null"])),
    ],
)
def test_the_search_space_is_in_hydras_syntax(values: str, expected: object) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"a={values}"])
    assert make_distribution(override) == expected


def test_it_finds_the_best_value_and_prints_its_command(
    command: Command, tmp_path: Path, runs: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    last = command("train", *SEARCH, "hydra.sweeper.n_trials=12", "seed=3")
    assert len(runs) == 12
    best = min(runs, key=lambda config: abs(config.optimizer.lr - 3e-3))
    words = shlex.split(last)
    assert words[:2] == ["genreclf", "train"]
    assert {"seed=3", f"outputs={tmp_path}", f"optimizer.lr={best.optimizer.lr}"} == {*words[2:]}


def test_its_command_names_the_folder_of_options_b7(
    command: Command, tmp_path: Path, runs: list[Any]
) -> None:
    """B7: without --config-dir, the command of the best run did not find its options."""
    (tmp_path / "mine" / "loss").mkdir(parents=True)
    (tmp_path / "mine" / "loss" / "mild.yaml").write_text("defaults:\n  - focal\n\ngamma: 0.5\n")
    given = ["--config-dir", str(tmp_path / "mine"), "loss=mild", "hydra.sweeper.n_trials=1"]
    words = shlex.split(command("train", *SEARCH, *given))
    place = words[words.index("--config-dir") + 1]
    assert Path(place).resolve() == tmp_path / "mine"
    assert "loss=mild" in words


def test_the_same_command_continues_with_more_runs(
    command: Command, runs: list[Any], tmp_path: Path
) -> None:
    command("train", *SEARCH, "hydra.sweeper.n_trials=3")
    command("train", *SEARCH, "hydra.sweeper.n_trials=3")
    assert len(runs) == 3
    command("train", *SEARCH, "hydra.sweeper.n_trials=5")
    assert len({config.optimizer.lr for config in runs}) == len(runs) == 5
    assert len([*tmp_path.glob("optuna/*.db")]) == 1


def test_changed_data_make_another_search(
    command: Command, runs: list[Any], music: Path, tmp_path: Path
) -> None:
    """Results on other data would be taken for those of the new data; their place is no matter."""
    copied, moved = tmp_path / "copied", tmp_path / "moved"
    shutil.copytree(music, copied)
    search = [*SEARCH, "hydra.sweeper.n_trials=1", "data=folder"]
    command("train", *search, f"data.root={copied}")
    copied.rename(moved)
    command("train", *search, f"data.root={moved}")
    assert len(runs) == 1
    next(moved.rglob("*.mp3")).unlink()
    command("train", *search, f"data.root={moved}")
    assert len(runs) == 2
    assert len([*tmp_path.glob("optuna/*.db")]) == 2


def test_an_interrupted_run_is_repeated(
    command: Command, runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed search continues with the values that it was trying."""
    tried = []

    def stop(config: Any) -> float:
        tried.append(config.optimizer.lr)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "run", stop)
        with pytest.raises(SystemExit) as exit_:
            command("train", *SEARCH, "hydra.sweeper.n_trials=2")
    assert exit_.value.code == 130
    command("train", *SEARCH, "hydra.sweeper.n_trials=2")
    assert [config.optimizer.lr for config in runs][:1] == tried
    assert len(runs) == 2


def test_failed_and_diverged_runs_count_as_the_worst(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The search goes on, and does not choose them."""

    def run(config: Any) -> float:
        if config.model.cell == "gru":
            raise InputError("training diverged")
        return float("nan") if config.seed == 1 else 0.5

    monkeypatch.setattr(train, "run", run)
    sweep = ["-m", "hydra/sweeper=optuna", "model=cnn_gru,cnn_lstm", "seed=1,2"]
    last = command("train", *sweep, "hydra.sweeper.n_trials=12", "monitor=val/accuracy")
    assert {"model=cnn_lstm", "seed=2"} <= {*shlex.split(last)}


def test_if_every_run_fails_the_reason_is_given(
    command: Command,
    runs: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And the same command tries again once the reason is gone."""

    def run(config: Any) -> float:
        raise InputError("no such folder")

    with monkeypatch.context() as patch:
        patch.setattr(train, "run", run)
        with pytest.raises(SystemExit):
            command("train", *SEARCH, "hydra.sweeper.n_trials=2")
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "genreclf: every run failed or diverged; no such folder"
    command("train", *SEARCH, "hydra.sweeper.n_trials=2")
    assert len(runs) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hydra/sweeper=optuna", "seed=1"], "say what to search"),
        (["hydra/sweeper=optuna", "seed=1,2", "hydra.sweeper.n_trials=0"], "at least 1 is needed"),
    ],
)
def test_what_cannot_be_searched_is_one_line(
    command: Command, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        command("train", "-m", *arguments)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_without_optuna_one_line_says_what_to_install(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit):
        command("train", *SEARCH)
    assert capsys.readouterr().err == (
        "genreclf: hydra/sweeper=optuna is not installed: pip install 'genreclf[optuna]'\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_real_runs_are_searched(
    command: Command, music: Path, tmp_path: Path, launcher: str
) -> None:
    """The value of a run is the monitored metric of its result, whatever starts it."""
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    data = ["data=folder", f"data.root={music}", "data.duration=2.5", *TINY]
    given = ["trainer.max_epochs=1", "model=efficient_cnn", f"hydra/launcher={launcher}"]
    sweep = [*SEARCH, "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2"]
    last = command("train", *sweep, *data, *given)
    losses = {
        result["config"]["optimizer"]["lr"]: result["metrics"]["val/loss"]
        for path in tmp_path.glob("train/*/result.json")
        for result in [json.loads(path.read_text())]
    }
    assert len(losses) == 2
    assert f"optimizer.lr={min(losses, key=lambda lr: losses[lr])}" in shlex.split(last)
