"""Reads messages of Protocol Buffers without their schema.

The format: protobuf.dev/programming-guides/encoding.
"""

VARINT, LENGTH_DELIMITED = 0, 2  # wire types
FIXED = {1: 8, 5: 4}  # further wire types, and their sizes in bytes
Bytes = bytes | memoryview


def read_fields(message: Bytes) -> tuple[dict[int, int], list[tuple[int, Bytes]]]:
    """Read the fields of a message: numbers, and values of other types.

    Values of a memoryview are memoryviews, so large ones are not copied.

    Raises:
        ValueError: a field of unknown type.
        IndexError: the message ends within a field.
    """
    numbers: dict[int, int] = {}
    parts: list[tuple[int, Bytes]] = []
    position = 0
    while position < len(message):
        tag, position = read_number(message, position)
        field, kind = tag >> 3, tag & 7
        if kind == VARINT:
            numbers[field], position = read_number(message, position)
            continue
        length = FIXED.get(kind, 0)
        if kind == LENGTH_DELIMITED:
            length, position = read_number(message, position)
        elif kind not in FIXED:
            raise ValueError(f"a field of unknown type {kind}")
        parts.append((field, message[position : position + length]))
        position += length
    return numbers, parts


def read_number(content: Bytes, position: int) -> tuple[int, int]:
    """Read a number with seven bits per byte, lowest first, and return the position after it."""
    number = shift = 0
    while True:
        byte = content[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        shift += 7
