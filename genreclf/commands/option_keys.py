"""Finds which options of a group have a key that the chosen one lacks."""

from collections.abc import Sequence
from importlib import resources

import yaml

from genreclf.commands.compose import EXPANDED

GROUPS = (*EXPANDED, "features", "model", "data", "split", "distillation")  # that are looked at


def suggest_option(key: str, arguments: Sequence[str] = ()) -> str:
    """Say which options of a key's group have it, if the chosen one lacks it; empty if none has.

    Args:
        key: the key, such as features.model.
        arguments: the user's, of which one may choose options, also several of a sweep.
    """
    group, _, name = key.lstrip("+").partition(".")
    folder = resources.files("genreclf.conf").joinpath(group)
    if group not in GROUPS:
        return ""
    if not name:
        options = sorted(file.name.removesuffix(".yaml") for file in folder.iterdir())
        return f"choose {' or '.join(f'{group}={option}' for option in options)} first"
    having, lacking = [], []
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        option = file.name.removesuffix(".yaml")
        settings = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        own = settings.get(group) if isinstance(settings.get(group), dict) else settings
        (having if name.partition(".")[0] in own else lacking).append(option)
    if not having:
        return ""
    values = [text.partition("=")[2] for text in arguments if text.startswith(f"{group}=")]
    chosen = ",".join(values).split(",")
    without = [option for option in chosen if option in lacking]
    if without and {*chosen} & {*having}:  # a sweep
        return f"{group}={without[0]} has no such key: run a command for each of these options"
    return f"this key goes with {' or '.join(f'{group}={option}' for option in having)}"
