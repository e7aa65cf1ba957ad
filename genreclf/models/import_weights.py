"""Loads plain PyTorch state dicts of the paper's networks, such as the weights its authors publish.

The modules in such a file may have any names. The kinds, shapes and order of the tensors tell which
of our networks it is and where each tensor belongs. Pickled code is not run.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genreclf import paper
from genreclf.audio.features import Mel
from genreclf.errors import InputError
from genreclf.models import CNNRNN, ConventionalCNN, EfficientCNN
from genreclf.models.checkpoint import TrainedModel, load_checkpoint
from genreclf.models.model_files import read_file
from genreclf.protocols import Features

# Numbers such as a best accuracy, which training scripts save along with the weights.
NUMBERS: list[Any] = [
    np.dtype,
    np.ndarray,
    np._core.multiarray.scalar,  # pyright: ignore[reportAttributeAccessIssue]
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")),
]


def load_any_checkpoint(
    path: str | Path,
    classes: Sequence[Any] | str | None,
    axis: str,
    features: Any,
    trust: Sequence[str] = (),
) -> TrainedModel:
    """Load a checkpoint; if `classes` are given, a plain state dict.

    Args:
        path: as for `load_checkpoint`; for a plain state dict, a file.
        classes: classes of a plain state dict: names by number, or "paper" for the published
            order; None for a checkpoint.
        axis: axis of a plain state dict, as for `load_state_dict`.
        features: features of a plain state dict; `Precomputed` ones stand for the paper's own,
            `Mel()`.
        trust: as for `load_checkpoint`.

    Raises:
        InputError: for the reasons of `load_checkpoint` and `load_state_dict`, or because
            `classes` is wrong.
    """
    if classes is None:
        return load_checkpoint(path, trust)
    if isinstance(classes, str) and classes != "paper":
        raise InputError(f"classes={classes}: a list of genres by number is needed, or paper")
    names = paper.CLASSES if classes == "paper" else [str(name) for name in classes]
    if len({name.casefold() for name in names}) < len(names):
        raise InputError(f"classes: a genre is named twice in {', '.join(names)}")
    computed: Any = features if callable(features) else Mel()
    return load_state_dict(path, names, computed, axis)


def load_state_dict(
    path: str | Path, classes: Sequence[str], features: Features, axis: str = "frequency"
) -> TrainedModel:
    """Load the network whose weights a file holds.

    Args:
        path: a file from `torch.save(net.state_dict(), path)`, or one of a dict that contains it.
        classes: names of the genres, by number.
        features: the features that the network was trained on; its weights do not show them.
        axis: axis of the sequence of a CNN-RNN, "time" or "frequency"; its weights do not show it
            either. The published scripts average over time, so theirs is "frequency".

    Raises:
        InputError: there is no such file, it contains no state dict or is a checkpoint of
            `genreclf train`, the network or its number of classes does not match, or there is no
            such axis.
    """
    if axis not in ("time", "frequency"):
        raise InputError(f"axis={axis!r}: choose time or frequency")
    content = read_file(path, NUMBERS)
    if content is None:
        raise InputError(
            f"checkpoint={path}: damaged, or it contains pickled code, which is not run; save only "
            "the weights: torch.save(net.state_dict(), path)"
        )
    if isinstance(content, dict) and "genreclf" in content:
        raise InputError(
            f"checkpoint={path}: written by genreclf train, so it knows its classes; leave out "
            "classes=..., axis=... and features=..."
        )
    theirs = _find_state_dict(content)
    if not theirs:
        raise InputError(f"checkpoint={path}: contains no state dict (names and tensors)")
    for net in _build_candidates(len(classes), axis):
        matched = match_weights(theirs, net.state_dict())
        if matched is not None:
            net.load_state_dict(matched)
            return TrainedModel(
                net.eval(), list(classes), features, features.shape[0], trained_on=None
            )
    raise InputError(
        f"checkpoint={path}: its {len(theirs)} tensors match none of the paper's networks with "
        f"{len(classes)} classes; name every genre, by number: classes=[...]"
    )


def _find_state_dict(content: Any) -> dict[str, Tensor]:
    """Find the first dict of tensors, at the top or one level below; empty if there is none."""
    if not isinstance(content, dict):
        return {}
    for candidate in (content, *content.values()):
        values = list(candidate.values()) if isinstance(candidate, dict) else []
        if values and all(isinstance(value, Tensor) for value in values):
            return {str(name): value for name, value in candidate.items()}
    return {}


def _build_candidates(classes: int, axis: Any) -> list[nn.Module]:
    recurrent = [
        CNNRNN(classes, cell, axis, unused_gate=gate)
        for cell, gate in itertools.product(("gru", "lstm"), (False, True))
    ]
    return [*recurrent, EfficientCNN(classes), ConventionalCNN(classes)]


def match_weights(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename their tensors to our names; None if a tensor on either side is left over.

    If the names agree, they decide. Otherwise each of our modules takes the first unused module of
    theirs whose tensors have the same kinds (`weight`, `running_mean`, `weight_ih_l0`) and shapes.
    So modules that differ in these may come in any order.
    """
    if _get_shapes(theirs) == _get_shapes(ours):
        return theirs
    unused = list(_group_by_module(theirs).values())
    matched = dict(ours)  # keeps the numbers of batches, which old files lack
    for name, module in _group_by_module(ours).items():
        found = next((other for other in unused if _get_shapes(other) == _get_shapes(module)), None)
        if found is None:
            return None
        unused = [other for other in unused if other is not found]
        matched |= {f"{name}.{kind}": tensor for kind, tensor in found.items()}
    return None if unused else matched


def _group_by_module(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Group tensors by module, then by kind, the last part of their name; no batch numbers."""
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        if kind != "num_batches_tracked":
            modules.setdefault(module, {})[kind] = tensor
    return modules


def _get_shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
