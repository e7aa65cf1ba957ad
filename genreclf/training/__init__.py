"""Training with Lightning: the module, its parts, and how a run is built and trained."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
