"""Digests of the audio in a file, whatever the file's name, folder and tags.

The digest covers an MP3 file without its ID3 and APE tags, the audio frames of a FLAC file, and
every byte of any other file. So renaming an MP3 or FLAC file or correcting its tags does not change
the digest.

Of more than 4 GiB, more than any WAV file has, only the first 256 MiB, 256 samples of 1 MiB and
the length count: such a file is damaged, or has hours behind the clip that is used of it, and
reading all of it would hold up everything else.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO

CHUNK = 1 << 20  # bytes
MOST_WHOLE = 1 << 32  # bytes that are digested completely
BEGINNING = 1 << 28  # bytes of more than that
SAMPLES = 256  # chunks of the rest
ID3_HEADER, ID3V1, APE_FOOTER = 10, 128, 32  # bytes
UNREADABLE = "unreadable"  # in place of the digest of a file that is missing or cannot be opened


def digest_content(path: str | Path) -> str:
    """Compute the SHA-1 of a file's audio, in hexadecimal; "unreadable" if it cannot be read."""
    if not Path(path).is_file():  # a pipe or a device would never end
        return UNREADABLE
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # names that are not UTF-8, too
            start, end = _find_audio(file)
            return _digest_range(file, start, end)
    except OSError:
        return UNREADABLE


def _digest_range(file: BinaryIO, start: int, end: int) -> str:
    sha1, size = hashlib.sha1(), end - start
    if size <= MOST_WHOLE:
        _update(sha1, file, start, end)
        return sha1.hexdigest()
    sha1.update(f"{size} bytes".encode())
    rest = start + BEGINNING
    _update(sha1, file, start, rest)
    for number in range(1, SAMPLES + 1):
        at = rest + (end - rest) * number // SAMPLES
        _update(sha1, file, at - CHUNK, at)
    return sha1.hexdigest()


def _update(sha1: Any, file: BinaryIO, start: int, end: int) -> None:
    file.seek(start)
    left = end - start
    while left > 0 and (chunk := file.read(min(CHUNK, left))):
        sha1.update(chunk)
        left -= len(chunk)


def _find_audio(file: BinaryIO) -> tuple[int, int]:
    """Find where the audio begins and ends, in bytes."""
    end = file.seek(0, os.SEEK_END)
    start = _skip_id3(file, end)
    head = _read(file, start, 4)
    if head == b"fLaC":
        return _skip_flac_metadata(file, start, end), end
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:  # start of an MPEG frame
        return start, _drop_trailing_tags(file, start, end)
    return 0, end


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _skip_id3(file: BinaryIO, end: int) -> int:
    """Find the end of the ID3v2 tags at the beginning (ID3v2.4, section 3.1)."""
    start = 0
    while (header := _read(file, start, ID3_HEADER))[:3] == b"ID3" and len(header) == ID3_HEADER:
        size = sum(byte << shift for byte, shift in zip(header[6:], (21, 14, 7, 0), strict=True))
        footer = ID3_HEADER * bool(header[5] & 0x10)
        start = min(end, start + ID3_HEADER + size + footer)
    return start


def _skip_flac_metadata(file: BinaryIO, start: int, end: int) -> int:
    """Find the end of the metadata blocks (FLAC format, METADATA_BLOCK_HEADER)."""
    at = start + 4
    while len(header := _read(file, at, 4)) == 4:
        at += 4 + int.from_bytes(header[1:], "big")
        if header[0] & 0x80:  # the last block
            break
    return min(at, end)


def _drop_trailing_tags(file: BinaryIO, start: int, end: int) -> int:
    """Find where the ID3v1 and APE tags at the end begin (APEv2, APE Tags Footer)."""
    while True:
        if end - start >= ID3V1 and _read(file, end - ID3V1, 3) == b"TAG":
            end -= ID3V1
            continue
        footer = _read(file, max(start, end - APE_FOOTER), APE_FOOTER)
        if len(footer) < APE_FOOTER or not footer.startswith(b"APETAGEX"):
            return end
        size = int.from_bytes(footer[12:16], "little")  # with this footer, without a header
        header = APE_FOOTER * bool(int.from_bytes(footer[20:24], "little") & 1 << 31)
        if not APE_FOOTER <= size <= end - start - header:
            return end
        end -= size + header
