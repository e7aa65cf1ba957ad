"""Files of trained models: checkpoints of `genreclf train`, folders of `genreclf export`.

Both are read without running pickled code.
"""

import inspect
import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from genreclf import models
from genreclf.audio.features import build_features
from genreclf.errors import InputError
from genreclf.files import BEST, read_json, write_atomically
from genreclf.models.normalise import Normalise

FORMAT = 1
WEIGHTS, DESCRIPTION, CARD = "model.safetensors", "model.json", "README.md"  # exported model
TRAINED_ON = "trained_on."  # and a dtype: names of an exported model's tensors of hashes
SHA1 = 20  # bytes
PRETRAINED = Path(__file__).parent / "pretrained"


@dataclass(frozen=True)
class TrainedModel:
    """A network in evaluation mode, and what it was trained on.

    Args:
        net: normalised features (batch, bins, frames) -> logits (batch, classes).
        classes: names of the genres, by number.
        features: the network's input; see `takes_audio`.
        bins: number of bins of the features.
        trained_on: `row_sha1` of the stored rows it was trained on, by dtype; None if not known.
        epoch: epoch of the weights, from 0.
        normalise: applied to features (batch, bins, frames) before the network.
        model: settings of the network, with `_target_`.
    """

    net: nn.Module
    classes: list[str]
    features: Any
    bins: int
    trained_on: dict[str, frozenset[str]] | None
    epoch: int = 0
    normalise: nn.Module = field(default_factory=nn.Identity)
    model: dict[str, Any] = field(default_factory=dict)

    @property
    def takes_audio(self) -> bool:
        """Whether its features can be computed from audio (all but `Precomputed`)."""
        return callable(self.features)

    def count_seen(self, hashes: Iterable[str], dtype: str) -> int | None:
        """Count the rows that it was trained on.

        Args:
            hashes: `row_sha1` of rows of the same features.
            dtype: dtype of these rows, as stored.

        Returns:
            The count, or None if it cannot be known: the training rows are unknown, or no row is
            among them but some were stored with another dtype.
        """
        if self.trained_on is None:
            return None
        known = self.trained_on.get(dtype, frozenset())
        count = sum(each in known for each in hashes)
        return count if count or not self.trained_on.keys() - {dtype} else None


def load_checkpoint(path: str | Path) -> TrainedModel:
    """Rebuild the trained model from just a checkpoint; no pickled code is run.

    Args:
        path: a checkpoint of `genreclf train`, the folder of its run (for its best checkpoint), a
            folder of `genreclf export`, or "pretrained" for the model that comes with the package.

    Raises:
        InputError: there is no such file or folder, or the checkpoint is damaged or of another
            version.
    """
    place = _locate_checkpoint(path)
    checkpoint = read_exported(place) if place.is_dir() else read_checkpoint(place)
    try:
        described, weights = checkpoint["genreclf"], checkpoint["state_dict"]
        net = build_model(described["model"], len(described["classes"]))
        net.load_state_dict({key[4:]: weights[key] for key in weights if key.startswith("net.")})
        return TrainedModel(
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
    """Find the checkpoint file, or the folder of `genreclf export`."""
    place = PRETRAINED if str(path) == "pretrained" else Path(path)
    if (place / BEST).is_file() and not (place / DESCRIPTION).exists():
        return place / BEST
    return place


def find_last_layer(names: Iterable[str]) -> str:
    """Find the name of a network's last layer, which is linear in all our networks.

    Args:
        names: names of the network's weights, in order, such as "classifier.1.weight".
    """
    return [name for name in names if "classifier." in name][-1].rpartition(".")[0]


def digest_checkpoint(path: str | Path) -> str:
    """Compute the SHA-1 of what `load_checkpoint` reads.

    Raises:
        InputError: there is no such file.
    """
    place = _locate_checkpoint(path)
    files = [place / DESCRIPTION, place / WEIGHTS] if place.is_dir() else [place]
    try:
        return sha1(b"".join(file.read_bytes() for file in files)).hexdigest()
    except FileNotFoundError as error:
        raise InputError(f"checkpoint={path}: no {error.filename}") from None


def write_exported(folder: Path, checkpoint: dict[str, Any], card: str) -> None:
    """Write a folder that `read_exported` reads: a checkpoint without its optimizer, and its card.

    No file is replaced before all are written. The description comes last, with a digest of the
    weights, so if the folder held another model and this is interrupted, no one gets a mix of both.

    Args:
        folder: the folder; made if it is missing.
        checkpoint: what `read_checkpoint` returned.
        card: the model card, as Markdown.
    """
    described, weights = dict(checkpoint["genreclf"]), checkpoint["state_dict"]
    kept = {key: weights[key] for key in weights if key.startswith(("net.", "normalise."))}
    for dtype, rows in described.pop("trained_on").items():
        hashes = np.frombuffer(bytes.fromhex("".join(rows)), np.uint8)
        kept[TRAINED_ON + dtype] = torch.from_numpy(hashes.reshape(-1, SHA1).copy())
    content = save({key: kept[key].contiguous() for key in sorted(kept)})
    described |= {"epoch": checkpoint["epoch"], "sha256": sha256(content).hexdigest()}
    with (
        write_atomically(folder / DESCRIPTION) as description,  # these are replaced in reverse
        write_atomically(folder / CARD) as readme,
        write_atomically(folder / WEIGHTS, "wb") as file,
    ):
        description.write(json.dumps(described, indent=2) + "\n")
        readme.write(card)
        file.write(content)


def read_exported(folder: Path) -> dict[str, Any]:
    """Read a folder that `genreclf export` wrote, as `read_checkpoint` reads a file.

    Raises:
        InputError: a file of the folder is missing, damaged or of another version.
    """
    try:
        described = read_json(folder / DESCRIPTION)
        if described["format"] != FORMAT:
            raise InputError(f"checkpoint={folder}: exported by another version of genreclf")
        content = (folder / WEIGHTS).read_bytes()
        if described.pop("sha256", None) not in (None, sha256(content).hexdigest()):
            raise InputError(
                f"checkpoint={folder}: {WEIGHTS} is not the one that {DESCRIPTION} describes "
                "(damaged, or an interrupted export?); export the model again"
            )
        weights = load(content)
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
        raise InputError(
            f"checkpoint={folder}: no {missing} in this folder; a run folder with {BEST}, or a "
            "folder that genreclf export wrote is needed"
        ) from None
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"checkpoint={folder}: damaged ({error!r})") from None


def _build_normalise(weights: dict[str, torch.Tensor]) -> nn.Module:
    if "normalise.offset" not in weights:
        return nn.Identity()
    return Normalise(weights["normalise.offset"], weights["normalise.scale"])


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
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(allowed)):
            warnings.simplefilter("ignore")  # about files that the caller refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"checkpoint={path}: no such file") from None
    except Exception:  # a damaged file can make the unpickler fail in any way
        return None


def build_model(settings: dict[str, Any], classes: int) -> nn.Module:
    """Build a network with random weights; only classes of `genreclf.models` are ever called.

    Args:
        settings: arguments of the network, and `_target_`, such as "genreclf.models.CNNRNN".
        classes: number of classes.

    Raises:
        InputError: `_target_` is not a network of `genreclf.models`.
    """
    arguments = dict(settings)
    target = str(arguments.pop("_target_", ""))
    module, _, name = target.rpartition(".")
    kind = getattr(models, name, None) if name in dir(models) else None
    if module != models.__name__ or not inspect.isclass(kind) or not issubclass(kind, nn.Module):
        raise InputError(
            f"the checkpoint's model {target or '(without a name)'} is not in {models.__name__}; "
            "no other code is run to load a checkpoint"
        )
    return kind(classes=classes, **arguments)
