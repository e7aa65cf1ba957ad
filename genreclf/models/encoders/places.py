"""Where the encoders are that described features name: at a path, or in a checkpoint's folder.

Descriptions record a digest of each encoder, so it is safe to look for one of its name elsewhere.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genreclf.audio.descriptions import build_features
from genreclf.errors import InputError
from genreclf.models.encoders.onnx_files import list_external_files
from genreclf.models.model_files import BUNDLED
from genreclf.paths import expand_home

KEYS = {  # of our features, the setting that says where the encoder is
    "genreclf.models.ModelEmbedding": "checkpoint",
    "genreclf.models.OnnxEmbedding": "model",
    "genreclf.models.OnnxMelEmbedding": "model",
    "genreclf.models.HuggingFaceEmbedding": "model",
}


def find_encoders(described: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Find the parts of described features that name an encoder in files, and the setting's key."""
    if not isinstance(described, dict):
        return
    key = KEYS.get(str(described.get("_target_")))
    if key and isinstance(described.get(key), str) and described[key] not in BUNDLED:
        yield described, key
    for part in described.get("parts") or ():
        yield from find_encoders(part)


def locate_encoders(described: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Name the encoders of a checkpoint where they are: at the recorded path, or in its folder.

    If there is one at both places, the one with the recorded digest is chosen. One that is not
    found keeps its path.

    Args:
        described: features of the checkpoint, from `describe_features`.
        folder: the folder of the checkpoint.
    """
    located = copy.deepcopy(described)
    for settings, key in find_encoders(located):
        places = [expand_home(settings[key]), str(folder / Path(settings[key]).name)]
        if not Path(places[0]).is_absolute():  # written by `genreclf export`, or a name of the hub
            del places[0]
        found = [place for place in places if Path(place).exists()]
        if len(found) > 1:
            found = [place for place in found if _fits(settings, key, place)] or found
        if found:
            settings[key] = str(Path(found[0]).absolute())
    return located


def explain_missing(described: dict[str, Any], folder: Path) -> str:
    """Say which encoder of a checkpoint is at none of these places; empty if all are there.

    Args:
        described: its features, after `locate_encoders`.
        folder: the folder of the checkpoint.
    """
    for settings, key in find_encoders(described):
        place, name = Path(expand_home(settings[key])), Path(settings[key]).name
        is_of_hub = not place.is_absolute() and len(place.parts) > 1
        if not place.exists() and not is_of_hub:
            there = f"neither at {place} nor" if place.is_absolute() else "not"
            return f"its encoder {name} is {there} in {folder.absolute()}: put it into that folder"
    return ""


def name_encoders(described: dict[str, Any]) -> dict[str, Any]:
    """Name encoders in files by their names alone, without the folders of this machine."""
    named = copy.deepcopy(described)
    for settings, key in find_encoders(named):
        if Path(expand_home(settings[key])).is_absolute():
            settings[key] = Path(settings[key]).name
    return named


def list_encoder_files(described: dict[str, Any]) -> dict[str, Path]:
    """List the ONNX files of described features, with their weights, by name in another folder.

    Files that are not the recorded ones, and weights outside the file's folder, are left out.

    Raises:
        InputError: two of them have the same name.
    """
    files: dict[str, Path] = {}
    for settings, key in find_encoders(described):
        path = Path(expand_home(settings[key]))
        if "Onnx" not in settings["_target_"] or not _fits(settings, key, str(path)):
            continue
        names = [path.name, *list_external_files(path, str(settings["digest"]))]
        if any(Path(name).is_absolute() or ".." in Path(name).parts for name in names):
            continue
        for name in names:
            if files.setdefault(name, path.parent / name) != path.parent / name:
                raise InputError(f"{path}: another file of the encoders is named {name}; rename it")
    return files


def _fits(settings: dict[str, Any], key: str, place: str) -> bool:
    """Whether the encoder at a place has the digest that was recorded."""
    try:
        found = build_features({**settings, key: place, "digest": ""})
    except InputError:
        return False
    return found.digest == settings.get("digest")
