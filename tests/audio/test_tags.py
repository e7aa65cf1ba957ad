"""Tags of all formats are read, and damaged ones never end a run."""

import ctypes
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import mutagen
import numpy as np
import pytest

from genreclf.audio import tags, watch
from genreclf.audio.sound_files import DecodeError
from genreclf.audio.tags import LONGEST, read_all_tags, read_tags
from genreclf.data.datasets import Files, Folder

CODECS = {
    "wav": "pcm_s16le",
    "wma": "wmav2",
    "mka": "pcm_s16le",
    "aiff": "pcm_s16be",
    "caf": "pcm_s16le",
    "wv": "wavpack",
    "m4a": "aac",
    "flac": "flac",
    "mp3": "libmp3lame",
    "tta": "tta",
    "webm": "libopus",
    "opus": "libopus",
    "mov": "aac",
    "ogg": "libopus",
}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes half a second of noise, tagged by FFmpeg."""

    def make(name: str, **given: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rate = 48000
        with av.open(str(path), "w") as container:
            container.metadata.update(given)
            stream = container.add_stream(CODECS[path.suffix[1:]], rate=rate, layout="mono")
            context = stream.codec_context
            context.bit_rate = 128_000
            context.open()
            noise = np.random.default_rng(0).normal(0, 0.1, (1, rate // 2)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
            frame.sample_rate = rate
            convert = av.AudioResampler(context.format, "mono", rate, context.frame_size or None)
            for each in (*convert.resample(frame), *convert.resample(None), None):
                container.mux(stream.encode(each))
        return path

    return make


@pytest.mark.parametrize("ending", ["wav", "wma"])
def test_artists_of_wav_and_wma_are_read_b9(write: Write, ending: str) -> None:
    """B9: RIFF INFO and Windows Media tags were not read, so split=artist became stratified."""
    path = write(f"a.{ending}", artist="Jürgen & Söhne", title="Lied", album="Album")
    assert read_tags(path) == {"artist": "Jürgen & Söhne", "title": "Lied", "album": "Album"}
    path = write(f"b/b.{ending}", album_artist="Band") if ending == "wma" else path
    assert read_tags(path)["artist"] in ("Band", "Jürgen & Söhne")


@pytest.mark.parametrize("ending", sorted(CODECS))
def test_tags_of_each_format_are_read_b9(write: Write, ending: str) -> None:
    """B9: whatever the format is, its artist is known."""
    if ending == "aiff":  # of which FFmpeg writes only the title
        assert read_tags(write("a.aiff", title="Lied", artist="x"))["title"] == "Lied"
        return
    failed: list[str] = []
    paths = write(f"a.{ending}", artist="Jürgen"), write(f"b.{ending}")
    assert [each["artist"] for each in read_all_tags(paths, failed)] == ["Jürgen", ""]
    assert failed == []


@pytest.mark.parametrize("ending", ["ogg", "wma", "mp3", "m4a", "flac", "wav"])
def test_damaged_tags_are_no_tags_b10(write: Write, ending: str) -> None:
    """B10: random bytes in a header ended prepare and train with a traceback."""
    path = write(f"a.{ending}", artist="someone", title="something", album="x" * 100)
    sound, chance, paths = path.read_bytes(), random.Random(0), list[Path]()
    for number in range(60):
        damaged = bytearray(sound)
        start = chance.randrange(600)
        for place in range(start, min(start + chance.randrange(1, 60), len(damaged))):
            damaged[place] = chance.randrange(256)
        paths.append(path.with_name(f"{number}.{ending}"))
        paths[-1].write_bytes(damaged)
    for size in (0, 1, 10, 100):
        paths.append(path.with_name(f"cut {size}.{ending}"))
        paths[-1].write_bytes(sound[:size])
    found = read_all_tags(paths)
    assert all(set(each) == {"artist", "title", "album"} for each in found)
    assert found[60:] == [{"artist": "", "title": "", "album": ""}] * 4


def misbehave(path: str) -> dict[str, str]:
    """Do to the reader of tags what the name of a file says."""
    if Path(path).stem == "crash":
        ctypes.string_at(0)
    if Path(path).stem == "stall":
        time.sleep(600)
    if Path(path).stem == "damaged":
        raise DecodeError("struct.error")
    return {"artist": "it", "title": "", "album": ""}


def test_files_with_damaged_tags_are_counted_b10(
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """B10: whatever a parser raises, or FFmpeg does, costs the tags of that file alone."""
    errors = {"crash": MemoryError, "damaged": RecursionError, "fine": KeyError, "stall": OSError}
    for name in (*errors, "ordinary"):
        write(f"rock/{name}.flac", artist="me")
    parse = mutagen.File

    def fail(file: Any, **options: bool) -> object:
        if (stem := Path(file.name).stem) in errors:
            raise errors[stem]
        return parse(file, **options)

    monkeypatch.setattr(mutagen, "File", fail)  # in this process
    monkeypatch.setattr(tags, "_read_guarded", misbehave)
    monkeypatch.setattr(watch, "STALL", 1.0)
    for kind in (Folder, Files):
        assert [track.artist for track in kind(tmp_path).tracks()] == ["", "", "it", "me", ""]
    assert [record.message for record in caplog.records] == 2 * [
        f"data.root: tags that cannot be read are ignored, in 3 of 5 files; the first: "
        f"{tmp_path}/rock/crash.flac"
    ]


def test_only_what_mutagen_cannot_read_is_left_to_a_worker(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ordinary folders start no process; FFmpeg, whose code may crash, stays out of this one."""
    ordinary = [write(f"a.{kind}", artist="me") for kind in ("mp3", "flac", "m4a")]
    ordinary.append(write("untagged.mp3"))
    monkeypatch.setattr(tags, "map_in_order", pytest.fail)
    assert [each["artist"] for each in read_all_tags(ordinary)] == ["me", "me", "me", ""]
    left, untagged = [], write("a.mka")

    def leave(function: Any, paths: list[str], workers: int) -> list[dict[str, str]]:
        left.extend(Path(path).name for path in paths)
        return [dict.fromkeys(tags.NAMES, "") for _ in paths]

    monkeypatch.setattr(tags, "map_in_order", leave)
    monkeypatch.setattr(av, "open", pytest.fail)
    atoms = Path(shutil.copy(ordinary[2], ordinary[2].with_name("atoms.m4a")))
    with atoms.open("ab") as file:
        file.write(b"\0\0\0\x08free" * 100_000)
    endless = ordinary[2].with_name("endless.mp3")
    endless.write_bytes(b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(3_000_000))
    read_all_tags([untagged, atoms, endless])
    assert left == ["a.mka", "atoms.m4a", "endless.mp3"]


def test_only_regular_files_are_read_c6(tmp_path: Path) -> None:
    """C6: the tag reader waited for ever in a named pipe."""
    os.mkfifo(tmp_path / "x.mp3")
    for path in (tmp_path / "x.mp3", "/dev/zero", tmp_path, tmp_path / "none.mp3"):
        assert read_tags(path) == {"artist": "", "title": "", "album": ""}


def test_a_playlist_is_not_followed_b7(tmp_path: Path) -> None:
    """B7: FFmpeg, which reads tags of some formats, must not open what a file names."""
    for name in ("a.wav", "b.webm"):
        path = tmp_path / name
        path.write_text("#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/secret.mp3\n")
        assert read_tags(path)["artist"] == ""


def test_absurd_tags_are_cut(write: Write) -> None:
    """A tag of megabytes is not stored with every track."""
    assert len(read_tags(write("a.flac", artist="x" * 500_000))["artist"]) == LONGEST


def test_tags_of_a_file_whose_name_is_not_utf8_c1(write: Write, tmp_path: Path) -> None:
    """C1: such a name is a name like any other."""
    name = os.fsdecode(bytes(tmp_path) + b"/\xe9:.wav")
    write("a.wav", artist="me").rename(name)
    assert read_tags(name)["artist"] == "me"


def test_wav_files_without_tags_start_no_process(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of them took five seconds longer; one with a hole, twenty."""
    monkeypatch.setattr(tags, "map_in_order", None)
    path = write("a.wav")
    assert read_tags(path) == dict.fromkeys(tags.NAMES, "")
    os.truncate(path, 1 << 40)
    assert read_tags(path) == dict.fromkeys(tags.NAMES, "")
    info = b"INFOIART\x05\0\0\0Band\0\0INAM\xff\xff\xff\xff"  # damaged behind the artist
    path.write_bytes(b"RIFF\xff\0\0\0WAVE" + b"LIST" + len(info).to_bytes(4, "little") + info)
    assert read_tags(path)["artist"] == "Band"


def test_a_watched_process_does_not_read_all_of_a_huge_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read zeros until its time was over."""
    monkeypatch.setattr(tags, "WATCHED", 2)
    path = tmp_path / "a.mp3"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(DecodeError):
        tags._read_guarded(str(path))
