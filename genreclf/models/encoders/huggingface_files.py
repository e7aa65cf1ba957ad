"""The files of a model of Hugging Face: where they are, what identifies them, their sample rate."""

import json
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from genreclf.errors import InputError
from genreclf.files import expand_home
from genreclf.models.encoders.digests import digest_file

CONFIG = "config.json"
PREPROCESSING = ("preprocessor_config.json", "processor_config.json")  # the second holds the first
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")  # of two formats, transformers takes the first
CODE = "*.py"
EXTRA = "features=huggingface needs an extra: pip install 'genreclf[huggingface]'"


def locate_model(model: str) -> Path:
    """Find the folder of a model: a folder, or the name of a model that has been downloaded.

    Raises:
        InputError: there is none, or it is not a model of transformers.
    """
    folder = Path(expand_home(model))
    if not folder.is_dir():
        folder = _find_downloaded(model)
    if not (folder / CONFIG).is_file():
        raise InputError(f"features.model={model}: there is no {CONFIG} in this folder")
    _list_weights(folder)
    return folder


def _find_downloaded(model: str) -> Path:
    """Find the folder into which a model of the hub has been downloaded."""
    if not find_spec("huggingface_hub"):
        raise InputError(EXTRA)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (OSError, ValueError):  # not downloaded, or no name
        raise InputError(
            f"features.model={model}: no such folder; if it is the name of a model of the hub, "
            f"download it: hf download {model}"
        ) from None


def digest_model(folder: Path, trust_remote_code: bool) -> str:
    """Compute a SHA-256 of what determines a model's values: settings, weights and own code."""
    files = [folder / name for name in (CONFIG, *PREPROCESSING)]
    files += _list_weights(folder)
    files += folder.glob(CODE) if trust_remote_code else ()
    digests = [f"{file.name} {digest_file(file)}" for file in sorted(files) if file.is_file()]
    return sha256("\n".join(digests).encode()).hexdigest()


def read_sample_rate(folder: Path) -> int:
    """Read the sample rate that a model takes, in Hz.

    Raises:
        InputError: the files do not state it.
    """
    for name in PREPROCESSING:
        try:
            settings: Any = json.loads((folder / name).read_text(encoding="utf-8"))
            rate = settings.get("feature_extractor", settings)["sampling_rate"]
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            continue
        if isinstance(rate, int) and rate > 0:
            return rate
    raise InputError(
        f"features.model={folder}: {PREPROCESSING[0]} is missing or states no sampling_rate, so "
        "this is no audio model"
    )


def _list_weights(folder: Path) -> list[Path]:
    found = (sorted(folder.glob(pattern)) for pattern in WEIGHTS)
    if weights := next(filter(None, found), None):
        return weights
    raise InputError(f"features.model={folder}: no weights, {' or '.join(WEIGHTS)}, in this folder")
