"""The published weights of musicnn in the user's cache, where `musicnn_download` puts them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors
import safetensors.numpy

from genreclf.errors import InputError
from genreclf.files import locate_cache
from genreclf.models.encoders.digests import digest_tensors

if TYPE_CHECKING:
    from genreclf.models.encoders.musicnn import Musicnn
    from genreclf.models.encoders.musicnn_inference import MusicnnInference

COMMAND = "genreclf download model=musicnn"
DIGEST = "312173d658bdad4fc6ee917ee6925ca1c444439905bfdd65bdea9cd3d6e91a81"  # of `digest_tensors`
UNITS = 200
TAGS = (  # the 50 that are most frequent in the Million Song Dataset, in the order of the outputs
    *("rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s"),
    *("alternative rock", "jazz", "beautiful", "metal", "chillout", "male vocalists"),
    *("classic rock", "soul", "indie rock", "Mellow", "electronica", "80s", "folk", "90s"),
    *("chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient", "acoustic"),
    *("experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country"),
    *("easy listening", "sexy", "catchy", "funk", "electro", "heavy metal", "Progressive rock"),
    *("60s", "rnb", "indie pop", "sad", "House", "happy"),
)


def locate_weights() -> Path:
    """Return the path of the weights, which may not exist."""
    return locate_cache() / "musicnn.safetensors"


def check_weights(needed_by: str) -> None:
    """Check that the weights are there.

    Args:
        needed_by: what needs them; the message begins with it.

    Raises:
        InputError: they are not.
    """
    if not locate_weights().is_file():
        raise InputError(f"{needed_by} needs the weights of musicnn: type {COMMAND}")


def read_weights() -> dict[str, np.ndarray]:
    """Read the weights, named as in `Musicnn`.

    Raises:
        InputError: they are missing, damaged or others.
    """
    path = locate_weights()
    try:
        weights = safetensors.numpy.load(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, the weights of musicnn: type {COMMAND}") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: {error}; type {COMMAND}") from None
    if digest_tensors(weights) != DIGEST:
        raise InputError(f"{path}: not the published weights of musicnn; type {COMMAND}")
    return weights


def load_published() -> Musicnn:
    """Load the network with the published weights, which can be trained further.

    Raises:
        InputError: as `read_weights`.
    """
    import torch

    from genreclf.models.encoders.musicnn import Musicnn

    net = Musicnn(len(TAGS), units=UNITS)
    weights = {name: torch.from_numpy(values) for name, values in read_weights().items()}
    net.load_state_dict(weights, strict=False)  # without the numbers of batches of the batch norms
    return net.eval()


@lru_cache(maxsize=1)
def load_network() -> MusicnnInference:
    """Load the network with the published weights for inference, once per process.

    Raises:
        InputError: as `read_weights`.
    """
    from genreclf.models.encoders.musicnn_inference import MusicnnInference

    return MusicnnInference(load_published())
