"""WAV files whose chunks decoders do not follow: with several of audio, or without pad bytes."""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from genreclf.audio.headers import CHUNKS
from genreclf.audio.sections import Section

MOST_CHUNKS = 1000
PLAIN = (1, 3, 6, 7, 0xFFFE)  # codecs of which any part decodes: PCM, floats, A-law, mu-law


class _Chunk(NamedTuple):
    kind: bytes
    at: int  # place of its contents
    size: int
    is_padded: bool


def rebuild_waves(section: Section) -> list[Section]:
    """Give each chunk of audio of a WAV file a header of its own, in place of what precedes it.

    Returns:
        A section for each; none if decoders read the file as it is.
    """
    with section.open() as file:
        magic, _, kind = file.read(4), file.read(4), file.read(4)
        if magic not in (b"RIFF", b"RIFX") or kind != b"WAVE":
            return []
        order = CHUNKS[magic][0]
        chunks = [*_read_chunks(file, section.size, order)]
        data = [number for number, chunk in enumerate(chunks) if chunk.kind == b"data"]
        shape = next((chunk for chunk in chunks if chunk.kind == b"fmt "), None)
        if shape is None or not data or shape.size < 16:
            return []
        if len(data) == 1 and all(chunk.is_padded for chunk in chunks[: data[0]]):
            return []
        file.seek(shape.at)
        fields = file.read(shape.size)
    if struct.unpack_from(order[0] + "H", fields)[0] not in PLAIN:
        return []
    found = []
    for _, at, size, _ in (chunks[number] for number in data):
        parts = [b"WAVEfmt ", struct.pack(order, len(fields)), fields, bytes(len(fields) % 2)]
        body = b"".join([*parts, b"data", struct.pack(order, size)])
        header = magic + struct.pack(order, len(body) + size) + body
        if at < len(header):
            return []
        start = section.start + at - len(header)
        patches = {0: header}
        found.append(Section(section.path, start, section.start + at + size, patches, True))
    return found


def _read_chunks(file: BinaryIO, end: int, order: str) -> Iterator[_Chunk]:
    """Yield the chunks; one of odd length may lack the byte that pads it."""
    at = 12
    for _ in range(MOST_CHUNKS):
        if not _is_chunk(file, at, end, order):
            return
        file.seek(at)
        kind, (size,) = file.read(4), struct.unpack(order, file.read(4))
        following = at + 8 + size + size % 2
        is_padded = size % 2 == 0 or _is_chunk(file, following, end, order)
        is_padded = is_padded or not _is_chunk(file, following - 1, end, order)
        yield _Chunk(kind, at + 8, size, is_padded)
        at = following - (not is_padded)


def _is_chunk(file: BinaryIO, at: int, end: int, order: str) -> bool:
    """Whether a whole chunk may be there."""
    file.seek(at)
    head = file.read(8)
    if len(head) < 8 or not all(32 <= byte < 127 for byte in head[:4]):
        return False
    return 0 < struct.unpack(order, head[4:])[0] <= end - at - 8
