"""What a checkpoint holds, and reading it without running pickled code."""

import inspect
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from genreclf import models
from genreclf.audio.features import Features, build_features
from genreclf.errors import InputError
from genreclf.files import read_json, write_json
from genreclf.models.normalise import Normalise

FORMAT = 1
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"  # of an exported net
TRAINED_ON = "trained_on."  # and a dtype: names of an exported net's tensors of hashes
SHA1 = 20  # bytes
PRETRAINED = Path(__file__).parent / "pretrained"


@dataclass(frozen=True)
class Trained:
    """What a checkpoint holds: the net, in evaluation mode, and what it was trained on."""

    net: nn.Module
    classes: list[str]
    features: Features
    bins: int
    trained_on: dict[str, frozenset[str]] | None  # by dtype, `row_sha1` of rows; None: not known
    epoch: int = 0  # of the weights, from 0
    normalise: nn.Module = field(default_factory=nn.Identity)  # of features, before the net
    model: dict[str, Any] = field(default_factory=dict)  # settings of the net, with `_target_`

    def seen(self, hashes: Iterable[str], dtype: str) -> int | None:
        """How many of these rows it was trained on, as far as that is known.

        Args:
            hashes: `row_sha1` of rows of the same features.
            dtype: of these rows, as stored.

        Returns:
            None where none is known to be, but that cannot be told of all: some of its own rows
            are not known, or were stored otherwise.
        """
        if self.trained_on is None:
            return None
        known = self.trained_on.get(dtype, frozenset())
        count = sum(each in known for each in hashes)
        return count if count or not self.trained_on.keys() - {dtype} else None


def load_checkpoint(path: str | Path) -> Trained:
    """Rebuild the trained net from a checkpoint alone; no pickled code is run.

    Args:
        path: a checkpoint of `genreclf train`, a folder that `genreclf export` wrote, or
            "pretrained" for the one that comes with the package.

    Raises:
        InputError: no such file, or neither of the two.
    """
    folder = _locate_checkpoint(path)
    checkpoint = read_exported(folder) if folder.is_dir() else read_checkpoint(path)
    try:
        described, weights = checkpoint["genreclf"], checkpoint["state_dict"]
        net = build_model(described["model"], len(described["classes"]))
        net.load_state_dict({key[4:]: weights[key] for key in weights if key.startswith("net.")})
        return Trained(
            net.eval(),
            described["classes"],
            build_features(described["features"]),
            described["bins"],
            {dtype: frozenset(rows) for dtype, rows in described["trained_on"].items()},
            checkpoint["epoch"],
            _build_normalise(weights),
            described["model"],
        )
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"checkpoint={path}: does not fit this version ({error!r})") from None


def _locate_checkpoint(path: str | Path) -> Path:
    return PRETRAINED if str(path) == "pretrained" else Path(path)


def find_last_layer(names: Iterable[str]) -> str:
    """Of the names of a net's weights that of its last layer, which is linear in every net."""
    return [name for name in names if "classifier." in name][-1].rpartition(".")[0]


def digest_checkpoint(path: str | Path) -> str:
    """SHA-1 of what `load_checkpoint` reads.

    Raises:
        InputError: no such file.
    """
    place = _locate_checkpoint(path)
    files = [place / DESCRIPTION, place / WEIGHTS] if place.is_dir() else [place]
    try:
        return sha1(b"".join(file.read_bytes() for file in files)).hexdigest()
    except FileNotFoundError as error:
        raise InputError(f"checkpoint={path}: no {error.filename}") from None


def write_exported(folder: Path, checkpoint: dict[str, Any]) -> None:
    """Write what `read_exported` reads: the net of a checkpoint, without what trained it."""
    described, weights = dict(checkpoint["genreclf"]), checkpoint["state_dict"]
    kept = {key: weights[key] for key in weights if key.startswith(("net.", "normalise."))}
    for dtype, rows in described.pop("trained_on").items():
        hashes = np.frombuffer(bytes.fromhex("".join(rows)), np.uint8)
        kept[TRAINED_ON + dtype] = torch.from_numpy(hashes.reshape(-1, SHA1).copy())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(save({key: kept[key].contiguous() for key in sorted(kept)}))
    write_json(folder / DESCRIPTION, {**described, "epoch": checkpoint["epoch"]})


def read_exported(folder: Path) -> dict[str, Any]:
    """A folder that `genreclf export` wrote, as a checkpoint.

    Raises:
        InputError: the folder holds no such files, or damaged ones.
    """
    try:
        described = read_json(folder / DESCRIPTION)
        if described["format"] != FORMAT:
            raise InputError(f"checkpoint={folder}: of another version of genreclf")
        weights = load((folder / WEIGHTS).read_bytes())
        described["trained_on"] = {
            name.removeprefix(TRAINED_ON): [row.numpy().tobytes().hex() for row in rows]
            for name, rows in weights.items()
            if name.startswith(TRAINED_ON)
        }
        return {"genreclf": described, "epoch": described["epoch"], "state_dict": weights}
    except InputError:
        raise
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise InputError(f"checkpoint={folder}: no {missing} in this folder") from None
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"checkpoint={folder}: damaged ({error!r})") from None


def _build_normalise(weights: dict[str, torch.Tensor]) -> nn.Module:
    if "normalise.offset" not in weights:
        return nn.Identity()
    return Normalise(weights["normalise.offset"], weights["normalise.scale"])


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The tensors and plain values of a checkpoint that `genreclf train` wrote.

    Raises:
        InputError: no such file, or not such a checkpoint.
    """
    checkpoint = read_file(path)
    described = checkpoint.get("genreclf") if isinstance(checkpoint, dict) else None
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise InputError(
            f"checkpoint={path}: not a checkpoint of this program; a best.ckpt that genreclf train "
            "wrote is needed (genreclf evaluate takes a plain PyTorch state dict: classes=[...])"
        )
    return checkpoint


def read_file(path: str | Path, allowed: Sequence[Any] = ()) -> Any:
    """What `torch.save` wrote; None where the file is damaged or would run pickled code.

    Args:
        path: of the file.
        allowed: types that may occur beside tensors and plain values.

    Raises:
        InputError: no such file.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(allowed)):
            warnings.simplefilter("ignore")  # of files that the caller refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"checkpoint={path}: no such file") from None
    except Exception:  # the unpickler can stumble over a damaged file in any way
        return None


def build_model(settings: dict[str, Any], classes: int) -> nn.Module:
    """The net of `genreclf.models` that `_target_` names; nothing else is imported or called."""
    arguments = dict(settings)
    module, _, name = str(arguments.pop("_target_", "")).rpartition(".")
    kind = getattr(models, name, None) if name in dir(models) else None
    if module != models.__name__ or not inspect.isclass(kind) or not issubclass(kind, nn.Module):
        raise InputError(f"the checkpoint's net {module}.{name} is not one of {models.__name__}")
    return kind(classes=classes, **arguments)
