"""Values of the wrong type are refused before anything runs (A17); `~` is expanded (A22)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from genreclf.commands import config_types
from genreclf.errors import InputError

CONF = Path(__file__).parents[2] / "conf"


def check(config_name: str, *overrides: str) -> DictConfig:
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        config = hydra.compose(config_name, list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        hydra_config = config.hydra
        with open_dict(config):
            del config["hydra"]
        config_types.check_types(config, hydra_config)
    return config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ema=abc", "ema=abc: a number is needed"),
        ("ema=true", "ema=True: a number is needed"),
        ("workers=abc", "workers=abc: an integer is needed"),
        ("tracks_per_genre=2.5", "tracks_per_genre=2.5: an integer is needed"),
        ("split_seed=abc", "split_seed=abc: an integer is needed (the default is 42)"),
        ("seed=null", "seed=None: an integer is needed"),
        ("monitor=null", "monitor=None: text is needed"),
        ("cache=true", "cache=True: text is needed"),
        ("oversampling.genres=Rock", "oversampling.genres=Rock: a list is needed: [Rock]"),
        ("oversampling.genres=[[Rock]]", "a list of texts is needed"),
        ("allow_identical=true", "a list of texts or text is needed"),
        ("model=attentive_cnn model.channels=[a,b,c,d]", "a list of integers is needed"),
        ("model=attentive_cnn model.kernels=[[a],5,3,3]", "or of lists of integers is needed"),
        ("augmentation.fill=abc", "augmentation.fill=abc: a number is needed"),
        ("oversampling.augmentation.fill=abc", "a number is needed"),
        ("trainer.devices=1.5", "an integer or text or a list of integers is needed"),
        ("trainer.limit_train_batches=abc", "a number is needed"),
        ("trainer.enable_progress_bar=7", "true or false is needed"),
        ("trainer.callbacks=[7]", "a list of groups of settings is needed"),
        ("batch_size={a:1}", "an integer is needed"),
        ("data=npz data.path=[a] ", "a path is needed"),
    ],
)
def test_wrong_types_are_refused_a17(override: str, message: str) -> None:
    """A17: a wrong type is reported at once, whatever the default is, null included."""
    with pytest.raises(InputError) as error:
        check("config", *override.split())
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["ema=0.9", "workers=2", "tracks_per_genre=3", "split_seed=1"],
        ["experiment=best", "ema=null"],
        ["trainer.devices=auto", "trainer.deterministic=true", "trainer.precision=16"],
        ["trainer=ddp", "trainer.devices=2"],
        ["model=svm", "model.gamma=0.1", "model.C=2"],
        ["model=attentive_cnn", "model.kernels=[[3,9],5,3,3]"],
        ["allow_identical=all"],
        ["allow_identical=7"],
        ["distillation=embeddings", "distillation.path=a.npz", "distillation.runs=[a]"],
        ["data=folder", "data.root=a", "data.genres=[1980,Rock]"],
        ["logger=wandb", "logger.group=a"],
        ["label_smoothing=0", "mixup=1"],
    ],
)
def test_right_types_are_accepted(overrides: list[str]) -> None:
    check("config", *overrides)


def list_unclear(node: Any, prefix: str) -> Iterator[str]:
    """The keys of a YAML file whose default does not say what type they have."""
    for name, value in node.items():
        if name in ("defaults", "hydra") or isinstance(value, dict):
            if isinstance(value, dict) and name != "hydra" and value:
                yield from list_unclear(value, f"{prefix}{name}.")
        elif value is None or value == [] or value == "???":
            yield f"{prefix}{name}"


def test_every_unclear_default_has_a_kind_a17() -> None:
    """A17: each key whose default is null, missing or an empty list has a type in the table."""
    for file in CONF.rglob("*.yaml"):
        text = file.read_text()
        if "hydra" in file.parts:
            continue
        group = file.parent.name
        own = "" if file.parent == CONF or "@package _global_" in text else f"{group}."
        for key in list_unclear(yaml.safe_load(text) or {}, own):
            assert config_types.find_kinds(key, None), f"{file.name}: {key} has no kind in KINDS"


def test_home_is_expanded_in_every_path_a22(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A22: ~ is the home folder in all keys, in lists too, and in options that refer to others."""
    monkeypatch.setenv("HOME", str(tmp_path))
    config = check(
        *("config", 'outputs="~/x"', 'store="~/a.h5"', "data=fma_small"),
        *("distillation=embeddings", 'distillation.path="~/e.npz"', 'distillation.runs=["~/r"]'),
    )
    assert config.outputs == f"{tmp_path}/x"
    assert config.data.root == f"{tmp_path}/x/fma"
    assert (config.store, config.distillation.path) == (f"{tmp_path}/a.h5", f"{tmp_path}/e.npz")
    assert config.distillation.runs == [f"{tmp_path}/r"]


def test_numbers_become_text_where_text_belongs() -> None:
    """A folder or genre may be called 1980."""
    config = check("config", "data=folder", "data.root=1980", "data.genres=[1980]", "outputs=7")
    assert OmegaConf.select(config, "data.root") == "1980"
    assert config.data.genres == ["1980"]
    assert config.outputs == "7"
