import hashlib
import os
import shutil
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile
from mutagen.apev2 import APEv2
from mutagen.id3 import ID3, TPE1

from genreclf.audio import content
from genreclf.audio.content import UNREADABLE, digest_content

TONE = np.sin(np.arange(22050 * 2) / 20).astype(np.float32)


def write(path: Path) -> Path:
    soundfile.write(path, TONE, 22050)
    return path


def retag_id3(path: Path) -> None:
    tags = ID3()
    tags.add(TPE1(text="Somebody" * 200))
    tags.save(path, v1=2)  # at the beginning and at the end


def retag_ape(path: Path) -> None:
    tags = APEv2()
    tags["Artist"] = "Somebody"
    tags.save(path)


def retag_flac(path: Path) -> None:
    file = mutagen.File(path)  # pyright: ignore[reportPrivateImportUsage]
    file["artist"] = "Somebody" * 2000  # longer than the padding
    file.save()


@pytest.mark.parametrize(
    ("name", "retag"), [("a.mp3", retag_id3), ("a.mp3", retag_ape), ("a.flac", retag_flac)]
)
def test_tags_do_not_count(tmp_path: Path, name: str, retag: object) -> None:
    path = write(tmp_path / name)
    before, size = digest_content(path), path.stat().st_size
    retag(path)  # pyright: ignore[reportCallIssue]
    assert path.stat().st_size > size
    assert digest_content(path) == before


def test_several_tags_do_not_count(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3")
    before = digest_content(path)
    retag_ape(path)
    retag_id3(path)
    assert digest_content(path) == before


@pytest.mark.parametrize("name", ["a.mp3", "a.flac", "a.wav", "a.ogg"])
def test_any_byte_of_the_audio_counts(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    before, data = digest_content(path), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert digest_content(path) != before


def test_name_and_place_do_not_count(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3")
    (tmp_path / "other").mkdir()
    name = os.fsencode(tmp_path / "other") + b"/caf\xe9.mp3"
    shutil.copy(path, name)
    assert digest_content(os.fsdecode(name)) == digest_content(path)


def test_what_is_no_file_is_unreadable(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp3")
    for name in ("none.mp3", "pipe.mp3", "."):
        assert digest_content(tmp_path / name) == UNREADABLE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ID3",
        b"ID3\4\0\0\x7f\x7f\x7f\x7f",
        b"fLaC",
        b"fLaC\x84\xff\xff\xff",
        b"\xff\xfbAPETAGEX" + b"\xff" * 24,
        b"\xff\xfb" + b"APETAGEX" + bytes(24),
        b"TAG" + bytes(125),
    ],
)
def test_damaged_headers_have_a_digest(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.mp3").write_bytes(data)
    assert len(digest_content(tmp_path / "a.mp3")) == 40


def test_a_huge_file_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file of 1 TB took more than half an hour, although 30 s of it are used."""
    monkeypatch.setattr(content, "MOST_WHOLE", 1 << 24)
    monkeypatch.setattr(content, "BEGINNING", 1 << 21)
    monkeypatch.setattr(content, "SAMPLES", 4)
    path = write(tmp_path / "a.wav")
    os.truncate(path, 1 << 40)
    found = {digest_content(path)}
    for place in (1000, 1 << 20, (1 << 40) - 1):  # the beginning and the end are read
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"x")
        found.add(digest_content(path))
    os.truncate(path, (1 << 40) + 1)
    found.add(digest_content(path))
    assert len(found) == 5


def test_digests_of_ordinary_files_stay_what_they_are(tmp_path: Path) -> None:
    """Stores are found by them."""
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(range(256)) * 10_000)
    assert digest_content(path) == hashlib.sha1(path.read_bytes()).hexdigest()
    os.truncate(path, content.MOST_WHOLE >> 8)
    assert digest_content(path) == hashlib.sha1(path.read_bytes()).hexdigest()
