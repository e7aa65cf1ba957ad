from collections import namedtuple
from pathlib import Path

import pytest

from genreclf import files
from genreclf.errors import InputError


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
