"""Paths as people have them: their names, what is at them, and how they are printed."""

import errno
import hashlib
import os
import re
import stat
import unicodedata
from pathlib import Path
from typing import Literal

from genreclf.errors import InputError

# "special" is what may never end when it is read; "dangling" is a link to nothing.
Kind = Literal["file", "folder", "special", "missing", "dangling", "unreadable"]
LONGEST_NAME = 255  # bytes; file systems allow no more
LONGEST_PART = 100  # bytes of a name in the names of its siblings; some file systems allow 143


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


def make_absolute(path: str) -> str:
    """Make the path of what exists absolute, so that it is found from any folder.

    Anything else, such as the name of a model, stays as it is.
    """
    place = Path(expand_home(path))
    return str(place.absolute()) if place.exists() else path


def name_sibling(path: Path, ending: str, beginning: str = "") -> Path:
    """Name a file in the folder of another one, such as its lock: beginning, its name, ending.

    A name that would be longer than file systems allow is cut, and a digest of it is added.
    """
    name = f"{beginning}{path.name}{ending}"
    if len(os.fsencode(name)) > LONGEST_NAME:
        digest = hashlib.sha1(os.fsencode(path.name)).hexdigest()[:12]
        name = f"{beginning}{cut_name(path.name, LONGEST_PART)}-{digest}{ending}"
    return path.with_name(name)


def cut_name(name: str, most: int) -> str:
    """Cut a name to a number of bytes, and never within a character."""
    cut = os.fsencode(name)[:most]
    while cut and not name.startswith(os.fsdecode(cut)):
        cut = cut[:-1]
    return os.fsdecode(cut)


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
