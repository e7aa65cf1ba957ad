"""What a dataset of finished features records of them, compared with the features of a run.

Archives that `genreclf embed` wrote say which features their rows are. Most others do not.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genreclf.audio.descriptions import build_features, describe_features, identify_features
from genreclf.audio.own_features import get_stored
from genreclf.errors import InputError
from genreclf.paths import format_path

VERSION = 1
RECORD = "genreclf"  # name of the description
PLACES = ("model", "checkpoint", "parts")  # settings that say which encoder


def parse_description(path: Path, described: bytes | str | None) -> dict[str, Any]:
    """Parse the JSON that identifies the features.

    Raises:
        InputError: there is none, or it is of another version or damaged.
    """
    if described is None:
        raise InputError(f"{format_path(path)}: not written by genreclf embed")
    try:
        found = json.loads(described)
        if found["version"] != VERSION:
            raise InputError(
                f"{format_path(path)}: written by another version of genreclf; write it again with "
                "genreclf embed"
            )
        if not isinstance(found["features"], dict) or not isinstance(found["identity"], dict):
            raise ValueError("features and identity are needed")
    except (ValueError, KeyError, TypeError) as error:
        raise describe_damage(path, error) from None
    return found


def describe_damage(path: Path, error: object) -> InputError:
    """Make the error of a file that cannot be read."""
    reason = " ".join(str(error).split())
    return InputError(f"{format_path(path)}: not a readable file of embeddings ({reason})")


def read_recorded(dataset: Any) -> dict[str, Any] | None:
    """Read what a dataset records of its rows' features.

    Returns:
        `features` (from `describe_features`) and `identity` (from `identify_features`); None if it
        records nothing.

    Raises:
        InputError: the dataset cannot be read, or holds rows of different features.
    """
    read = getattr(dataset, "read_recorded", None)
    return None if read is None else read()


def check_recorded(dataset: Any, features: Any, hint: str) -> bool:
    """Refuse features other than those that a dataset records.

    Args:
        dataset: a dataset that provides features.
        features: those that the rows are taken for.
        hint: what to type instead; ends the message.

    Returns:
        Whether the rows are known to be these features.

    Raises:
        InputError: as `read_recorded`, or the features differ.
    """
    recorded = read_recorded(dataset) if callable(features) else None
    if recorded is None:
        return False
    stored = get_stored(features)
    identity = identify_features(stored)
    if identity != recorded["identity"]:
        found, wanted = _name_both(recorded["features"], describe_features(stored))
        if found == wanted:
            found, wanted = (
                f"{found} of version {each['version']}" for each in (recorded["identity"], identity)
            )
        raise InputError(
            f"data.path={getattr(dataset, 'path', dataset.name)}: its rows are {found}, not "
            f"{wanted}; {hint}"
        )
    return True


def _name_both(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[str, str]:
    """Name two kinds of features, with the settings in which they differ, as options."""
    names = [_find_name(each) for each in (first, second)]
    differing = [
        key
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key) and key not in ("name", "_target_")
    ]
    if names[0] != names[1]:
        differing = [key for key in differing if key in PLACES]
    elif differing != ["digest"]:  # of what another setting names
        differing = [key for key in differing if key != "digest"]
    texts = [
        " ".join(
            [
                f"features={name}",
                *(f"features.{key}={each[key]}" for key in differing if key in each),
            ]
        )
        for name, each in zip(names, (first, second), strict=True)
    ]
    return texts[0], texts[1]


def _find_name(described: Mapping[str, Any]) -> str:
    """Find the name of described features; that of their class if it is not of genreclf."""
    try:
        return build_features(dict(described)).name
    except InputError:
        return str(described.get("name") or described.get("_target_"))
