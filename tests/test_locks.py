"""Locks between processes say what is waited for (B23)."""

import errno
import os
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from genreclf.errors import InputError
from genreclf.locks import hold_lock

fcntl = pytest.importorskip("fcntl")


def test_it_is_said_what_is_waited_for_b23(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """B23: a command that waited for another one said nothing."""
    held, waiting = FileLock(tmp_path / "a.lock", thread_local=False), threading.Event()
    held.acquire()

    class Release:
        """Releases the lock as soon as somebody says that it waits."""

        level = 0

        def __init__(self, lock: FileLock) -> None:
            self.lock = lock

        def filter(self, _: object) -> bool:
            waiting.set()
            self.lock.release()
            return True

    release = Release(held)
    caplog.handler.addFilter(release)
    try:
        with hold_lock(tmp_path / "a.lock", "the same study"):
            assert waiting.is_set()
    finally:
        caplog.handler.removeFilter(release)
    assert caplog.messages == [
        f"waiting for the same study in another process, which holds {tmp_path / 'a.lock'}"
    ]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_one_line_b23(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """B23: on a disk without locks, the command waited for ever, or ended with a traceback."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(InputError, match=r"a\.lock: this disk has no locks .*: outputs=\.\.\."),
        hold_lock(tmp_path / "a.lock", "the same study"),
    ):
        pass


def test_a_free_lock_is_taken_silently(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with hold_lock(tmp_path / "a.lock", "nothing"):
        pass
    assert not caplog.messages
