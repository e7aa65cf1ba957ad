"""Agreement: losses of both sides from the same weights and the same batches."""

import numpy as np


def train_first_steps(
    bins: int, frames: int, clips: int = 64, steps: int = 20
) -> dict[str, list[float]]:
    """Train each side for some steps, with dropout; "double" is the plain side in float64.

    Returns:
        losses of the steps of "plain", "double" and "genreclf".
    """
    import reference
    import torch

    from genreclf.models import CNNRNN
    from genreclf.models.fused import fuse

    noise = np.random.default_rng(0).normal(-40, 15, (clips, bins, frames)).clip(-80, 0)
    features = torch.from_numpy(noise.astype(np.float32))
    labels = torch.arange(clips) % 8
    torch.manual_seed(0)
    plain, net = reference.Net(), CNNRNN(8)
    double = reference.Net().double()
    double.load_state_dict(plain.state_dict())
    pairs = zip(net.state_dict(), plain.state_dict().values(), strict=True)
    net.load_state_dict({name: value.clone() for name, value in pairs})
    losses: dict[str, list[float]] = {}
    for name, each in {"plain": plain, "double": double, "genreclf": fuse(net)}.items():
        optimizer = torch.optim.AdamW(each.parameters())
        taken = features.double() if name == "double" else features
        orders, losses[name] = np.random.default_rng(1), []
        while len(losses[name]) < steps:
            torch.manual_seed(len(losses[name]))
            order = orders.permutation(clips).tolist()
            losses[name] += reference.train(each, optimizer, taken, labels, order)
        del losses[name][steps:]
    return losses


def compute_difference(losses: dict[str, list[float]], one: str, other: str) -> float:
    """Greatest absolute difference between the losses of two sides."""
    return float(np.abs(np.subtract(losses[one], losses[other])).max())
