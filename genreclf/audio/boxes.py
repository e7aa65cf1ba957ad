"""The outermost boxes of an MP4 file (ISO/IEC 14496-12), such as M4A and MOV."""

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

KINDS = (  # of boxes that may be the outermost; what begins with anything else is no box
    *(b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"PICT", b"udta", b"uuid"),
    *(b"moof", b"mfra", b"sidx", b"ssix", b"styp", b"prft", b"emsg", b"pdin", b"meco", b"meta"),
)

MOST_INDEX = 1 << 20  # bytes of the index that are looked at
ENCRYPTED = re.compile(rb"enca.{28,400}?sinf.{4,64}?schm", re.DOTALL)  # Common Encryption, audio


def read_boxes(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int]]:
    """Yield type and place of each of the outermost boxes of an MP4 file, or nothing.

    Args:
        file: the file.
        end: how many bytes it has.
    """
    at = 0
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        size, kind = struct.unpack_from(">I4s", head)
        if at == 0 and kind != b"ftyp":
            return
        yield kind, at
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack_from(">Q", head, 8)
        at = at + size if size >= 8 else end  # 0: up to the end


def find_boxes_end(file: BinaryIO, end: int) -> int:
    """Find where the boxes of an MP4 file end; that is `end` if nothing follows, or it is cut."""
    for kind, at in read_boxes(file, end):
        if kind not in KINDS or (at and kind == b"ftyp"):
            return at
    return end


def lacks_index(file: BinaryIO, size: int) -> bool:
    """Whether an MP4 file ends before the index (moov), without which nothing decodes."""
    kinds = [kind for kind, _ in read_boxes(file, size)]
    return b"ftyp" in kinds and b"moov" not in kinds


def is_encrypted(file: BinaryIO, size: int) -> bool:
    """Whether the audio of an MP4 file is encrypted, which FFmpeg says of its codec only if asked.

    Without the key, what decodes is noise, or nothing (ISO/IEC 23001-7).
    """
    for kind, at in read_boxes(file, size):
        if kind == b"moov":
            file.seek(at)
            return ENCRYPTED.search(file.read(MOST_INDEX)) is not None
    return False
