"""The files of trained models: checkpoints of `genreclf train`, folders of `genreclf export`.

They are read as tensors and plain values, without running pickled code or importing the model's.
"""

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from genreclf.data.seen_tracks import SeenTracks
from genreclf.errors import InputError
from genreclf.files import BEST, check_fetched, read_bytes, read_json, write_atomically
from genreclf.paths import describe_path

FORMAT = 1
RESULT = "result.json"  # of a finished run
WEIGHTS, DESCRIPTION, CARD = "model.safetensors", "model.json", "README.md"  # exported model
NOVELTY = "novelty.safetensors"  # of an exported model, if its novelty score was fitted
NOVELTY_DIGEST = "novelty_sha256"  # in the description; null if there is no such file
TRAINED_ON = "trained_on."  # and a key: names of an exported model's tensors of hashes
SHA1 = 20  # bytes
PRETRAINED = Path(__file__).resolve().parent / "pretrained"
BUNDLED = ("fma8", "pretrained")  # its names
TAGS = "tags"  # the name of musicnn, which is no checkpoint


def read_model_files(path: str | Path) -> dict[str, Any]:
    """Read a trained model as tensors and plain values.

    Args:
        path: as for `genreclf.models.checkpoint.load_checkpoint`.

    Returns:
        `genreclf` (a dict: model, features, classes, bins, trained_on, novelty and others),
        `state_dict` and `epoch`.

    Raises:
        InputError: there is no such file or folder, or it is damaged or of another version.
    """
    place = locate_checkpoint(path)
    return read_exported(place) if place.is_dir() else read_checkpoint(place)


def read_seen_tracks(path: str | Path) -> SeenTracks:
    """Read which tracks a model has seen; the model itself, and its code, are not needed.

    Args:
        path: as for `read_model_files`.

    Raises:
        InputError: as `read_model_files`.
    """
    try:
        return SeenTracks.read(read_model_files(path)["genreclf"]["trained_on"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"checkpoint={path}: does not fit this version ({error!r})") from None


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read tensors and plain values of a checkpoint that `genreclf train` wrote.

    Raises:
        InputError: there is no such file, or it is not such a checkpoint.
    """
    checkpoint = read_file(path)
    described = checkpoint.get("genreclf") if isinstance(checkpoint, dict) else None
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise InputError(
            f"checkpoint={path}: not a checkpoint of genreclf; give the {BEST} of genreclf train "
            "(genreclf evaluate also takes a plain PyTorch state dict: add classes=[...])"
        )
    return checkpoint


def read_file(path: str | Path, allowed: Sequence[Any] = ()) -> Any:
    """Read what `torch.save` wrote; None if the file is damaged or would run pickled code.

    Args:
        path: path of the file.
        allowed: types that may occur in addition to tensors and plain values.

    Raises:
        InputError: there is no such file.
    """
    kind, what = describe_path(path)
    if kind in ("folder", "special"):  # a named pipe may never end
        raise InputError(f"checkpoint={path}: {what}, not a file")
    if kind == "file":
        check_fetched(Path(path), f"checkpoint={path}:")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(allowed)):
            warnings.simplefilter("ignore")  # about files that the caller refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"checkpoint={path}: no such file or folder") from None
    except Exception:  # a damaged file can make the unpickler fail in any way
        return None


def read_exported(folder: Path) -> dict[str, Any]:
    """Read a folder that `genreclf export` wrote, as `read_checkpoint` reads a file.

    Raises:
        InputError: a file of the folder is missing, damaged or of another version.
    """
    try:
        described = read_json(folder / DESCRIPTION)
        if described["format"] != FORMAT:
            raise InputError(f"checkpoint={folder}: exported by another version of genreclf")
        weights = load(_read_described(folder / WEIGHTS, described.pop("sha256", None)))
        described["trained_on"] = {
            name.removeprefix(TRAINED_ON): [row.numpy().tobytes().hex() for row in rows]
            for name, rows in weights.items()
            if name.startswith(TRAINED_ON)
        }
        rated = NOVELTY_DIGEST in described
        digest = described.pop(NOVELTY_DIGEST, None)
        if digest if rated else (folder / NOVELTY).exists():  # models of before have no digest
            described["novelty"] = load(_read_described(folder / NOVELTY, digest))
        return {"genreclf": described, "epoch": described["epoch"], "state_dict": weights}
    except InputError:
        raise
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        if (folder / RESULT).exists() and not (folder / DESCRIPTION).exists():
            raise InputError(
                f"checkpoint={folder}: this run left no {BEST}, which a model=svm does not: train "
                "model=linear or model=mlp instead"
            ) from None
        raise InputError(
            f"checkpoint={folder}: no {missing} in this folder; a run folder with {BEST}, or a "
            "folder that genreclf export wrote is needed"
        ) from None
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"checkpoint={folder}: damaged ({error!r})") from None


def _read_described(file: Path, digest: str | None) -> bytes:
    """Read a file of an exported model; None instead of its SHA-256 if it is not known."""
    check_fetched(file, f"checkpoint={file}:")
    content = read_bytes(file)
    if digest not in (None, sha256(content).hexdigest()):
        raise InputError(
            f"checkpoint={file.parent}: {file.name} is not the one that {DESCRIPTION} describes "
            "(damaged, or an interrupted export?); export the model again"
        )
    return content


def write_exported(
    folder: Path, checkpoint: dict[str, Any], card: str, encoders: Mapping[str, Path] | None = None
) -> None:
    """Write a folder that `read_exported` reads: a checkpoint without its optimizer, and its card.

    No file is replaced before all are written. The description comes last, with a digest of the
    other two, so if the folder held another model and this is interrupted, no one gets a mix of
    both.

    Args:
        folder: the folder; made if it is missing.
        checkpoint: what `read_checkpoint` returned.
        card: the model card, as Markdown.
        encoders: files of the encoders of its features, by their names in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in (encoders or {}).items():
        if not (folder / name).exists() or not (folder / name).samefile(source):
            with write_atomically(folder / name, "wb") as copied, source.open("rb") as original:
                shutil.copyfileobj(original, copied)
    described, weights = dict(checkpoint["genreclf"]), checkpoint["state_dict"]
    kept = {key: weights[key] for key in weights if key.startswith(("net.", "normalise."))}
    for dtype, rows in described.pop("trained_on").items():
        hashes = np.frombuffer(bytes.fromhex("".join(rows)), np.uint8)
        kept[TRAINED_ON + dtype] = torch.from_numpy(hashes.reshape(-1, SHA1).copy())
    content = _save_sorted(kept)
    novelty = described.pop("novelty", None)
    rating = _save_sorted(novelty) if novelty else None
    described |= {
        "epoch": checkpoint["epoch"],
        "sha256": sha256(content).hexdigest(),
        NOVELTY_DIGEST: sha256(rating).hexdigest() if rating else None,  # null: there is none
    }
    with (
        write_atomically(folder / DESCRIPTION) as description,  # these are replaced in reverse
        write_atomically(folder / CARD) as readme,
        write_atomically(folder / NOVELTY, "wb") if rating else nullcontext() as rater,
        write_atomically(folder / WEIGHTS, "wb") as file,
    ):
        description.write(json.dumps(described, indent=2) + "\n")
        readme.write(card)
        file.write(content)
        if rater and rating:
            rater.write(rating)
    if not rating:
        (folder / NOVELTY).unlink(missing_ok=True)  # of the model before


def _save_sorted(tensors: dict[str, torch.Tensor]) -> bytes:
    return save({name: tensors[name].contiguous() for name in sorted(tensors)})


def locate_checkpoint(path: str | Path) -> Path:
    """Find the checkpoint file, or the folder of `genreclf export`.

    Raises:
        InputError: the path is empty, which would stand for the current folder, or "tags", which
            stands for musicnn in predictions alone.
    """
    if not str(path):
        raise InputError("checkpoint=: the path is empty")
    if str(path) == TAGS:
        raise InputError(
            "checkpoint=tags: musicnn's tags are for genreclf predict and genreclf.load; choose "
            "fma8 or a checkpoint, or train on musicnn: features=musicnn model=linear"
        )
    place = PRETRAINED if str(path) in BUNDLED else Path(path)
    kind = describe_path(place / BEST)[0]
    if kind in ("file", "special") and not (place / DESCRIPTION).exists():
        return place / BEST
    return place


def digest_checkpoint(path: str | Path) -> str:
    """Compute the SHA-1 of what `load_checkpoint` reads.

    Raises:
        InputError: there is no such file.
    """
    place = locate_checkpoint(path)
    files = [place / DESCRIPTION, place / WEIGHTS] if place.is_dir() else [place]
    try:
        return sha1(b"".join(map(read_bytes, files))).hexdigest()
    except FileNotFoundError as error:
        raise InputError(f"checkpoint={path}: no {error.filename}") from None
