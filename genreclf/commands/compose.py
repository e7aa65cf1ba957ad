"""Composes the configs of training runs, as `genreclf train` and its sweeps do."""

from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from genreclf.errors import InputError

if TYPE_CHECKING:
    from genreclf.data.store import Store


EXPANDED = ("experiment", "phase", "init", "debug")  # groups that only set other keys


def compose_default(config_name: str, choices: tuple[tuple[str, str], ...]) -> DictConfig:
    """Compose the config of these options alone, without other overrides."""
    named = list_groups(config_name)
    overrides = [f"{'' if group in named else '+'}{group}={option}" for group, option in choices]
    loader = GlobalHydra.instance().config_loader()
    folders = tuple(source.path for source in loader.get_sources())
    return _compose_once(config_name, (*overrides, *list_search_paths()), folders)


@lru_cache
def _compose_once(
    config_name: str, overrides: tuple[str, ...], folders: tuple[str, ...]
) -> DictConfig:
    """Compose a config; `folders`, where the options come from, distinguish it from others."""
    return hydra.compose(config_name, list(overrides))


def list_groups(config_name: str) -> set[str]:
    """List the groups in the defaults of one of our configs; any other group needs a +."""
    file = resources.files("genreclf.conf").joinpath(f"{config_name}.yaml")
    groups: set[str] = set()
    for entry in yaml.safe_load(file.read_text(encoding="utf-8"))["defaults"]:
        if isinstance(entry, dict):
            groups |= set(entry)
        elif entry not in ("_self_", "base"):
            groups |= list_groups(entry)
    return groups


def is_own_option(group: str, option: str) -> bool:
    """Whether an option's file is part of genreclf."""
    return resources.files("genreclf.conf").joinpath(name_option_file(group, option)).is_file()


def find_option_files(hydra_config: Any, group: str, option: str) -> list[Path]:
    """Find the files of an option in the folders of the user and of installed packages."""
    folders = [
        Path(source.path)
        for source in hydra_config.runtime.config_sources
        if source.schema == "file"
    ]
    name = name_option_file(group, option)
    return [folder / name for folder in folders if (folder / name).is_file()]


def name_option_file(group: str, option: str) -> str:
    """Return the path of an option's file below a folder of options."""
    return f"{group.partition('@')[0]}/{option}.yaml"


def list_search_paths() -> list[str]:
    """List the user's overrides of Hydra's search path, which a new composition does not have."""
    given = HydraConfig.get().overrides.hydra if HydraConfig.initialized() else []
    return [text for text in given if text.startswith("hydra.searchpath")]


def compose_run(overrides: list[str]) -> DictConfig:
    """Compose the config of a training run, including Hydra's own settings.

    Raises:
        InputError: a value has the wrong type, or a module that it names is nowhere.
    """
    from genreclf.commands.config_types import check_types  # which import this module
    from genreclf.commands.feature_parts import expand_parts
    from genreclf.commands.own_parts import make_targets_importable

    config = hydra.compose("config", [*overrides, *list_search_paths()], return_hydra_config=True)
    running = HydraConfig.get() if HydraConfig.initialized() else config.hydra
    expand_parts(config, "config")
    make_targets_importable(config, running)
    check_types(config, config.hydra)
    return config


def find_run_folder(overrides: list[str]) -> Path:
    """Return the folder of the run with these overrides; build its store if it is missing."""
    from genreclf.commands.stores import choose_folder  # imports h5py, unneeded by --status

    config = compose_run(overrides)
    keys = ["data", "features", "store", "outputs", "workers", "trust"]  # what a store needs
    parts = OmegaConf.masked_copy(config, keys)
    OmegaConf.resolve(parts)
    store, config.features = _build_store(OmegaConf.to_yaml(parts))
    return choose_folder(config, store)


@lru_cache  # the runs of a phase share it
def _build_store(settings: str) -> tuple["Store", Any]:
    """Build the store of these settings; also return the features, which may be the store's."""
    from genreclf.commands.stores import build_config_store

    config: Any = OmegaConf.create(settings)
    return build_config_store(config), config.features


def read_sweep(phase: str) -> dict[str, list[str]]:
    """Read what a phase varies: overrides by config key, such as `seed=0` and `seed=1`.

    Raises:
        InputError: a key has no values, or the phase uses a sweeper that chooses points itself.
        hydra.errors.HydraException: there is no such phase.
    """
    hydra_config = compose_run([f"phase={phase}"]).hydra
    sweeper = hydra_config.runtime.choices["hydra/sweeper"]
    if sweeper != "basic":
        raise InputError(
            f"phase {phase}: hydra/sweeper={sweeper} chooses points itself, which a study cannot "
            f"plan; run it by hand: genreclf train -m phase={phase}"
        )
    sweep = {}
    for name, values in (hydra_config.sweeper.params or {}).items():
        text = f"{name}={'' if values is None else values}"
        override = OverridesParser.create().parse_override(text)
        listed = [text]
        if override.is_sweep_override():
            listed = [f"{name}={value}" for value in override.sweep_string_iterator()]
        if not listed or text.endswith("="):
            raise InputError(f"phase {phase}: hydra.sweeper.params.{name} lists no values")
        sweep[name.lstrip("+~")] = listed
    return sweep


def list_hydra_options() -> list[str]:
    """List the user's options for Hydra itself that sweeps need, such as a launcher."""
    excluded = ("hydra.mode", "hydra.run.dir", "hydra.output_subdir", "hydra/job_logging")
    given = [text for text in HydraConfig.get().overrides.hydra if not text.startswith(excluded)]
    return list_config_folders() + given


def list_config_folders() -> list[str]:
    """List the `--config-dir` arguments that the user gave."""
    folders = find_config_folders(HydraConfig.get())
    return [text for folder in folders for text in ("--config-dir", folder)]


def find_config_folders(hydra_config: Any) -> list[str]:
    """Find the folders that the user named by `--config-dir`."""
    sources = hydra_config.runtime.config_sources
    return [source.path for source in sources if source.provider == "command-line"]
