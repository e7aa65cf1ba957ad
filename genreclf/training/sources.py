"""The files that a run reads in addition to its data.

Imports no PyTorch: a finished run is recognised without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genreclf.training.distillation import Embeddings

MUSICNN = "musicnn"  # a checkpoint's name: its published weights


def digest_sources(distillation: Embeddings | None, init: str | None) -> dict[str, str]:
    """Compute SHA-1 digests of the distillation's files and of the pretrained weights.

    Args:
        distillation: knowledge distillation; None for none.
        init: checkpoint of the pretrained weights, or "musicnn"; None for random weights.

    Raises:
        InputError: a file is missing.
    """
    digests = {}
    if distillation is not None:
        digests["distillation"] = distillation.compute_digest()
    if init == MUSICNN:
        from genreclf.models.encoders.musicnn_weights import DIGEST, check_weights

        check_weights("init=musicnn")
        digests["init"] = DIGEST
    elif init is not None:
        from genreclf.models.model_files import digest_checkpoint  # imports PyTorch

        digests["init"] = digest_checkpoint(init)
    return digests
