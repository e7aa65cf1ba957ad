"""Tags of audio files, whatever their format."""

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import mutagen
from mutagen.flac import FLAC
from mutagen.mp3 import MP3
from mutagen.ogg import OggFileType

# mutagen's names for each tag, and those of formats for which it has no common names: ID3 frames
# (WAV, AIFF) and Windows Media.
OF_ALBUM = ("albumartist", "album_artist", "TPE2", "WM/AlbumArtist")
NAMES = {
    "title": ("title", "TIT2", "Title"),
    "artist": ("artist", "TPE1", "Author", "author", *OF_ALBUM),
    "album": ("album", "TALB", "WM/AlbumTitle"),
}
WELL_READ = (MP3, FLAC, OggFileType)  # whose tags mutagen reads, wherever they are
LONGEST = 1000  # characters that are kept of a tag
# Formats that FFmpeg reads without opening anything else, unlike playlists.
SELF_CONTAINED = (
    "wav,w64,aiff,au,caf,matroska,webm,mov,mp4,ogg,asf,flac,mp3,aac,ac3,eac3,dts,amr,iff,voc,ape,"
    "tta,wv,mpc,mpc8,tak,dsf"
)


def read_tags(path: str | Path, failed: list[str] | None = None) -> dict[str, str]:
    """Read title, artist and album of a file; "" for a tag that is missing or cannot be parsed.

    Args:
        path: the file; it has no tags if it is not a regular one.
        failed: gets the path if the tags are damaged.
    """
    try:
        with open(path, "rb", opener=_open) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return dict.fromkeys(NAMES, "")
            parsed = mutagen.File(file, easy=True)  # pyright: ignore[reportPrivateImportUsage]
            found = _find_all((parsed.tags if parsed is not None else None) or {})
            if any(found.values()) or isinstance(parsed, WELL_READ):
                return found
            return _find_all(_read_container(file))
    except FileNotFoundError:
        return dict.fromkeys(NAMES, "")
    except Exception:  # damaged tags raise whatever the parser meets: struct.error, MemoryError
        if failed is not None:
            failed.append(str(path))
        return dict.fromkeys(NAMES, "")


def _open(path: str, flags: int) -> int:
    """Open a file without waiting, as a named pipe would make us."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_container(file: BinaryIO) -> dict[str, str]:
    """Read the metadata of a container by FFmpeg; empty if it does not know the format.

    mutagen does not know RIFF INFO, Matroska and others.
    """
    import av  # slow to import, and needed for few files
    from av.error import FFmpegError

    file.seek(0)
    options = {"format_whitelist": SELF_CONTAINED, "protocol_whitelist": ""}
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
