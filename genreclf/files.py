"""Atomic file output, JSON, and a check for free disk space."""

import csv
import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from platformdirs import user_cache_path

from genreclf.errors import InputError

BEST, LAST = "best.ckpt", "last.ckpt"  # checkpoints in the folder of a run
# "special" is what may never end when it is read; "dangling" is a link to nothing.
Kind = Literal["file", "folder", "special", "missing", "dangling", "unreadable"]
LONGEST_NAME = 255  # bytes; file systems allow no more
LONGEST_PART = 100  # bytes of a name in those of files beside it; some file systems allow 143
BLOCK = 4096  # bytes
LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # how a pointer of Git LFS begins
GENERATED = ".genreclf"  # an empty file in folders of audio that genreclf made or downloaded


def locate_cache() -> Path:
    """Return the user's folder for what was downloaded: GENRECLF_CACHE, or the system's place.

    That is `~/.cache/genreclf` on Linux, or below XDG_CACHE_HOME.
    """
    chosen = os.environ.get("GENRECLF_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("genreclf", appauthor=False)


def digest_values(values: Any) -> str:
    """Compute the SHA-1 of plain values, as hexadecimal digits."""
    return hashlib.sha1(json.dumps(values, sort_keys=True).encode()).hexdigest()


@contextmanager
def write_atomically(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that replaces `path` only once it is complete.

    It is written under a temporary name in the same folder, which is created if it is missing.
    If writing fails or is interrupted, `path` keeps its old content and the temporary file is
    deleted.

    Args:
        path: the file to write.
        mode: "w" for text in UTF-8, in which bytes of a file name that are not UTF-8 are escaped;
            "wb" for bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _name_unfinished(path)
    try:
        errors = None if "b" in mode else "backslashreplace"
        with unfinished.open(
            mode.replace("w", "x"), encoding=errors and "utf-8", errors=errors
        ) as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _name_unfinished(path: Path) -> Path:
    """Choose a name that no one else uses, no longer than file systems allow.

    A process id would not do: other threads may write the file, or processes on other machines.
    """
    return path.with_name(f".{_cut_name(path.name, LONGEST_PART)}.{uuid.uuid4().hex[:12]}")


def name_beside(path: Path, ending: str, beginning: str = "") -> Path:
    """Name a file beside another one, such as its lock: beginning, its name, ending.

    A name that would be longer than file systems allow is cut, and told apart by a digest.
    """
    name = f"{beginning}{path.name}{ending}"
    if len(os.fsencode(name)) > LONGEST_NAME:
        digest = hashlib.sha1(os.fsencode(path.name)).hexdigest()[:12]
        name = f"{beginning}{_cut_name(path.name, LONGEST_PART)}-{digest}{ending}"
    return path.with_name(name)


def _cut_name(name: str, most: int) -> str:
    """Cut a name to a number of bytes, and never within a character."""
    cut = os.fsencode(name)[:most]
    while cut and not name.startswith(os.fsdecode(cut)):
        cut = cut[:-1]
    return os.fsdecode(cut)


def check_writable(path: Path, key: str) -> None:
    """Check that a file can be written, by creating another one in its place and deleting it.

    Commands call this before work that takes long. The folder is created if it is missing.

    Args:
        path: the file; if it exists, it stays as it is.
        key: the config key that chooses it, for messages.

    Raises:
        InputError: there is something else of this name, such as a folder, or it cannot be created.
    """
    where = f"{key}={format_path(path)}"
    kind, what = describe_path(path)
    if kind in ("folder", "special"):
        raise InputError(f"{where}: {what}; the name of a file is needed")
    if kind == "unreadable":
        raise InputError(f"{where} cannot be written ({what}); choose another place")
    unfinished = _name_unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(bytes(BLOCK))  # a full disk may still have room for a name
    except OSError as error:
        is_known = error.filename not in (None, str(unfinished))
        place, reason = error.filename if is_known else path.parent, error.strerror or error
        raise InputError(
            f"{where} cannot be written ({format_path(place)}: {reason}); choose another place"
        ) from None
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with write_atomically(path) as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON, atomically; NaN and infinity become null."""
    write_text(path, json.dumps(_replace_non_finite(value), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote."""
    return json.loads(read_text(path))


def expand_home(path: str | os.PathLike[str]) -> Path:
    """Expand `~` where it stands for a home folder; a name such as `~song.mp3` stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def locate_path(path: str | os.PathLike[str]) -> Path:
    """Expand `~`, and find the path whatever its form of Unicode; it need not exist.

    Raises:
        InputError: the path is empty, which would stand for the current folder.
    """
    if not os.fspath(path):
        raise InputError("the path is empty; the current folder is .")
    expanded = expand_home(path)
    return find_path(expanded) or expanded


def find_path(path: str | os.PathLike[str]) -> Path | None:
    """Find an existing path, whatever the form of Unicode in which its names are spelled.

    macOS and Linux spell "ü" in different ways. Returns None if there is no such path.
    """
    given = Path(path)
    if os.path.lexists(given):
        return given
    if str(given).isascii() or given.parent == given:
        return None
    parent = find_path(given.parent)
    name = unicodedata.normalize("NFC", given.name)
    try:
        names = os.listdir(parent) if parent else []  # noqa: PTH208
    except OSError:
        return None
    same = (each for each in sorted(names) if unicodedata.normalize("NFC", each) == name)
    return next((parent / each for each in same if parent), None)


def describe_path(path: str | os.PathLike[str]) -> tuple[Kind, str]:
    """Find out what is at a path, without opening it.

    Returns:
        Its kind, and in words what it is, such as "a named pipe"; or what is wrong.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError:
        return ("dangling", "a link") if os.path.islink(path) else ("missing", "")  # noqa: PTH114
    except (OSError, ValueError) as error:  # a loop of links, a null byte
        return "unreadable", str(getattr(error, "strerror", None) or error)
    kinds: dict[int, tuple[Kind, str]] = {
        stat.S_IFREG: ("file", "a file"),
        stat.S_IFDIR: ("folder", "a folder"),
        stat.S_IFIFO: ("special", "a named pipe"),
        stat.S_IFSOCK: ("special", "a socket"),
        stat.S_IFCHR: ("special", "a device"),
        stat.S_IFBLK: ("special", "a device"),
    }
    return kinds.get(stat.S_IFMT(mode), ("special", "an object of the system"))


def is_lfs_pointer(path: str | os.PathLike[str]) -> bool:
    """Whether a file only names content that Git LFS has not fetched; no if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False


def explain_irregular(path: str | os.PathLike[str]) -> str:
    """Say why a path cannot be read as a file, without opening it; empty if it can."""
    return _explain_other(path, "file")


def explain_no_folder(path: str | os.PathLike[str]) -> str:
    """Say why a path is not a folder that can be listed; empty if it is one."""
    fault = _explain_other(path, "folder")
    return fault or ("" if os.access(path, os.R_OK | os.X_OK) else os.strerror(errno.EACCES))


def _explain_other(path: str | os.PathLike[str], wanted: Kind) -> str:
    """Say why what is at a path is not of the kind that is wanted; empty if it is."""
    kind, what = describe_path(path)
    if kind == wanted:
        return ""
    reasons = {
        "missing": f"no such {wanted}",
        "dangling": f"a link to a {wanted} that does not exist",
        "unreadable": what,
    }
    return reasons.get(kind, f"{what}, not a {wanted}")


def refuse_special(path: str | os.PathLike[str]) -> None:
    """Refuse to read what may never end: a named pipe, a socket or a device.

    Everything that is read because of what a user gave goes through this, or through
    `explain_irregular`, before it is opened.

    Raises:
        InputError: names the path.
    """
    kind, what = describe_path(path)
    if kind == "special":
        raise InputError(f"{format_path(path)}: {what}, not a file")


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Read a text file; InputError if it is a named pipe or the like, OSError as usual."""
    refuse_special(path)
    return path.read_text(encoding=encoding)


def read_bytes(path: Path) -> bytes:
    """Read a file; InputError if it is a named pipe or the like, OSError as usual."""
    refuse_special(path)
    return path.read_bytes()


def make_csv_writer(file: Any) -> Any:
    r"""Make a `csv.writer` whose lines end in \n and that quotes every line break in a value.

    With the line terminator \n, Python 3.11 leaves \r unquoted, which ends the row for readers.

    Args:
        file: a text file, opened with newline="" unless it is a stream.
    """

    class Lines:
        def write(self, line: str) -> None:
            file.write(line.removesuffix("\r\n") + "\n")

    return csv.writer(Lines(), lineterminator="\r\n")


def make_absolute(path: str) -> str:
    """Make the path of what exists absolute, so that it is found from any folder.

    Anything else, such as the name of a model, stays as it is.
    """
    place = Path(expand_home(path))
    return str(place.absolute()) if place.exists() else path


def format_path(path: str | os.PathLike[str]) -> str:
    r"""Format a path, or a text that holds one, as one line of valid text.

    Bytes that are not UTF-8 are escaped, such as `caf\xe9.mp3`, and so are control characters, also
    those that change the direction of what follows.
    """
    return re.sub(
        "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]",
        _escape,
        str(path),
    )


def _escape(match: re.Match[str]) -> str:
    byte = ord(match[0]) - 0xDC00  # as Python reads a byte of a path that is not UTF-8
    if 0x80 <= byte <= 0xFF:
        return f"\\x{byte:02x}"
    return match[0].encode("unicode_escape").decode()


def check_free_disk(folder: Path, needed: float, purpose: str, setting: str = "outputs") -> None:
    """Check that a disk has room for what is about to be written.

    Args:
        folder: an existing folder on that disk.
        needed: number of bytes that will be written.
        purpose: what needs the space, such as "unpacking music.zip"; the message begins with it.
        setting: the config key that chooses another disk.

    Raises:
        InputError: fewer bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{purpose} needs {needed / 1e6:,.0f} MB in {folder}, but only {free / 1e6:,.0f} MB "
            f"are free; free some space or choose another disk: {setting}=..."
        )


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
