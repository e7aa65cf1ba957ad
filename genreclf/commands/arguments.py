"""Checks and arranges the arguments of a command, before Hydra reads them.

Hydra would answer some of them with its usage, and accept others that have no effect here.
"""

import itertools
import re
import sys
from collections.abc import Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path

from genreclf.errors import InputError
from genreclf.paths import expand_home, refuse_special

# Flags of genreclf study: --status sets status=true. Two of them create no output folder.
FLAGS = {"status": ["hydra.run.dir=."], "estimate": ["hydra.run.dir=."], "retry": []}
TAKE_A_VALUE = (  # options of Hydra
    *("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn"),
    *("--cfg", "-c", "--package", "-p", "--experimental-rerun"),
)
OPTIONS = (  # all long options: Hydra's, which may be shortened, and ours
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run"),
    *("--multirun", "--shell-completion", "--config-path", "--config-name", "--config-dir"),
    *("--experimental-rerun", "--info", *(f"--{flag}" for flag in FLAGS)),
)
FOLDERS = "outputs=... chooses the folder"
SET_BY_US = {  # keys of Hydra that genreclf sets itself, and what has the effect that is wanted
    "hydra.run.dir": FOLDERS,
    "hydra.sweep.dir": FOLDERS,
    "hydra.sweep.subdir": FOLDERS,
    "hydra.job.name": "it is the name of the command",
}


class UsageError(InputError):
    """An argument that is no option of the command; the exit status is 2."""


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse --model x, where model=x is meant, and an empty path; report what has no effect.

    Raises:
        UsageError: there is no such option, or its path is empty.
        InputError: paths would start elsewhere than in the current folder.
    """
    for text, following in pairwise([*arguments, ""]):
        option, equals, value = text.partition("=")
        if equals and (instead := SET_BY_US.get(option.lstrip("+~"))):
            print(f"genreclf: {option} has no effect: {instead}", file=sys.stderr)
        if option.lstrip("+") == "hydra.job.chdir" and value.casefold() != "false":
            raise InputError(f"{option}: paths start at the current folder; {FOLDERS}")
        if option in ("--config-dir", "-cd") and not (value or following):
            raise UsageError(f"{option}: the path is empty; the current folder is .")
        if option in ("--config-dir", "-cd"):
            _check_option_files(expand_home(value or following))
        if not text.startswith("--") or any(each.startswith(option) for each in OPTIONS):
            continue
        if not value and following and not following.startswith("-") and "=" not in following:
            value = following
        key = option.strip("-").replace("-", "_")
        raise UsageError(
            f"there is no option {option}; settings have no dashes: {key}={value or '...'}"
        )


def _check_option_files(folder: Path) -> None:
    """Refuse options that Hydra would wait for, such as a named pipe.

    Only the folders of groups are searched: the folder may also hold music.
    """
    groups = (each.name for each in resources.files("genreclf.conf").iterdir() if each.is_dir())
    for place in (folder.glob("*.yaml"), *((folder / name).rglob("*.yaml") for name in groups)):
        for file in place:
            refuse_special(file)


def arrange_arguments(arguments: Sequence[str]) -> list[str]:
    """Turn our flags into overrides, and move Hydra's options to the front, where it wants them."""
    for flag, settings in FLAGS.items():
        if f"--{flag}" in arguments:
            others = (text for text in arguments if text != f"--{flag}")
            arguments = [*others, f"{flag}=true", *settings]
    options, overrides, rest = [], [], iter(arguments)
    for text in rest:
        if text.startswith("-"):
            options += [text, *itertools.islice(rest, int(text in TAKE_A_VALUE))]
        else:
            overrides.append(text)
    return options + overrides


def drop_plus(message: str, arguments: list[str]) -> list[str]:
    """Drop the + before a key that exists already: Hydra refuses it, and `+key=1` is clear.

    Args:
        message: what Hydra says.
        arguments: what it says that of.
    """
    known = re.search(r"An item is already at '([^']+)'|Multiple values for ([\w@./]+)\.", message)
    if not known:
        return arguments
    start = f"+{known[1] or known[2]}="
    return [text[1:] if text.startswith(start) else text for text in arguments]
