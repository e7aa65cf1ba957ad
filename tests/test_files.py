import csv
import errno
import os
from collections import namedtuple
from pathlib import Path

import pytest

from genreclf import files
from genreclf.errors import InputError
from genreclf.paths import name_sibling


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    path = tmp_path / "new" / "file.txt"
    files.write_text(path, "old: ä")

    def fail() -> None:
        with files.write_atomically(path, "wb") as file:
            file.write(b"half")
            raise interruption

    with pytest.raises(interruption):
        fail()
    assert list(path.parent.iterdir()) == [path]
    assert path.read_text(encoding="utf-8") == "old: ä"
    with files.write_atomically(path, "wb") as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_two_writers_of_a_file_do_not_meet(tmp_path: Path) -> None:
    """Two threads, or processes of the same number on two machines: the last one wins, whole."""
    path, plain = tmp_path / "a.txt", tmp_path / "b.txt"
    with files.write_atomically(path) as first, files.write_atomically(path) as second:
        first.write("first")
        second.write("second")
    assert path.read_text() == "first"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode, "as readable as any new file"
    assert sorted(tmp_path.iterdir()) == [path, plain]


def test_a_file_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("gone.txt")
    longest = "日" * 83 + ".txt"  # 253 bytes
    for name in ("old.txt", "link.txt", "new/er/a.txt", longest):
        files.check_writable(tmp_path / name, "file")
        files.write_text(tmp_path / "b" / Path(name).name, "new")
    assert (tmp_path / "old.txt").read_text() == "old"
    assert not [each for each in tmp_path.rglob("*") if each.name.startswith(".")]


def test_a_file_that_cannot_be_written_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason: permissions alone do not say so of /proc, nor of a full disk."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    reasons = {
        tmp_path: ": a folder; the name of a file is needed",
        tmp_path / "pipe": ": a named pipe; the name of a file is needed",
        Path("/dev/null"): ": a device; the name of a file is needed",
        Path("/proc/a.txt"): " cannot be written (/proc: No such file or directory); choose anoth",
        Path("/proc/new/a.txt"): " cannot be written (/proc/new: No such file or directory); ch",
        tmp_path / "file" / "a": " cannot be written (Not a directory); choose another place",
        tmp_path / "loop" / "a": " cannot be written (Too many levels of symbolic links); choose",
        tmp_path / ("a" * 256): " cannot be written (File name too long); choose another place",
        tmp_path / "a\0": "\\x00 cannot be written (embedded null byte); choose another place",
    }
    for path, reason in reasons.items():
        with pytest.raises(InputError) as raised:
            files.check_writable(path, "file")
        assert str(raised.value).startswith(f"file={str(path).removesuffix(chr(0))}{reason}")

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(InputError, match=r"a cannot be written \(.*: No space left on device\)"):
        files.check_writable(tmp_path / "a", "file")


def test_json_keeps_what_it_can_and_turns_the_rest_into_null(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"loss": float("nan"), "values": (1, float("inf"), "x")})
    assert files.read_json(tmp_path / "a.json") == {"loss": None, "values": [1, None, "x"]}


def test_too_little_disk_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage(0, 0, 1_000_000))
    files.check_free_disk(tmp_path, 1_000_000, "the store")
    with pytest.raises(
        InputError, match=r"the store needs 2 MB in .* 1 MB are free.* store=\.\.\."
    ):
        files.check_free_disk(tmp_path, 2_000_000, "the store", "store")


@pytest.mark.parametrize("name", ["x" * 251 + ".csv", "日" * 83 + ".csv", "é" * 125 + ".csv"])
def test_the_longest_names_can_be_written_and_locked(tmp_path: Path, name: str) -> None:
    """What is written next to a file has a longer name, and file systems count bytes."""
    path = tmp_path / name
    files.check_writable(path, "file")
    files.write_text(path, "text")
    assert path.read_text() == "text"
    for ending in (".lock", ".partial", ".partial.damaged"):
        sibling = name_sibling(path, ending, ".")
        sibling.write_text("")
        assert sibling.name.endswith(ending)
        assert name_sibling(path, ending, ".") == sibling
        assert name_sibling(path.with_name(f"{name[:-5]}-.csv"), ending, ".") != sibling
        sibling.name.encode("utf-8")  # no character is cut
    assert name_sibling(tmp_path / "a.csv", ".lock", ".") == tmp_path / ".a.csv.lock"


def test_csv_quotes_every_line_break(tmp_path: Path) -> None:
    rows = [["a\rb", "c\nd", 'e"f', "g,h", "i\r\nj"], ["", "k", "l", "m\r", "\r"]]
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        writer = files.make_csv_writer(file)
        for row in rows:
            writer.writerow(row)
    assert (tmp_path / "a.csv").read_bytes().endswith(b',"\r"\n')
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert [*csv.reader(file)] == rows
    package = Path(files.__file__).parent
    texts = {
        str(each.relative_to(package)): each.read_text(encoding="utf-8")
        for each in package.rglob("*.py")
    }
    assert [name for name, text in texts.items() if "csv.writer(" in text] == ["files.py"]
