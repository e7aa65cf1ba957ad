import hashlib
import io
import json
import stat
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fma_archives import Server, serve, zipped

from genreclf import files
from genreclf.data import transfer

CLIP = np.random.default_rng(0).bytes(1_000_000)  # several chunks, hardly to be compressed
MEMBERS = {"music/README.txt": b"read me", "music/000/000002.mp3": CLIP}


@pytest.fixture
def server() -> Iterator[Server]:
    with serve({"music.zip": zipped(MEMBERS)}) as server:
        yield server


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "WAITS", (0.0, 0.0))


Fetch = Callable[..., Path]


@pytest.fixture
def fetch(command: Callable[..., str], tmp_path: Path, server: Server) -> Fetch:
    """Runs the command on the server's archive; returns the root."""

    def run(*arguments: str, sha1: str | None = None) -> Path:
        archives = f"data.archives=[{server.archive('music.zip', sha1)}]"
        root = f"data.root={tmp_path / 'root'}"
        return Path(command("download", "data=fma_small", archives, root, *arguments))

    return run


def check(root: Path) -> None:
    """Everything is unpacked, and nothing else is left."""
    for name, content in MEMBERS.items():
        assert (root / name).read_bytes() == content
    left = {path.name for path in root.iterdir()} - {".download.lock"}
    assert left == {"music", ".music.zip.json"}
    assert (root / "music" / files.GENERATED).is_file()  # A29: it is no genre of data=folder


def refused(fetch: Fetch, capsys: pytest.CaptureFixture[str], *args: str, **kwargs: str) -> str:
    """The one line that the command ends with."""
    with pytest.raises(SystemExit) as exit_:
        fetch(*args, **kwargs)
    assert exit_.value.code == 1
    return capsys.readouterr().err.splitlines()[-1]


def test_an_archive_is_fetched_checked_and_unpacked(fetch: Fetch, server: Server) -> None:
    check(fetch())
    assert server.got == [("music.zip", 0)]


def test_a_second_start_fetches_nothing(fetch: Fetch, server: Server) -> None:
    root = fetch()
    server.got.clear()
    check(fetch())
    assert server.got == []
    sizes = json.loads((root / ".music.zip.json").read_text())["files"]
    assert sizes == {name: len(content) for name, content in MEMBERS.items()}


def test_a_lost_connection_is_resumed_within_one_start(fetch: Fetch, server: Server) -> None:
    server.cuts = [300_000, 400_000]
    check(fetch())
    firsts = [first for _, first in server.got]
    assert firsts[0] == 0
    assert firsts == sorted(firsts)
    assert firsts[1] > 300_000 - transfer.CHUNK
    assert firsts[2] > firsts[1] + 400_000 - transfer.CHUNK


def test_the_next_start_resumes_where_the_last_one_ended(
    fetch: Fetch, server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server.cuts = [600_000, 0, 0]
    line = refused(fetch, capsys)
    assert "the connection was lost; run the same command again to resume after 0." in line
    there = (tmp_path / "root/music.zip.part").stat().st_size
    assert there > 400_000
    server.got.clear()
    check(fetch())
    assert server.got == [("music.zip", there)]


def test_a_server_without_ranges_starts_over(fetch: Fetch, server: Server) -> None:
    server.ranges, server.cuts = False, [600_000]
    check(fetch())
    assert server.got == [("music.zip", 0), ("music.zip", 0)]


def test_a_complete_transfer_is_not_repeated(fetch: Fetch, server: Server, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/music.zip.part").write_bytes(server.files["music.zip"])
    check(fetch())
    assert server.got == []


def test_a_wrong_checksum_deletes_the_file(
    fetch: Fetch, server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = hashlib.sha1(server.files["music.zip"]).hexdigest()
    line = refused(fetch, capsys, sha1="0" * 40)
    assert f"SHA-1 {found}, expected {'0' * 40}; the file was deleted" in line
    assert {path.name for path in (tmp_path / "root").iterdir()} <= {".download.lock"}
    check(fetch())


def test_too_little_disk_is_reported_before_the_download(
    fetch: Fetch,
    server: Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage(0, 0, 1_500_000))
    line = refused(fetch, capsys)
    assert "downloading music.zip needs 2 MB" in line
    assert "data.root=..." in line
    assert server.got == []


@pytest.mark.parametrize("harm", ["missing", "cut"])
def test_damaged_files_are_downloaded_again(fetch: Fetch, server: Server, harm: str) -> None:
    root = fetch()
    clip = root / "music/000/000002.mp3"
    clip.unlink() if harm == "missing" else clip.write_bytes(CLIP[:1000])
    check(fetch())
    assert len(server.got) == 2


def test_keep_archives_keeps_the_archive(fetch: Fetch, server: Server) -> None:
    root = fetch("keep_archives=true")
    assert (root / "music.zip").read_bytes() == server.files["music.zip"]


def link() -> bytes:
    """An archive whose member is a symbolic link."""
    file, info = io.BytesIO(), zipfile.ZipInfo("music/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("music/first.mp3", b"harmless")
        archive.writestr(info, "/etc/passwd")
    return file.getvalue()


@pytest.mark.parametrize(
    "name", ["../out.mp3", "music/../../out.mp3", "/out.mp3", "C:/out.mp3", "a\\..\\..\\out.mp3"]
)
def test_hostile_names_are_refused_before_anything_is_written(
    fetch: Fetch, server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    server.files["music.zip"] = zipped({"music/first.mp3": b"harmless", name: b"evil"})
    assert "nothing was unpacked" in refused(fetch, capsys)
    assert not list(tmp_path.rglob("out.mp3"))
    assert not (tmp_path / "root/music").exists()


def test_links_are_refused(
    fetch: Fetch, server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server.files["music.zip"] = link()
    assert "'music/link' is a link or a device; nothing was unpacked" in refused(fetch, capsys)
    assert not (tmp_path / "root/music").exists()


def test_a_file_that_is_not_an_archive_is_refused(
    fetch: Fetch, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["music.zip"] = b"<html>not found</html>"
    assert "cannot be unpacked" in refused(fetch, capsys)


def test_a_damaged_member_is_refused(
    fetch: Fetch, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    content = server.files["music.zip"]
    place = content.index(CLIP[:100])
    server.files["music.zip"] = content[:place] + b"\0" * 100 + content[place + 100 :]
    assert "cannot be unpacked (Bad CRC-32" in refused(fetch, capsys)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_damaged_compressed_member_is_refused(
    fetch: Fetch,
    server: Server,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    compression: int,
) -> None:
    content = bytearray(zipped(MEMBERS, compression))
    content[500_000:500_200] = b"\xff" * 200
    server.files["music.zip"] = bytes(content)
    line = refused(fetch, capsys)
    assert "cannot be unpacked" in line
    assert "delete it and run the same command again" in line
    assert not list((tmp_path / "root/music").rglob("*.mp3"))
    assert not list(tmp_path.rglob(".*.mp3.*"))


def test_interrupted_unpacking_is_resumed(fetch: Fetch, server: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    clip, text = root / "music/000/000002.mp3", root / "music/README.txt"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(CLIP)
    text.write_bytes(b"x" * len(MEMBERS["music/README.txt"]))  # of the right size alone
    (root / "music.zip").write_bytes(server.files["music.zip"])
    before = clip.stat().st_mtime_ns
    check(fetch())
    assert server.got == []
    assert clip.stat().st_mtime_ns == before


def test_too_little_disk_is_reported_before_unpacking(
    fetch: Fetch,
    server: Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "music.zip").write_bytes(server.files["music.zip"])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage(0, 0, 500_000))
    assert "unpacking music.zip needs 1 MB" in refused(fetch, capsys)
    assert not (root / "music").exists()


def test_another_version_of_the_archive_replaces_the_old_one(fetch: Fetch, server: Server) -> None:
    fetch()
    newer = {**MEMBERS, "music/000/000002.mp3": CLIP[::-1]}  # of the same size
    server.files["music.zip"] = zipped(newer)
    assert (fetch() / "music/000/000002.mp3").read_bytes() == CLIP[::-1]


def test_errors_of_the_server_are_reported(
    fetch: Fetch, server: Server, command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    absent = f"data.archives=[{{url:'{server.url}/other.zip',sha1:{'0' * 40}}}]"
    assert "the server answered 404" in refused(fetch, capsys, absent)
    nobody = f"data.archives=[{{url:'http://127.0.0.1:1/other.zip',sha1:{'0' * 40}}}]"
    assert "Connection refused; try again later" in refused(fetch, capsys, nobody)
    with pytest.raises(SystemExit):
        command("download", "data=folder")
    assert "data=folder has nothing to download" in capsys.readouterr().err
