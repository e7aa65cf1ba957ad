"""Networks, (batch, bins, frames) -> logits (batch, classes), and the files of their weights.

Configs and checkpoints refer to a network as `genreclf.models.NAME`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
