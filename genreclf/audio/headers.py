"""What the bytes of a file say about how much audio it should hold."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# How a header gives the size of its file: magic, format and place of the number, bytes to add.
SIZES = (
    (b"RIFF", "<I", 4, 8),
    (b"RIFX", ">I", 4, 8),
    (b"RF64", "<Q", 20, 8),
    (b"riff", "<Q", 16, 0),  # Sony Wave64
    (b"FORM", ">I", 4, 8),  # AIFF
)
UNKNOWN_SIZES = (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)  # what a writer to a pipe leaves there
STARTS = {  # what files begin with, and FFmpeg's name of the format
    b"RIFF": "wav",
    b"RF64": "wav",
    b"riff\x2e\x91\xcf\x11": "w64",
    b"FORM": "aiff",
    b".snd": "au",
    b"caff\0\x01": "caf",
    b"OggS\0\x02": "ogg",
    b"fLaC\0": "flac",
}
SEARCHED = 1 << 20  # bytes in which the beginning of the audio is searched for
TAIL = 1 << 16  # bytes; the largest page of Ogg
LAST_PAGE = 4  # flag of a page of Ogg
MOST_TRAILING = 1 << 12  # bytes at the end of a file that are not worth a note
XING = 1 << 13  # bytes after the tags in which the first MPEG frame begins


def read_stated_size(path: Path) -> int | None:
    """Read how many bytes a WAV, AIFF, AU or CAF file should have; None if it does not say."""
    with path.open("rb") as file:
        head = file.read(32)
    if head[:4] == b"caff":
        return _read_caf_size(path)
    if head[:4] == b".snd" and len(head) >= 12:
        start, size = struct.unpack_from(">II", head, 4)
        return None if size in UNKNOWN_SIZES else start + size
    for magic, kind, place, added in SIZES:
        if head[:4] == magic and len(head) == 32:
            (size,) = struct.unpack_from(kind, head, place)
            return None if size in UNKNOWN_SIZES else size + added
    return None


def _read_caf_size(path: Path) -> int | None:
    """Add up the chunks of a CAF file; the size of its audio may be unknown."""
    at, end = 8, path.stat().st_size
    with path.open("rb") as file:
        while at + 12 <= end:
            file.seek(at)
            (size,) = struct.unpack(">4xq", file.read(12))
            if size < 0:
                return None
            at += 12 + size
    return at


def find_late_start(path: Path) -> tuple[str, int] | None:
    """Find where audio begins after something else, such as a tag in the wrong place.

    Returns:
        FFmpeg's name of the format, and the number of bytes before it; None if there is none.
    """
    with path.open("rb") as file:
        head = file.read(SEARCHED)
    found = {head.find(magic, 1): name for magic, name in STARTS.items()}
    places = sorted(place for place in found if place > 0)
    return (found[places[0]], places[0]) if places else None


def estimates_duration(path: Path) -> bool:
    """Whether decoders estimate how long an MPEG file is, because its first frame does not say."""
    with path.open("rb") as file:
        head = file.read(10)
        while head[:3] == b"ID3" and len(head) == 10:
            size = sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
            file.seek(size, os.SEEK_CUR)
            head = file.read(10)
        head += file.read(XING)
    is_mpeg = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return is_mpeg and not any(tag in head for tag in (b"Xing", b"Info", b"VBRI"))


def find_fault(path: Path) -> str | None:
    """Find a sign that the file is cut, or that a second one follows which no decoder reads."""
    size, stated = path.stat().st_size, read_stated_size(path)
    with path.open("rb") as file:
        magic = file.read(4)
        if stated is not None and stated < size:
            file.seek(stated + stated % 2)
            return _report_second(file.read(4) == magic)
        if magic == b"OggS":
            file.seek(max(0, size - TAIL))
            tail = file.read(TAIL)
            last = tail.rfind(b"OggS")
            if 0 <= last < len(tail) - 5 and not tail[last + 5] & LAST_PAGE:
                return "the file ends before its last page: it is truncated"
        if magic in (b"RIFF", b"RIFX") and _ends_before(file, size, magic == b"RIFX"):
            return "the file goes on after the audio that its header states, and that is not read"
        kinds = list(_read_boxes(file, size))
    return _report_second(kinds.count(b"ftyp") > 1)


def _ends_before(file: BinaryIO, end: int, is_big_endian: bool) -> bool:
    """Whether something that is no chunk follows the audio of a WAV file."""
    at, after_audio = 12, False
    while at + MOST_TRAILING < end:
        file.seek(at)
        kind, size = struct.unpack(">4sI" if is_big_endian else "<4sI", file.read(8))
        is_chunk = kind.isascii() and kind.decode("ascii").isprintable() and at + 8 + size <= end
        if after_audio and not is_chunk:
            return True
        if not is_chunk or (kind == b"data" and size in UNKNOWN_SIZES):
            return False
        after_audio = after_audio or kind == b"data"
        at += 8 + size + size % 2
    return False


def lacks_index(path: Path) -> bool:
    """Whether an MP4 file ends before the index (moov), without which nothing decodes."""
    with path.open("rb") as file:
        kinds = list(_read_boxes(file, path.stat().st_size))
    return b"ftyp" in kinds and b"moov" not in kinds


def _report_second(found: bool) -> str | None:
    return "a second file follows in the same file, and is not read" if found else None


def _read_boxes(file: BinaryIO, end: int) -> Iterator[bytes]:
    """Yield the types of the outermost boxes of an MP4 file, or nothing."""
    at = 0
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        size, kind = struct.unpack_from(">I4s", head)
        if at == 0 and kind != b"ftyp":
            return
        yield kind
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack_from(">Q", head, 8)
        at = at + size if size >= 8 else end  # 0: up to the end
