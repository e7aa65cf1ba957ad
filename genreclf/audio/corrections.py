"""What a file states of its size, corrected where its writer did not, or where a tag follows."""

import re
import struct
from typing import BinaryIO

from genreclf.audio.following import APE_FOOTER, ID3V1, MOST_TRAILING, NO_AUDIO
from genreclf.audio.headers import CHUNKS, UNKNOWN_SIZES, read_chunks, read_stated_size
from genreclf.audio.sections import Section

HEAD = 32  # bytes
MOST_SIZE = 0xFFFFFFFE


def correct_size(section: Section) -> Section:
    """Make the size that a file states for its audio what it is.

    What follows the audio of a WAV, AIFF or CAF file is no chunk if more audio follows; and what
    follows a whole file may be a tag, which is not read.
    """
    with section.open() as file:
        magic, end = file.read(4), section.size
        stated = read_stated_size(file, end)
        if stated is not None and stated < end:
            file.seek(stated)
            if re.match(NO_AUDIO, file.read(HEAD), re.DOTALL):
                return Section(section.path, section.start, section.start + stated)
        if section.stop is None and (tag := _find_tag(file, end)) is not None:
            return Section(section.path, section.start, section.start + tag)
        patches = {}
        if magic == b"RF64":
            patches = _find_rf64_patches(file, end)
        elif magic in CHUNKS:
            patches = _find_patches(file, end, *CHUNKS[magic])
    return Section(section.path, section.start, section.stop, patches)


def _find_tag(file: BinaryIO, end: int) -> int | None:
    """Find where an APE or ID3v2 tag begins that the file ends with."""
    file.seek(max(0, end - APE_FOOTER - ID3V1))
    tail = file.read()
    if tail[-ID3V1:][:3] == b"TAG":
        tail, end = tail[:-ID3V1], end - ID3V1
    ape, kind = tail[-APE_FOOTER:], b"ID3"
    if ape[:8] == b"APETAGEX":
        size, _, flags = struct.unpack_from("<III", ape, 12)
        has_header = flags >> 31
        start, kind = end - size - APE_FOOTER * has_header, b"APETAGEX" * has_header
    elif tail[-10:-7] == b"3DI":
        start = end - 20 - sum(byte << 7 * (3 - place) for place, byte in enumerate(tail[-4:]))
    else:
        return None
    file.seek(max(0, start))
    return start if start > 0 and file.read(len(kind)) == kind else None


def _find_patches(file: BinaryIO, end: int, sizes: str, audio: bytes) -> dict[int, bytes]:
    """Make the sizes in the header of a file larger if they are too small."""
    width = struct.calcsize(sizes)
    after = None  # place of the size of the audio, once that was found
    for kind, at, size in read_chunks(file, end, sizes):
        is_chunk = all(32 <= byte < 127 for byte in kind) and 0 <= size <= end - at
        if after is not None and not is_chunk:
            if not _may_be_audio(file, at - 4 - width):
                return {}
            places = [after] if width == 8 else [4, after]
            return {
                place: struct.pack(sizes, min(end - place - width, MOST_SIZE)) for place in places
            }
        if not is_chunk or (kind == audio and size in UNKNOWN_SIZES):
            return {}
        if kind == audio:
            after = at - width
    return {}


def _find_rf64_patches(file: BinaryIO, end: int) -> dict[int, bytes]:
    """Make the sizes of an RF64 file larger, which are in its first chunk (ds64)."""
    file.seek(28)
    (stated,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
    for kind, at, _ in read_chunks(file, end, "<I"):
        if kind == b"data" and 0 < stated < end - at:
            file.seek(at + stated)
            following = file.read(4)
            if following.strip().isalnum() or not _may_be_audio(file, at + stated):
                return {}
            return {20: struct.pack("<Q", end - 8), 28: struct.pack("<Q", end - at)}
    return {}


def _may_be_audio(file: BinaryIO, at: int) -> bool:
    """Whether what begins there is long enough for audio, and no tag or padding."""
    file.seek(at)
    following = file.read(MOST_TRAILING)
    return len(following) == MOST_TRAILING and not re.match(NO_AUDIO, following, re.DOTALL)
