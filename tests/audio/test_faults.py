"""What is wrong with a file is said, with the true reason, and nothing is said of a whole one."""

import contextlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from encode import RATE, make_music, run_ffmpeg

from genreclf.audio import DecodeError, decode

# Streams of frames and containers without a length: file name, and FFmpeg's arguments.
STREAMS = {
    "a.mp3": "-c:a libmp3lame -b:a 128k -write_xing 0",
    "vbr.mp3": "-c:a libmp3lame -q:a 4 -write_xing 0",
    "low.mp3": "-c:a libmp3lame -ar 16000 -b:a 48k -write_xing 0",
    "a.mp2": "-c:a mp2",
    "a.aac": "-c:a aac",
    "a.latm": "-c:a aac",
    "a.ac3": "-c:a ac3",
    "a.eac3": "-c:a eac3",
    "a.dts": "-c:a dca -strict -2",
    "a.ts": "-c:a aac",
    "a.mpg": "-c:a mp2",
    "a.amr": "-c:a libopencore_amrnb -ar 8000 -ac 1 -b:a 12.2k",
    "a.voc": "-c:a pcm_u8",
    "a.wma": "-c:a wmav2",
    "a.ogg": "-c:a libvorbis",
    "a.webm": "-c:a libopus -live 1",
    "a.mp4": "-c:a aac -movflags frag_keyframe+empty_moov -frag_duration 1000000",
}


def make(path: Path, arguments: str, samples: np.ndarray | None = None) -> bytes:
    """Encode music with the FFmpeg program."""
    source = path.with_name("source.wav")
    soundfile.write(source, make_music(6) if samples is None else samples, RATE)
    run_ffmpeg("-i", source, *arguments.split(), path)
    return path.read_bytes()


def read(path: Path) -> tuple[float, list[str]]:
    """Return how many seconds decode, and the notes."""
    notes: list[str] = []
    waveform, rate = decode.read_audio(path, None, 60, notes)
    return len(waveform) / rate, notes


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_ends_within_a_frame_is_truncated_c11(tmp_path: Path, name: str) -> None:
    """C11: no header says how long these are, but their last frame says that it is not whole."""
    path = tmp_path / name
    content = make(path, STREAMS[name])
    seconds, notes = read(path)
    assert seconds == pytest.approx(6, abs=0.1)
    assert notes == []
    path.write_bytes(content[: int(0.617 * len(content)) - 3])
    seconds, notes = read(path)
    assert 2 < seconds < 5
    assert len(notes) == 1
    assert "truncated" in notes[0]


@pytest.mark.parametrize("name", ["a.flac", "a.wv", "a.ogg", "a.wav", "a.tta"])
def test_a_small_part_that_is_missing_is_mentioned_c11(tmp_path: Path, name: str) -> None:
    """C11: of a lossless file every sample is stated; of the last page of Ogg, the size."""
    content = make(tmp_path / name, "")
    (tmp_path / name).write_bytes(content[: int(0.97 * len(content))])
    (note,) = read(tmp_path / name)[1]
    assert "truncated" in note


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.ogg", "a.m4a", "a.wma"])
def test_what_is_left_of_a_truncated_file_may_be_too_short_c11(tmp_path: Path, name: str) -> None:
    """C11: "too short" alone would make one think that the music is."""
    path = tmp_path / name
    more = {".wma": "-c:a wmav2", ".m4a": "-movflags +faststart"}.get(path.suffix, "")
    content = make(path, more, make_music(12))
    path.write_bytes(content[: len(content) // 9])
    for read_it in (decode.read_audio, lambda *given: list(decode.read_windows(*given))):
        with pytest.raises(DecodeError, match=r"too short: \d\.\d+ s .*(is|file is) truncated"):
            read_it(path, None, 30)


@pytest.mark.parametrize("name", ["a.tta", "a.wav", "a.caf"])
def test_a_file_that_is_cut_before_its_first_samples_is_truncated_c11(
    tmp_path: Path, name: str
) -> None:
    """C11: "there are no samples in it" is not the reason."""
    path = tmp_path / name
    size = {"a.tta": 20_000, "a.wav": 30, "a.caf": 400}[name]
    content = make(path, "-c:a alac" if name == "a.caf" else "")
    path.write_bytes(content[:size])
    with pytest.raises(DecodeError, match="truncated"):
        decode.read_audio(path, None, 30)


@pytest.mark.parametrize("name", ["a.ogg", "a.opus", "a.m4a"])
def test_a_file_without_its_beginning_says_so_c11(tmp_path: Path, name: str) -> None:
    """C11: the end of a file is audio, but what is needed to decode it is lost."""
    content = make(tmp_path / name, "")
    (tmp_path / name).write_bytes(content[len(content) // 3 :])
    with pytest.raises(DecodeError, match="does not decode: its beginning is missing"):
        decode.read_audio(tmp_path / name, None, 30)


def put(kind: str, mark: bytes, place: int, value: float | bytes) -> Callable[[bytearray], None]:
    """Return what overwrites a field at a place after a mark."""

    def overwrite(content: bytearray) -> None:
        struct.pack_into(kind, content, content.index(mark) + place, value)

    return overwrite


def say(what: str) -> str:
    return rf"^does not decode: its header says {what}($|; \d+ to \d+ )"


FMT, FMT64, COMM, ASF = b"fmt ", b"fmt \xf3", b"COMM", b"\x61\1\2\0"
FIELDS = {
    "WAV channels": ("a.wav", put("<H", FMT, 10, 65535), say("65535 channels")),
    "WAV no channels": ("a.wav", put("<H", FMT, 10, 0), say("0 channels")),
    "WAV rate": ("a.wav", put("<I", FMT, 12, 0), say("0 Hz")),
    "WAV bits": ("a.wav", put("<H", FMT, 22, 0), say("0 bits per sample")),
    "W64 channels": ("a.w64", put("<H", FMT64, 26, 65535), say("65535 channels")),
    "W64 bits": ("a.w64", put("<H", FMT64, 38, 0), say("0 bits per sample")),
    "AU channels": ("a.au", put(">I", b".snd", 20, 65535), say("65535 channels")),
    "AU rate": ("a.au", put(">I", b".snd", 16, 0), say("0 Hz")),
    "AIFF channels": ("a.aiff", put(">H", COMM, 8, 0), say("0 channels")),
    "AIFF rate": ("a.aiff", put(">10s", COMM, 16, bytes(10)), say("0 Hz")),
    "AIFF bits": ("a.aiff", put(">H", COMM, 14, 65535), say("65535 bits per sample")),
    "CAF channels": ("a.caf", put(">I", b"caff", 44, 65535), say("65535 channels")),
    "CAF rate": ("a.caf", put(">d", b"caff", 20, -44100.0), say("-44100 Hz")),
    "FLAC rate": ("a.flac", put("34s", b"fLaC", 8, bytes(34)), say("0 Hz")),
    "TTA channels": ("a.tta", put("<H", b"TTA1", 6, 0), say("0 channels")),
    "TTA bits": ("a.tta", put("<H", b"TTA1", 8, 65535), say("65535 bits per sample")),
    "TTA samples": ("a.tta", put("<I", b"TTA1", 14, 0), say("0 samples")),
    "Vorbis channels": ("a.ogg", put("B", b"\1vorbis", 11, 0), say("0 channels")),
    "Vorbis rate": ("a.ogg", put("<I", b"\1vorbis", 12, 0), say("0 Hz")),
    "Opus channels": ("a.opus", put("B", b"OpusHead", 9, 0), say("0 channels")),
    "WMA channels": ("a.wma", put("<H", ASF, 2, 0), say("0 channels")),
    "WMA rate": ("a.wma", put("<I", ASF, 4, 0), say("0 Hz")),
}


@pytest.mark.parametrize("field", FIELDS)
def test_the_field_that_keeps_a_file_from_decoding_is_named(tmp_path: Path, field: str) -> None:
    """C3: zero or 65,535 of something; "neither can read it" says nothing."""
    name, overwrite, message = FIELDS[field]
    content = bytearray(make(tmp_path / name, "", make_music(3)))
    overwrite(content)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DecodeError, match=message):
        decode.read_audio(tmp_path / name, None, 30)


DOUBTS = {
    "WAV bits": ("a.wav", put("<H", FMT, 22, 8)),
    "WAV channels": ("a.wav", put("<H", FMT, 10, 1)),
    "WAV align of 24 bits": ("b.wav", put("<H", FMT, 20, 8)),
    "RF64 bits": ("a.rf64", put("<H", FMT, 22, 24)),
    "W64 bits": ("a.w64", put("<H", FMT64, 38, 7)),
    "W64 channels": ("a.w64", put("<H", FMT64, 26, 4)),
    "AIFF bits": ("a.aiff", put(">H", COMM, 14, 8)),
    "AIFF channels": ("a.aiff", put(">H", COMM, 8, 1)),
    "CAF bits": ("a.caf", put(">I", b"caff", 48, 8)),
    "CAF channels": ("a.caf", put(">I", b"caff", 44, 1)),
    "CAF bytes": ("a.caf", put(">I", b"caff", 36, 2)),
}


def write_pcm(path: Path) -> bytearray:
    soundfile.write(path, make_music(3), RATE, subtype="PCM_24" if path.stem == "b" else "PCM_16")
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("field", DOUBTS)
def test_fields_that_contradict_each_other_are_named(tmp_path: Path, field: str) -> None:
    """C3: half the bits are twice the seconds, and noise: such files were answered."""
    name, overwrite = DOUBTS[field]
    content = write_pcm(tmp_path / name)
    overwrite(content)
    (tmp_path / name).write_bytes(content)
    message = r"its header contradicts itself: channels \d, bits per sample \d+, but \d bytes per "
    with pytest.raises(DecodeError, match=message):
        decode.read_audio(tmp_path / name, None, 30)


@pytest.mark.parametrize("place", [16, 20], ids=["bytes per second", "bytes per sample"])
@pytest.mark.parametrize("value", [0, 3])
def test_two_of_three_fields_are_enough(tmp_path: Path, place: int, value: int) -> None:
    """C3: many programs get one of them wrong, and all others can read their files."""
    content = write_pcm(tmp_path / "a.wav")
    put("<H" if place == 20 else "<I", FMT, place, value)(content)
    (tmp_path / "a.wav").write_bytes(content)
    assert read(tmp_path / "a.wav") == (3, [])


def test_24_bits_in_four_bytes_are_no_contradiction(tmp_path: Path) -> None:
    content = write_pcm(tmp_path / "a.wav")
    fields = 2, RATE, RATE * 8, 8, 24  # as some editors write them
    struct.pack_into("<HIIHH", content, content.index(FMT) + 10, *fields)
    (tmp_path / "a.wav").write_bytes(content)
    with contextlib.suppress(DecodeError):  # of floats that are not finite
        assert read(tmp_path / "a.wav")[0] == 1.5


def test_a_sample_rate_that_the_bytes_per_second_contradict_is_mentioned(tmp_path: Path) -> None:
    """C3: nothing tells which of the two is right, and every program goes by the rate."""
    content = write_pcm(tmp_path / "a.wav")
    put("<I", FMT, 12, 22050)(content)
    (tmp_path / "a.wav").write_bytes(content)
    assert read(tmp_path / "a.wav") == (
        6,
        [
            "its header contradicts itself: 22050 Hz, but as many bytes per second as at 44100 Hz; "
            "it is read at 22050 Hz"
        ],
    )


LENGTHS = {
    "FLAC": ("a.flac", put("5s", b"fLaC", 21, b"\xff" * 5)),
    "MP3": ("a.mp3", put(">I", b"Xing", 8, 0x7FFFFFFF)),
    "CAF": ("a.caf", put(">q", b"data", 4, 1 << 50)),
    "WebM": ("a.webm", put(">d", b"\x44\x89\x88", 3, 1e13)),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_an_impossible_length_is_not_believed_c3(tmp_path: Path, name: str) -> None:
    """C3: nothing is missing of a file whose header states 400 hours, or 400,000."""
    path = tmp_path / LENGTHS[name][0]
    more = {".mp3": "-q:a 2", ".webm": "-c:a libopus"}.get(path.suffix, "")
    content = bytearray(make(path, more))
    LENGTHS[name][1](content)
    path.write_bytes(content)
    seconds, (note,) = read(path)
    assert seconds == pytest.approx(6, abs=0.1)
    assert note.startswith("its header is damaged: it states ")


@pytest.mark.parametrize("name", ["a.wav", "a.aac", "a.mp3", "a.ogg", "a.flac"])
def test_a_few_bytes_too_many_or_too_few_are_no_fault(tmp_path: Path, name: str) -> None:
    """A newline at the end, and programs that count the header of 44 bytes twice."""
    path = tmp_path / name
    content = bytearray(make(path, ""))
    if name == "a.wav":
        put("<I", b"RIFF", 4, len(content) + 36)(content)
    path.write_bytes(content + b"\n" * (name != "a.wav"))
    assert read(path) == (pytest.approx(6, abs=0.1), [])


def test_a_matroska_file_without_its_segment_is_answered(tmp_path: Path) -> None:
    """Its header is damaged; what decodes is used, and nothing else happens."""
    path = tmp_path / "a.mka"
    content = bytearray(make(path, ""))
    put("4s", b"\x18\x53\x80\x67", 0, b"\xff\xff\0\0")(content)
    path.write_bytes(content)
    with contextlib.suppress(DecodeError):
        read(path)


def test_an_au_file_without_a_length_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.au"
    content = bytearray(make(path, ""))
    put(">I", b".snd", 8, 0xFFFFFFFF)(content)
    path.write_bytes(content)
    assert read(path) == (6, [])


@pytest.mark.parametrize("name", ["a.mp3", "vbr.mp3", "a.wav", "a.m4a", "a.tta", "a.wv", "a.mka"])
def test_a_hole_behind_the_audio_costs_nothing(tmp_path: Path, name: str) -> None:
    """C4: decoders searched a sparse file of 5 GB for more audio, and ran into the limits."""
    path = tmp_path / name
    make(path, STREAMS.get(name, ""))
    os.truncate(path, 5_000_000_000)
    assert read(path) == (pytest.approx(6, abs=0.1), [])


def test_a_hole_is_no_audio(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").touch()
    os.truncate(tmp_path / "a.mp3", 5_000_000_000)
    with pytest.raises(DecodeError, match="not audio: the file begins with zeros"):
        read(tmp_path / "a.mp3")


@pytest.mark.parametrize("name", ["a.mka", "a.m4a", "a.ogg"])
def test_the_first_audible_stream_is_read(tmp_path: Path, name: str) -> None:
    """Of several audio streams, a silent one is not the music: "silent" would be wrong."""
    music, silence = make_music(4), np.zeros((4 * RATE, 2))
    late = np.concatenate([silence[: 2 * RATE], music[: 2 * RATE]])
    for stem, samples in (("music", music), ("silence", silence), ("late", late)):
        soundfile.write(tmp_path / f"{stem}.wav", samples, RATE)
    path = tmp_path / name
    for first, second, expected in (
        ("silence", "music", ["the first audio stream is silent: stream 1 of 2 is used"]),
        ("music", "silence", []),
        ("late", "music", []),
    ):
        inputs = ["-i", tmp_path / f"{first}.wav", "-i", tmp_path / f"{second}.wav"]
        run_ffmpeg(*inputs, "-map", 0, "-map", 1, path)
        seconds, notes = read(path)
        assert seconds == pytest.approx(4, abs=0.1)
        assert notes == expected
    run_ffmpeg("-i", tmp_path / "silence.wav", "-map", 0, "-map", 0, path)
    with pytest.raises(DecodeError, match="silent"):
        decode.read_audio(path, None, 30)


def test_a_codec_whose_tag_is_no_text_is_decoded(tmp_path: Path) -> None:
    """The number of G.722 in a WAV file begins with a byte that is not ASCII."""
    make(tmp_path / "a.wav", "")
    run_ffmpeg("-i", tmp_path / "a.wav", "-c:a", "g722", "-ar", 16000, "-ac", 1, tmp_path / "b.wav")
    assert read(tmp_path / "b.wav") == (pytest.approx(6, abs=0.1), [])


def test_the_edit_list_of_an_mp4_file_is_its_length(tmp_path: Path) -> None:
    """What an editor cut out is not missing."""
    path = tmp_path / "a.m4a"
    content = bytearray(make(path, "-movflags +faststart"))
    at = content.index(b"elst")
    struct.pack_into(">Ii", content, at + 12, 3 * RATE, 2 * RATE)
    path.write_bytes(content)
    assert read(path) == (pytest.approx(3, abs=0.1), [])


def test_whole_files_of_real_music_have_no_notes(real_music: Path) -> None:
    for path in sorted(real_music.glob("*/*.mp3"))[::20]:
        assert read(path)[1] == []
