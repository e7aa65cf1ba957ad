"""The files that a file consists of: one as a rule, several if files were joined.

Most decoders stop where the first of joined files ends: WAV, AIFF and MP4 files state their size,
and the next link of an Ogg chain may have another sample rate. So each part is decoded as a file of
its own. Formats without a header, such as MP3, need no such care.
"""

import io
import mmap
import os
import re
import struct
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from genreclf.audio.headers import (
    CHUNKS,
    LATE,
    UNKNOWN_SIZES,
    read_boxes,
    read_chunks,
    read_stated_size,
    skip_id3,
)

BUFFER = 1 << 16  # bytes
TAIL = 1 << 16  # bytes; the largest page of Ogg
BEGINS = 2  # flag of the first page of an Ogg stream
MOST_TRAILING = 1 << 12  # bytes after the stated audio that are not worth reading
NO_AUDIO = rb"ID3|TAG|APETAGEX|LYRICSBEGIN|<\?x|.{0,2}(\x00{16}|(.)\2{15})"  # tags, padding
FLAGS = b"".join(rb"\x%02x" % flag for flag in range(256) if flag & 8)  # of a first block
# What files begin with whose decoders stop at the end of the first: its first bytes, and a pattern.
STARTS = {
    b"TTA1": rb"TTA1[\x01\x02]\x00.\x00[\x08\x10\x18\x20]\x00",
    b"wvpk": rb"wvpk.{4}[\x02-\x10]\x04.{6}\x00{4}(?!\x00{4}).{5}[" + FLAGS + b"]",
    b"FLV\1": rb"FLV\x01[\x01\x04\x05]\x00{3}\x09",
    b"Crea": rb"Creative Voice File\x1a",
    b"MPCK": rb"MPCKSH",
    b"#!AM": rb"#!AMR(-WB)?\n",
    b"\x30\x26\xb2\x75": re.escape(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")),  # ASF
    b"\xb7\xd8\x00\x20": re.escape(bytes.fromhex("b7d800203749da11a64e0007e95ead8d")),  # WTV
}


@dataclass(frozen=True)
class Section:
    """A range of bytes of a file that is decoded as a file of its own.

    Attributes:
        path: the file.
        start: number of its first byte.
        stop: number of the byte after its last; None for the end of the file.
        patches: bytes that are read in place of those in the file, by their place in the section.
    """

    path: Path
    start: int = 0
    stop: int | None = None
    patches: dict[int, bytes] = field(default_factory=dict)

    @cached_property
    def size(self) -> int:
        """Its number of bytes."""
        return (self.path.stat().st_size if self.stop is None else self.stop) - self.start

    @property
    def url(self) -> str:
        """Its name for FFmpeg, never taken for another protocol."""
        file = f"file:{self.path.absolute()}"
        if (self.start, self.stop) == (0, None):
            return file
        return f"subfile,,start,{self.start},end,{self.start + self.size},,:{file}"

    def open(self) -> BinaryIO:
        """Open it for reading."""
        if (self.start, self.stop, self.patches) == (0, None, {}):
            return self.path.open("rb", BUFFER)
        return io.BufferedReader(_Range(self), BUFFER)


class _Range(io.RawIOBase):
    """The bytes of a section as a file."""

    def __init__(self, section: Section) -> None:
        self._section, self._at = section, 0
        self._file = section.path.open("rb", 0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._section.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        size = max(0, min(len(buffer), self._section.size - self._at))
        self._file.seek(self._section.start + self._at)
        content = bytearray(self._file.read(size))
        for place, patch in self._section.patches.items():
            for at, value in enumerate(patch, place - self._at):
                if 0 <= at < len(content):
                    content[at] = value
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def find_sections(path: Path, start: int = 0) -> list[Section]:
    """Find the files that were joined to one, from `start` on; as a rule, it is a single one."""
    with path.open("rb") as file:
        if not start:
            file.seek(tags := skip_id3(file))
            start = tags if LATE.match(file.read(32)) else 0
        file.seek(start)
        magic = file.read(4)
        if magic == b"OggS" and _changes_stream(file, start):
            starts = _find_links(file, start)
        elif magic in STARTS:
            starts = _find_all(file, STARTS[magic], start)
        else:
            starts = [start]
            while (next_start := _find_next(Section(path, starts[-1]))) is not None:
                starts.append(starts[-1] + next_start)
    return [
        extend_audio(Section(path, start, stop))
        for start, stop in zip(starts, [*starts[1:], None], strict=True)
    ]


def _find_next(section: Section) -> int | None:
    """Find where the next file begins after one that states its size or that of its parts."""
    with section.open() as file:
        magic = file.read(8)
        if magic[4:] == b"ftyp":
            starts = (at for kind, at in read_boxes(file, section.size) if at and kind == b"ftyp")
            return next(starts, None)
        stated = read_stated_size(file, section.size)
        if stated is None or stated >= section.size:
            return None
        for place in (stated, stated + stated % 2):
            file.seek(place)
            head = file.read(12)
            if head[:4] == magic[:4] and head[8:] != b"AVIX":  # the rest of a large AVI file
                return place
    return None


def _changes_stream(file: BinaryIO, start: int) -> bool:
    """Whether the last page of an Ogg file is of another stream than the first."""
    file.seek(start)
    head = file.read(18)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(start, size - TAIL))
    tail = file.read()
    last = tail.rfind(b"OggS\0")
    return last >= 0 and tail[last + 14 : last + 18] != head[14:18]  # their serial numbers


def _find_links(file: BinaryIO, start: int) -> list[int]:
    """Find where the links of an Ogg chain begin: with the first pages of one or more streams."""
    starts, end = [], -1
    for at in _find_all(file, rb"OggS\x00[\x02\x03\x06\x07]", start):
        if at != end:
            starts.append(at)
        file.seek(at + 26)
        count = file.read(1)[0]
        end = at + 27 + count + sum(file.read(count))
    return starts


def holds_several_streams(section: Section) -> bool:
    """Whether an Ogg file begins with more than one stream, of which libsndfile reads the first."""
    with section.open() as file:
        head = file.read(27)
        if len(head) < 27 or head[:4] != b"OggS":
            return False
        file.seek(sum(file.read(head[26])), os.SEEK_CUR)
        following = file.read(6)
    return following[:4] == b"OggS" and bool(following[5] & BEGINS)


def _find_all(file: BinaryIO, pattern: bytes, start: int) -> list[int]:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = re.compile(pattern, re.DOTALL).finditer(content, start + 1)
        return [start, *(each.start() for each in found)]


def extend_audio(section: Section) -> Section:
    """Correct the size of the audio of a WAV or AIFF file if it is too small.

    What follows the audio is not the next chunk then, but more audio.
    """
    with section.open() as file:
        magic = file.read(4)
        if magic not in CHUNKS:
            return section
        order, audio = CHUNKS[magic]
        after = None  # place of the size of the audio, once that was found
        for kind, at, size in read_chunks(file, section.size, order):
            is_chunk = kind.isascii() and kind.decode("ascii").isprintable()
            is_chunk = is_chunk and at + size <= section.size
            if after is not None and not is_chunk:
                file.seek(at - 8)
                following = file.read(MOST_TRAILING)
                if len(following) < MOST_TRAILING or re.match(NO_AUDIO, following, re.DOTALL):
                    return section
                sizes = {4: section.size - 8, after: section.size - after - 4}
                patches = {
                    place: struct.pack(order + "I", min(value, 0xFFFFFFFE))
                    for place, value in sizes.items()
                }
                return Section(section.path, section.start, section.stop, patches)
            if not is_chunk or (kind == audio and size in UNKNOWN_SIZES):
                return section
            if kind == audio:
                after = at - 4
    return section
