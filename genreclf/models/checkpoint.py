"""Trained models, rebuilt from their files.

No pickled code is run, and no code is imported that the user did not name (`genreclf.trust`).
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genreclf.audio.descriptions import build_features, describe_features
from genreclf.audio.own_features import check_available
from genreclf.data.seen_tracks import SeenTracks
from genreclf.errors import InputError
from genreclf.models.encoders.places import explain_missing, locate_encoders
from genreclf.models.model_files import PRETRAINED, locate_checkpoint, read_model_files
from genreclf.models.normalise import Normalise
from genreclf.models.novelty import Novelty
from genreclf.models.own_code import list_changed_code
from genreclf.trust import build_part, require_trust

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedModel:
    """A network in evaluation mode, and what it was trained on.

    Args:
        net: normalised features (batch, bins, frames) -> logits (batch, classes).
        classes: names of the genres, by number.
        features: the network's input; see `takes_audio`.
        bins: number of bins of the features.
        trained_on: the tracks that it has seen; None if nothing is known of them.
        epoch: epoch of the weights, from 0.
        normalise: applied to features (batch, bins, frames) before the network.
        model: settings of the network, with `_target_`.
        novelty: rates how unlike the training data features are; None if the checkpoint does not
            say, like those of early versions and of runs with few tracks.
        novelty_input: the features that it rates; None for those of the network.
        multi_label: whether several classes may apply to a track, so that each has a probability of
            its own (sigmoid); otherwise the probabilities add up to 1 (softmax).
        no_genres: classes that are not genres, such as moods.
        vocabulary: what the classes are called together; empty for those of a user's model.
        folder: the folder of its files; None if it is not from files.
    """

    net: nn.Module
    classes: list[str]
    features: Any
    bins: int
    trained_on: SeenTracks | None
    epoch: int = 0
    normalise: nn.Module = field(default_factory=nn.Identity)
    model: dict[str, Any] = field(default_factory=dict)
    novelty: Novelty | None = None
    novelty_input: Any = None
    multi_label: bool = False
    no_genres: Sequence[str] = ()
    vocabulary: str = ""
    folder: Path | None = None

    @property
    def takes_audio(self) -> bool:
        """Whether its features can be computed from audio (all but `Precomputed`)."""
        return callable(self.features)

    def check_features(self) -> None:
        """Check that its features can be computed from audio, here.

        Raises:
            InputError: they cannot; the message says where encoders were looked for.
        """
        with self.explain_missing_encoders():
            check_available(self.features)

    @contextmanager
    def explain_missing_encoders(self) -> Iterator[None]:
        """Add to an InputError, if an encoder of its features is missing, where to put that."""
        try:
            yield
        except InputError as error:
            missing = self.folder and explain_missing(describe_features(self.features), self.folder)
            raise InputError(f"{error}; {missing}" if missing else str(error)) from None


def load_checkpoint(path: str | Path, trust: Sequence[str] = ()) -> TrainedModel:
    """Rebuild the trained model from just a checkpoint; no pickled code is run.

    Args:
        path: a checkpoint of `genreclf train`, the folder of its run (for its best checkpoint), a
            folder of `genreclf export`, or "fma8" (or "pretrained") for the model that comes with
            the package.
        trust: packages, besides genreclf, from which it may import model and features.

    Raises:
        InputError: there is no such file or folder, the checkpoint is damaged or of another
            version, or its model or features belong to a package that is not trusted.
    """
    checkpoint = read_model_files(path)
    described: Any = checkpoint.get("genreclf", {})
    try:
        weights = checkpoint["state_dict"]
        require_trust([described["model"], described.get("features")], trust)  # all in one message
        net = build_model(described["model"], len(described["classes"]), trust)
        _load_weights(net, weights, described["model"])
        place = locate_checkpoint(path)
        folder = place if place.is_dir() else place.parent
        features = build_features(locate_encoders(described["features"], folder), trust)
        for name in list_changed_code(described):
            log.warning(
                "checkpoint=%s: the code of %s has changed since this model was trained, so it may "
                "compute something else",
                *(path, name),
            )
        return TrainedModel(
            net.eval(),
            described["classes"],
            features,
            described["bins"],
            SeenTracks.read(described["trained_on"]),
            checkpoint["epoch"],
            _build_normalise(weights),
            described["model"],
            Novelty.read(described["novelty"]) if described.get("novelty") else None,
            vocabulary="FMA's 8 genres" if place.resolve() == PRETRAINED else "",
            folder=folder,
        )
    except InputError as error:
        raise InputError(f"checkpoint={path}: {error}") from None
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"checkpoint={path}: does not fit this version of genreclf ({error!r})"
        ) from None


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
    if not names:
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


def _load_weights(net: nn.Module, weights: dict[str, Any], model: Mapping[str, Any]) -> None:
    """Load the weights of a network; raises InputError if they are not those of its code."""
    try:
        net.load_state_dict({key[4:]: weights[key] for key in weights if key.startswith("net.")})
    except RuntimeError as error:
        raise InputError(
            f"its weights do not fit the code of {model['_target_']}: "
            f"{' '.join(str(error).split())}; use the code that it was trained with"
        ) from None


def _build_normalise(weights: dict[str, torch.Tensor]) -> nn.Module:
    if "normalise.offset" not in weights:
        return nn.Identity()
    return Normalise(weights["normalise.offset"], weights["normalise.scale"])


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
