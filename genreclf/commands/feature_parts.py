"""Replaces the names in `features.parts` by the settings of these options."""

from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from genreclf.commands.compose import compose_default
from genreclf.commands.config_keys import suggest_key
from genreclf.errors import InputError

NAME = "name"  # of the option whose settings a part changes
NO_PARTS = ("concat", "precomputed", "waveform")  # no numbers to describe a clip by


def expand_parts(config: DictConfig, config_name: str) -> None:
    """Replace each name in `features.parts`, or settings with a name, by that option's settings.

    A part's duration is that of all parts, unless it or its option sets another.

    Args:
        config: the config, which is changed.
        config_name: the primary config, in which the options are composed.

    Raises:
        InputError: there is no such option, or it has no such setting.
    """
    parts = OmegaConf.select(config, "features.parts")
    if OmegaConf.is_list(parts):
        plain: Any = OmegaConf.to_container(parts)
        config.features.parts = [_expand(part, config_name) for part in plain]


def _expand(part: Any, config_name: str) -> Any:
    if isinstance(part, str):
        part = {NAME: part}
    if not isinstance(part, dict) or "_target_" in part:
        return part  # `check_types` refuses what is no group
    if NAME not in part:
        raise InputError(
            f"features.parts: {part} does not say which features; add the name of an option, such "
            "as name: embedding"
        )
    if part[NAME] == "concat":
        raise InputError("features.parts: concat cannot be a part; name its parts instead")
    option, given = str(part[NAME]), {key: part[key] for key in part if key != NAME}
    try:
        composed = compose_default(config_name, (("features", option),)).features
    except HydraException as error:
        # Hydra lists the options, then where it searched.
        lines = (line.strip() for line in str(error).splitlines() if line.startswith("\t"))
        known = [line for line in lines if "=" not in line and line not in NO_PARTS]
        hint = f"; there are {', '.join(known)}" if known else f": {error}"
        raise InputError(f"features.parts: there is no option features={option}{hint}") from None
    settings: Any = OmegaConf.to_container(composed)
    if unknown := [key for key in given if key not in settings]:
        hint = suggest_key(unknown[0], [*settings])
        raise InputError(
            f"features.parts: features={option} has no setting {unknown[0]}; "
            + (hint or f"it has {', '.join(key for key in settings if key != '_target_')}")
        )
    if str(settings.get("duration")).startswith("${"):
        settings["duration"] = "${features.duration}"
    return {**settings, **given}
