"""Atomic file output, JSON, and a check for free disk space."""

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from platformdirs import user_cache_path

from genreclf.errors import InputError

BEST, LAST = "best.ckpt", "last.ckpt"  # checkpoints in the folder of a run
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
        mode: "w" for text in UTF-8, "wb" for bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A process id would not do: other threads may write the file, or processes on other machines.
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        with unfinished.open(
            mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8"
        ) as file:
            yield file
        unfinished.replace(path)
    finally:
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
    return json.loads(path.read_text(encoding="utf-8"))


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
