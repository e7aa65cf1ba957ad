"""The weights of musicnn: TensorFlow's file format, their conversion, and their download."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from genreclf.errors import InputError
from genreclf.models import Musicnn
from genreclf.models.encoders import musicnn_download, musicnn_weights
from genreclf.models.encoders.digests import digest_tensors
from genreclf.models.encoders.musicnn_download import FILES, LICENCE, convert_tensors
from genreclf.models.encoders.musicnn_weights import load_network, read_weights
from genreclf.models.encoders.tensorflow_files import read_checkpoint

NORM = ("gamma", "beta", "moving_mean", "moving_variance")
WHEEL = "musicnn-0.1.0-py3-none-any.whl"


def encode_number(number: int) -> bytes:
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def encode_block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A block of a sorted table: its first key is whole, the others share their beginning."""
    block, before = b"", b""
    for key, value in entries:
        shared = next(
            (n for n, (a, b) in enumerate(zip(key, before, strict=False)) if a != b),
            min(len(key), len(before)),
        )
        for number in (shared, len(key) - shared, len(value)):
            block += encode_number(number)
        block += key[shared:] + value
        before = key
    return block + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")  # one restart, at 0


def encode_entry(dtype: int, shape: tuple[int, ...], offset: int, size: int) -> bytes:
    """A tensor's `BundleEntryProto`; zero is left out, as Protocol Buffers do."""
    dimensions = b""
    for extent in shape:
        inner = b"\x08" + encode_number(extent)
        dimensions += b"\x12" + encode_number(len(inner)) + inner
    entry = b"\x08" + encode_number(dtype) + b"\x12" + encode_number(len(dimensions)) + dimensions
    entry += b"\x20" + encode_number(offset) if offset else b""
    return entry + b"\x28" + encode_number(size) + b"\x35" + bytes(4)  # and a checksum


def encode_checkpoint(tensors: dict[str, np.ndarray], per_block: int = 3) -> tuple[bytes, bytes]:
    """Index and data file of a checkpoint as TensorFlow writes them, uncompressed."""
    data, entries = b"", [(b"", b"\x08\x01\x1a\x02\x08\x01")]
    for name in sorted(tensors):
        content = tensors[name].tobytes()
        dtype = {"float32": 1, "int64": 9}[tensors[name].dtype.name]
        entry = encode_entry(dtype, tensors[name].shape, len(data), len(content))
        entries.append((name.encode(), entry))
        data += content
    index, handles = b"", []
    for first in range(0, len(entries), per_block):
        block = encode_block(entries[first : first + per_block])
        handle = encode_number(len(index)) + encode_number(len(block))
        handles.append((entries[min(first + per_block, len(entries)) - 1][0], handle))
        index += block + bytes(5)  # uncompressed, and a checksum
    root = encode_block(handles)
    footer = bytes(2) + encode_number(len(index)) + encode_number(len(root))
    index += root + bytes(5)
    magic = 0xDB4775248B80FB57
    return index + footer.ljust(40, b"\0") + magic.to_bytes(8, "little"), data


def make_tensors() -> dict[str, np.ndarray]:
    """Random tensors with the names and shapes of musicnn's graph, and some of its optimizer."""
    rng, tensors = np.random.default_rng(0), {}
    kernels = [(7, 38, 1, 204), (7, 67, 1, 204), *((n, 1, 1, 51) for n in (128, 64, 32))]
    kernels += [(7, 561, 1, 64), (7, 64, 1, 64), (7, 64, 1, 64)]
    layers: list[tuple[str, tuple[int, ...]]] = []
    for number, shape in enumerate(kernels):
        layers.append((f"conv2d_{number}" if number else "conv2d", shape))
    layers += [("dense", (1506, 200)), ("dense_1", (200, 50))]
    for name, shape in layers:
        tensors[f"{name}/kernel"] = rng.normal(0, 0.1, shape)
        tensors[f"{name}/bias"] = rng.normal(0, 0.1, shape[-1])
    for number, size in enumerate([1, *(shape[-1] for shape in kernels), 1506, 200]):
        name = f"batch_normalization_{number}" if number else "batch_normalization"
        tensors |= {f"{name}/{key}": rng.uniform(0.5, 2, size) for key in NORM}
    tensors["beta1_power"] = np.array(0.9)
    found = {name: values.astype(np.float32) for name, values in tensors.items()}
    return {**found, "step": np.array([7], np.int64)}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Writes an index and a data file."""

    def write_files(index: bytes, data: bytes) -> tuple[Path, Path]:
        paths = tmp_path / "a.index", tmp_path / "a.data-00000-of-00001"
        for path, content in zip(paths, (index, data), strict=True):
            path.write_bytes(content)
        return paths

    return write_files


@pytest.mark.parametrize("per_block", [1, 3, 100])
def test_checkpoints_of_tensorflow_are_read(
    write: Callable[..., tuple[Path, Path]], per_block: int
) -> None:
    rng = np.random.default_rng(0)
    shapes = {"conv/bias": (3,), "conv/kernel": (2, 300, 1), "conv/kernel/Adam": (), "dense": (1,)}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    tensors = {name: np.asarray(values, np.float32) for name, values in tensors.items()}
    whole = {**tensors, "epoch": np.arange(4)}
    found = read_checkpoint(*write(*encode_checkpoint(whole, per_block)))
    assert found.keys() == tensors.keys()
    for name, values in tensors.items():
        assert found[name].shape == values.shape
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda index, data: (index[:-1] + b"\0", data), "no sorted table"),
        (lambda index, data: (b"", data), "no sorted table"),
        (lambda index, data: (index, data[:-1]), "a is not in the data file"),
        (lambda index, data: (index[20:], data), "damaged"),
        (lambda index, data: (index[: len(index) - 53] + b"\1" + index[-52:], data), "compressed"),
    ],
    ids=["magic", "empty", "short data", "moved", "compressed"],
)
def test_damaged_checkpoints_are_refused(
    write: Callable[..., tuple[Path, Path]], harm: Callable[..., Any], reason: str
) -> None:
    index, data = encode_checkpoint({"a": np.ones(4, np.float32)})
    with pytest.raises(InputError, match=rf"a\.index: not a checkpoint of TensorFlow.*{reason}"):
        read_checkpoint(*write(*harm(index, data)))
    with pytest.raises(InputError, match="No such file"):
        read_checkpoint(Path("nowhere.index"), Path("nowhere.data"))


def test_tensors_are_converted_to_the_networks() -> None:
    """Layers, the order of axes, and the order of pooled values are those of `Musicnn`."""
    tensors = make_tensors()
    found = convert_tensors(tensors)
    net = Musicnn(50)
    loaded = net.load_state_dict({k: torch.from_numpy(v) for k, v in found.items()}, strict=False)
    assert not loaded.unexpected_keys
    assert {key.rpartition(".")[2] for key in loaded.missing_keys} <= {"num_batches_tracked"}
    tall: Any = net.vertical[1]
    assert tall.conv.weight[3, 0, 50, 2].item() == tensors["conv2d_1/kernel"][2, 50, 0, 3]
    inner: Any = net.middle[0]
    assert inner.conv.weight[5, 400, 6].item() == tensors["conv2d_5/kernel"][6, 400, 0, 5]
    assert inner.norm.running_var[9].item() == tensors["batch_normalization_6/moving_variance"][9]
    # Pooled values of channel 2: its maximum is TensorFlow's number 4, its mean number 5.
    assert net.dense.weight[8, 2].item() == tensors["dense/kernel"][4, 8]
    assert net.dense.weight[8, 753 + 2].item() == tensors["dense/kernel"][5, 8]
    assert net.pooled_norm.bias[753 + 2].item() == tensors["batch_normalization_9/beta"][5]
    assert net.tags.weight[49, 7].item() == tensors["dense_1/kernel"][7, 49]
    del tensors["conv2d_7/bias"]
    with pytest.raises(InputError, match="no tensor 'conv2d_7/bias'"):
        convert_tensors(tensors)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which pip looks for wheels, instead of on PyPI, and an empty cache."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(folder)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("GENRECLF_CACHE", str(tmp_path / "cache"))
    return folder


def make_wheel(folder: Path) -> Path:
    """Make a wheel like the published one, with random weights."""
    path = folder / WHEEL
    info = "musicnn-0.1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: musicnn\nVersion: 0.1.0")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
        archive.writestr(LICENCE, "Copyright and permission")
        for name, content in zip(FILES, encode_checkpoint(make_tensors()), strict=True):
            archive.writestr(name, content)
    return path


def test_weights_are_downloaded_once(
    offline: Path, command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(offline)
    weights = convert_tensors(make_tensors())
    digest = musicnn_download.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setattr(musicnn_download, "WHEEL_SHA256", digest)
    monkeypatch.setattr(musicnn_weights, "DIGEST", digest_tensors(weights))
    path = command("download", "model=musicnn")
    assert path == str(offline.parent / "cache" / "musicnn.safetensors")
    with safe_open(path, "np") as file:
        about = file.metadata()
    assert about["license"] == "ISC"
    assert about["license_text"] == "Copyright and permission"
    assert "1909.06654" in about["citation"]
    found = read_weights()
    assert all(np.array_equal(found[name], weights[name]) for name in weights)

    wheel.unlink()  # not needed again
    assert command("download", "model=musicnn") == path
    load_network.cache_clear()
    try:
        assert load_network().tags.out_features == 50
    finally:
        load_network.cache_clear()


def test_another_wheel_is_refused(
    offline: Path, command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    make_wheel(offline)
    with pytest.raises(SystemExit):
        command("download", "model=musicnn")
    line = capsys.readouterr().err
    assert f"{WHEEL}: SHA-256 " in line
    assert line.endswith("correct this, then type genreclf download model=musicnn\n")
    assert not [*(offline.parent / "cache").iterdir()]


def test_what_pip_says_is_reported(
    offline: Path, command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command("download", "model=musicnn")
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pip cannot download musicnn==0.1.0: ERROR: No matching distribution found" in error


def test_a_missing_pip_is_reported(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, missing = subprocess.run, [sys.executable, "-m", "no_such_module"]
    monkeypatch.setattr(subprocess, "run", lambda words, **other: run(missing, **other))
    with pytest.raises(InputError, match=r"pip cannot download .*: No module named no_such_module"):
        musicnn_download.download_wheel(offline)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file, the weights of musicnn"),
        (b"damaged", "HeaderTooSmall|header"),
        (b"\2\0\0\0\0\0\0\0{}", "not the published weights"),
    ],
    ids=["missing", "damaged", "others"],
)
def test_weights_that_cannot_be_used_are_refused(
    offline: Path, content: bytes | None, reason: str
) -> None:
    path = musicnn_weights.locate_weights()
    if content is not None:
        path.parent.mkdir()
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"({reason}).*: type genreclf|({reason}).*; type genre"):
        read_weights()


def test_only_musicnn_has_weights(
    command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command("download", "model=cnn_gru")
    line = "model=cnn_gru has nothing to download; try model=musicnn"
    assert line in capsys.readouterr().err


def test_the_weights_are_the_published_ones(musicnn_weights: Path) -> None:
    assert sum(values.size for values in read_weights().values()) == 792_079
