"""Unknown keys are refused; keys that something reads are not (D2, D3, D11)."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import hydra
import pytest
import pytorch_lightning as pl
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from genreclf.commands import config_keys
from genreclf.errors import InputError

CONF = Path(__file__).parents[2] / "conf"


def check(config_name: str, *overrides: str, folder: Path | None = None) -> None:
    """Compose a command's config as Hydra would, and check its keys."""
    place = [f"hydra.searchpath=[file://{folder}]"] if folder else []
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        config = hydra.compose(config_name, [*overrides, *place], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        hydra_config = config.hydra
        with open_dict(config):
            del config["hydra"]
        config_keys.check_keys(config, hydra_config)


@pytest.mark.parametrize(
    ("config_name", "override", "nearest"),
    [
        ("config", "+splitseed=1", "split_seed"),
        ("config", "+model.cnn_dropuot=1", "model.cnn_dropout"),
        ("config", "+lr=1", "optimizer.lr"),
        ("config", "+oversampling.augmentation.nois=1", "oversampling.augmentation.noise"),
        ("config", "++trainer.max_epoch=1", "trainer.max_epochs"),
        ("config", "+foo=1", ""),
        ("config", "+foo.bar=1", ""),
        ("config", "store={foo:1}", ""),
        ("config", "+_target=1", ""),
        ("config", "+model.typo=1", ""),
        ("config", "+init.checkpoint=a", ""),
        ("config", "+group=mine", "logger.group"),
        ("config", "+name=mine", "logger.name"),
        ("config", "+job_type=mine", "logger.job_type"),
        ("config", "+run=mine", ""),
        ("config", "+hydra_=mine", ""),
        ("config", "+oc=mine", ""),
        ("config", "+MLFLOW_TRACKING_URI=mine", ""),
        ("study", "+study.seed=1", "study.seeds"),
        ("study", "+study.phase_overrides.gird=['seed=1']", "study.phase_overrides.grid"),
        ("prepare", "+worker=1", "workers"),
        ("evaluate", "+spilt_seed=1", "split_seed"),
        ("report", "+run=1", "runs"),
        ("summary", "+files=1", "file"),
        ("export", "+tilte=1", "title"),
        ("network", "+frame=1", "frames"),
        ("spectrogram", "+chip=1", "clip"),
        ("download", "+keep_archive=1", "keep_archives"),
        ("dashboard", "+projet=1", "project"),
    ],
)
def test_unknown_keys_are_refused_d3(config_name: str, override: str, nearest: str) -> None:
    """D3: a typo with a + is no new setting, in any command."""
    study = ["study=paper"] * (config_name == "study") + ["logger=mlflow"] * (
        config_name == "config"  # whose values refer to ${run:group} and to an environment variable
    )
    with pytest.raises(InputError) as error:
        check(config_name, *study, override)
    key = override.lstrip("+").partition("=")[0]
    named = {"foo.bar": "foo", "init.checkpoint": "init", "store": "store.foo"}.get(key, key)
    assert str(error.value).startswith(f"{named}: there is no such key; ")
    hint = "init=pretrained first" if named == "init" else "--help"
    assert (f"did you mean {nearest}?" if nearest else hint) in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["split_seed=7"],
        ["++split_seed=7"],
        ["+trainer.limit_train_batches=2"],
        ["trainer.gradient_clip_val=1"],
        ["trainer.enable_progress_bar=false"],
        ["trainer=ddp", "+trainer.strategy.find_unused_parameters=true"],
        ["+optimizer.eps=1e-6"],
        ["study=paper", "+study.phase_overrides.grid=['seed=1']"],
        ["study=demo", "+study.phase_overrides.grid=['seed=1']"],
        ["data=fma_small", "+data.known_bad.7=silent"],
        ["data=fma_small", "+data.known_bad={a.b:silent}"],
        ["init=pretrained"],
        ["+mine.factor=2", "optimizer.lr=${mine.factor}"],
        ["+mine=2", "optimizer.lr='${oc.select:mine,3}'"],
        ["+mine=2", "optimizer.lr='${oc.select:${name},${mine}}'", "+name=optimizer.eps"],
        ["+mine=2", "optimizer.lr=${..mine}"],
        ["+mine=[2]", "optimizer.lr='${mine[0]}'"],
        ["+optimizer.mine.lr=2", "optimizer.lr=${.mine.lr}"],
        ["experiment=best", "phase=splits"],
    ],
)
def test_what_something_reads_is_accepted_d3(overrides: list[str], monkeypatch: Any) -> None:
    """D3: an argument of a `_target_`, an interpolated key and an open mapping are no typos."""
    from genreclf import training

    monkeypatch.setattr(training, "make_adamw", lambda parameters, lr, eps=1e-8: None)
    check("study", *overrides)


def test_mappings_that_take_any_key() -> None:
    """D3: a filter of runs names keys of other configs."""
    check("report", "where={phase: grid}")
    check("config", "+callback.mine={_target_: a.B}", "+metric.mine={_target_: a.B}")


def test_own_options_may_bring_keys_that_are_read_d3(tmp_path: Path) -> None:
    """D3: options from --config-dir may add keys if a value refers to them, and no others."""
    for name, text in {
        "paths/mine.yaml": "music: /music\n",
        "experiment/good.yaml": "# @package _global_\nbatch_size: 8\n",
        "experiment/typo.yaml": "# @package _global_\nbatchsize: 8\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    check("config", "+paths=mine", "data=folder", "data.root=${paths.music}", folder=tmp_path)
    check("config", "experiment=good", folder=tmp_path)
    with pytest.raises(InputError, match="batchsize: there is no such key; did you mean batch_si"):
        check("config", "experiment=typo", folder=tmp_path)
    with pytest.raises(InputError, match="paths: there is no such key"):
        check("config", "+paths=mine", folder=tmp_path)


@pytest.mark.parametrize(
    "key",
    [
        *("model.classes", "logger.save_dir", "augmentation.silence", "sampler.seed"),
        *("sampler.labels", "metric.accuracy.num_classes"),
    ],
)
def test_arguments_that_genreclf_passes_are_refused_d2(key: str) -> None:
    """D2: a setting that genreclf would overwrite is refused, not dropped."""
    with pytest.raises(InputError, match=f"{key} is set by genreclf"):
        check("config", f"+{key}=1")


@pytest.mark.parametrize(
    ("group", "target"),
    [
        ("optimizer", "torch.optim.SGD"),
        ("scheduler", "torch.optim.lr_scheduler.ConstantLR"),
        ("normalise", "genreclf_tests.parts.fit"),
        ("split", "genreclf_tests.parts.split"),
    ],
)
def test_a_part_that_is_called_later_must_be_partial(
    group: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `_partial_`, it would be called without its first argument."""
    module: Any = ModuleType("genreclf_tests.parts")
    module.fit = module.split = lambda batches: None
    package: Any = ModuleType("genreclf_tests")
    package.parts = module
    monkeypatch.setitem(sys.modules, "genreclf_tests", package)
    monkeypatch.setitem(sys.modules, "genreclf_tests.parts", module)
    with pytest.raises(InputError, match=rf"{group}: .* to {target}.* set {group}._partial_: true"):
        check("config", f"~{group}", f"+{group}={{_target_: {target}}}")
    check("config", f"~{group}", f"+{group}={{_target_: {target}, _partial_: true}}")
    module.Factory = type("Factory", (), {"__call__": lambda self, argument: argument})
    check("config", f"~{group}", f"+{group}={{_target_: genreclf_tests.parts.Factory}}")


@pytest.mark.parametrize(
    ("group", "key"), [("metric", "num_classes"), ("logger", "save_dir"), ("sampler", "seed")]
)
def test_they_are_refused_in_files_and_in_parts_with_a_name_d2(
    group: str, key: str, tmp_path: Path
) -> None:
    """D2: wherever such a setting is written, it would have no effect."""
    part = f"_target_: a.B\n{key}: 1\n"
    for name, text in (("mine", part), ("several", "one:\n  " + part.replace("\n", "\n  "))):
        (tmp_path / group).mkdir(exist_ok=True)
        (tmp_path / group / f"{name}.yaml").write_text(text)
    if group != "metric":
        with pytest.raises(InputError, match=f"{group}.{key} is set by genreclf"):
            check("config", f"{group}=mine", folder=tmp_path)
    if group != "sampler":
        with pytest.raises(InputError, match=f"{group}.one.{key} is set by genreclf"):
            check("config", f"{group}=several", folder=tmp_path)


FLAGS = sorted(inspect.signature(pl.Trainer).parameters)
DECLARED = yaml.safe_load((CONF / "trainer" / "default.yaml").read_text())


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_of_the_trainer_is_a_setting_or_refused_d2_d11(flag: str) -> None:
    """D2, D11: no flag of Lightning's Trainer is accepted and dropped, and none needs a +."""
    assert (flag in DECLARED) != (flag in config_keys.REFUSED)
    if flag in config_keys.REFUSED:
        with pytest.raises(InputError, match=f"trainer.{flag} is set by genreclf: "):
            check("config", f"+trainer.{flag}=1")


def test_defaults_of_the_trainer_are_lightnings() -> None:
    """A flag that the YAML file lists for convenience has Lightning's own default."""
    ours = {"max_epochs", "precision", "deterministic", "log_every_n_steps", "devices"}
    for flag, parameter in inspect.signature(pl.Trainer).parameters.items():
        if flag in DECLARED and flag not in ours:
            assert DECLARED[flag] == parameter.default, flag


def test_messages_are_one_line(
    command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """D3: the command line shows the line, and nothing runs."""
    for arguments in (["+runz=1"], ["-m", "+runz=1,2"]):
        with pytest.raises(SystemExit):
            command("summary", *arguments)
        assert "runz: there is no such key; did you mean runs?\n" in capsys.readouterr().err


def test_keys_of_plain_configs() -> None:
    plain: Any = OmegaConf.to_container(OmegaConf.create({"a": {"_target_": "x", "b": {"c": 1}}}))
    assert config_keys.list_keys(plain) == ["a", "a.b", "a.b.c"]
