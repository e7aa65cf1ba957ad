"""The embedding of a network: the input of its last layer."""

import torch
from torch import Tensor, nn

from genreclf.errors import InputError
from genreclf.models.checkpoint import find_last_layer


def compute_embedding(net: nn.Module, classes: int, features: Tensor) -> Tensor:
    """Compute the network's own embedding, or else the input of its last layer.

    Args:
        net: the network, in evaluation mode.
        classes: number of classes.
        features: normalised features (batch, bins, frames).

    Returns:
        (batch, size).

    Raises:
        InputError: the network has no last layer that is known.
    """
    if hasattr(net, "embedding_size"):
        return net(features, embedded=True)[1]
    inputs: list[Tensor] = []

    def keep_input(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs.append(arguments[0])

    name = find_last_layer(net, classes, features[:1])
    if name is None:
        raise InputError(
            "this model has no embedding: its last layer is not known; set its attribute "
            "last_layer to the name of that layer"
        )
    with net.get_submodule(name).register_forward_pre_hook(keep_input):
        net(features)
    return torch.flatten(inputs[-1], 1)
