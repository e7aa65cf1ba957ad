"""Whether both sides learn the same: from the same weights, by the same batches."""

import numpy as np


def first_losses(
    bins: int, frames: int, clips: int = 64, steps: int = 20
) -> tuple[list[float], list[float]]:
    """Losses of the first steps by the plain loop, and by genreclf's net; dropout included."""
    import reference
    import torch
    from torch.nn import functional

    from genreclf.fused import fuse
    from genreclf.models import CNNRNN

    generator = np.random.default_rng(0)
    features = generator.normal(-40, 15, (clips, bins, frames)).clip(-80, 0)
    features = torch.from_numpy(features.astype(np.float32))
    labels = torch.arange(clips) % 8
    torch.manual_seed(0)
    plain, net = reference.Net(), CNNRNN(8)
    pairs = zip(net.state_dict(), plain.state_dict().values(), strict=True)
    net.load_state_dict({name: value.clone() for name, value in pairs})
    net = fuse(net).train()
    theirs, ours = (torch.optim.AdamW(each.parameters()) for each in (plain, net))
    losses: tuple[list[float], list[float]] = [], []
    while len(losses[1]) < steps:
        order = generator.permutation(clips).tolist()
        seed = len(losses[1])
        torch.manual_seed(seed)
        losses[0].extend(reference.train(plain, theirs, features, labels, order))
        torch.manual_seed(seed)
        for inputs, targets in reference.batches(features, labels, order):
            ours.zero_grad()
            loss = functional.cross_entropy(net(inputs), targets)
            loss.backward()
            ours.step()
            losses[1].append(loss.item())
    return losses[0][:steps], losses[1][:steps]
