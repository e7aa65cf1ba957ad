"""Identifies a run by its settings and by the content of its data.

The name of a run ends in a digest of

- the options of the config groups, with experiments expanded into what they choose;
- the settings that differ from those options' own files, numbers in canonical form;
- option files from outside the package, in full;
- the data: features, rows, genres and parts, wherever the files are (`store.digest_split`);
- the other files that a run reads (targets of distillation, pretrained weights), by content;
- versions of components whose results have changed since they were first released;
- the code of components that are not part of genreclf: their `version`, or else their source files.

Folders, spellings of paths, names of modules, and settings that do not affect results do not
count. Neither does a new key that is left at its default. If a default has changed,
`check_defaults` refuses to reuse a run that was made with the old one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from genreclf.commands.compose import (
    EXPANDED,
    compose_default,
    find_option_files,
    is_own_option,
)
from genreclf.errors import InputError
from genreclf.evaluation.runs import PLACES
from genreclf.files import digest_values
from genreclf.source_code import identify_code
from genreclf.trust import import_target, list_own_targets

DIGITS = 8
BY_CONTENT = ("data", "features")  # groups that the digest of the data covers
CHANGE_NOTHING = (  # settings that do not affect results
    *("outputs", "store", "num_workers", "workers", "report", "logger", "status", "estimate"),
    *("retry", "allow_identical", "study", "trainer.enable_progress_bar", "trust"),
)
ADDED = {  # groups added later, which count unless their first default is chosen
    "loss": "cross_entropy",
    "metric": "standard",
    "callback": "none",
    "sampler": "shuffle",
}
VERSIONS = {  # of exported names, options and settings; raise when results change
    "augmentation/strong": 2,  # leaves no extra copy unchanged
    "tracks_per_genre": 2,  # limits all parts, not only training
}


def digest_run(config: Any, data: str, sources: Mapping[str, str]) -> str:
    """Compute the digest that a run's name ends in.

    Args:
        config: the run's config, including Hydra's own.
        data: digest of the features, rows, genres and parts.
        sources: digests of the other files that the run reads, by name.
    """
    choices = list_choices(config)
    settings = flatten(config)
    differences = list_differences(config, choices, settings)
    identity = {
        "choices": {
            group: option
            for group, option in choices.items()
            if _affects_identity(group) and ADDED.get(group) != option
        },
        "settings": differences,
        "outside": _read_outside(config, choices, settings),
        "versions": _list_versions(config, choices, settings, differences),
        "data": data,
        "sources": dict(sources),
    }
    return digest_values(identity)[:DIGITS]


def join_hydra(config: DictConfig) -> Any:
    """Return the config of the running job, including Hydra's own."""
    return OmegaConf.merge({"hydra": HydraConfig.get()}, config)


def list_choices(config: DictConfig) -> dict[str, str]:
    """List the option chosen in each config group; groups such as `experiment` are expanded."""
    choices = config.hydra.runtime.choices
    return {
        str(group): str(option)
        for group, option in sorted(choices.items())
        if option and not group.startswith("hydra/") and group not in EXPANDED
    }


def list_differences(
    config: DictConfig, choices: Mapping[str, str], chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """List the settings that differ from the files of the chosen options, in canonical form.

    Args:
        config: the run's config, including Hydra's own.
        choices: its options, by group.
        chosen: its settings, as `flatten` gives them.
    """
    default = flatten(compose_default(config.hydra.job.config_name, tuple(choices.items())))
    keys = [key for key in sorted({*chosen, *default}) if _affects_identity(key)]
    return {
        key: chosen.get(key, "removed")
        for key in keys
        if key not in chosen or key not in default or chosen[key] != default[key]
    }


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Map full keys to settings; 1 and 1.0 become the same text.

    Args:
        config: a config, whose interpolations are resolved; or plain values, which stay as they
            are, because the file that they come from may be a stranger's.
    """
    flat: dict[str, Any] = {}

    def add(node: Any, prefix: str) -> None:
        composed = OmegaConf.is_config(node)
        for name in node:
            key = f"{prefix}{name}"
            if key == "hydra" or not _affects_identity(key):  # a path may have no default
                continue
            if composed and OmegaConf.is_missing(node, name):  # a default that must be set
                continue
            value = node[name]
            if isinstance(value, Mapping):
                add(value, f"{key}.")
            else:
                plain = (
                    OmegaConf.to_container(value, resolve=True)
                    if OmegaConf.is_list(value)
                    else value
                )
                flat[key] = _canonicalise(plain)

    add(config, "")
    if flat.get("cache") != "float16":  # other caches do not change values
        flat.pop("cache", None)
    if not flat.get("init.frozen"):  # added later
        flat.pop("init.frozen", None)
    return flat


def _canonicalise(value: Any) -> Any:
    if isinstance(value, list):
        return [_canonicalise(item) for item in value]
    if isinstance(value, dict):
        return {key: _canonicalise(item) for key, item in value.items()}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(float(value))
    return value


def _affects_identity(key: str) -> bool:
    """Whether a group or key is part of a run's identity."""
    return not changes_nothing(key, *BY_CONTENT) and not key.endswith(PLACES)


def changes_nothing(key: str, *more: str) -> bool:
    """Whether a key does not affect results, or is one of `more`."""
    names = (*CHANGE_NOTHING, *more)
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _read_outside(
    config: DictConfig, choices: Mapping[str, str], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Read the options from outside the package: their files, and what they resolved to."""
    outside: dict[str, Any] = {}
    for choice, option in choices.items():
        group, _, package = choice.partition("@")
        if not _affects_identity(group) or is_own_option(choice, option):
            continue
        key = f"{package or group}."
        became = {each: value for each, value in settings.items() if each.startswith(key)}
        files = find_option_files(config.hydra, choice, option)
        texts = (file.read_text(encoding="utf-8") for file in files)
        outside[choice] = [became, *(_canonicalise(yaml.safe_load(text)) for text in texts)]
    return outside


def _list_versions(
    config: DictConfig,
    choices: Mapping[str, str],
    settings: Mapping[str, Any],
    differences: Mapping[str, Any],
) -> dict[str, Any]:
    """List the versions of the components: of ours, those above 1; of others, all."""
    lists = [value for value in settings.values() if isinstance(value, list)]
    named = {str(settings[key]) for key in settings if key.endswith("_target_")}
    ours = {*named, *_list_options(config, choices), *differences} & VERSIONS.keys()
    found: dict[str, Any] = {name: VERSIONS[name] for name in ours}
    for name in list_own_targets([lists, [{"_target_": name} for name in named]]):
        found[name] = identify_code(import_target(name))
    return found


def _list_options(config: DictConfig, choices: Mapping[str, str]) -> list[str]:
    """List the chosen options that have an effect, as group/option."""
    copies = OmegaConf.select(config, "oversampling.copies") and config.oversampling.genres
    unused = () if copies else ("augmentation@oversampling.augmentation",)
    used = ((group, option) for group, option in choices.items() if group not in unused)
    return [f"{group.partition('@')[0]}/{option}" for group, option in used]


def check_defaults(folder: Path, before: Mapping[str, Any], config: DictConfig) -> None:
    """Refuse to reuse a run that was made with other defaults.

    Args:
        folder: the run's folder.
        before: the resolved config that the run recorded, as plain values.
        config: the config that now asks for this run.

    Raises:
        InputError: a default that the run used has changed since.
    """
    old, new = flatten(before), flatten(config)
    for key in sorted(old.keys() & new.keys()):
        if not key.endswith("_target_") and _affects_identity(key) and old[key] != new[key]:
            raise InputError(
                f"{folder}: this run was made when the default of {key} was {old[key]}, now it is "
                f"{new[key]}; choose {key}={old[key]}, or move that folder to train again"
            )
