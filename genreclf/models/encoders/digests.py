"""Digests that identify the weights of encoders, wherever they lie."""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import file_digest, sha256
from pathlib import Path

import numpy as np

from genreclf.errors import InputError
from genreclf.paths import refuse_special


def digest_tensors(tensors: Mapping[str, np.ndarray]) -> str:
    """Compute the SHA-256 of names, types, shapes and values."""
    digest = sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def check_digest(found: str, needed: str, setting: str) -> None:
    """Check that what computes features is what computed them before.

    Args:
        found: the digest of what is there now.
        needed: the digest that stores and checkpoints record.
        setting: names it in the message, such as "features.model=encoder.onnx".

    Raises:
        InputError: the digests differ.
    """
    if found != needed:
        raise InputError(
            f"{setting}: it contains another model than before; put the former one there, or "
            "compute features with the new one in a new run"
        )


def digest_file(path: Path) -> str:
    """Compute the SHA-256 of a file's content; read it once per process unless it changes.

    Raises:
        OSError: it cannot be read.
    """
    state = path.stat()
    return _digest_content(path, state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=64)
def _digest_content(path: Path, *state: int) -> str:
    refuse_special(path)
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
