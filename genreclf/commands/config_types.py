"""Checks the types of a config's values: the YAML files are the schema.

A default says what type its value has. What a default cannot say (null, an empty list, a value that
must be given, a setting that takes several types) is in `KINDS`.
"""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from genreclf.commands.compose import compose_default
from genreclf.commands.config_keys import compose_known, list_keys
from genreclf.errors import InputError
from genreclf.paths import describe_path, expand_home, format_path

SWITCH, INTEGER, NUMBER, TEXT = "true or false", "an integer", "a number", "text"
SETTINGS = "a group of settings"
PATH = "a path"  # a text that is taken as it is typed (see `path_overrides`)
LISTS = {  # kinds of lists, and of their elements
    "a list of texts": (TEXT,),
    "a list of integers": (INTEGER,),
    "a list of numbers": (NUMBER,),
    "a list of true or false": (SWITCH,),
    "a list of groups of settings": (SETTINGS,),
    "a list of integers or of lists of integers": (INTEGER, "a list of integers"),
    "a list of paths": (PATH,),
    "a list of texts or of groups of settings": (TEXT, SETTINGS),
}
TEXTS, INTEGERS, NUMBERS, SWITCHES, GROUPS, KERNELS, PATHS, PARTS = LISTS

# Each key also stands for the keys that end in it: "fill" for "augmentation.fill".
KINDS = {
    "workers": (INTEGER,),
    "trust": (TEXTS,),
    "ema": (NUMBER,),
    "tracks_per_genre": (INTEGER,),
    "store": (PATH,),
    "allow_identical": (TEXTS, TEXT),
    "genres": (TEXTS,),
    "data.root": (PATH,),
    "data.path": (PATH,),  # or a pattern
    "data.lists": (PATH,),
    "data.rename": (SETTINGS, TEXT),  # which is YAML
    "data.scale": (NUMBER,),
    "data.offset": (NUMBER,),
    "data.silence": (NUMBER,),
    "data.sample_rate": (NUMBER,),
    "features.layer": (TEXT, INTEGER),
    "features.model": (PATH,),
    "features.output": (TEXT, INTEGER),
    "features.parts": (PARTS,),
    "features.window": (NUMBER,),
    "classes": (TEXTS, TEXT),
    "fill": (NUMBER,),
    "init.frozen": (TEXTS,),
    "scheduler.mode": (TEXT,),
    "model.gamma": (NUMBER, TEXT),
    "model.kernels": (KERNELS,),
    "distillation.path": (PATH,),
    "logger.entity": (TEXT,),
    "logger.group": (TEXT,),
    "logger.job_type": (TEXT,),
    "trainer.devices": (INTEGER, TEXT, INTEGERS),
    "trainer.precision": (TEXT, INTEGER),
    "trainer.deterministic": (SWITCH, TEXT),
    "trainer.max_time": (TEXT, SETTINGS),
    "trainer.min_epochs": (INTEGER,),
    "trainer.limit_train_batches": (NUMBER,),
    "trainer.limit_val_batches": (NUMBER,),
    "trainer.num_sanity_val_steps": (INTEGER,),
    "trainer.enable_progress_bar": (SWITCH,),
    "trainer.gradient_clip_val": (NUMBER,),
    "trainer.gradient_clip_algorithm": (TEXT,),
    "trainer.benchmark": (SWITCH,),
    "trainer.callbacks": (GROUPS,),
    "study.phases": (TEXTS,),
    "study.overrides": (TEXTS,),
    "study.metric": (TEXT,),
    "study.test": (TEXT,),
    "where": (SETTINGS, TEXT),
    "checkpoint": (PATH,),
    "clip": (PATH,),
    "entity": (TEXT,),
    "file": (PATH,),
    "folder": (PATH,),
    "group": (TEXT,),
    "job_type": (TEXT,),
    "notice": (TEXT,),
    "outputs": (PATH,),
    "page": (PATH,),
    "distillation.runs": (PATHS,),
    "runs": (PATHS, PATH),
    "title": (TEXT,),
}

NULLABLE = {  # null: nothing is chosen, nothing is tested, a study finds the weakest genre
    *("study.metric", "study.test", "oversampling.genres"),
}


def check_types(config: DictConfig, hydra_config: Any) -> None:
    """Refuse wrong types and empty paths; expand `~`; turn numbers into text where it belongs.

    Args:
        config: the config, which is changed.
        hydra_config: Hydra's own config of it.

    Raises:
        InputError: a value has the wrong type.
    """
    _expand_home(config)
    known = compose_known(hydra_config)
    unchosen = compose_default(hydra_config.job.config_name, ())
    keys = list_keys(OmegaConf.to_container(unchosen))
    nullable = {key for key in keys if _get(unchosen, key) is None} | NULLABLE
    keys = list_keys(OmegaConf.to_container(known))
    # A wrong value is reported under the key that was typed, not under one that refers to it.
    for key in sorted(keys, key=lambda key: OmegaConf.is_interpolation(*_locate(known, key))):
        if _is_removed(config, known, key):
            continue
        expected, value = _get(known, key), _get(config, key)
        if isinstance(expected, dict) and not isinstance(value, dict):
            choices = hydra_config.runtime.choices
            group = next((name for name in choices if name.rpartition("@")[2] == key), key)
            raise InputError(
                f"{key}={value}: it is a group of settings; choose an option: {group}=..."
            )
        kinds = find_kinds(key, expected)
        if (value is None and (expected is None or key in nullable)) or not kinds:
            continue
        if not any(_is_of_kind(value, kind, kinds) for kind in kinds):
            if set(kinds) <= set(LISTS) and not isinstance(value, list | dict | None):
                raise InputError(f"{key}={value}: a list is needed: [{value}]")
            needed = " or ".join(kinds)
            if expected is None:
                raise InputError(f"{key}={value}: {needed} is needed")
            raise InputError(f"{key}={value}: {needed} is needed (the default is {expected})")
        if {PATH, PATHS} & {*kinds}:
            for path in value if isinstance(value, list) else [value]:
                _check_path(key, str(path))
        if not {INTEGER, NUMBER} & {*kinds} and {TEXT, TEXTS, PATH, PATHS} & {*kinds}:
            _store_as_text(config, key, value)


def _check_path(key: str, path: str) -> None:
    """Refuse a path that cannot be meant: an empty one stands for the current folder in Python."""
    if not path.strip():
        raise InputError(f"{key}={path}: the path is empty; the current folder is .")
    kind, what = describe_path(path)
    if kind == "special":  # reading may never end
        raise InputError(f"{key}={format_path(path)}: {what}, not a file")


def find_kinds(key: str, default: Any) -> tuple[str, ...]:
    """Find which kinds of values a key takes; none if nothing is known about them."""
    parts = key.split(".")
    plain = _name_kind(default)
    for first in range(len(parts)):
        kinds = KINDS.get(".".join(parts[first:]), ())
        if kinds and (plain not in (SWITCH, INTEGER, NUMBER) or plain in kinds):
            return kinds  # genreclf network has other classes
    if isinstance(default, list):
        element = _name_kind(default[0]) if default else None
        return tuple(name for name, elements in LISTS.items() if elements == (element,))
    return () if plain in (None, SETTINGS) else (plain,)


def _name_kind(value: Any) -> str | None:
    kinds = {bool: SWITCH, int: INTEGER, float: NUMBER, str: TEXT, dict: SETTINGS}
    return kinds.get(type(value))


def _is_of_kind(value: Any, kind: str, kinds: tuple[str, ...]) -> bool:
    if kind in LISTS:
        elements = LISTS[kind]
        return isinstance(value, list) and all(
            any(_is_of_kind(each, element, elements) for element in elements) for each in value
        )
    number = type(value) in (int, float)
    match kind:
        case "true or false":
            return isinstance(value, bool)
        case "an integer":
            return type(value) is int
        case "a number":
            return number
        case "text" | "a path":
            return isinstance(value, str) or (number and not {INTEGER, NUMBER} & {*kinds})
    return isinstance(value, dict)


def _get(config: DictConfig, key: str) -> Any:
    value = OmegaConf.select(config, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _locate(config: DictConfig, key: str) -> tuple[Any, str]:
    """Return the node that holds a key, and its name there."""
    parent, _, name = key.rpartition(".")
    return (OmegaConf.select(config, parent) if parent else config), name


def _is_removed(config: DictConfig, known: DictConfig, key: str) -> bool:
    """Whether the user has removed a key (`~key`), or has replaced the class that it is of."""
    here, name = _locate(config, key)
    if not OmegaConf.is_dict(here):
        return False
    before, _ = _locate(known, key)
    return name not in here or here.get("_target_") != before.get("_target_")


def _store_as_text(config: DictConfig, key: str, value: Any) -> None:
    if type(value) in (int, float):
        OmegaConf.update(config, key, str(value))
    elif isinstance(value, list) and any(type(each) in (int, float) for each in value):
        OmegaConf.update(config, key, [str(each) for each in value])


def _expand_home(node: Any) -> None:
    """Expand `~` at the start of every text, which then is a path."""
    for name in list(node) if OmegaConf.is_dict(node) else range(len(node)):
        if name == "hydra" or OmegaConf.is_missing(node, name):
            continue
        value = node[name]
        if OmegaConf.is_config(value):
            _expand_home(value)
        elif (isinstance(value, str) and value.startswith(("~/", "~\\"))) or value == "~":
            node[name] = str(expand_home(value))
