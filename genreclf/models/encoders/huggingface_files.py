"""The files of a model of Hugging Face: where they are, what identifies them, their sample rate."""

import json
import re
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from genreclf.errors import InputError
from genreclf.files import check_fetched
from genreclf.models.encoders.digests import digest_file
from genreclf.paths import expand_home

CONFIG = "config.json"
PREPROCESSING = ("preprocessor_config.json", "processor_config.json")  # the second holds the first
ADAPTER = "adapter_config.json"
INDEX = ".index.json"  # ending of the index of weights in several files
FORMATS = ("model.safetensors", "pytorch_model.bin")
WEIGHTS = tuple(f"{name}{end}" for name in FORMATS for end in ("", INDEX))  # the first is loaded
CODE = "*.py"
HUB_NAME = r"[\w-][\w.-]*(/[\w.-]+)?"
EXTRA = "features=huggingface needs an extra: pip install 'genreclf[huggingface]'"


def locate_model(model: str) -> Path:
    """Find the folder of a model: a folder, or the name of a model that has been downloaded.

    Raises:
        InputError: there is none, or it is not a model of transformers.
    """
    folder = Path(expand_home(model))
    if folder.is_file():
        raise InputError(
            f"features.model={model}: this is a file; name its folder: "
            f"features.model={folder.parent}"
        )
    if not folder.is_dir():
        folder = _find_downloaded(model)
    if not (folder / CONFIG).is_file():
        raise InputError(f"features.model={model}: there is no {CONFIG} in this folder")
    read_model_type(folder)
    if (folder / ADAPTER).is_file():
        raise InputError(
            f"features.model={model}: an adapter ({ADAPTER}) needs a model from elsewhere; merge "
            "both and save the result: merge_and_unload() of peft"
        )
    _list_weights(folder)
    return folder


def _find_downloaded(model: str) -> Path:
    """Find the folder into which a model of the hub has been downloaded."""
    if not re.fullmatch(HUB_NAME, model):
        raise InputError(f"features.model={model}: no such folder")
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
    """Compute a SHA-256 of what determines a model's values: settings, weights and own code.

    Raises:
        InputError: its weights are missing, or its code is not all in the folder.
    """
    files = [folder / name for name in (CONFIG, *PREPROCESSING)]
    files += _list_weights(folder)
    if trust_remote_code:
        _check_code(folder)
        files += folder.rglob(CODE)
    files = [file for file in sorted(files) if file.is_file()]
    try:
        for file in files:
            check_fetched(file, f"features.model={folder}: {file.name} is")
        digests = [f"{file.relative_to(folder).as_posix()} {digest_file(file)}" for file in files]
    except OSError as error:
        name = Path(str(error.filename)).name
        raise InputError(f"features.model={folder}: {name}: {error.strerror or error}") from None
    return sha256("\n".join(digests).encode()).hexdigest()


def read_model_type(folder: Path) -> str:
    """Read which of transformers' models it is, such as "wav2vec2".

    Raises:
        InputError: the files do not say it.
    """
    settings = _read_object(folder / CONFIG)
    if "model_type" not in settings and "auto_map" not in settings:  # transformers would guess
        raise InputError(f"features.model={folder}: {CONFIG} states no model_type")
    return str(settings.get("model_type"))


def _check_code(folder: Path) -> None:
    """Check that a model takes its code from its folder: what is elsewhere may change."""
    for name in (CONFIG, *PREPROCESSING):
        settings = _read_settings(folder / name)
        for part in (settings, settings.get("feature_extractor")):
            named = part.get("auto_map") if isinstance(part, dict) else None
            if "--" in json.dumps(named):  # between a repository and a module
                raise InputError(
                    f"features.model={folder}: auto_map in {name} names code of another "
                    "repository; put its files into this folder, and leave out what precedes --"
                )


def read_sample_rate(folder: Path) -> int:
    """Read the sample rate that a model takes, in Hz.

    Raises:
        InputError: the files do not state it.
    """
    found = [name for name in PREPROCESSING if (folder / name).is_file()]
    for name in found:
        settings = _read_object(folder / name)
        part = settings.get("feature_extractor", settings)
        if not isinstance(part, dict) or "sampling_rate" not in part:
            continue
        rate = part["sampling_rate"]
        if type(rate) not in (int, float) or rate % 1 or not rate > 0:
            raise InputError(
                f"features.model={folder}: sampling_rate in {name} is {json.dumps(rate)}; a whole "
                "number of Hz above 0, without quotes, is needed"
            )
        return int(rate)
    problem = f"{found[0]} states no sampling_rate" if found else f"{PREPROCESSING[0]} is missing"
    raise InputError(f"features.model={folder}: {problem}, so this is no audio model")


def _list_weights(folder: Path) -> list[Path]:
    """List the files that transformers takes the weights from; others may be there, too.

    Raises:
        InputError: there are none, or some of several are missing.
    """
    chosen = _read_object(folder / CONFIG).get("transformers_weights")
    names = [chosen] if isinstance(chosen, str) else WEIGHTS
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        needed = " or ".join([chosen] if isinstance(chosen, str) else FORMATS)
        raise InputError(f"features.model={folder}: no weights, {needed}, in this folder")
    if not found.name.endswith(INDEX):
        return [found]
    parts = _read_settings(found).get("weight_map")
    files = sorted({str(each) for each in parts.values()}) if isinstance(parts, dict) else []
    missing = [name for name in files if not (folder / name).is_file()]
    if missing or not files:
        raise InputError(
            f"features.model={folder}: {found.name} names "
            f"{f'{missing[0]}, which is not there' if missing else 'no files'}; download the "
            "model again"
        )
    return [folder / name for name in files]


def _read_object(file: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InputError: it is damaged.
    """
    settings: Any = None
    check_fetched(file, f"features.model={file.parent}: {file.name} is")
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        problem = "" if isinstance(settings, dict) else "holds no JSON object"
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
    except ValueError as error:
        problem = f"is not JSON ({error})"
    if problem:
        raise InputError(f"features.model={file.parent}: {file.name} {problem}")
    return settings


def _read_settings(file: Path) -> dict[str, Any]:
    """Read a JSON file; empty if it is missing or damaged, which others report."""
    try:
        return _read_object(file)
    except InputError:
        return {}
