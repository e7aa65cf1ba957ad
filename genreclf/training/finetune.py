"""Weights that training begins with: `init=...`."""

from inspect import Parameter, signature
from typing import Any

import numpy as np
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig
from torch import nn

from genreclf.audio.features import describe_features
from genreclf.data.splits import Split
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.models.checkpoint import Trained, find_last_layer, load_checkpoint


def load_pretrained(
    config: DictConfig, plain: dict[str, Any], bins: int | None = None
) -> Trained | None:
    """The net whose weights training begins with; None for fresh ones.

    Args:
        config: of the run.
        plain: the same, resolved.
        bins: of its features; None where the data are not there yet.

    Raises:
        InputError: no checkpoint, or one of another model or other features.
    """
    inherited = plain["normalise"]["_target_"] == "genreclf.training.require_pretrained"
    if "init" not in config:
        if inherited:
            raise InputError("normalise=init goes with init=pretrained; choose another")
        return None
    if not inherited:
        raise InputError(
            "init has the normalisation of its net: leave out normalise=..., and experiments that "
            "set it (init=pretrained has the recipe of experiment=best already)"
        )
    begun = load_checkpoint(config.init.checkpoint)
    features = instantiate(config.features)
    for name, own, theirs in (
        ("features", describe_features(features), describe_features(begun.features)),
        ("model", _fill_defaults(plain["model"]), _fill_defaults(begun.model)),
    ):
        if own != theirs:
            differing = (f"{key}={theirs[key]}" for key in theirs if own.get(key) != theirs[key])
            raise InputError(
                f"init.checkpoint={config.init.checkpoint} has other {name}: {', '.join(differing)}"
            )
    if bins not in (None, begun.bins):
        raise InputError(
            f"init.checkpoint={config.init.checkpoint} was trained on features of {begun.bins} "
            f"bins; these have {bins}"
        )
    return begun


def _fill_defaults(model: dict[str, Any]) -> dict[str, Any]:
    """Settings of a net, with those that its class has got since it was trained."""
    parameters = signature(get_class(model["_target_"])).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not Parameter.empty}
    plain = {
        key: [*value] if isinstance(value, tuple) else value for key, value in defaults.items()
    }
    return plain | model


def list_training_rows(store: Store, split: Split, begun: Trained | None) -> dict[str, list[str]]:
    """Hashes of the rows that the net will have seen, those before this training among them."""
    before = (begun.trained_on or {}) if begun else {}
    found = {dtype: sorted(rows) for dtype, rows in before.items()}
    rows = [*_list_hashes(store, split["train"]), *found.get(str(store.dtype), ())]
    return found | {str(store.dtype): list(dict.fromkeys(rows))}


def count_seen(store: Store, split: Split, begun: Trained) -> dict[str, int | None]:
    """Of each part but the training part how many tracks the net was trained on; None: unknown."""
    parts = [part for part in split if part != "train"]
    return {part: begun.seen(_list_hashes(store, split[part]), str(store.dtype)) for part in parts}


def _list_hashes(store: Store, rows: np.ndarray) -> list[str]:
    return [store.row_sha1[row] for row in rows]


def copy_weights(net: nn.Module, begun: Trained, classes: list[str]) -> None:
    """All weights; with other genres, all but those of the last layer."""
    weights = begun.net.state_dict()
    if begun.classes != classes:
        last = find_last_layer(weights)
        weights = {key: weights[key] for key in weights if not key.startswith(f"{last}.")}
    net.load_state_dict(weights, strict=False)
