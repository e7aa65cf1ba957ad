import os
import shutil
import time
from pathlib import Path

import pytest

from genreclf.audio.content import UNREADABLE
from genreclf.data import digests
from genreclf.data.digests import DigestCache


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    path.write_bytes(b"audio")
    os.utime(path, (0, 0))
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose content is read."""
    found: list[str] = []
    digest = digests.digest_content
    monkeypatch.setattr(digests, "digest_content", lambda path: found.append(path) or digest(path))
    return found


def digest(folder: Path, path: Path) -> str:
    cache = DigestCache(folder)
    (found,) = cache.digest_files([str(path)])
    cache.save()
    return found


def test_a_file_is_read_once(tmp_path: Path, file: Path, read: list[str]) -> None:
    first = digest(tmp_path, file)
    assert digest(tmp_path, file) == first
    moved = file.rename(tmp_path / "b.wav")
    assert digest(tmp_path, moved) == first
    assert len(read) == 1


def test_a_changed_file_is_read_again(tmp_path: Path, file: Path, read: list[str]) -> None:
    first = digest(tmp_path, file)
    file.write_bytes(b"other")
    os.utime(file, (1, 1))
    assert digest(tmp_path, file) != first
    assert len(read) == 2


def test_a_file_that_changed_just_now_may_change_again(
    tmp_path: Path, file: Path, read: list[str]
) -> None:
    os.utime(file, (time.time(), time.time()))
    digest(tmp_path, file)
    digest(tmp_path, file)
    assert len(read) == 2


def test_a_copy_is_read_and_has_the_same_digest(
    tmp_path: Path, file: Path, read: list[str]
) -> None:
    copy = Path(shutil.copy2(file, tmp_path / "copy.wav"))
    assert digest(tmp_path, copy) == digest(tmp_path, file)
    assert len(read) == 2


def test_what_cannot_be_kept_is_computed(tmp_path: Path, file: Path) -> None:
    first = digest(tmp_path, file)
    (tmp_path / digests.NAME).write_text("{ damaged")
    assert digest(tmp_path, file) == first
    assert digest(tmp_path / "a.wav", file) == first  # a folder that cannot be there
    assert digest(tmp_path, tmp_path / "none") == UNREADABLE
