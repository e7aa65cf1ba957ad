"""The files that a file consists of: one as a rule, several if files were joined.

Most decoders stop where the first of joined files ends: WAV, AIFF and MP4 files state their size,
and the next link of an Ogg chain may have another sample rate. So each part is decoded as a file of
its own. Where the next part begins is looked up before decoding if a file states its size, and when
a decoder stops otherwise, as MP3 and FLAC need it (`following`).
"""

import os
import re
from pathlib import Path
from typing import BinaryIO

from genreclf.audio.corrections import correct_size
from genreclf.audio.following import BEGINS, PADDING, PAGE_HEADER, find_audio, find_next_file
from genreclf.audio.headers import ASF, LATE, TAIL, WAVPACK, read_stated_size, skip_id3
from genreclf.audio.sections import Section
from genreclf.audio.waves import rebuild_waves

HEAD = 32  # bytes, of which all patterns need less
CHUNK = 1 << 20  # bytes
MOST_FILES = 1000  # in one; if there are more, it is not what it seems
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
    return [part for each in found for part in rebuild_waves(each) or [correct_size(each)]]


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


def insert_later_files(sections: list[Section], number: int, end: int | None) -> bool:
    """Insert the files that follow one that does not state its size, and end that one there.

    Args:
        sections: the files that were found so far.
        number: the place of the file in the list.
        end: about where its audio ends, if a decoder has told.

    Returns:
        Whether there are any.
    """
    section = sections[number]
    if len(sections) >= MOST_FILES or (found := find_next_file(section, end)) is None:
        return False
    stop, start = found
    sections[number] = section.cut(section.start + stop)
    if start is None:
        return False
    later = find_sections(section.path, section.start + start, section.stop)
    sections[number + 1 : number + 1] = later
    return True
