"""The files that a run is made from besides its data, and whether they are still the same.

Imports no PyTorch: a finished run is recognised without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genreclf.errors import InputError

if TYPE_CHECKING:
    from genreclf.data.store import Source
    from genreclf.training.distillation import Embeddings


def digest_sources(distillation: Embeddings | None, init: str | None) -> dict[str, str]:
    """SHA-1 digests of the distillation's files and of the pretrained weights.

    Args:
        distillation: None without knowledge distillation.
        init: checkpoint of the pretrained weights; None for random weights.

    Raises:
        InputError: a file is missing.
    """
    digests = {}
    if distillation is not None:
        digests["distillation"] = distillation.compute_digest()
    if init is not None:
        from genreclf.models.checkpoint import digest_checkpoint  # imports PyTorch

        digests["init"] = digest_checkpoint(init)
    return digests


def check_data(file: Path, digest: str, source: Source) -> None:
    """Check that the store is the one that the run in this folder was started with.

    Raises:
        InputError: it has another digest.
    """
    if digest != source.digest:
        raise InputError(
            f"{file.parent}: the data or features have changed since this run started (digest "
            f"{digest[:8]}, now {source.digest[:8]}); move or delete that folder to train again"
        )


def check_sources(file: Path, recorded: dict[str, str], current: dict[str, str]) -> None:
    """Check that distillation and pretrained weights are those that the run was started with.

    Raises:
        InputError: one of them has another digest.
    """
    for name, digest in current.items():
        if recorded.get(name) != digest:
            raise InputError(
                f"{file.parent}: the files of {name}=... have changed since this run started; "
                "move or delete that folder to train again"
            )
