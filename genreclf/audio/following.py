"""What follows the audio of a file: more audio of any format, tags, padding, or something else."""

import os
import re
import struct
from collections.abc import Callable
from typing import BinaryIO

from genreclf.audio.endings import TS_PACKET
from genreclf.audio.frames import HEAD, SYNC, find_frames
from genreclf.audio.headers import LATE, SEARCHED, TAIL, read_stated_size, skip_id3
from genreclf.audio.sections import BUFFER, Section

PAGE_HEADER = 27  # bytes of a page of Ogg before its table; the last one is the table's length
BEGINS = 2  # flag of the first page of an Ogg stream
APE_FOOTER, ID3V1, ID3_HEADER = 32, 128, 10  # bytes
PADDING = 1 << 24  # bytes of zeros behind audio, after which no more of it is looked for
CHUNK = 1 << 16  # bytes
STRETCH = 1 << 20  # bytes of frames that are read together: mapping a file would count as memory
MOST_GAPS = 1000  # between the frames of a file; one with more of them is damaged
NEAR = 1 << 14  # bytes that decoders read ahead, at most
MOST_TRAILING = 1 << 12  # bytes after the stated audio that are not worth reading
TAG = rb"ID3[\x02-\x04]\x00|APETAGEX"
NO_AUDIO = rb"ID3|TAG|APETAGEX|LYRICSBEGIN|<\?x|.{0,2}(\x00{16}|(.)\2{15})"  # tags, padding


def find_audio(file: BinaryIO, at: int, size: int) -> int | None:
    """Find where audio of a known format begins at `at`, or behind tags, zeros and a few bytes.

    Args:
        file: the file.
        at: the end of something else.
        size: how many bytes the file has.
    """
    at = _skip_padding(file, _skip_tags(file, at, size), size)
    file.seek(at)
    place = _find_first(file.read(min(TAIL, max(0, size - at))))
    return None if place is None else at + place


def find_behind_tag(file: BinaryIO) -> int:
    """Find audio behind an ID3v2 tag that states too large a size; 0 if there is none."""
    if skip_id3(file) <= file.seek(0, os.SEEK_END):
        return 0
    file.seek(ID3_HEADER)
    place = _find_first(file.read(SEARCHED))
    return 0 if place is None else ID3_HEADER + place


def find_next_file(section: Section, end: int | None) -> tuple[int, int | None] | None:
    """Find where a file that does not state its size ends, and where the next one begins.

    Args:
        section: the file, from whose start the places are counted.
        end: about where its audio ends, if a decoder has told.

    Returns:
        The second place is None if only tags and padding follow. None if the end is not known, or
        that of the section.
    """
    with section.open() as file:
        if read_stated_size(file, section.size) is not None:
            return None
        file.seek(0)
        magic = file.read(4)
        if magic not in (b"fLaC", b"OggS"):
            file.seek(start := skip_id3(file))
            if frames := find_frames(file.read(SYNC)):
                return _follow_frames(section, start + frames[0], frames[1], end)
        if not end:
            return None
        begin = max(1, end - BUFFER)
        if magic == b"OggS":
            return _follow_pages(file, begin, section.size)
        file.seek(begin)
        data = file.read(min(2 * BUFFER, section.size - begin))
        exact = 0 if magic == b"fLaC" else end - begin  # libsndfile reads FLAC files ahead
        place, tag = _find_first(data, exact), re.search(TAG, data)
        if place is None:
            start = find_audio(file, begin + tag.start() if tag else end, section.size)
        else:
            start = begin + place
    if start is None:
        return None
    return start - (start % TS_PACKET if magic[:1] == b"G" else 0), start


def _find_first(data: bytes, start: int = 0) -> int | None:
    """Find where a file begins, or a stream of frames at `start` or later."""
    late, frames = LATE.search(data), find_frames(data, start)
    places = ([late.start()] if late else []) + ([frames[0]] if frames else [])
    return min(places, default=None)


def _follow_frames(
    section: Section, at: int, measure: Callable[[bytes], int], read: int | None
) -> tuple[int, int | None] | None:
    """Follow frames from the one at `at`, over damage, to where another file begins.

    Behind tags, it may have the same frames, unless they were already read, up to about `read`.
    """
    size = section.size
    with section.open() as file:
        for _ in range(MOST_GAPS):
            at = _find_end(file, at, size, measure)
            if at + HEAD > size:
                return None
            end, tagged = at, _skip_tags(file, at, size)
            at = _skip_padding(file, tagged, size)
            if at + HEAD > size:
                return end, None
            file.seek(at)
            window = file.read(min(TAIL, size - at))
            late, frames = LATE.search(window), find_frames(window)
            if late and not (frames and frames[0] <= late.start()):
                return end, at + late.start()
            unread = tagged > end and (not read or read - NEAR <= at)
            if frames and (frames[1] is not measure or unread):
                return end, at + frames[0]
            at += frames[0] if frames else TAIL - HEAD
    return None


def _find_end(file: BinaryIO, at: int, size: int, measure: Callable[[bytes], int]) -> int:
    """Find where the frames end that follow one another from the one at `at`."""
    while at + HEAD <= size:
        file.seek(at)
        data, place = file.read(STRETCH), 0
        while place + HEAD <= len(data):
            length = measure(data[place : place + HEAD])
            if length <= 0:
                return at + place
            place += length
        at += place
    return at


def _follow_pages(file: BinaryIO, at: int, size: int) -> tuple[int, int | None] | None:
    """Follow the pages of an Ogg file to where its next link, or another file, begins."""
    file.seek(at)
    first = file.read(2 * BUFFER).find(b"OggS\0")
    at, began = (at + first if first >= 0 else size), True
    while at + PAGE_HEADER <= size:
        file.seek(at)
        head = file.read(PAGE_HEADER)
        if head[:5] != b"OggS\0":
            start = find_audio(file, at, size)
            return None if start is None else (at, start)
        begins = bool(head[5] & BEGINS)
        if begins and not began:
            return at, at
        began = begins
        at += PAGE_HEADER + head[26] + sum(file.read(head[26]))
    return None


def _skip_tags(file: BinaryIO, at: int, size: int) -> int:
    """Return where the ID3v1, ID3v2 and APE tags end that begin at `at`."""
    while True:
        before, at = at, skip_id3(file, at)
        file.seek(at)
        head = file.read(APE_FOOTER)
        if head[:3] == b"TAG":
            at += ID3V1
        elif head[:8] == b"APETAGEX" and len(head) == APE_FOOTER:
            at += APE_FOOTER + struct.unpack_from("<I", head, 12)[0]
        if at in (before, min(before, size)) or at >= size:
            return min(at, size)


def _skip_padding(file: BinaryIO, at: int, size: int) -> int:
    """Return where the zeros end that begin at `at`, but for three, with which a box may begin."""
    begin = at
    file.seek(at)
    while at < min(size, begin + PADDING):
        data = file.read(min(CHUNK, size - at))
        if kept := data.lstrip(b"\0"):
            return max(begin, at + len(data) - len(kept) - 3)
        at += CHUNK
    return size


def ends_with_other(section: Section, end: int) -> bool:
    """Whether something that is neither a tag nor padding follows audio that ends at `end`."""
    begin = max(0, end - NEAR)
    with section.open() as file:
        file.seek(begin)
        near, rest = file.read(end - begin + APE_FOOTER), file.read(MOST_TRAILING)
        found = re.search(NO_AUDIO, near, re.DOTALL)
        if found and found[0] == b"ID3":
            return section.size - skip_id3(file, begin + found.start()) > MOST_TRAILING
    return not found and len(set(rest)) > 1
