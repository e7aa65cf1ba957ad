"""Files of trained models: checkpoints of `genreclf train`, folders of `genreclf export`.

Both are read without running pickled code, and without importing code that the user did not name
(`genreclf.trust`).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from genreclf.audio.content import UNREADABLE
from genreclf.audio.descriptions import build_features
from genreclf.errors import InputError
from genreclf.files import BEST, read_json, write_atomically
from genreclf.models.normalise import Normalise
from genreclf.trust import build_part, require_trust

if TYPE_CHECKING:
    from genreclf.data.store import Store  # h5py is slow to import

FORMAT = 1
WEIGHTS, DESCRIPTION, CARD = "model.safetensors", "model.json", "README.md"  # exported model
TRAINED_ON = "trained_on."  # and a key: names of an exported model's tensors of hashes
AUDIO, SOME_AUDIO = "audio", "some_audio"  # keys of `trained_on` besides dtypes
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
        trained_on: `row_sha1` of the stored rows it was trained on, by dtype, and digests of their
            audio under AUDIO, or SOME_AUDIO if some did not come from audio; None if not known.
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

    def mark_seen(self, store: Store, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Mark the rows of a store that it was certainly trained on, bool (len(rows),).

        They have the same audio as a training row, or the same values in the same dtype.
        """
        known = self.trained_on or {}
        values = known.get(str(store.dtype), frozenset())
        audio = known.get(AUDIO, known.get(SOME_AUDIO, frozenset()))
        pairs = zip(rows, list_audio(store, rows), strict=True)
        seen = [digest in audio or store.row_sha1[row] in values for row, digest in pairs]
        return np.array(seen, bool)

    def count_seen(self, store: Store, rows: Sequence[int] | np.ndarray) -> int | None:
        """Count the rows of a store that it was certainly trained on.

        Returns:
            The count, or None if no row is known to be among the training rows but some may be.
            Audio can be compared if it is known of all rows on both sides: rows that were computed
            from it differ between features and, in the last digits, between CPUs. Rows that did not
            come from audio can be compared in one dtype.
        """
        if self.trained_on is None:
            return None
        count, audio = int(self.mark_seen(store, rows).sum()), list_audio(store, rows)
        if count or (AUDIO in self.trained_on and all(audio)):
            return count
        provided = not self.trained_on.get(SOME_AUDIO, store.dtype.kind not in "iu")
        dtypes = self.trained_on.keys() - {AUDIO, SOME_AUDIO, str(store.dtype)}
        return 0 if provided and not any(audio) and not dtypes else None


def list_audio(store: Store, rows: Sequence[int] | np.ndarray) -> list[str]:
    """List the digest of the audio of each row of a store; empty where it is not known."""
    contents = (store.contents[row] for row in rows)
    return ["" if content == UNREADABLE else content for content in contents]


def load_checkpoint(path: str | Path, trust: Sequence[str] = ()) -> TrainedModel:
    """Rebuild the trained model from just a checkpoint; no pickled code is run.

    Args:
        path: a checkpoint of `genreclf train`, the folder of its run (for its best checkpoint), a
            folder of `genreclf export`, or "pretrained" for the model that comes with the package.
        trust: packages, besides genreclf, from which it may import model and features.

    Raises:
        InputError: there is no such file or folder, the checkpoint is damaged or of another
            version, or its model or features belong to a package that is not trusted.
    """
    place = _locate_checkpoint(path)
    checkpoint = read_exported(place) if place.is_dir() else read_checkpoint(place)
    try:
        described, weights = checkpoint["genreclf"], checkpoint["state_dict"]
        require_trust([described["model"], described["features"]], trust)  # all in one message
        net = build_model(described["model"], len(described["classes"]), trust)
        net.load_state_dict({key[4:]: weights[key] for key in weights if key.startswith("net.")})
        return TrainedModel(
            net.eval(),
            described["classes"],
            build_features(described["features"], trust),
            described["bins"],
            {dtype: frozenset(rows) for dtype, rows in described["trained_on"].items()},
            checkpoint["epoch"],
            _build_normalise(weights),
            described["model"],
        )
    except InputError as error:
        raise InputError(f"checkpoint={path}: {error}") from None
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"checkpoint={path}: does not fit this version ({error!r})") from None


def _locate_checkpoint(path: str | Path) -> Path:
    """Find the checkpoint file, or the folder of `genreclf export`."""
    place = PRETRAINED if str(path) == "pretrained" else Path(path)
    if (place / BEST).is_file() and not (place / DESCRIPTION).exists():
        return place / BEST
    return place


def find_last_layer(net: nn.Module, classes: int, features: torch.Tensor) -> str | None:
    """Find the name of a network's last layer, whose outputs are the logits.

    It is `net.last_layer` if the network has this attribute. Otherwise it is the last module, in
    the order in which they were defined, whose weight has one row per class and whose outputs are
    the logits: in a network with attention over time, several layers may have such a weight.

    Args:
        net: the network.
        classes: number of classes.
        features: (batch, bins, frames) on which it is tried.

    Returns:
        A name for `net.get_submodule`, such as "classifier.1"; None if there is no such layer.

    Raises:
        InputError: `net.last_layer` names no layer, or one whose outputs are not the logits.
    """
    declared = getattr(net, "last_layer", None)
    names = [str(declared)] if declared is not None else _list_candidates(net, classes)
    if not names or getattr(net, "without_epochs", False):
        return None
    outputs: dict[str, list[Any]] = {name: [] for name in names}
    try:
        hooks = [
            net.get_submodule(name).register_forward_hook(
                lambda _module, _inputs, output, kept=kept: kept.append(output)
            )
            for name, kept in outputs.items()
        ]
    except AttributeError:
        raise InputError(f"model: its attribute last_layer={declared} names no layer") from None
    modes = {module: module.training for module in net.modules()}
    try:
        with torch.no_grad():
            logits = net.eval()(features)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    found = [name for name in names if _are_logits(outputs[name], logits)]
    if declared is not None and not found:
        raise InputError(f"model: the outputs of its last_layer={declared} are not the logits")
    return found[-1] if found else None


def _list_candidates(net: nn.Module, classes: int) -> list[str]:
    """List the layers that may be the last one: their weight has one row per class."""
    return [
        name.removesuffix(".weight")
        for name, weight in net.named_parameters()
        if name.endswith(".weight") and weight.ndim > 1 and len(weight) == classes
    ]


def _are_logits(outputs: list[Any], logits: torch.Tensor) -> bool:
    """Whether a layer was called once, and what it returned are the logits."""
    if len(outputs) != 1 or not isinstance(outputs[0], torch.Tensor):
        return False
    same_size = outputs[0].numel() == logits.numel()
    return same_size and torch.allclose(outputs[0].reshape(logits.shape), logits, equal_nan=True)


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


def build_model(settings: Mapping[str, Any], classes: int, trust: Sequence[str] = ()) -> nn.Module:
    """Build a network with random weights.

    Args:
        settings: arguments of the network, and `_target_`, such as "genreclf.models.CNNRNN".
        classes: number of classes.
        trust: packages, besides genreclf, from which the network may be imported.

    Raises:
        InputError: `_target_` is not trusted, is not a network, or rejects the settings.
    """
    net = build_part(settings, trust, classes=classes)
    if not isinstance(net, nn.Module):
        raise InputError(f"model: {settings['_target_']} is not a torch.nn.Module")
    return net
