"""Caches digests that are slow to compute, by key, in a JSON file.

Files are recognised by size, modification time and inode: a file that has not changed is not read
again, even if it was moved on the same disk.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from stat import S_ISREG

from genreclf.audio.content import UNREADABLE, digest_content
from genreclf.files import read_json, write_text

NAME = "digests.json"
SETTLED = 2.0  # s; a file may change again within the resolution of its clock


class DigestCache:
    """A cache of digests by key.

    Args:
        folder: the folder of `digests.json`; if it is not writable, nothing is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._known: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):  # there is none yet, or it is damaged
            self._known = dict(read_json(self.path))
        self._written = len(self._known)

    def get(self, key: str, compute: Callable[[], str]) -> str:
        """Return the digest of this key; compute it if it is not known."""
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def digest_files(self, paths: Sequence[str]) -> list[str]:
        """Return `digest_content` of each file."""
        return [self._digest_file(path) for path in paths]

    def _digest_file(self, path: str) -> str:
        try:
            stat = os.stat(path)  # noqa: PTH116  # names that are not UTF-8, too
        except OSError:
            return UNREADABLE
        if not S_ISREG(stat.st_mode):  # a pipe would wait for ever
            return UNREADABLE
        if time.time() - stat.st_mtime < SETTLED:
            return digest_content(path)
        key = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
        return self.get(key, lambda: digest_content(path))

    def save(self) -> None:
        """Save new digests; those that another process overwrites are just computed again."""
        if len(self._known) > self._written:
            with contextlib.suppress(OSError):
                write_text(self.path, json.dumps(self._known))
            self._written = len(self._known)
