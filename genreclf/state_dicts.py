"""Plain PyTorch state dicts of the paper's networks, such as the weights that its authors publish.

The modules of such a file may have any names: which of our networks it is, and which tensor goes
where, follows from the kinds and shapes of its tensors, taken in order. Pickled code is not run.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genreclf.checkpoint import Trained
from genreclf.errors import InputError
from genreclf.features import Computed
from genreclf.models import CNNRNN, ConventionalCNN, EfficientCNN

# Numbers such as a best accuracy, which training scripts save beside the weights.
NUMBERS: list[Any] = [
    np.dtype,
    np.ndarray,
    np._core.multiarray.scalar,  # pyright: ignore[reportAttributeAccessIssue]
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")),
]


def load_state_dict(
    path: str | Path, classes: Sequence[str], features: Computed, axis: str = "frequency"
) -> Trained:
    """The network whose weights a file holds.

    Args:
        path: made by `torch.save(net.state_dict(), path)`, or of a dict that holds such a one.
        classes: names of the genres, by number.
        features: that the network was trained on; shapes do not tell.
        axis: of the sequence of a CNN-RNN; shapes do not tell. The published scripts average time
            away, so theirs is "frequency".

    Raises:
        InputError: no such file, no state dict in it, not one of these networks, or another number
            of classes.
    """
    theirs = _weights(_read(path))
    if not theirs:
        raise InputError(f"checkpoint={path}: no state dict in it (names and tensors)")
    for net in _candidates(theirs, len(classes), axis):
        matched = match(theirs, net.state_dict())
        if matched is not None:
            net.load_state_dict(matched)
            return Trained(net.eval(), list(classes), features, features.shape[0], trained_on=None)
    raise InputError(
        f"checkpoint={path}: its {len(theirs)} tensors are those of none of the paper's networks "
        f"with {len(classes)} classes; classes=[...] names every genre, by number"
    )


def _read(path: str | Path) -> Any:
    try:
        with torch.serialization.safe_globals(NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"checkpoint={path}: no such file") from None
    except Exception:  # the unpickler can stumble over a damaged file in any way
        raise InputError(
            f"checkpoint={path}: damaged, or it holds pickled code, which is not run; save the "
            "weights alone: torch.save(net.state_dict(), path)"
        ) from None


def _weights(content: Any) -> dict[str, Tensor]:
    """The first dict of tensors alone, at the top or one level below; empty if there is none."""
    if not isinstance(content, dict):
        return {}
    for candidate in (content, *content.values()):
        values = list(candidate.values()) if isinstance(candidate, dict) else []
        if values and all(isinstance(value, Tensor) for value in values):
            return {str(name): value for name, value in candidate.items()}
    return {}


def _candidates(theirs: dict[str, Tensor], classes: int, axis: Any) -> list[nn.Module]:
    recurrent = [
        CNNRNN(classes, cell, axis, unused_gate=gate)
        for cell, gate in itertools.product(("gru", "lstm"), (False, True))
    ]
    return [*recurrent, EfficientCNN(classes), ConventionalCNN(classes)]


def match(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Their tensors under our names, each the next of its kind and shape; None if any is left over.

    A tensor's kind is the last part of its name, such as `running_mean` or `weight_ih_l0`. Modules
    of different shapes may thus come in another order than ours.
    """
    unused = {name: value for name, value in theirs.items() if not _counts_batches(name)}
    matched = {}
    for name, value in ours.items():
        if _counts_batches(name):  # absent from old files, and of no use after training
            matched[name] = value
            continue
        kind = name.rpartition(".")[2]
        same = (n for n, t in unused.items() if n.endswith(kind) and t.shape == value.shape)
        found = next(same, None)
        if found is None:
            return None
        matched[name] = unused.pop(found)
    return None if unused else matched


def _counts_batches(name: str) -> bool:
    return name.endswith("num_batches_tracked")
