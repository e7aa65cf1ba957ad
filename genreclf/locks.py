"""Locks of files, between processes: says what is waited for, and where a disk has no locks."""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from genreclf.errors import InputError

log = logging.getLogger(__name__)
WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)


@contextlib.contextmanager
def hold_lock(path: Path, awaited: str, setting: str = "outputs") -> Iterator[None]:
    """Hold the lock of a file; if another process holds it, say so and wait.

    Args:
        path: the file of the lock.
        awaited: what the other process does, such as "the same study".
        setting: the config key that chooses another disk.

    Raises:
        InputError: the disk has no locks.
    """
    lock = FileLock(path)
    acquire_lock(lock, awaited, setting)
    try:
        yield
    finally:
        lock.release()


def acquire_lock(lock: BaseFileLock, awaited: str, setting: str = "outputs") -> None:
    """Acquire a lock, as `hold_lock` does."""
    if try_lock(lock, setting):
        return
    log.warning("waiting for %s in another process, which holds %s", awaited, lock.lock_file)
    lock.acquire()


def try_lock(lock: BaseFileLock, setting: str = "outputs") -> bool:
    """Acquire a lock if no other process holds it.

    Raises:
        InputError: the disk has no locks.
    """
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        raise InputError(
            f"{lock.lock_file}: this disk has no locks of files ({os.strerror(error.errno)}); "
            f"choose another place: {setting}=..."
        ) from None
    return True
