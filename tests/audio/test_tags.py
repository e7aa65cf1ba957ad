"""Tags of all formats are read, and damaged ones never end a run."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import av
import mutagen
import numpy as np
import pytest

from genreclf.audio.tags import LONGEST, read_tags
from genreclf.data.datasets import Folder

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

    def make(name: str, **tags: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rate = 48000
        with av.open(str(path), "w") as container:
            container.metadata.update(tags)
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
    assert read_tags(write(f"a.{ending}", artist="Jürgen"), failed)["artist"] == "Jürgen"
    assert read_tags(write(f"b.{ending}"), failed)["artist"] == ""
    assert failed == []


@pytest.mark.parametrize("ending", ["ogg", "wma", "mp3", "m4a", "flac", "wav"])
def test_damaged_tags_are_no_tags_b10(write: Write, ending: str) -> None:
    """B10: random bytes in a header ended prepare and train with a traceback."""
    path = write(f"a.{ending}", artist="someone", title="something", album="x" * 100)
    sound, chance = path.read_bytes(), random.Random(0)
    for _ in range(60):
        damaged = bytearray(sound)
        start = chance.randrange(600)
        for place in range(start, min(start + chance.randrange(1, 60), len(damaged))):
            damaged[place] = chance.randrange(256)
        path.write_bytes(damaged)
        assert set(read_tags(path)) == {"artist", "title", "album"}
    for size in (0, 1, 10, 100):
        path.write_bytes(sound[:size])
        assert read_tags(path) == {"artist": "", "title": "", "album": ""}


@pytest.mark.parametrize("error", [MemoryError, RecursionError, KeyError, OSError])
def test_files_with_damaged_tags_are_counted_b10(
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
) -> None:
    """B10: whatever a parser raises costs the tags of that file, and all such files one line."""
    for name in ("rock/a.flac", "rock/b.flac", "jazz/c.flac"):
        root = write(name, artist="me").parents[1]
    parse = mutagen.File

    def fail(file: object, **options: bool) -> object:
        if str(getattr(file, "name", "")).endswith(("a.flac", "b.flac")):
            raise error
        return parse(file, **options)

    monkeypatch.setattr(mutagen, "File", fail)
    assert [track.artist for track in Folder(root).tracks()] == ["me", "", ""]
    (line,) = [record.message for record in caplog.records]
    assert line == (
        f"data.root: tags that cannot be read are ignored, in 2 of 3 files; the first: "
        f"{root}/rock/a.flac"
    )


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
