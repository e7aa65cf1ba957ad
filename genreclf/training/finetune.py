"""Fine-tuning: pretrained weights as the initial weights of a run (`init=...`)."""

from collections.abc import Callable, Sequence
from functools import partial
from inspect import Parameter, signature
from typing import Any

from torch import Tensor, nn

from genreclf.audio.descriptions import describe_features, identify_features
from genreclf.errors import InputError
from genreclf.models.checkpoint import TrainedModel, find_last_layer, load_checkpoint
from genreclf.models.encoders import musicnn_weights
from genreclf.models.encoders.musicnn_features import MusicnnMel
from genreclf.models.model_files import BUNDLED
from genreclf.protocols import Features
from genreclf.training.normalisation import require_pretrained
from genreclf.training.sources import MUSICNN


def load_pretrained(
    checkpoint: str | None,
    make_model: Callable[..., nn.Module],
    settings: dict[str, Any],
    features: Features,
    normalise: Callable[..., nn.Module],
    bins: int | None = None,
    trust: Sequence[str] = (),
    frozen: Sequence[str] = (),
) -> TrainedModel | None:
    """Load the model whose weights are fine-tuned; None for random weights.

    Args:
        checkpoint: checkpoint with the weights, or "musicnn" for its published ones; None for
            random weights.
        make_model: `make_model(classes=n)` makes a network like the one that the run trains.
        settings: the settings of this network, with `_target_`.
        features: the features of the run.
        normalise: the run's normalisation; with pretrained weights, `require_pretrained` or a
            partial of it.
        bins: number of bins of the features; None if the data does not exist yet.
        trust: packages, besides genreclf, from which the checkpoint's model may be imported.
        frozen: names of the layers that keep these weights.

    Raises:
        InputError: there is no such checkpoint, its model or features are different, or it has no
            such layers.
    """
    inherited = getattr(normalise, "func", normalise) is require_pretrained
    if checkpoint is None:
        if inherited:
            raise InputError("normalise=init goes with init=pretrained; choose another normalise")
        return None
    if not inherited:
        raise InputError(
            "init uses the normalisation of the pretrained model: leave out normalise=..., and "
            "experiments that set it (init=pretrained includes the recipe of experiment=best)"
        )
    if checkpoint == MUSICNN:
        pretrained = _load_musicnn(getattr(features, "duration", 30.0))
    else:
        pretrained = load_checkpoint(checkpoint, trust)
    _check_same(
        checkpoint,
        "features",
        describe_features(features),
        describe_features(pretrained.features),
        identify_features(features) == identify_features(pretrained.features),
    )
    own = _list_defaults(make_model(classes=2)) | settings
    theirs = _list_defaults(pretrained.net) | pretrained.model
    _check_same(checkpoint, "model", own, theirs, own == theirs)
    if bins not in (None, pretrained.bins):
        raise InputError(
            f"init.checkpoint={checkpoint} was trained on features of {pretrained.bins} bins; "
            f"these have {bins}"
        )
    find_frozen(pretrained.net, frozen)
    return pretrained


def _check_same(
    checkpoint: str, name: str, own: dict[str, Any], theirs: dict[str, Any], same: bool
) -> None:
    """Refuse features or a model other than those of the pretrained weights.

    Raises:
        InputError: names the settings, and what to type instead.
    """
    if same:
        return
    differing = ", ".join(f"{key}={theirs[key]}" for key in theirs if own.get(key) != theirs[key])
    option = {MUSICNN: MUSICNN, **dict.fromkeys(BUNDLED, "pretrained")}.get(checkpoint)
    hint = (
        f"type init={option} without {name}=... and without init.checkpoint"
        if option
        else f"choose the {name} that it was trained with, which config.yaml in its folder lists"
    )
    raise InputError(f"init.checkpoint={checkpoint} has other {name}: {differing}; {hint}")


def _load_musicnn(duration: float) -> TrainedModel:
    """Load musicnn with its published weights; which tracks it has seen is not known."""
    settings = {"_target_": "genreclf.models.Musicnn"}
    features, net = MusicnnMel(duration), musicnn_weights.load_published()
    bins = features.shape[0]
    return TrainedModel(net, [*musicnn_weights.TAGS], features, bins, None, model=settings)


def _list_defaults(model: nn.Module) -> dict[str, Any]:
    """List the defaults of a network's class, which may have gained settings since training."""
    parameters = signature(type(model)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not Parameter.empty}
    return {key: [*value] if isinstance(value, tuple) else value for key, value in defaults.items()}


def copy_weights(
    model: nn.Module,
    pretrained: TrainedModel,
    classes: list[str],
    features: Tensor,
    frozen: Sequence[str] = (),
) -> None:
    """Copy all weights; with other genres, all except those of the last layer.

    Args:
        model: the network that gets them.
        pretrained: the model that they are from.
        classes: the genres of the network.
        features: (batch, bins, frames) on which the last layer is recognised.
        frozen: names of the layers that keep these weights.

    Raises:
        InputError: as `find_new_layer`.
    """
    weights = pretrained.net.state_dict()
    if new := find_new_layer(pretrained, classes, features, frozen):
        weights = {key: weights[key] for key in weights if not key.startswith(f"{new}.")}
    model.load_state_dict(weights, strict=False)


def find_new_layer(
    pretrained: TrainedModel, classes: list[str], features: Tensor, frozen: Sequence[str]
) -> str | None:
    """Find the layer that begins with random weights: the last one, if the genres are others.

    Args:
        pretrained: the model that the other weights are from.
        classes: the genres to learn.
        features: (batch, bins, frames) on which the layer is recognised.
        frozen: names of the layers that are not trained.

    Raises:
        InputError: the genres differ, and the last layer is not known or not trained.
    """
    if pretrained.classes == classes:
        return None
    last = find_last_layer(pretrained.net, len(pretrained.classes), features)
    if last is None:
        raise InputError(
            "init: the last layer of this model, which learns other genres, is not known; set "
            "its attribute last_layer to the name of that layer"
        )
    new = {*pretrained.net.get_submodule(last).parameters()}
    for name, layer in zip(frozen, find_frozen(pretrained.net, frozen), strict=True):
        if new & {*layer.parameters()}:
            raise InputError(
                f"init.frozen: {name} holds the last layer, {last}, which has to learn these "
                f"genres; leave {name} out"
            )
    return last


def find_frozen(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Find the layers of these names.

    Raises:
        InputError: there is none of this name, or no other layer is left to be trained.
    """
    layers = dict(model.named_modules())
    if unknown := [name for name in names if name not in layers or not name]:
        children = ", ".join(name for name, _ in model.named_children())
        raise InputError(f"init.frozen: no layer {unknown[0]} in this model; it has {children}")
    found = [layers[name] for name in names]
    kept = {parameter for layer in found for parameter in layer.parameters()}
    if found and kept >= {*model.parameters()}:
        raise InputError("init.frozen: no layer is left to be trained; leave some out")
    return found


def freeze(model: nn.Module, names: Sequence[str]) -> None:
    """Keep the weights of layers, and the statistics of their batch norms, as they are.

    Raises:
        InputError: as `find_frozen`.
    """
    for layer in find_frozen(model, names):
        layer.requires_grad_(False).eval()
        for module in layer.modules():
            module.train = partial(_stay, module)  # Lightning switches to training at each epoch


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return module
