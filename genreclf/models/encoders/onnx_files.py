"""Which files belong to an ONNX file: large models keep weights in others, of any name.

The messages and the numbers of their fields: onnx/onnx.proto in github.com/onnx/onnx.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from genreclf.files import read_bytes
from genreclf.models.encoders.protocol_buffers import Bytes, read_fields

# Of each message, the fields that lead to tensors, and the messages that these hold.
PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        10: "tensor",
        22: "sparse tensor",
        23: "sparse tensor",
        6: "graph",
        11: "graph",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
KEY, VALUE = 1, 2  # fields of an entry
LOCATION = b"location"  # the key whose value is a path relative to the model's folder


@lru_cache(maxsize=16)
def list_external_files(path: Path, digest: str) -> list[str]:
    """List the files in which an ONNX file keeps weights, relative to its folder.

    Args:
        path: the file; one that is no ONNX file has none, and onnxruntime refuses it.
        digest: tells whether the file is the same as before.

    Raises:
        OSError: it cannot be read.
    """
    content = read_bytes(path)
    try:
        return sorted({*_find_locations(memoryview(content), "model")})
    except (ValueError, IndexError):
        return []


def _find_locations(message: Bytes, kind: str) -> Iterator[str]:
    _, parts = read_fields(message)
    if kind == "entry":
        fields = {field: bytes(part) for field, part in parts}
        if fields.get(KEY) == LOCATION:
            yield fields.get(VALUE, b"").decode()
    for field, part in parts:
        if inner := PARTS[kind].get(field):
            yield from _find_locations(part, inner)
