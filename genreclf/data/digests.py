"""What is slow to compute and follows from a key alone, kept in a JSON file.

Files are known by size, time of change and inode: a file that has not changed is not read again,
and neither is one that was moved on its disk.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from genreclf.audio.content import UNREADABLE, digest_content
from genreclf.files import write_text

NAME = "digests.json"
SETTLED = 2.0  # s; a file may change again within the resolution of its clock


class DigestCache:
    """Digests by key.

    Args:
        folder: where `digests.json` lies; a folder that cannot be written keeps nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._known: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):  # there is none yet, or it is damaged
            self._known = dict(json.loads(self.path.read_text(encoding="utf-8")))
        self._written = len(self._known)

    def get(self, key: str, compute: Callable[[], str]) -> str:
        """The digest of this key, computed where it is not known."""
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def digest_files(self, paths: Sequence[str]) -> list[str]:
        """`digest_content` of each file."""
        return [self._digest_file(path) for path in paths]

    def _digest_file(self, path: str) -> str:
        try:
            stat = os.stat(path)  # noqa: PTH116  # names that are not UTF-8, too
        except OSError:
            return UNREADABLE
        if time.time() - stat.st_mtime < SETTLED:
            return digest_content(path)
        key = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
        return self.get(key, lambda: digest_content(path))

    def save(self) -> None:
        """Write what is new; another process that writes at the same time costs time, not truth."""
        if len(self._known) > self._written:
            with contextlib.suppress(OSError):
                write_text(self.path, json.dumps(self._known))
            self._written = len(self._known)
