"""Folders as people have them: links, pipes, system folders, names of any kind."""

import contextlib
import errno
import os
import socket
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from genreclf.audio.av_files import FORMATS
from genreclf.audio.checks import DecodeError, check_file
from genreclf.audio.search import EXTENSIONS, Skipped, find_audio_files
from genreclf.data.datasets import FMA, Files, Folder, Npz, Table
from genreclf.errors import InputError
from genreclf.paths import (
    describe_path,
    explain_irregular,
    explain_no_folder,
    format_path,
    locate_path,
)

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes empty files below a folder; a search does not read them."""

    def write(*names: str) -> Path:
        for name in names:
            path = tmp_path / "music" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "music"

    return write


def find(folder: Path, skipped: Skipped | None = None) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in find_audio_files(folder, skipped))


def test_every_extension_of_music_is_found_b12(make: Make) -> None:
    """B12: GTZAN's .au and many others were neither found nor mentioned."""
    named = (
        *("au", "mp4", "m4b", "wv", "ape", "mpc", "oga", "mka", "webm", "aifc", "caf", "w64"),
        *("mp2", "snd", "rf64", "3gp", "mov", "tta", "ac3", "dts", "amr", "spx", "mp3", "wav"),
        *("flac", "ogg", "opus", "aif", "aiff", "m4a", "aac", "wma"),
    )
    folder = make(*(f"rock/a.{name}" for name in named), "rock/B.MP3", "rock/c.Flac")
    assert len(find(folder)) == len(named) + 2
    assert len(set(EXTENSIONS)) == len(EXTENSIONS)


def test_every_extension_of_the_decoders_audio_formats_is_found_b12() -> None:
    """B12: what FFmpeg and libsndfile read as audio, a folder is searched for."""
    pictures = {"avif", "heic", "heif", "mj2"}
    videos = {"avi", "f4v", "flv", "ism", "ismv", "mk3d", "mks", "mkv", "mpeg", "mpg", "psp"}
    videos |= {"m2t", "m2ts", "mts", "mxf", "nut", "ts", "wmv", "wtv"}
    known = set(av.formats_available)
    found = set()
    for name in FORMATS.split(","):
        for mode in ("r", "w"):
            if name in known:
                with contextlib.suppress(ValueError):
                    found |= av.ContainerFormat(name, mode).extensions
    assert len(found) > 100
    assert found - pictures - videos - {"wa"} <= {each[1:] for each in EXTENSIONS}
    assert {".m4p", ".m4b", ".aax", ".dff"} <= {*EXTENSIONS}


def test_what_is_not_audio_is_counted_in_one_line_b12(make: Make) -> None:
    """B12: a folder full of unknown files looked as if they had been used."""
    others = [*(f"{n}.jpg" for n in range(9)), "a.TXT", "b.txt", "c.pdf", "README", "Mr. X - song"]
    skipped = Skipped()
    assert find(make("a.mp3", *others), skipped) == ["a.mp3"]
    assert skipped.describe() == [
        "skipped 14 files that are not audio: 9 .jpg, 2 without an extension, 2 .txt, 1 .pdf"
    ]
    many = Skipped()
    find(make(*(f"x.{n}" for n in range(100, 113))), many)
    assert many.describe()[0].endswith("1 .104, 9 others")


def test_a_link_to_a_parent_adds_nothing_b8(make: Make) -> None:
    """B8: a link to a folder above listed every file 41 times."""
    folder = make("rock/a.mp3", "rock/b/c.mp3", "jazz/d.mp3")
    (folder / "rock" / "loop").symlink_to("..")
    (folder / "rock" / "root").symlink_to("/")
    skipped = Skipped()
    assert find(folder, skipped) == ["jazz/d.mp3", "rock/a.mp3", "rock/b/c.mp3"]
    assert skipped.describe() == [
        f"skipped {folder}/rock/loop, {folder}/rock/root: a link to a folder that is searched "
        "anyway"
    ]
    assert find(folder / "rock") == ["a.mp3", "b/c.mp3"]
    assert [track.id for track in Folder(folder).tracks()] == [
        *("jazz/d.mp3", "rock/a.mp3", "rock/b/c.mp3"),
    ]


def test_each_folder_is_searched_once_c5(make: Make) -> None:
    """C5: two links to the folder itself doubled it at every level, without end."""
    folder = make("rock/a.mp3", "rock/z/b.mp3", "jazz/c.mp3")
    for place in ("", "rock", "rock/z"):
        for name in ("l1", "l2"):
            (folder / place / name).symlink_to(".")
    (folder / "rock" / "again").symlink_to("z")  # before the real folder in the alphabet
    assert find(folder) == ["jazz/c.mp3", "rock/a.mp3", "rock/z/b.mp3"]
    assert [path.name for _, path in Folder(folder).files()] == ["c.mp3", "a.mp3", "b.mp3"]


def test_folders_without_inodes_are_all_searched(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems give every folder the inode 0; all but the first were skipped."""
    look = os.stat

    def forget(*args: Any, **kwargs: Any) -> os.stat_result:
        return os.stat_result((look(*args, **kwargs).st_mode, *(0,) * 9))

    folder = make("rock/a.mp3", "rock/z/b.mp3", "rock/y/x/c.mp3", "jazz/d.mp3")
    (folder / "rock" / "loop").symlink_to("..")
    (folder / "rock" / "z" / "again").symlink_to("../y")
    monkeypatch.setattr(os, "stat", forget)
    assert find(folder) == ["jazz/d.mp3", "rock/a.mp3", "rock/y/x/c.mp3", "rock/z/b.mp3"]
    assert len(Folder(folder).files()) == 4


def test_links_out_of_the_folder_are_followed_once_c5(make: Make, tmp_path: Path) -> None:
    """C5: a diamond of links is one folder; the way to it does not depend on the disk's order."""
    folder = make("rock/a.mp3", "jazz/b.mp3")
    for name in ("x/c.mp3", "x/deep/d.mp3"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name, place in (("one", "x"), ("two", "x"), ("deep", "x/deep")):
        (folder / "rock" / name).symlink_to(tmp_path / place)
    assert find(folder / "rock") == ["a.mp3", "deep/d.mp3", "one/c.mp3"]
    # What two genres lead to belongs to both: training refuses the same audio in two genres.
    (folder / "jazz" / "other").symlink_to(tmp_path / "x" / "deep")
    assert [(genre, path.name) for genre, path in Folder(folder).files()] == [
        *(("jazz", "b.mp3"), ("jazz", "d.mp3")),
        *(("rock", "a.mp3"), ("rock", "d.mp3"), ("rock", "c.mp3")),
    ]


def test_two_links_to_one_file_are_one_file_c5(make: Make, tmp_path: Path) -> None:
    """C5: a playlist of links next to the music would put songs into training and into test."""
    folder = make("rock/a.mp3", "jazz/b.mp3")
    (tmp_path / "far.mp3").touch()
    for name, target in (
        ("best/1.mp3", folder / "rock" / "a.mp3"),
        ("best/2.mp3", tmp_path / "far.mp3"),
        ("best/3.mp3", tmp_path / "far.mp3"),
    ):
        (folder / "rock" / name).parent.mkdir(exist_ok=True)
        (folder / "rock" / name).symlink_to(target)
    (folder / "jazz" / "a.mp3").symlink_to(folder / "rock" / "a.mp3")
    skipped = Skipped()
    assert find(folder / "rock", skipped) == ["a.mp3", "best/2.mp3"]
    assert "best/1.mp3, " in skipped.describe()[0]
    assert skipped.describe()[0].endswith("best/3.mp3: a link to a file that is found anyway")
    # In another genre, it is a conflict that has to be seen.
    assert ("jazz", folder / "jazz" / "a.mp3") in Folder(folder).files()


def test_only_regular_files_are_found_c6(make: Make) -> None:
    """C6: prepare waited for ever in a named pipe; other things were "no such file"."""
    folder = make("rock/a.mp3", "rock/folder.mp3/b.mp3")
    rock = folder / "rock"
    os.mkfifo(rock / "pipe.mp3")
    (rock / "null.mp3").symlink_to("/dev/null")
    (rock / "gone.mp3").symlink_to("nowhere.mp3")
    (rock / "self.mp3").symlink_to("self.mp3")
    with socket.socket(socket.AF_UNIX) as server:
        place = Path.cwd()
        os.chdir(rock)  # the path of a socket is limited to about 100 characters
        try:
            server.bind("talk.mp3")
        finally:
            os.chdir(place)
    skipped = Skipped()
    assert find(folder, skipped) == [
        *("rock/a.mp3", "rock/folder.mp3/b.mp3"),
        *("rock/gone.mp3", "rock/self.mp3"),  # missing music is reported as such
    ]
    said = "\n".join(skipped.describe())
    for name, reason in (
        ("pipe.mp3", "a named pipe, not a file"),
        ("talk.mp3", "a socket, not a file"),
        ("null.mp3", "a device, not a file"),
        ("gone.mp3", "a link to a file that does not exist"),
        ("self.mp3", "Too many levels of symbolic links"),
    ):
        assert (f"{name}: {reason}" in said) == ("not a file" in reason)
        assert explain_irregular(rock / name) == reason
        with pytest.raises(DecodeError) as caught:  # also if it is given by name
            check_file(rock / name)
        assert str(caught.value) == reason
    assert explain_irregular(rock / "a.mp3") == ""
    assert explain_irregular(rock / "none.mp3") == "no such file"
    assert explain_irregular(rock) == "a folder, not a file"
    assert explain_no_folder(rock) == ""
    for name, reason in (
        ("a.mp3", "a file, not a folder"),
        ("pipe.mp3", "a named pipe, not a folder"),
        ("gone.mp3", "a link to a folder that does not exist"),
        ("none", "no such folder"),
    ):
        for kind in (Folder, Files):
            with pytest.raises(InputError) as error:
                kind(rock / name).tracks()
            assert str(error.value) == f"data.root={rock / name}: {reason}"
    for kind in (Folder, Files, Table, Npz, FMA):
        with pytest.raises(InputError, match="the path is empty"):
            kind("").tracks()
    assert explain_irregular("a\0b.mp3") != ""
    names = ("a.mp3", "folder.mp3", "pipe.mp3", "null.mp3", "none", "gone.mp3", "self.mp3")
    kinds = [describe_path(rock / name)[0] for name in names]
    assert kinds == [*("file", "folder", "special", "special", "missing", "dangling", "unreadable")]
    assert len(Folder(folder).tracks()) == 4


def test_what_the_system_says_of_a_path_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It became "Too many open folders"."""

    def refuse(_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refuse)
        assert describe_path("a") == ("unreadable", "Too many open files")
        assert explain_no_folder("a") == explain_irregular("a") == "Too many open files"


def test_folders_of_the_system_are_skipped_c7(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """C7: thumbnails of a NAS, resource forks of a Mac and waste baskets are no genres."""
    system = ["@eaDir", "__MACOSX", ".Trash", "$RECYCLE.BIN", "System Volume Information"]
    folder = make(
        "rock/a.mp3",
        "rock/._a.mp3",
        "rock/.DS_Store",
        *(f"{name}/{place}.mp3" for name in system for place in ("b", "c/d")),
        *(f"rock/{name}/e.mp3" for name in system),
    )
    (folder / "Playlists").mkdir()
    (folder / "Playlists" / "best.m3u").touch()
    assert [path.name for _, path in Folder(folder).files()] == ["a.mp3"]
    said = [record.message for record in caplog.records]
    assert len(said) == 3
    assert said[0] == "data.root: skipped folders without audio files: Playlists"
    assert "and 8 more: hidden, or made by the system" in "".join(said)
    assert "data.root: skipped 1 file that is not audio: 1 .m3u" in said


def test_a_folder_that_cannot_be_read_is_one_line(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, scan = make("rock/a.mp3", "secret/b.mp3"), os.scandir

    def refuse(path: str) -> object:  # file permissions do not concern root
        if str(path).endswith("secret"):
            raise OSError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    skipped = Skipped()
    assert find(folder, skipped) == ["rock/a.mp3"]
    assert skipped.describe() == [f"skipped {folder}/secret: cannot be read (Permission denied)"]


def test_one_genre_in_two_forms_of_unicode_is_one_genre(make: Make) -> None:
    """A folder copied from a Mac spells "ü" in another way than one made on Linux."""
    composed, decomposed = (unicodedata.normalize(form, "Müsik") for form in ("NFC", "NFD"))
    folder = make(f"{composed}/a.mp3", f"{decomposed}/b.mp3", "rock/c.mp3")
    assert Folder(folder).genres() == [composed, "rock"]
    assert [path.name for _, path in Folder(folder).files()] == ["b.mp3", "a.mp3", "c.mp3"]
    assert Folder(folder, genres=[decomposed]).genres() == [composed]


def test_a_path_is_found_in_another_form_of_unicode(make: Make) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Müsik") for form in ("NFC", "NFD"))
    folder = make(f"x/{decomposed}/ö/a.mp3")
    assert locate_path(folder / "x" / composed / "ö" / "a.mp3").is_file()
    assert Folder(folder / "x" / composed).genres() == ["ö"]
    with pytest.raises(InputError, match="no such folder"):
        Folder(folder / "x" / "Mûsik").files()


def test_a_name_that_begins_with_a_tilde_is_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~music` is the home folder of a user called music only if there is such a user."""
    (tmp_path / "~music" / "rock").mkdir(parents=True)
    (tmp_path / "~music" / "rock" / "a.mp3").touch()
    monkeypatch.chdir(tmp_path)
    assert [path.name for _, path in Folder("~music").files()] == ["a.mp3"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Folder("~/~music").genres() == ["rock"]


def test_paths_are_shown_as_one_line_of_valid_text() -> None:
    """C1: a name that is not UTF-8, or holds a line break, must not break a message."""
    assert format_path(os.fsdecode(b"caf\xe9.mp3")) == r"caf\xe9.mp3"
    assert format_path("日本/a\nb.mp3") == r"日本/a\nb.mp3"


def test_a_large_library_is_searched_in_linear_time(make: Make, tmp_path: Path) -> None:
    """Each folder is looked up once, however many links there are."""
    folder = make(*(f"rock/{n}/{n}.mp3" for n in range(200)))
    for n in range(200):
        (folder / "rock" / f"link{n}").symlink_to(str(n))
    looked_up: list[str] = []

    def count(path: str, *, ask: Callable = os.scandir) -> object:
        looked_up.append(str(path))
        return ask(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", count)
        assert len(find(folder)) == 200
    assert len(looked_up) == len(set(looked_up)) == 202


@pytest.mark.parametrize("kind", [Folder, Files])
def test_the_root_is_resolved_once(
    make: Make, kind: type[Folder | Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each file, it takes as long as to read its tags from a network disk."""
    folder, resolved = make("rock/a.mp3", "rock/b.mp3", "rock/c.mp3"), []
    resolve = Path.resolve
    monkeypatch.setattr(Path, "resolve", lambda path: resolved.append(path) or resolve(path))
    assert len(kind(folder).tracks()) == 3
    assert resolved == [folder]
