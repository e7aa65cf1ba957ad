"""Reads and writes files: atomic output, JSON, CSV, and a check for free disk space."""

import csv
import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from platformdirs import user_cache_path

from genreclf.errors import InputError
from genreclf.paths import LONGEST_PART, cut_name, describe_path, format_path, refuse_special

BEST, LAST = "best.ckpt", "last.ckpt"  # checkpoints in the folder of a run
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
    return path.with_name(f".{cut_name(path.name, LONGEST_PART)}.{uuid.uuid4().hex[:12]}")


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


def check_fetched(path: Path, subject: str) -> None:
    """Check that a file is not a mere pointer of Git LFS, which `git clone` leaves without it.

    Args:
        path: the file; one that cannot be read is none.
        subject: begins the message, such as "features.model=folder: model.safetensors is".

    Raises:
        InputError: it is one, or a named pipe or the like.
    """
    refuse_special(path)
    try:
        with path.open("rb") as file:
            head = file.read(len(LFS_POINTER))
    except OSError:
        return
    if head == LFS_POINTER:
        raise InputError(
            f"{subject} a pointer of Git LFS, without its content; type in its folder: git lfs pull"
        )


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
