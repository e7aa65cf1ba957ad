import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import TINY
from torch import nn

from genreclf.data.store import Store
from genreclf.evaluation.runs import Predictions
from genreclf.models.checkpoint import load_checkpoint
from genreclf.models.normalise import Normalise
from genreclf.studies.study import Point
from genreclf.training.callbacks import History

Train = Callable[..., dict[str, Any]]
METRICS = {f"{p}/{m}" for p in ("train", "val", "test") for m in ("loss", "accuracy", "f1_macro")}


def test_a_run_leaves_everything(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    result = train("trainer.max_epochs=2", "report=true")
    folder: Path = result["folder"]
    assert {file.name for file in folder.iterdir()} == {
        *(".lock", "csv", "train.log"),
        *("best.ckpt", "config.yaml", "predictions.csv", "report.html", "result.json"),
    }
    assert set(result["metrics"]) == METRICS
    assert result["config"] == yaml.safe_load((folder / "config.yaml").read_text())
    assert result["config"]["data"]["duration"] == 2.5
    assert result["params"] == 38_889 - 4 * 33  # 4 classes instead of 8
    assert result["seconds"] > 0
    assert result["device"] == "CPU"
    assert result["tested_on"] == "test"
    assert len(result["history"]) == 2
    assert {"commit", "versions", "overrides"} <= set(result)
    best = min(result["history"], key=lambda epoch: epoch["val/loss"])
    assert result["best_epoch"] == best["epoch"]
    for name in ("accuracy", "loss", "f1_macro"):
        assert result["val"][name] == pytest.approx(best[f"val/{name}"], abs=1e-5)
        assert result["val"][name] == result["metrics"][f"val/{name}"]
    assert {"top3_accuracy", "mean_average_precision"} <= set(result["val"]) & set(result["test"])
    assert sum(result["data"]["split"]["test"].values()) == result["test"]["n"] == 10
    predictions = Predictions.read(folder / "predictions.csv")
    accuracy = (predictions.scores.argmax(axis=1) == predictions.labels).mean()
    assert accuracy == result["test"]["accuracy"] == result["metrics"]["test/accuracy"]


@pytest.mark.slow
def test_a_study_chooses_by_the_figures_that_it_reports_a5(train: Train) -> None:
    """A5: under bf16, there is one validation figure, in the precision of the weights."""
    result = train("trainer.precision=bf16-mixed", "model=efficient_cnn")
    point = Point([], [str(result["folder"])])
    for name in ("accuracy", "loss", "f1_macro"):
        assert point.list_values(f"val/{name}") == [result["val"][name]]


def test_the_checkpoint_is_the_best_epochs_net(train: Train) -> None:
    result = train("trainer.max_epochs=2", "model=efficient_cnn")
    trained = load_checkpoint(result["folder"] / "best.ckpt")
    assert trained.classes == ["Ambient", "Dance", "Folk", "Rock"]
    assert trained.bins == 32
    assert not trained.net.training
    content = torch.load(result["folder"] / "best.ckpt", weights_only=True)
    assert content["epoch"] == result["best_epoch"]


def test_a_finished_run_is_reused(train: Train) -> None:
    """A7: the log says which code produced the run, and the result in which sessions."""
    first = train()
    written = (first["folder"] / "result.json").stat().st_mtime_ns
    again = train("num_workers=1")  # changes no number
    assert again["folder"] == first["folder"]
    assert (first["folder"] / "result.json").stat().st_mtime_ns == written
    version = f"genreclf {first['versions']['genreclf']}"
    code = f"commit {first['commit'][:12]}" if first["commit"] else version
    assert f"this run is finished ({code}" in (first["folder"] / "train.log").read_text()
    (session,) = first["sessions"]
    assert {"epoch", "device", "commit", "versions"} == set(session)


def test_a_finished_run_on_a_read_only_share_is_reused_f9(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F9: no lock, log or report is written next to it."""
    folder = train()["folder"]
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    (folder / ".lock").unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder)
    train("report=true")
    after = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert after == {name: time for name, time in before.items() if name != ".lock"}


def figures(result: dict[str, Any]) -> Any:
    return result["history"], result["test"], result["metrics"]


@pytest.mark.slow
def test_the_same_config_gives_the_same_numbers(train: Train, tmp_path: Path) -> None:
    first = train("trainer.max_epochs=2", f"outputs={tmp_path}/a")
    again = train("trainer.max_epochs=2", f"outputs={tmp_path}/b", "num_workers=2")
    assert figures(first) == figures(again)
    other = train("trainer.max_epochs=2", f"outputs={tmp_path}/b", "seed=1")
    assert figures(first) != figures(other)


def test_in_half_precision_predictions_are_those_of_the_net(train: Train) -> None:
    result = train("trainer.precision=bf16-mixed", "logger.project=x", "logger=wandb")
    scores = Predictions.read(result["folder"] / "predictions.csv").scores
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    rounded = torch.from_numpy(scores).float().bfloat16().double().numpy()
    assert (rounded != scores).mean() > 0.9
    assert not any("logger" in text for text in result["overrides"])


def test_no_epoch_is_too_few(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train("trainer.max_epochs=0")
    assert "at least 1 epoch is needed" in capsys.readouterr().err


@pytest.mark.slow
def test_compiled_it_trains_the_same(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = "model=efficient_cnn", "trainer.max_epochs=1"
    plain = train(*settings, f"outputs={tmp_path}/a")
    # Everything of torch.compile but the C++ compiler, which takes a minute or two.
    whole, compiling = nn.Module.compile, []

    def compile_without_it(net: nn.Module) -> None:
        compiling.append(type(net).__name__)
        whole(net, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", compile_without_it)
    compiled = train(*settings, "compile=true", f"outputs={tmp_path}/b")
    assert compiling == ["EfficientCNN"]
    assert compiled["test"]["loss"] == pytest.approx(plain["test"]["loss"], abs=1e-3)


def interrupt_epoch(number: int) -> Callable[[pytest.MonkeyPatch], None]:
    def patch_it(patch: pytest.MonkeyPatch) -> None:
        start = History.on_train_epoch_start

        def interrupt(self: History, trainer: Any, module: Any) -> None:
            if trainer.current_epoch == number:
                raise KeyboardInterrupt
            start(self, trainer, module)

        patch.setattr(History, "on_train_epoch_start", interrupt)

    return patch_it


def interrupt_test(patch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    patch.setattr("genreclf.training.run._predict", interrupt)


@pytest.mark.slow
@pytest.mark.parametrize(
    "interrupt",
    [interrupt_epoch(1), interrupt_epoch(8), interrupt_test],
    ids=["soon", "after the best", "in the test"],
)
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    interrupt: Callable[[pytest.MonkeyPatch], None],
) -> None:
    # So that the best epoch, patience, and steps of the scheduler all have to survive.
    settings = ["trainer.max_epochs=12", "patience=4", "model=efficient_cnn", "optimizer.lr=0.2"]
    settings += ["scheduler.patience=0", "scheduler.factor=0.7"]
    whole = train(*settings, f"outputs={tmp_path}/whole")
    assert whole["best_epoch"] + 1 < 8 < len(whole["history"]) < 12
    assert len({epoch["lr"] for epoch in whole["history"]}) > 2
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        interrupt(patched)
        with pytest.raises(SystemExit) as exit_:
            train(*settings, f"outputs={tmp_path}/cut")
    signal.signal(signal.SIGINT, handler)  # Lightning ignores it from then on
    assert exit_.value.code == 130
    assert "the same command continues from here" in capsys.readouterr().err
    assert not list(tmp_path.glob("cut/train/*/result.json"))
    (tmp_path / "cut").rename(tmp_path / "moved")
    resumed = train(*settings, f"outputs={tmp_path}/moved", "num_workers=2")
    assert figures(resumed) == figures(whole)
    assert not (resumed["folder"] / "last.ckpt").exists()
    if interrupt is not interrupt_test:  # A7: each start that trained is on record
        first, second = resumed["sessions"]
        assert first["epoch"] == 0 < second["epoch"]
        assert first["commit"] == whole["commit"]


@pytest.mark.slow
def test_a_run_with_everything_else_goes_on_as_well(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["trainer.max_epochs=4", "scheduler=cosine", "optimizer=sgd", "augmentation=strong"]
    settings += ["oversampling.genres=[Rock]", "features.on_device=true", "normalise=per_bin"]
    settings += ["monitor=last", "ema=0.9", "mixup=0.3", "label_smoothing=0.1", "sampler=balanced"]
    whole = train(*settings, f"outputs={tmp_path}/whole", "num_workers=1")
    assert len({epoch["lr"] for epoch in whole["history"]}) > 2
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        interrupt_epoch(2)(patched)
        with pytest.raises(SystemExit):
            train(*settings, f"outputs={tmp_path}/cut")
    signal.signal(signal.SIGINT, handler)
    resumed = train(*settings, f"outputs={tmp_path}/cut")
    assert figures(resumed) == figures(whole)


@pytest.mark.slow
def test_the_last_epoch_of_the_averaged_weights(train: Train) -> None:
    """Losses that rise do not stop it, and what was validated is what is kept."""
    settings = ["trainer.max_epochs=4", "optimizer.lr=0.03", "monitor=last"]
    result = train(*settings, "ema=0.8")
    losses = [epoch["val/loss"] for epoch in result["history"]]
    assert len(losses) == 4
    assert losses != sorted(losses, reverse=True)
    assert result["best_epoch"] == 3
    assert result["val"]["loss"] == pytest.approx(losses[-1], abs=1e-5)
    assert losses != [epoch["val/loss"] for epoch in train(*settings)["history"]]
    content = torch.load(result["folder"] / "best.ckpt", weights_only=True)
    moving, averaged = content["current_model_state"], content["state_dict"]
    name = "net.classifier.1.weight"
    assert not torch.equal(moving[name], averaged[name])
    torch.testing.assert_close(
        load_checkpoint(result["folder"] / "best.ckpt").net.classifier[1].weight, averaged[name]
    )


@pytest.mark.slow
def test_the_same_command_started_twice_trains_once(music: Path, tmp_path: Path) -> None:
    arguments = ["train", "data=folder", f"data.root={music}", "data.duration=2.5", *TINY]
    command = [sys.executable, "-m", "genreclf", *arguments]
    processes = [
        subprocess.Popen(
            [*command, f"outputs={tmp_path}", "trainer.max_epochs=2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sum("its result is reused" in output for output, _ in outputs) == 1
    assert len(list(tmp_path.glob("train/*/result.json"))) == 1


def test_a_page_can_be_added_later(train: Train) -> None:
    folder = train()["folder"]
    assert not (folder / "report.html").exists()
    train("report=true")
    assert (folder / "report.html").exists()


def test_training_learns(train: Train) -> None:
    """Regression: losses recorded once; a change of the numbers must be meant."""
    history = train("trainer.max_epochs=8", "optimizer.lr=3e-3", "patience=20")["history"]
    losses = [epoch["train/loss"] for epoch in history]
    assert losses[0] == pytest.approx(1.51, abs=0.05)
    assert losses[-1] < 1.2


def test_a_sweep_makes_a_run_each(train: Train, tmp_path: Path) -> None:
    train("-m", "seed=0,1", "model=efficient_cnn")
    runs = [json.loads(p.read_text()) for p in tmp_path.glob("train/*/result.json")]
    assert sorted(run["config"]["seed"] for run in runs) == [0, 1]
    seeds = [text for run in runs for text in run["overrides"] if text.startswith("seed=")]
    assert sorted(seeds) == ["seed=0", "seed=1"]


@pytest.mark.slow
def test_one_failed_run_lets_the_others_finish(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        train("-m", "model.axis=time,depth,frequency")
    assert exit_.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "genreclf: model.axis='depth': choose time or frequency"
    )
    assert len(list(tmp_path.glob("train/*/result.json"))) == 2


def test_a_genre_without_usable_files_is_no_genre(
    command: Callable[..., str], music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(music / "Rock", tmp_path / "root" / "Rock")
    (tmp_path / "root" / "Folk").mkdir()
    (tmp_path / "root" / "Folk" / "a.mp3").write_bytes(b"garbage")
    with pytest.raises(SystemExit):
        command("train", "data=folder", f"data.root={tmp_path}/root", "data.duration=2.5", *TINY)
    assert "one genre only (Rock) in the usable tracks" in capsys.readouterr().err


def npz(path: Path, count: int = 40) -> Path:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    features = rng.integers(0, 100, (count, 16, 24)) + 100 * labels[:, None, None]
    parts = np.where(np.arange(count) % 5 == 4, "validation", "training")
    np.savez(
        path,
        features=features.astype(np.uint8),
        labels=np.array(["Folk", "Rock"])[labels],
        track_ids=np.arange(count),
        split=parts,
    )
    return path


def test_npz_with_an_official_split_tests_on_validation(
    command: Callable[..., str], tmp_path: Path
) -> None:
    path = command(
        *("train", "data=npz", f"data.path={npz(tmp_path / 'a.npz')}", "split=official"),
        *("trainer.max_epochs=2", "report=false"),
    )
    result = json.loads(Path(path).read_text())
    assert result["tested_on"] == "val"
    assert result["test"]["n"] == 8
    assert result["metrics"]["test/accuracy"] == result["metrics"]["val/accuracy"]


@pytest.mark.slow
def test_data_that_changed_make_another_run(command: Callable[..., str], tmp_path: Path) -> None:
    arguments = ["train", "data=npz", f"data.path={npz(tmp_path / 'a.npz')}", "report=false"]
    first = command(*arguments, "trainer.max_epochs=1")
    npz(tmp_path / "a.npz", 60)
    assert command(*arguments, "trainer.max_epochs=1") != first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["split=all"], "split: this one has no train and no val part"),
        (["split=official"], "split=official: no train and no val part"),
        (["data.genres=[Rock]"], "one genre only (Rock) in the data; two are needed"),
        (["monitor=val/acc"], "monitor=val/acc: choose one of val/loss"),
        (["scheduler.monitor=val/acc"], "scheduler.monitor=val/acc: choose one of val/loss"),
        (["seed=-1"], "seed=-1: choose a number from 0 to"),
        (["workers=0", "data.genres=[Folk,Rock]"], "workers=0: at least 1 is needed"),
        (["monitor=val/accuracy", "optimizer.lr=1e30"], "training diverged: val/loss is not"),
        (["patience=0"], "patience=0: at least 1 epoch is needed"),
        (["ema=1.0"], "ema=1.0: a decay between 0 and 1 is needed"),
        (["mixup=-0.1"], "label_smoothing=0.0, mixup=-0.1: a share from 0 to 1"),
        (["model.axis=depth"], "model.axis='depth': choose time or frequency"),
        (["model.cnn_dropout=1.5"], "model.cnn_dropout=1.5: a rate of at least 0 and under 1"),
        (["augmentation.shift=2.0"], "augmentation: noise of at least 0, shift from 0 to 1"),
        (["batch_size=0"], "batch_size=0: a whole number of at least 1 is needed"),
        (["optimizer.lr=-1.0"], "optimizer or scheduler: Invalid learning rate"),
        (["optimizer.lr=1e30"], "training diverged: val/loss is not a number"),
        (["scheduler=null"], "a group has no option null; most groups have one called none"),
        (
            ["oversampling.augmentation=strong"],
            "oversampling.augmentation=strong: it is a group of settings; choose an option: "
            "augmentation@oversampling.augmentation=...",
        ),
        (["data.genres=Rock"], "data.genres=Rock: a list is needed: [Rock]"),
        (["features.hop_length=20000"], "features of 32 x 3; this model needs 8 x 8"),
    ],
)
def test_bad_input_is_one_line(
    train: Train, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        train(*arguments)
    assert exit_.value.code == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith(f"genreclf: {message}"), error
    assert "Traceback" not in error


@pytest.mark.slow
def test_real_audio(command: Callable[..., str], real_music: Path) -> None:
    path = command(
        *("train", "data=folder", f"data.root={real_music}", "data.genres=[classical,rock]"),
        *("split=artist", "data.duration=6.0", "features.n_mels=64", "trainer.max_epochs=8"),
        *("features.hop_length=1024", "optimizer.lr=3e-3", "report=false"),
    )
    result = json.loads(Path(path).read_text())
    assert result["data"]["leakage"]["train-test"]["artists"] == 0
    assert result["test"]["accuracy"] > 0.6, "classical and rock are far apart"


@pytest.mark.slow
def test_features_computed_in_training_give_the_figures_of_stored_ones(
    train: Train, command: Callable[..., str], music: Path
) -> None:
    """One epoch without augmentation; the checkpoint, too, is evaluated on stored waveforms."""
    plain = ("augmentation=none", "oversampling.genres=[Rock]")
    stored = train(*plain, "augmentation@oversampling.augmentation=none")
    computed = train(
        *plain, "augmentation@oversampling.augmentation=none", "features.on_device=true"
    )
    for name, figure in stored["metrics"].items():
        assert computed["metrics"][name] == pytest.approx(figure, abs=2e-3), name
    assert computed["data"]["shape"] == stored["data"]["shape"] == [32, 54]
    assert Store(computed["folder"] / computed["data"]["store"]).shape == (1, 55125)
    checkpoint = f"checkpoint={computed['folder'] / 'best.ckpt'}"
    path = command("evaluate", checkpoint, "data=folder", f"data.root={music}", "split=stratified")
    evaluation = json.loads(Path(path).read_text())
    assert evaluation["accuracy"] == computed["test"]["accuracy"]
    assert evaluation["trained_on"] == 0


@pytest.mark.parametrize("normalise", ["per_bin", "unit_range"])
def test_normalisation_is_kept_in_the_checkpoint(
    train: Train, command: Callable[..., str], music: Path, normalise: str
) -> None:
    result = train(f"normalise={normalise}")
    assert isinstance(load_checkpoint(result["folder"] / "best.ckpt").normalise, Normalise)
    checkpoint = f"checkpoint={result['folder'] / 'best.ckpt'}"
    path = command("evaluate", checkpoint, "data=folder", f"data.root={music}", "split=stratified")
    assert json.loads(Path(path).read_text())["loss"] == pytest.approx(result["test"]["loss"])


def test_a_missing_genre_to_copy_is_reported(train: Train) -> None:
    log = train("oversampling.genres=[Rock,Experimental]")["folder"] / "train.log"
    assert "8 extra copies of training tracks" in log.read_text()
    assert "no track is of Experimental, so none is copied" in log.read_text()


def test_nothing_to_copy_changes_no_number(train: Train) -> None:
    plain, missing = train(), train("oversampling.genres=[Experimental]")
    assert figures(plain) == figures(missing)


def test_the_progress_bar_can_be_left_out(
    train: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    train("+trainer.enable_progress_bar=false", "model=efficient_cnn")
    said = capsys.readouterr()
    assert "Epoch 0" not in said.out + said.err
    assert "Predicting" not in said.out + said.err


def test_a_finished_run_is_tested_without_training_a31(train: Train) -> None:
    """A31: testing is an action on a finished run, which stays as it is."""
    finished, alone = train("test=false"), train("seed=1")
    before = (finished["folder"] / "result.json").read_bytes()
    tested = train("test=true")
    assert (finished["folder"] / "result.json").read_bytes() == before
    first, second = ((run["folder"] / "best.ckpt").read_bytes() for run in (finished, tested))
    assert first == second
    assert set(tested["metrics"]) == METRICS
    assert tested["tested_on"] == "test"
    for key in ("history", "seconds", "best_epoch", "val"):
        assert tested[key] == finished[key]
    assert len(tested["sessions"]) == 2
    back = train("test=false", "seed=1")  # and the other way round
    assert back["tested_on"] == "val"
    assert back["test"] == back["val"] == alone["val"]
    assert back["seconds"] == alone["seconds"]


def test_a_model_without_a_checkpoint_is_fitted_again(train: Train) -> None:
    finished, tested = train("test=false", "model=svm"), train("model=svm")
    assert tested["val"] == finished["val"]
    assert tested["tested_on"] == "test"


def test_a_report_that_fails_does_not_cost_the_result_a1(
    train: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A1: the result is saved first; the same command then logs it and writes the page."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    own = ["model=efficient_cnn", "report=true", f"outputs={tmp_path}"]
    with monkeypatch.context() as patch:
        patch.setattr("genreclf.report.page.write_report", fail)
        with pytest.raises(ZeroDivisionError):
            train(*own)
    (result,) = tmp_path.rglob("result.json")
    before = {**json.loads(result.read_text()), "logged": None}
    train(*own)
    assert {**json.loads(result.read_text()), "logged": None} == before
    assert (result.parent / "report.html").exists()
