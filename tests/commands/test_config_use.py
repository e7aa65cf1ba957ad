"""What the user chose has an effect, or is refused (A15, D10, D14)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from genreclf.commands.config_use import (
    USED_WITHOUT_EPOCHS,
    check_used,
    check_used_to_evaluate,
    check_used_to_load,
)
from genreclf.errors import InputError
from genreclf.models import has_no_epochs
from genreclf.training import process_group

CONF = Path(__file__).parents[2] / "conf"
Train = Callable[..., dict[str, Any]]


def fail(run: Callable[..., Any], capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit):
        run(*arguments)
    return capsys.readouterr().err.splitlines()[-1]


def test_a_phase_without_m_is_refused_a15(
    command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A15: one run with the defaults is not what phase=grid asks for."""
    error = fail(command, capsys, "train", "phase=grid")
    assert error.startswith("genreclf: phase=grid is a sweep over optimizer.beta2, model.cnn_dro")
    assert error.endswith(": add -m")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("train", ["hydra/sweeper=optuna"], "hydra/sweeper=optuna is for a sweep: add -m"),
        ("train", ["hydra/launcher=joblib"], "hydra/launcher=joblib is for a sweep: add -m"),
        ("train", ["+hydra.launcher.n_jobs=2"], "hydra.launcher.n_jobs=2 is for a sweep: add -m"),
        ("train", ["hydra.sweeper.max_batch_size=2"], "max_batch_size=2 is for a sweep: add -m"),
        ("prepare", ["hydra/launcher=packed"], "hydra/launcher=packed is for a sweep: add -m"),
        ("study", ["hydra/sweeper=optuna"], "a study runs each point of its phases"),
    ],
)
def test_a_sweeper_or_launcher_without_a_sweep_is_refused_a15(
    command: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    name: str,
    arguments: list[str],
    message: str,
) -> None:
    """A15: a sweeper or launcher that would not be used is refused."""
    assert message in fail(command, capsys, name, *arguments)


@pytest.mark.parametrize(
    "override",
    [
        "augmentation=strong",
        "augmentation@oversampling.augmentation=none",
        "oversampling.copies=2",
        "optimizer=sgd",
        "optimizer.lr=1",
        "scheduler=none",
        "mixup=0.2",
        "ema=0.9",
        "label_smoothing=0.1",
        "patience=3",
        "monitor=last",
        "compile=true",
        "cuda_graphs=true",
    ],
)
def test_what_the_svm_does_not_use_is_refused_a15(
    train: Train, capsys: pytest.CaptureFixture[str], override: str
) -> None:
    """A15: a choice that has no effect on a model without epochs is refused."""
    error = fail(train, capsys, "model=svm", override)
    assert error == f"genreclf: model=svm does not use {override}; leave that out"


def check(*overrides: str, name: str = "config") -> str:
    """Compose a command's config, and return why overrides are refused; empty if they are not."""
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        config = hydra.compose(name, [*overrides], return_hydra_config=True)
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    try:
        with open_dict(config):
            del config["hydra"]
        if name == "config":
            check_used(config, hydra.utils.instantiate(config.model, classes=2))
        else:
            check_used_to_evaluate(config)
            check_used_to_load(config)
    except InputError as error:
        return str(error)
    finally:
        HydraConfig.instance().cfg = before
    return ""


def compose(*overrides: str) -> Any:
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        return hydra.compose("config", [*overrides])


MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
WITHOUT_EPOCHS = ["linear", "svm"]
ALWAYS = {"accelerator", "devices", "deterministic", "inference_mode", "enable_progress_bar"}


def test_some_models_have_no_epochs() -> None:
    targets = {m: hydra.utils.get_object(compose(f"model={m}").model._target_) for m in MODELS}
    assert [m for m, target in targets.items() if has_no_epochs(target)] == WITHOUT_EPOCHS


@pytest.mark.parametrize("model", MODELS)
def test_a_flag_of_the_trainer_has_an_effect_or_is_refused(model: str) -> None:
    """`trainer.max_epochs=5 model=linear` was accepted, and trained a model without epochs."""
    typed = {flag: f"trainer.{flag}={value}" for flag, value in FLAGS.items()}
    error = check(f"model={model}", *typed.values())
    unused = " ".join(text for flag, text in typed.items() if flag not in ALWAYS)
    expected = f"model={model} does not use {unused}; leave that out"
    assert error == expected * (model in WITHOUT_EPOCHS)


@pytest.mark.parametrize("model", WITHOUT_EPOCHS)
def test_settings_of_training_are_refused_where_there_is_none(model: str) -> None:
    config = compose()
    groups = "optimizer", "scheduler", "augmentation", "oversampling"
    typed = [f"{group}.{key}=1" for group in groups for key in config[group] if key[0] != "_"]
    typed += ["trainer=ddp", "ema=.9"]
    expected = f"model={model} does not use {' '.join(typed)}; leave that out"
    assert check(f"model={model}", "seed=1", *typed) == expected
    for text in ("debug=overfit", "debug=profile"):
        assert f"does not use {text};" in check(f"model={model}", text)
    used = "trainer.precision=64-true", "trainer=gpu", "debug=fast", "batch_size=4"
    assert check(f"model={model}", *used, "normalise=none", "experiment=paper") == ""


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        ("split=official split_seed=1", "split=official does not use split_seed=1; leave that out"),
        ("split.seed=2 split_seed=1", "split=stratified does not use split_seed=1"),
        ("monitor=last patience=3", "monitor=last does not use patience=3; leave that out"),
        (
            "trainer.gradient_clip_algorithm=value",
            "trainer.gradient_clip_val=null does not use trainer.gradient_clip_algorithm=value; "
            "leave that out, or set trainer.gradient_clip_val",
        ),
        (
            "oversampling.copies=2",
            "oversampling.genres=[] does not use oversampling.copies=2; leave that out, or name "
            "the genres to copy: oversampling.genres=[...]",
        ),
        (
            "augmentation@oversampling.augmentation=none",
            "oversampling.genres=[] does not use augmentation@oversampling.augmentation=none",
        ),
        ("oversampling.augmentation.noise=1", "oversampling.genres=[] does not use oversampling."),
        (
            "trainer.max_epochs=5 trainer.min_epochs=9",
            "trainer.max_epochs=5 does not use trainer.min_epochs=9; leave that out",
        ),
    ],
)
def test_what_other_settings_leave_without_effect_is_refused(overrides: str, error: str) -> None:
    assert check(*overrides.split()).startswith(error)


@pytest.mark.parametrize(
    "overrides",
    [
        "split=kfold split_seed=1",
        "monitor=val/accuracy patience=3",
        "trainer.gradient_clip_algorithm=value trainer.gradient_clip_val=1",
        "oversampling.copies=2 oversampling.genres=[Rock]",
        "experiment=paper_scripts monitor=last",  # which sets patience
        "trainer.max_epochs=5 trainer.min_epochs=5",
    ],
)
def test_what_has_an_effect_is_accepted(overrides: str) -> None:
    assert check(*overrides.split()) == ""


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("trainer.max_epochs=5", "genreclf evaluate does not use trainer.max_epochs=5"),
        ("trainer.precision=16-mixed", "genreclf evaluate does not use trainer.precision=16-mixed"),
        ("trainer=ddp", "genreclf evaluate does not use trainer=ddp"),
        ("split_seed=3", "split=all does not use split_seed=3"),
        ("axis=time", "a checkpoint of genreclf train does not use axis=time; leave that out, or"),
    ],
)
def test_what_evaluate_does_not_use_is_refused(override: str, error: str) -> None:
    assert check("checkpoint=a.ckpt", override, name="evaluate").startswith(error)


def test_what_evaluate_uses_is_accepted() -> None:
    used = (
        "trainer.accelerator=cpu",
        "split=stratified",
        "split_seed=3",
        "axis=time",
        "classes=paper",
    )
    assert check("checkpoint=a.ckpt", *used, name="evaluate") == ""


def test_classes_without_a_checkpoint_are_refused(
    command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    error = fail(command, capsys, "spectrogram", "clip=a.mp3", "classes=paper")
    assert error.startswith("genreclf: checkpoint=null does not use classes=paper; leave that out")


@pytest.mark.slow
def test_in_a_sweep_it_is_said_a15(
    command: Callable[..., str], music: Path, tmp_path: Path
) -> None:
    """A15: a sweep may have other models, too, so nothing is refused."""
    data = ["data=folder", f"data.root={music}", "data.duration=2.5", "report=false"]
    command(*("train", "-m", *data, "model=svm,efficient_cnn", "mixup=0.2", "trainer.max_epochs=1"))
    logs = [path.read_text() for path in tmp_path.glob("train/*/train.log")]
    said = "model=svm does not use mixup=0.2 trainer.max_epochs=1"
    assert "".join(logs).count(said) == 1
    assert len([*tmp_path.glob("train/*/result.json")]) == 2


def test_every_key_is_known_to_be_used_or_not_a15() -> None:
    """A15: whoever adds a key or group decides whether a model without epochs uses it."""
    unused = {
        *("augmentation", "optimizer", "scheduler", "distillation", "init", "monitor", "patience"),
        *(
            "ema",
            "oversampling",
            "label_smoothing",
            "mixup",
            "compile",
            "cuda_graphs",
            "loss",
            "callback",
        ),
        *("sampler",),
    }
    config = yaml.safe_load((CONF / "config.yaml").read_text())
    groups = {
        name.partition("@")[0] for each in config["defaults"] if type(each) is dict for name in each
    }
    keys = {*groups, *(key for key in config if key != "defaults")}
    assert keys <= unused | {*USED_WITHOUT_EPOCHS}
    assert not unused & {*USED_WITHOUT_EPOCHS}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is found")
def test_a_gpu_that_is_missing_is_noticed_before_anything_is_decoded_d14(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """D14: trainer=gpu on a machine without one is refused before any data is looked at."""
    error = fail(train, capsys, "trainer=gpu", f"store={tmp_path}/new.h5", "data.root=/nowhere")
    assert "no GPU" in error
    assert "trainer.accelerator=cpu" in error
    assert not [*tmp_path.rglob("*.h5*")]


def test_a_finished_run_needs_no_gpu_but_another_model_does_d14(
    train: Train,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """D14: a finished run of this model may be the one that is meant, so data come first."""
    settings = f"outputs={tmp_path}/out", "test=false"
    first = train(*settings)

    def refuse(*_: object) -> None:
        raise InputError("no GPU")

    monkeypatch.setattr(process_group, "make_probe", refuse)
    assert train(*settings)["folder"] == first["folder"]
    nowhere = f"store={tmp_path}/new.h5", "data.root=/nowhere"
    assert "no such folder" in fail(train, capsys, *settings, *nowhere)
    for other in ("model=efficient_cnn", "debug=fast"):
        assert "no GPU" in fail(train, capsys, *settings, *nowhere, other)


FLAGS = {  # a value of each flag of the Trainer that is a setting
    "max_epochs": "1",
    "min_epochs": "1",
    "max_time": "'00:01:00:00'",
    "accelerator": "cpu",
    "devices": "1",
    "precision": "bf16-mixed",
    "deterministic": "true",
    "log_every_n_steps": "2",
    "limit_train_batches": "0.5",
    "limit_val_batches": "1",
    "num_sanity_val_steps": "0",
    "accumulate_grad_batches": "2",
    "gradient_clip_val": "1",
    "gradient_clip_algorithm": "value",
    "inference_mode": "false",
    "benchmark": "true",
    "detect_anomaly": "true",
    "enable_progress_bar": "false",
    "callbacks": "[{_target_: pytorch_lightning.callbacks.LearningRateMonitor}]",
}


def test_every_flag_is_tried_d10() -> None:
    declared = yaml.safe_load((CONF / "trainer" / "default.yaml").read_text())
    assert {*declared} - {"_target_"} == {*FLAGS}


@pytest.mark.slow
@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_of_the_trainer_works_to_the_end_d10(train: Train, flag: str) -> None:
    """D10: each flag that is accepted leads to a result."""
    needed = {
        "gradient_clip_algorithm": ["trainer.gradient_clip_val=1"],
        "benchmark": ["trainer.deterministic=false"],
    }
    others = needed.get(flag, [])
    result = train("model=efficient_cnn", f"trainer.{flag}={FLAGS[flag]}", *others)
    assert json.loads((result["folder"] / "result.json").read_text())["test"]["accuracy"] >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer.max_steps=2"], "use trainer.max_epochs"),
        (["+trainer.max_steps=2"], "use trainer.max_epochs"),
        (["trainer.fast_dev_run=true"], "use debug=fast"),
        (["+trainer.check_val_every_n_epoch=2"], "every epoch is validated"),
        (["trainer.limit_val_batches=0"], "trainer.limit_val_batches=0: at least one batch"),
        (["+trainer.limit_train_batches=0"], "trainer.limit_train_batches=0: at least one"),
        (["+trainer.limit_test_batches=1"], "all test tracks are tested"),
        (["-m", "--cfg", "job"], "-m runs a sweep and --cfg prints the config"),
    ],
)
def test_what_cannot_work_is_one_line_d10(
    command: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    """D10: refused at the start, in one line that says what to type."""
    with pytest.raises(SystemExit):
        command("train", *arguments)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
