"""Tags of audio files, whatever their format.

mutagen reads most of them, in this process. What only FFmpeg can read, and files that make mutagen
read too much, are left to a worker process that is watched: FFmpeg's code may crash or never end.
"""

import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import mutagen
from mutagen.flac import FLAC
from mutagen.mp3 import MP3
from mutagen.ogg import OggFileType

from genreclf.audio.av_files import FORMATS
from genreclf.audio.headers import read_chunks
from genreclf.audio.pool import map_in_order
from genreclf.audio.sound_files import DecodeError
from genreclf.paths import format_path

# mutagen's names for each tag, and those of formats for which it has no common names: ID3 frames
# (WAV, AIFF) and Windows Media.
OF_ALBUM = ("albumartist", "album_artist", "TPE2", "WM/AlbumArtist")
NAMES = {
    "title": ("title", "TIT2", "Title"),
    "artist": ("artist", "TPE1", "Author", "author", *OF_ALBUM),
    "album": ("album", "TALB", "WM/AlbumTitle"),
}
INFO = {b"INAM": "title", b"IART": "artist", b"IPRD": "album"}  # tags of WAV files
WELL_READ = (MP3, FLAC, OggFileType)  # whose tags mutagen reads, wherever they are
LONGEST = 1000  # characters that are kept of a tag
MOST_BYTES = 1_500_000  # of a file that this process reads for its tags; zlib makes 1.5 GB of them
MOST_READS = 20_000
MOST_CHUNKS = 1000  # of a WAV file
WATCHED = 100  # times as much may be read by a process that is watched

Tags = dict[str, str]  # title, artist, album


def read_tags(path: str | Path) -> Tags:
    """Read title, artist and album of a file; "" for a tag that is missing or cannot be parsed."""
    return read_all_tags([path])[0]


def read_all_tags(paths: Sequence[str | Path], failed: list[str] | None = None) -> list[Tags]:
    """Read title, artist and album of files; "" for a tag that is missing or cannot be parsed.

    Args:
        paths: the files; those that are not regular ones have no tags.
        failed: gets the paths of files whose tags are damaged.
    """
    found = [_read_here(path) for path in paths]
    left = [place for place, tags in enumerate(found) if tags is None]
    guarded = map_in_order(_read_guarded, [str(paths[place]) for place in left], 1) if left else ()
    for place, tags in zip(left, guarded, strict=True):
        found[place] = None if isinstance(tags, DecodeError) else tags
    if failed is not None:
        failed += [str(path) for path, tags in zip(paths, found, strict=True) if tags is None]
    return [tags or dict.fromkeys(NAMES, "") for tags in found]


def describe_damaged(damaged: Sequence[str], count: int) -> str:
    """Say in a line that the tags of some of `count` files are damaged."""
    return (
        f"tags that cannot be read are ignored, in {len(damaged)} of {count} files; the first: "
        f"{format_path(damaged[0])}"
    )


class _TooMuchError(Exception):
    """A file of which more would be read than its tags should need."""


class _Budget:
    """A file for mutagen and FFmpeg that can be read a limited number of times.

    Args:
        file: the file.
        times: how many times more than the calling process reads.
    """

    def __init__(self, file: BinaryIO, times: int = 1) -> None:
        self._file, self._bytes, self._reads = file, 0, 0
        self._most_bytes, self._most_reads = times * MOST_BYTES, times * MOST_READS
        self.name = file.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        """Read as a file does."""
        left = self._most_bytes - self._bytes
        content = self._file.read(min(size, left + 1) if size >= 0 else left + 1)
        self._bytes += len(content)
        self._reads += 1
        if self._bytes > self._most_bytes or self._reads > self._most_reads:
            raise _TooMuchError
        return content


def _read_here(path: str | Path) -> Tags | None:
    """Read tags that mutagen finds; None if a worker has to read them."""
    try:
        with open(path, "rb", opener=_open) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return dict.fromkeys(NAMES, "")
            limited = cast(BinaryIO, _Budget(file))
            info = _read_wav(limited)
            if info is not None:
                return _find_all(info)
            limited.seek(0)
            found, well_read = _read_by_mutagen(limited)
            return found if any(found.values()) or well_read else None
    except FileNotFoundError:
        return dict.fromkeys(NAMES, "")
    except Exception:  # damaged tags raise whatever the parser meets: struct.error, MemoryError
        return None


def _read_guarded(path: str) -> Tags:
    """Read tags by mutagen, or else by FFmpeg: what a worker process runs."""
    damage = ""
    try:
        with open(path, "rb", opener=_open) as whole:
            file = cast(BinaryIO, _Budget(whole, WATCHED))
            try:
                found, _ = _read_by_mutagen(file)
            except Exception as error:  # as above
                found, damage = dict.fromkeys(NAMES, ""), repr(error)
            if not any(found.values()):
                found = _find_all(_read_container(file))
    except Exception as error:
        raise DecodeError(repr(error)) from None
    if damage and not any(found.values()):
        raise DecodeError(damage)
    return found


def _open(path: str, flags: int) -> int:
    """Open a file without waiting, as a named pipe would make us."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_wav(file: BinaryIO) -> dict[str, str] | None:
    """Read the tags of a WAV file (RIFF INFO); None if it is none, or has ID3 tags."""
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return None
    found: dict[str, str] = {}
    size = file.seek(0, os.SEEK_END)
    for number, (kind, at, length) in enumerate(read_chunks(file, size, "<I")):
        if kind.lower() == b"id3 ":
            return None
        if number > MOST_CHUNKS or not all(32 <= byte < 127 for byte in kind):
            break
        if kind == b"LIST" and length <= min(MOST_BYTES, size - at):
            file.seek(at)
            content = file.read(length)
            if content[:4] == b"INFO":
                found |= _read_info(content)
    return found


def _read_info(content: bytes) -> dict[str, str]:
    """Read title, artist and album of the contents of an INFO list, as FFmpeg does."""
    found = {}
    with io.BytesIO(b"LIST    " + content) as file:
        for kind, at, length in read_chunks(file, 8 + len(content), "<I"):
            if kind in INFO and at + length <= 8 + len(content):
                file.seek(at)
                text = file.read(length).split(b"\0")[0]
                found[INFO[kind]] = text.decode(errors="surrogateescape")
    return found


def _read_by_mutagen(file: BinaryIO) -> tuple[Tags, bool]:
    """Read tags, and whether mutagen reads those of this format wherever they are."""
    parsed = mutagen.File(file, easy=True)  # pyright: ignore[reportPrivateImportUsage]
    found = _find_all((parsed.tags if parsed is not None else None) or {})
    return found, isinstance(parsed, WELL_READ)


def _read_container(file: BinaryIO) -> dict[str, str]:
    """Read the metadata of a container by FFmpeg; empty if it does not know the format.

    mutagen does not know Matroska, RIFF INFO and others.
    """
    import av  # slow to import, and needed for few files
    from av.error import FFmpegError

    file.seek(0)
    options = {"format_whitelist": FORMATS, "protocol_whitelist": ""}
    try:
        # Not opened by name, in which FFmpeg would take what precedes a colon for a protocol.
        with av.open(file, options=options, metadata_errors="surrogateescape") as container:
            streams = (stream.metadata for stream in container.streams.audio)
            every = [container.metadata, *streams]
            return {name.lower(): text for tags in every for name, text in tags.items()}
    except (FFmpegError, OSError, ValueError):
        return {}


def _find_all(tags: Any) -> dict[str, str]:
    return {name: _find_first(tags, names) for name, names in NAMES.items()}


def _find_first(tags: Any, names: tuple[str, ...]) -> str:
    """Return the first of these tags that is present and not empty."""
    found = (_join(tags[name]) for name in names if name in tags)
    return next(filter(None, found), "")


def _join(value: Any) -> str:
    values = [value] if isinstance(value, str) else value
    texts = dict.fromkeys(str(each)[:LONGEST] for each in values[:LONGEST])  # FFmpeg repeats them
    return "; ".join(texts).strip()[:LONGEST]
