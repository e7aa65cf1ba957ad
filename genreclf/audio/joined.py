"""The files that a file consists of: one as a rule, several if files were joined.

Most decoders stop where the first of joined files ends: WAV, AIFF and MP4 files state their size,
and the next link of an Ogg chain may have another sample rate. So each part is decoded as a file of
its own. Where the next part begins is looked up before decoding if a file states its size, and when
a decoder stops otherwise, as MP3 and FLAC need it (`following`).
"""

import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

from genreclf.audio.following import (
    APE_FOOTER,
    BEGINS,
    ID3V1,
    MOST_TRAILING,
    NO_AUDIO,
    PADDING,
    PAGE_HEADER,
    find_audio,
    find_next_file,
)
from genreclf.audio.headers import (
    ASF,
    CHUNKS,
    LATE,
    TAIL,
    UNKNOWN_SIZES,
    WAVPACK,
    read_chunks,
    read_stated_size,
    skip_id3,
)
from genreclf.audio.sections import Section
from genreclf.audio.waves import rebuild_waves

HEAD = 32  # bytes, of which all patterns need less
CHUNK = 1 << 20  # bytes
MOST_FILES = 1000  # in one; if there are more, it is not what it seems
MOST_SIZE = 0xFFFFFFFE
# What files begin with whose decoders stop at the end of the first: its first bytes, and a pattern.
STARTS = {
    b"TTA1": rb"TTA1[\x01\x02]\x00.\x00[\x08\x10\x18\x20]\x00",
    b"wvpk": WAVPACK,
    b"FLV\1": rb"FLV\x01[\x01\x04\x05]\x00{3}\x09",
    b"Crea": rb"Creative Voice File\x1a",
    b"MPCK": rb"MPCKSH",
    b"#!AM": rb"#!AMR(-WB)?\n",
    ASF[:4]: re.escape(ASF),
    b"\xb7\xd8\x00\x20": re.escape(bytes.fromhex("b7d800203749da11a64e0007e95ead8d")),  # WTV
}


def find_sections(path: Path, start: int = 0, stop: int | None = None) -> list[Section]:
    """Find the files that were joined to one; as a rule, it is a single one.

    Args:
        path: the file.
        start: number of the first byte that is looked at.
        stop: number of the byte after the last; None for the end of the file.
    """
    later = start > 0
    with path.open("rb") as file:
        if not later:
            file.seek(tags := skip_id3(file))
            start = tags if LATE.match(file.read(32)) else 0
        file.seek(start)
        magic = file.read(4)
        if magic == b"OggS" and _changes_stream(file, start, stop):
            starts = _find_links(file, start)
        elif magic == b"fLaC" and later:  # FFmpeg would read on at the next header
            starts = _find_all(file, rb"fLaC[\x00\x80]\x00\x00\x22", start)
        elif magic in STARTS:
            starts = _find_all(file, STARTS[magic], start)
        else:
            starts = [start]
    starts = [at for at in starts if stop is None or at < stop][: MOST_FILES + 1]
    for begin, end in zip(starts[:], [*starts[1:], stop], strict=True):
        at = begin
        while len(starts) <= MOST_FILES and (following := _find_next(Section(path, at, end))):
            at += following
            starts.append(at)
    if len(starts) > MOST_FILES:
        return [Section(path, start, stop)]
    starts.sort()
    stops = [*starts[1:], stop]
    found = [Section(path, *each) for each in zip(starts, stops, strict=True)]
    return [part for each in found for part in rebuild_waves(each) or [_correct_size(each)]]


def _find_next(section: Section) -> int | None:
    """Find where the next file begins after one that states its size or that of its parts."""
    with section.open() as file:
        magic = file.read(4)
        stated = read_stated_size(file, section.size)
        if stated is None or stated >= section.size:
            return None
        for place in (stated, stated + 1):  # a pad byte
            file.seek(place)
            head = file.read(HEAD)
            if head[8:12] == b"AVIX":  # the same film goes on
                return None
            if head[:4] == magic or LATE.match(head):
                return place
        return find_audio(file, stated, section.size)


def _changes_stream(file: BinaryIO, start: int, stop: int | None) -> bool:
    """Whether the last page of an Ogg file is of another stream than the first."""
    file.seek(start)
    head = file.read(18)
    size = file.seek(0, os.SEEK_END) if stop is None else stop
    file.seek(max(start, size - TAIL))
    tail = file.read(TAIL)
    last = tail.rfind(b"OggS\0")
    return last >= 0 and tail[last + 14 : last + 18] != head[14:18]  # their serial numbers


def _find_links(file: BinaryIO, start: int) -> list[int]:
    """Find where the links of an Ogg chain begin: with the first pages of one or more streams."""
    starts, end = [], -1
    for at in _find_all(file, rb"OggS\x00[\x02\x03\x06\x07]", start):
        if at != end:
            starts.append(at)
        file.seek(at)
        header = file.read(PAGE_HEADER)
        if len(header) < PAGE_HEADER:  # cut off
            break
        end = at + PAGE_HEADER + header[-1] + sum(file.read(header[-1]))
    return starts


def holds_several_streams(section: Section) -> bool:
    """Whether an Ogg file begins with more than one stream, of which libsndfile reads the first."""
    with section.open() as file:
        head = file.read(PAGE_HEADER)
        if len(head) < PAGE_HEADER or head[:4] != b"OggS":
            return False
        file.seek(sum(file.read(head[-1])), os.SEEK_CUR)
        following = file.read(6)
    return len(following) == 6 and following[:4] == b"OggS" and bool(following[5] & BEGINS)


def _find_all(file: BinaryIO, pattern: bytes, start: int) -> list[int]:
    """Find all matches after `start`, up to a hole: zeros that no audio holds."""
    regex, found, zeros = re.compile(pattern, re.DOTALL), [start], 0
    size = file.seek(0, os.SEEK_END)
    for begin in range(start + 1, size, CHUNK):
        file.seek(begin)
        data = file.read(CHUNK + HEAD)
        matches = (match.start() for match in regex.finditer(data))
        found += [begin + at for at in matches if at < CHUNK]
        zeros = 0 if data.strip(b"\0") else zeros + CHUNK
        if zeros > PADDING:
            break
    return found


def divide(section: Section, end: int | None) -> list[Section]:
    """Divide a file that does not state its size from those that follow it.

    Args:
        section: the file.
        end: about where its audio ends, if a decoder has told.
    """
    if (found := find_next_file(section, end)) is None:
        return [section]
    stop, start = found
    first = section.cut(section.start + stop)
    if start is None:
        return [first]
    return [first, *find_sections(section.path, section.start + start, section.stop)]


def _correct_size(section: Section) -> Section:
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
