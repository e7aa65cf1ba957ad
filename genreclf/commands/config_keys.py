"""Checks that every key of a config is one that something reads."""

import difflib
import inspect
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from genreclf.commands.compose import EXPANDED, compose_default, is_own_option, list_groups
from genreclf.commands.option_keys import suggest_option
from genreclf.errors import InputError
from genreclf.trust import import_target

SIMILAR = 0.6  # names that are at least as similar as this are suggested, as difflib does
OPEN = ("where", "data.rename")  # mappings that take any key
PHASES = "study.phase_overrides"  # takes the names of the study's phases as keys
INSTANTIATION = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")
SUPPLIED = {  # arguments that genreclf passes itself
    "model": ("classes",),
    "augmentation": ("silence",),
    "oversampling": ("silence",),
    "oversampling.augmentation": ("silence",),
    "logger": ("save_dir",),
    "metric": ("num_classes",),
    "sampler": ("labels", "seed"),
}
PASSED_LATER = {  # what genreclf calls these parts with, so their classes are partial
    "optimizer": "the parameters",
    "scheduler": "the optimizer",
    "normalise": "the training features",
    "split": "the store",
}
BY_NAME = ("logger", "metric")  # groups that hold several parts, each under a name of its own
KEY_RESOLVERS = ("oc.select", "oc.deprecated", "oc.dict.keys", "oc.dict.values")  # of a key
REFUSED = {  # flags of Lightning's Trainer that genreclf sets itself, and what to type instead
    "barebones": "enable_progress_bar=false and logger=none leave out what costs time",
    "check_val_every_n_epoch": "every epoch is validated",
    "default_root_dir": "choose the folder by outputs=...",
    "enable_autolog_hparams": "the logger records the whole config",
    "enable_checkpointing": "the best epoch is always kept; export and evaluate need it",
    "enable_model_summary": "genreclf network draws the model and counts its parameters",
    "fast_dev_run": "use debug=fast",
    "limit_predict_batches": "predictions are made for all tracks",
    "limit_test_batches": "all test tracks are tested; test=false leaves the test out",
    "logger": "choose logger=csv, tensorboard, wandb, ... (see --help)",
    "max_steps": "use trainer.max_epochs",
    "min_steps": "use trainer.min_epochs",
    "model_registry": "use genreclf export",
    "num_nodes": "it belongs to trainer=ddp",
    "overfit_batches": "use debug=overfit",
    "profiler": "use debug=profile",
    "plugins": "use trainer.precision, and trainer=ddp for several processes",
    "reload_dataloaders_every_n_epochs": "batches are read again in each epoch",
    "strategy": "use trainer=ddp",
    "sync_batchnorm": "trainer=ddp sets it on GPUs",
    "use_distributed_sampler": "trainer=ddp shares the tracks itself",
    "val_check_interval": "every epoch is validated once, at its end",
}


def compose_known(hydra_config: Any) -> DictConfig:
    """Compose the defaults of the chosen options, to which a config is compared.

    Groups that the user has added are left out, and so are the user's own experiments and phases,
    which only set other keys: a key is not known just because such a file names it.
    """
    name = hydra_config.job.config_name
    groups = list_groups(name)
    choices = tuple(
        (str(group), str(option))
        for group, option in hydra_config.runtime.choices.items()
        if option and group in groups
        if group not in EXPANDED or is_own_option(group, option)
    )
    return compose_default(name, choices)


def list_keys(node: Any, prefix: str = "") -> list[str]:
    """List the keys of a plain config at all levels, except those for Hydra's `instantiate`."""
    if not isinstance(node, dict):
        return []
    return [
        key
        for name, value in node.items()
        if name not in INSTANTIATION and "." not in str(name)  # which no override can name
        for key in (f"{prefix}{name}", *list_keys(value, f"{prefix}{name}."))
    ]


def check_keys(config: DictConfig, hydra_config: Any) -> None:
    """Refuse keys that nothing reads, and flags of the Trainer that genreclf sets itself.

    Raises:
        InputError: names the key, and the nearest known one; or says that `_partial_` is missing.
    """
    plain: Any = OmegaConf.to_container(config)
    known: Any = OmegaConf.to_container(compose_known(hydra_config))
    names = list_keys(known)
    phases = [f"{PHASES}.{phase}" for phase in _list_phases(plain)]
    interpolated = set(list_interpolated_keys(plain))
    explained: list[str] = []
    for key in list_keys(plain):
        reason = explain_refusal(key)
        if reason and not (key in names and key.startswith("trainer.")):  # trainer=ddp sets one
            raise InputError(reason)
        if key in names or key.startswith(tuple(f"{each}." for each in explained)):
            continue
        if not (_is_interpolated(key, interpolated) or _is_used(key, plain, known)):
            hint = (
                suggest_option(key)
                or suggest_key(key, [*names, *phases])
                or f"genreclf {hydra_config.job.name} --help lists them"
            )
            raise InputError(f"{key}: there is no such key; {hint}")
        explained.append(key)
    for group, argument in PASSED_LATER.items():
        _check_partial(group, plain.get(group), argument)
    for part in ("train", "val"):
        key = f"limit_{part}_batches"
        if plain.get("trainer", {}).get(key) == 0:
            raise InputError(f"trainer.{key}=0: at least one batch is needed")
    if plain.get("trainer", {}).get("max_epochs") == 0:
        raise InputError("trainer.max_epochs=0: at least 1 epoch is needed")


def _list_phases(config: dict[str, Any]) -> list[str]:
    return (config.get("study") or {}).get("phases") or []


def explain_refusal(key: str) -> str:
    """Say why a key is refused that genreclf sets itself; empty if it is not one of those."""
    parent, _, name = key.rpartition(".")
    if parent == "trainer" and name in REFUSED:
        return f"{key} is set by genreclf: {REFUSED[name]}"
    group, _, part = parent.partition(".")
    if name in SUPPLIED.get(group if part and group in BY_NAME else parent, ()):
        return f"{key} is set by genreclf: leave it out"
    return ""


def _compare_names(first: str, second: str) -> float:
    """Compute how similar two names are, from 0 to 1."""
    return difflib.SequenceMatcher(None, first, second).ratio()


def suggest_key(key: str, known: list[str]) -> str:
    """Suggest the known key that resembles a mistyped one; empty if none does."""
    parent, _, name = key.rpartition(".")
    siblings = [each for each in known if each.rpartition(".")[0] == parent]
    for candidates in (siblings, sorted(known, key=lambda each: each.count("."))):
        by_name: dict[str, str] = {}
        for each in candidates:
            by_name.setdefault(each.rpartition(".")[2], each)
        # Of equally similar keys, the first: max_epochs is listed before min_epochs.
        near = max(by_name, key=lambda each: _compare_names(each, name), default="")
        if near and _compare_names(near, name) >= SIMILAR:
            return f"did you mean {by_name[near]}?"
    return ""


def list_interpolated_keys(node: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """List the keys that values refer to, as in `${key}` or `${oc.select:key,0}`.

    Args:
        node: a value of a plain config.
        path: its key, in parts.
    """
    if isinstance(node, str):
        for inside in re.findall(r"\$\{([^{}$]*)", node):
            resolver, colon, arguments = inside.partition(":")
            if colon and resolver.strip() not in KEY_RESOLVERS:  # such as ${run:group}
                continue
            named = re.match(r"\s*(\.*)([\w-]+(?:\.[\w-]+|\[\w+\])*)", arguments or inside)
            if named:
                dots, key = len(named[1]), re.sub(r"\[(\w+)\]", r".\1", named[2])
                yield ".".join([*(path[: len(path) - dots] if dots else ()), key])
    elif isinstance(node, dict):
        for name, child in node.items():
            yield from list_interpolated_keys(child, (*path, str(name)))
    elif isinstance(node, list):
        for position, child in enumerate(node):
            yield from list_interpolated_keys(child, (*path, str(position)))


def _is_interpolated(key: str, interpolated: set[str]) -> bool:
    """Whether a value refers to this key, to one below it, or to one above it."""
    return any(
        key == each or each.startswith(f"{key}.") or key.startswith(f"{each}.")
        for each in interpolated
    )


def _is_used(key: str, config: dict[str, Any], known: dict[str, Any]) -> bool:
    """Whether an unknown key is an argument of a `_target_`, or an entry of an open mapping."""
    *path, last = key.split(".")
    nodes, defaults = [config], [known]
    for name in path:
        nodes.append(nodes[-1].get(name, {}))
        defaults.append(defaults[-1].get(name) or {})
    parent, default = nodes[-1], defaults[-1]
    if not path or not isinstance(default, dict):
        return False
    if "_target_" in parent:
        return _accepts(parent, last)
    if any("_target_" in node for node in nodes):  # inside an argument that is a mapping
        return True
    if ".".join(path) in OPEN:
        return True
    if ".".join(path) == PHASES:
        return last in _list_phases(config)
    entries = [*default.values(), parent.get(last)]
    return all(isinstance(each, dict) and "_target_" in each for each in entries)  # parts, by name


def _check_partial(group: str, node: Any, passed: str) -> None:
    """Check that a part is not called before it has the argument that genreclf passes to it."""
    target = str(node.get("_target_", "")) if isinstance(node, dict) else ""
    if not target or target.startswith("genreclf.") or {"_partial_", "_args_"} & node.keys():
        return
    try:
        first = next(iter(inspect.signature(import_target(target)).parameters.values()), None)
    except Exception:  # as in `_accepts`
        return
    positional = first and first.kind in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD)
    if first and positional and first.default is first.empty and first.name not in node:
        raise InputError(
            f"{group}: genreclf passes {passed} to {target}, as {first.name}, later: set "
            f"{group}._partial_: true"
        )


def _accepts(node: dict[str, Any], name: str) -> bool:
    """Whether the `_target_` of a node takes an argument of this name."""
    try:
        parameters = [*inspect.signature(import_target(str(node["_target_"]))).parameters.values()]
    except Exception:  # it cannot be imported or inspected: Hydra says why when it is called
        return True
    if node.get("_partial_"):
        parameters = parameters[1:]  # the argument that genreclf passes later
    return any(
        each.kind == each.VAR_KEYWORD or (each.name == name and each.kind != each.POSITIONAL_ONLY)
        for each in parameters
    )
