"""Errors that a user can correct, explained in one line."""

import difflib
import re
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from genreclf.commands.compose import list_groups
from genreclf.commands.config_keys import explain_refusal, list_keys, suggest_key
from genreclf.commands.instantiation import accepts_argument, locate_target
from genreclf.commands.option_keys import suggest_option
from genreclf.commands.own_parts import make_importable
from genreclf.errors import InputError, format_error
from genreclf.paths import format_path

USER_ERRORS = (InputError, HydraException, OmegaConfBaseException, MemoryError)
MISTYPED = r"Could not override '([^']+)'"  # in Hydra's error
LAUNCHER_EXTRAS = {"joblib": "joblib", "ray": "ray", "submitit": "slurm"}  # our extras


def explain_error(error: BaseException) -> str:
    """Describe an error in one line for the user."""
    if isinstance(error, MemoryError):  # outside training, which reports its own
        return "memory ran out; end other programs, or use fewer processes: workers=1 num_workers=0"
    if isinstance(error, UnicodeEncodeError):  # Ray keeps the command line as UTF-8
        return f"it takes only names that are UTF-8, not {format_path(error.object)}"
    # Ray and submitit report an error in a job as the text of its traceback.
    raised = re.findall(r"^[\w.]+(?:Error|Exception): (.+)$", str(error), re.MULTILINE)
    text = raised[-1] if raised else format_error(error)
    if missing := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{missing[1]}=... is needed"
    if re.search(r"No supported gpu backend|Accelerator. can not run on your system", text):
        return "trainer.accelerator: this machine has no GPU; add trainer.accelerator=cpu"
    launcher = re.search(r"Could not find 'hydra/launcher/(([a-z]+)\w*)'", text)
    if launcher and launcher[2] in LAUNCHER_EXTRAS:
        extra = LAUNCHER_EXTRAS[launcher[2]]
        return f"hydra/launcher={launcher[1]} is not installed: pip install 'genreclf[{extra}]'"
    if needed := re.search(r"Trainer.*Requirement '([\w-]+)", text):
        return (
            f"trainer.accelerator: it needs {needed[1]}, which is not installed; choose "
            "trainer.accelerator=auto, cpu or gpu"
        )
    for technical in ("Config search path", "To append to your", "full_key:", "See https://hydra"):
        text = text.partition(technical)[0]
    if isinstance(error, OverrideParseException):
        text += " (quote what holds = , [ ] { } ~ or spaces: 'key=\"value\"')"
    unknown = re.search(
        r"Could not find '([\w/]+)/([\w.-]+)' Available options in '[^']+': (.*)", text
    )
    if unknown and (near := difflib.get_close_matches(unknown[2], unknown[3].split(), 1)):
        text = f"{text.strip()}; did you mean {unknown[1]}={near[0]}?"
    return text.strip()


def explain_key(message: str, name: str, config_name: str, arguments: Sequence[str]) -> str:
    """Suggest a known key that resembles the mistyped one, or say why it is refused.

    Args:
        message: Hydra's error.
        name: the command.
        config_name: its primary config.
        arguments: the user's, whose options have keys of their own.
    """
    mistyped = re.search(MISTYPED, message)
    if not mistyped:
        return ""
    if reason := explain_refusal(mistyped[1]):
        return f" {reason}"
    if option := suggest_option(mistyped[1], arguments):
        return f" {option}"
    config = _compose_chosen(config_name, arguments)
    if near := suggest_key(mistyped[1], list_keys(OmegaConf.to_container(config))):
        return f" D{near[1:]}"
    parent, _, last = mistyped[1].rpartition(".")
    node = OmegaConf.select(config, parent) if parent else None
    target = str(node.get("_target_", "")) if isinstance(node, DictConfig) else ""
    hint = re.search(r"To append to your config use .*", message)
    if parent and hint and _may_take(target, last, _list_folders(arguments)):
        return f" {hint[0]}"
    return f" genreclf {name} --help lists the keys."


def explain_override(
    error: BaseException, name: str, config_name: str, arguments: Sequence[str]
) -> str:
    """Describe an error in an override; a key that does not exist comes before what its value is.

    The value of a mistyped key is not known to be a path, so Hydra may not be able to read it.

    Args:
        error: Hydra's error.
        name: the command.
        config_name: its primary config.
        arguments: the user's.
    """
    if isinstance(error, OverrideParseException):
        key = re.sub(r"^[+~]*", "", str(error.override).partition("=")[0])
        if re.fullmatch(r"[\w./@-]+", key) and not _is_known(key, config_name, arguments):
            unknown = f"Could not override '{key}'."
            return unknown + explain_key(unknown, name, config_name, arguments)
    return explain_error(error) + explain_key(str(error), name, config_name, arguments)


def _is_known(key: str, config_name: str, arguments: Sequence[str]) -> bool:
    """Whether a key or a group of options exists."""
    if key.partition("@")[0] in list_groups(config_name) or key.startswith("hydra"):
        return True
    keys = list_keys(OmegaConf.to_container(_compose_chosen(config_name, arguments)))
    return any(each == key or each.startswith(f"{key}.") for each in keys)


def _compose_chosen(config_name: str, arguments: Sequence[str]) -> Any:
    """Compose the config of the options that the user chose, without the user's other overrides."""
    groups = list_groups(config_name)
    chosen = [
        text.lstrip("+")
        for text in arguments
        if re.fullmatch(r"\+?[\w/@.]+=[\w/-]+", text) and text.lstrip("+").split("=")[0] in groups
    ]
    places = ",".join(f"'file://{folder}'" for folder in _list_folders(arguments))
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        try:
            return hydra.compose(config_name, [*chosen, f"hydra.searchpath=[{places}]"])
        except (HydraException, OmegaConfBaseException):  # an option may be mistyped, too
            return hydra.compose(config_name)


def find_chosen_target(group: str, config_name: str, arguments: Sequence[str]) -> Any:
    """Find the class that the chosen option of a group names; None if that cannot be known."""
    node = OmegaConf.select(_compose_chosen(config_name, arguments), group)
    if not isinstance(node, DictConfig) or "_target_" not in node:
        return None
    try:
        make_importable(node, map(Path, _list_folders(arguments)))
        return locate_target("_target_", str(node["_target_"]))
    except InputError:
        return None


def _list_folders(arguments: Sequence[str]) -> list[str]:
    """List the absolute paths of the folders that --config-dir names."""
    return [
        str(Path(text.partition("=")[2] or following).absolute())
        for text, following in pairwise([*arguments, ""])
        if text.partition("=")[0] in ("--config-dir", "-cd")
    ]


def _may_take(target: str, argument: str, folders: Sequence[str]) -> bool:
    """Whether a target takes an argument; True if it cannot be known."""
    sys.path += [each for each in (*folders, str(Path.cwd())) if each not in sys.path]
    try:
        return accepts_argument(locate_target("_target_", target), argument)
    except InputError:
        return True


def was_raised_by_launcher(error: Exception) -> bool:
    """Whether the launcher itself failed; an error in a job is re-raised outside it."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals["__name__"].startswith("hydra_plugins.") for frame, _ in frames)
