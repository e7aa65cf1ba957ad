"""Files that were joined, and what else follows audio or precedes it."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from encode import RATE, TONES, encode, make_music, run_ffmpeg

from genreclf.audio import joined, sound_files
from genreclf.audio.sections import Section

CODECS = {
    "a.m4a": "aac",
    "lossless.m4a": "alac",
    "a.wv": "wavpack",
    "a.tta": "tta",
    "a.wma": "wmav2",
    "a.flv": "libmp3lame",
    "a.mka": "flac",
    "a.voc": "pcm_u8",
    "a.opus": "libopus",
}
STREAMS = {  # FFmpeg's arguments
    "a.mp3": "-c:a libmp3lame -b:a 128k",
    "b.mp3": "-c:a libmp3lame -q:a 4 -write_xing 0",
    "a.mp2": "-c:a mp2",
    "a.aac": "-c:a aac",
    "a.latm": "-c:a aac",
    "a.ac3": "-c:a ac3",
    "a.dts": "-c:a dca -strict -2",
    "a.ts": "-c:a aac",
    "a.webm": "-c:a libopus",
    "b.webm": "-c:a libopus -live 1",
    "a.mp4": "-c:a aac -movflags frag_keyframe+empty_moov",
    "a.amr": "-c:a libopencore_amrnb -ar 8000 -ac 1 -b:a 12.2k",
}
WRITTEN = ["a.wav", "a.aiff", "a.caf", "a.w64", "a.au", "a.rf64", "a.flac", "a.ogg"]


def make(path: Path, seconds: float = 4, channels: int = 2, rate: int = RATE) -> bytes:
    """Write music in the format of a file name; the codec is that of the table above."""
    if path.name in CODECS:
        rate = 48000 if path.suffix == ".opus" else rate
        more = {"bit_rate": 128_000} if path.suffix == ".wma" else {}
        encode(path, make_music(seconds, channels, rate), CODECS[path.name], rate, **more)
    else:
        soundfile.write(path, make_music(seconds, channels, rate), rate)
    return path.read_bytes()


def read(path: Path) -> tuple[np.ndarray, float, list[str]]:
    """Read all samples; return them, their seconds, and the notes."""
    notes: list[str] = []
    stretches = list(sound_files.read_stretches(path, 60, notes))
    samples = np.concatenate([each for each, _ in stretches])
    return samples, len(samples) / stretches[0][1], notes


@pytest.mark.parametrize("name", [*CODECS, *WRITTEN])
def test_joined_files_are_read_one_after_the_other_b4(tmp_path: Path, name: str) -> None:
    """B4: `cat a b > c` loses nothing, whether or not decoders read on behind the first."""
    content = make(tmp_path / name)
    (tmp_path / name).write_bytes(3 * content)
    _, seconds, notes = read(tmp_path / name)
    assert seconds == pytest.approx(12, abs=0.25)
    assert notes == []


@pytest.mark.parametrize("suffix", [".ogg", ".wav", ".flac", ".aiff"])
def test_joined_files_may_have_other_rates_and_channels_b4(tmp_path: Path, suffix: str) -> None:
    """B4: the second link of an Ogg chain was lost, and no player plays it at the wrong pitch."""
    parts = [
        make(tmp_path / f"{rate}{suffix}", 4, channels, rate)
        for rate, channels in ((RATE, 2), (22050, 1), (48000, 2))
    ]
    path = tmp_path / f"joined{suffix}"
    path.write_bytes(b"".join(parts))
    samples, seconds, notes = read(path)
    assert notes == []
    assert samples.shape[1] == 2
    assert seconds == pytest.approx(12, abs=0.1)
    for second in (1, 6, 10):
        spectrum = np.abs(np.fft.rfft(samples[second * RATE :][:RATE, 0]))
        strongest = {*np.argsort(spectrum)[-20:]}
        assert all({int(tone), int(tone) + 1} & strongest for tone in TONES)


def test_links_of_several_codecs_are_read_b4(tmp_path: Path) -> None:
    """B4: Vorbis, Opus and FLAC in one Ogg chain, as a radio station may send them."""
    soundfile.write(tmp_path / "a.wav", make_music(4), RATE)
    content = b""
    for codec in ("libvorbis", "libopus", "flac"):
        run_ffmpeg("-i", tmp_path / "a.wav", "-c:a", codec, "-f", "ogg", tmp_path / "a.ogg")
        content += (tmp_path / "a.ogg").read_bytes()
    (tmp_path / "a.ogg").write_bytes(content)
    _, seconds, notes = read(tmp_path / "a.ogg")
    assert seconds == pytest.approx(12, abs=0.1)
    assert notes == []


def test_what_is_wrong_with_a_joined_file_is_said_of_it(tmp_path: Path) -> None:
    """The first is whole, the second is cut, and of the third only the header is left."""
    first, second = make(tmp_path / "a.ogg"), make(tmp_path / "b.ogg", 4, 1, 22050)
    path = tmp_path / "c.ogg"
    path.write_bytes(first + second[: len(second) // 2] + second[:58])
    _, seconds, notes = read(path)
    assert 4.5 < seconds < 7.5
    second_at, third_at = len(first), len(first) + len(second) // 2
    assert notes == [
        f"of 3 files in this one, number 2, from byte {second_at:,} on: the end of the file is "
        "missing: it is truncated",
        f"of 3 files in this one, number 3, from byte {third_at:,} on: does not decode: it is "
        "truncated",
    ]


def test_a_second_file_that_is_cut_anywhere_does_not_cost_the_first(tmp_path: Path) -> None:
    """A cut within the header of its first page made the whole file undecodable."""
    first, second = make(tmp_path / "a.ogg", 1), make(tmp_path / "b.ogg", 1, 1, 22050)
    path = tmp_path / "c.ogg"
    for size in range(41):
        path.write_bytes(first + second[:size])
        _, seconds, notes = read(path)
        assert seconds == pytest.approx(1, abs=0.1), size
        assert size < 5 or len(notes) == 1, (size, notes)  # fewer bytes tell nothing
    for size in range(7):
        path.write_bytes(first[:58] + b"OggS\0\2"[:size])
        assert joined.holds_several_streams(Section(path)) == (size == 6)


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same music in many formats, by the name of a file."""
    folder = tmp_path_factory.mktemp("formats")
    found = {name: make(folder / name, 3) for name in [*CODECS, *WRITTEN]}
    for name, arguments in STREAMS.items():
        run_ffmpeg("-i", folder / "a.wav", *arguments.split(), folder / name)
        found[name] = (folder / name).read_bytes()
    return found


@pytest.mark.parametrize("name", [*CODECS, *WRITTEN, *STREAMS])
def test_files_of_other_formats_that_follow_are_read_b4(
    tmp_path: Path, name: str, formats: dict[str, bytes]
) -> None:
    """B4: an MP3 behind an M4A was lost silently, and one behind a WAV was played as noise."""
    for other in ("a.mp3", "a.wav", "a.flac", "a.m4a", "a.ogg", "a.aac"):
        path = tmp_path / name
        path.write_bytes(formats[name] + formats[other])
        _, seconds, notes = read(path)
        assert notes == [], other
        assert seconds == pytest.approx(6, abs=0.2), other


def test_many_files_of_several_formats_are_read_one_after_the_other_b4(
    tmp_path: Path, formats: dict[str, bytes]
) -> None:
    """B4: also if a file of another format lies between two that decoders would join."""
    path = tmp_path / "a.flac"
    names = ["a.flac", "a.aac", "a.ogg", "a.mp3", "a.ogg", "a.m4a", "a.wav", "a.mp3", "a.tta"]
    names += ["a.flac", "a.tta", "a.wma"]
    path.write_bytes(b"".join(formats[name] for name in names))
    _, seconds, notes = read(path)
    assert notes == []
    assert seconds == pytest.approx(3 * len(names), abs=0.6)


def test_another_format_that_cannot_be_read_is_mentioned_b4(
    tmp_path: Path, formats: dict[str, bytes]
) -> None:
    """B4: of an M4A file that was cut, nothing can be read, but it is not ignored either."""
    for name in ("a.mp3", "a.m4a", "a.wav", "a.ogg"):
        path = tmp_path / name
        path.write_bytes(formats[name] + formats["a.m4a"][:-2000])
        _, seconds, (note,) = read(path)
        assert seconds == pytest.approx(3, abs=0.1)
        where = f"number 2, from byte {len(formats[name]):,} on"
        assert note.startswith(f"of 2 files in this one, {where}: does not decode: "), name


@pytest.mark.parametrize("name", ["a.flac", "a.ogg"])
def test_something_unknown_behind_the_audio_is_mentioned_b4(tmp_path: Path, name: str) -> None:
    content = make(tmp_path / name)
    (tmp_path / name).write_bytes(content + np.random.default_rng(0).bytes(99_000))
    _, seconds, notes = read(tmp_path / name)
    assert seconds == pytest.approx(4, abs=0.1)
    (note,) = notes
    assert note.startswith("the file goes on after its audio, and that is not read: about ")
    kilobytes = int(note.split()[-2])
    assert 60 <= kilobytes <= 99  # decoders read ahead


COVER = b"\xff\xd8\xff\xe0" + np.random.default_rng(0).bytes(300_000)
ITEM = struct.pack("<II", len(COVER) + 10, 2) + b"Cover Art\0a.jpg\0\0\0\0\0" + COVER
APE = b"APETAGEX" + struct.pack("<IIII8x", 2000, len(ITEM) + 32, 1, 1 << 31)
ID3 = b"ID3\3\0\0" + bytes(len(COVER) + 10 >> shift & 127 for shift in (21, 14, 7, 0))
FOOTER = b"3DI" + ID3[3:]
ID3 += b"APIC" + struct.pack(">IH", len(COVER), 0) + COVER


@pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "a.wv", "a.tta", *WRITTEN])
@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", APE + ITEM + APE), (b"", ID3 + FOOTER), (b"", b"TAG" + bytes(125)), (ID3, b"")],
    ids=("APE", "ID3 behind", "ID3v1", "ID3"),
)
def test_tags_are_no_audio(tmp_path: Path, name: str, before: bytes, after: bytes) -> None:
    """A cover in front or behind is neither played nor mentioned, and costs no audio."""
    path = tmp_path / name
    path.write_bytes(before + make(path) + after)
    _, seconds, notes = read(path)
    assert seconds == pytest.approx(4, abs=0.1)
    assert notes == []


GAPS = {
    "zeros": bytes(400_000),
    "a newline": b"\r\n",
    "ID3v1": b"TAG" + bytes(125),
    "Lyrics3": b"LYRICSBEGIN" + b"ETT00005title" * 99 + b"001298LYRICS200TAG" + bytes(125),
    "APE": APE.replace(b"\0\0\0\x80", b"\0\0\0\xa0") + ITEM + APE,
    "ID3": ID3,
}


@pytest.mark.parametrize("gap", GAPS)
def test_tags_and_padding_between_files_cost_nothing_b4(
    tmp_path: Path, gap: str, formats: dict[str, bytes]
) -> None:
    """B4: a cover in front of the second file is larger than what is looked at for it."""
    for name in ("a.mp3", "a.m4a", "a.flac", "a.ogg", "a.wav", "a.aac", "a.tta"):
        path = tmp_path / name
        path.write_bytes(formats[name] + GAPS[gap])
        assert read(path)[1:] == (pytest.approx(3, abs=0.1), []), name
        for other in ("a.mp3", "a.flac", "a.m4a"):
            path.write_bytes(formats[name] + GAPS[gap] + formats[other])
            assert read(path)[1:] == (pytest.approx(6, abs=0.2), []), (name, other)


@pytest.mark.parametrize("name", ["a.m4a", "a.wma", "a.mka", "a.flv", "a.tta", "a.wv", "a.caf"])
def test_audio_of_any_format_is_found_behind_other_bytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(np.random.default_rng(0).bytes(3000) + make(path))
    _, seconds, notes = read(path)
    assert seconds == pytest.approx(4, abs=0.1)
    assert notes == []


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.caf", "a.rf64"])
def test_audio_beyond_the_stated_size_is_read(tmp_path: Path, name: str) -> None:
    """The size of the whole is right, and that of the audio is half of it."""
    content = bytearray(make(tmp_path / name, 8))
    place = max(content.find(b"data"), content.find(b"SSND")) + 4
    sizes = {"a.wav": "<I", "a.aiff": ">I", "a.caf": ">q", "a.rf64": "<Q"}[name]
    place = 28 if name == "a.rf64" else place
    (size,) = struct.unpack_from(sizes, content, place)
    struct.pack_into(sizes, content, place, size // 2)
    (tmp_path / name).write_bytes(content)
    _, seconds, notes = read(tmp_path / name)
    assert seconds == pytest.approx(8, abs=0.01)
    assert notes == ["the header states less audio than there is: all of it is used"]


def test_padding_behind_audio_is_no_audio(tmp_path: Path) -> None:
    """Zeros, which a program or a disk left behind a WAV file."""
    path = tmp_path / "a.wav"
    path.write_bytes(make(path) + bytes(400_000))
    assert read(path)[1:] == (4, [])


def test_a_file_of_countless_headers_is_one_file(tmp_path: Path) -> None:
    """Thousands of files of no audio would take minutes to try."""
    path = tmp_path / "a.wav"
    path.write_bytes(make(path) + (b"RIFF\4\0\0\0WAVE" * 2000))
    assert len(joined.find_sections(path)) == 1
    assert read(path)[1] == pytest.approx(4)
