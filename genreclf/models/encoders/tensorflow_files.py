"""Reads checkpoints of TensorFlow with NumPy alone.

A checkpoint is a data file, which holds the tensors' bytes one after another, and an index. The
index is a sorted table as LevelDB writes it. Its last 48 bytes locate the root block, whose values
locate data blocks, whose entries map the name of a tensor to a message of dtype, shape, offset and
size (`BundleEntryProto`). The formats: doc/table_format.md in github.com/google/leveldb, and
tensorflow/core/protobuf/tensor_bundle.proto.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from genreclf.errors import InputError
from genreclf.files import read_bytes
from genreclf.models.encoders.protocol_buffers import read_fields, read_number

MAGIC = 0xDB4775248B80FB57  # the last eight bytes of a sorted table
FOOTER = 48  # bytes
FLOAT32 = 1  # TensorFlow's number of the type
DTYPE, SHAPE, SHARD, OFFSET, SIZE = 1, 2, 3, 4, 5  # fields of an entry
DIMENSION = 2  # field of a shape
EXTENT = 1  # field of a dimension


def read_checkpoint(index: Path, data: Path) -> dict[str, np.ndarray]:
    """Read the float32 tensors of a checkpoint with one data file.

    Args:
        index: path of the index.
        data: path of the data file.

    Raises:
        InputError: a file is missing, damaged, compressed or one of several data files.
    """
    try:
        return dict(_read_tensors(read_bytes(index), read_bytes(data)))
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from None
    except (ValueError, IndexError, KeyError) as error:
        raise InputError(f"{index}: not a checkpoint of TensorFlow, or damaged ({error})") from None


def _read_tensors(index: bytes, data: bytes) -> Iterator[tuple[str, np.ndarray]]:
    if len(index) < FOOTER or int.from_bytes(index[-8:], "little") != MAGIC:
        raise ValueError("no sorted table")
    footer = index[-FOOTER:]
    _, position = _read_handle(footer, 0)  # of the metadata
    root, _ = _read_handle(footer, position)
    for _, place in _read_block(index, *root):
        for name, message in _read_block(index, *_read_handle(place, 0)[0]):
            numbers, parts = read_fields(message)
            if not name or numbers.get(DTYPE) != FLOAT32:  # without a name: byte order, data files
                continue
            shape = [
                read_fields(dimension)[0].get(EXTENT, 0)
                for field, part in parts
                if field == SHAPE
                for inner, dimension in read_fields(part)[1]
                if inner == DIMENSION
            ]
            start, size = numbers.get(OFFSET, 0), numbers.get(SIZE, 0)
            if numbers.get(SHARD, 0) or size != 4 * math.prod(shape) or start + size > len(data):
                raise ValueError(f"{name.decode()} is not in the data file")
            values = np.frombuffer(data, "<f4", size // 4, start)
            yield name.decode(), values.reshape(shape).astype(np.float32)


def _read_handle(content: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Read the offset and size of a block, and return the position after both."""
    offset, position = read_number(content, position)
    size, position = read_number(content, position)
    return (offset, size), position


def _read_block(index: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Read keys and values of a block; a key leaves out what it shares with the one before."""
    block = index[offset : offset + size]
    if index[offset + size]:
        raise ValueError("compressed")
    restarts = int.from_bytes(block[-4:], "little")
    position, end, key = 0, size - 4 - 4 * restarts, b""
    while position < end:
        shared, position = read_number(block, position)
        added, position = read_number(block, position)
        length, position = read_number(block, position)
        key = key[:shared] + block[position : position + added]
        position += added
        yield key, block[position : position + length]
        position += length
