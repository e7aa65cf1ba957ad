"""All of the audio, whatever its format, or a line about what is missing."""

import os
import re
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from encode import RATE, TONES, encode, make_music, run_ffmpeg

from genreclf.audio import DecodeError, av_files, av_reader, decode, sound_files
from genreclf.audio.sections import Section

Make = Callable[..., Path]


def read(path: Path) -> tuple[np.ndarray, list[str]]:
    """Read a file as windows of 5 s, joined; their notes must be those of `read_audio`."""
    notes: list[str] = []
    windows = list(decode.read_windows(path, None, 5, notes=notes))
    end, rate = windows[-1].start, windows[0].sample_rate
    parts = [window.samples for window in windows[:-1]]
    joined = np.concatenate([*parts, np.empty(0, np.float32)])[: round(end * rate)]
    others: list[str] = []
    whole, _ = decode.read_audio(path, None, 60, others)
    waveform = np.concatenate([joined, windows[-1].samples])
    assert others == notes
    assert 0 <= len(whole) - len(waveform) < decode.MIN_SECONDS * rate
    np.testing.assert_allclose(waveform, whole[: len(waveform)], atol=1e-4)
    return whole, notes


CODECS = {
    "song.m4a": "aac",
    "song.aac": "aac",
    "lossless.m4a": "alac",
    "song.mov": "aac",
    "song.mp4": "ac3",
    "song.ac3": "ac3",
    "song.eac3": "eac3",
    "song.mp2": "mp2",
    "song.wv": "wavpack",
    "song.tta": "tta",
    "song.mka": "flac",
    "song.avi": "libmp3lame",
    "song.au": "pcm_mulaw",
    "24bit.wav": "pcm_s24le",
}


@pytest.mark.parametrize("name", CODECS)
def test_every_format_decodes(tmp_path: Path, name: str) -> None:
    """PyAV reads what libsndfile does not: the same music, at most 60 ms longer."""
    music = make_music(6)
    path = encode(tmp_path / name, music, CODECS[name])
    waveform, notes = read(path)
    assert notes == []
    assert 0 <= len(waveform) / RATE - 6 < 0.06
    expected = music.mean(axis=1)[RATE : 2 * RATE]
    parts = waveform[RATE - 3000 :][: RATE + 6000], expected
    found, wanted = (np.fft.rfft(part, 4 * RATE) for part in parts)
    assert np.fft.irfft(found * wanted.conj()).max() > 0.9 * np.square(expected).sum()


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_lossless_samples_are_exact(tmp_path: Path, channels: int) -> None:
    """PyAV's integer samples, planar or not, are scaled as libsndfile's."""
    samples = make_music(3, channels)
    for name, codec, kind in (
        ("a.tta", "tta", "s16"),
        ("a.m4a", "alac", "s32p"),
        ("a.wv", "wavpack", "fltp"),
    ):
        path = encode(tmp_path / name, samples, codec, format=kind)
        waveform, _ = decode.read_audio(path, None, 60)
        np.testing.assert_allclose(waveform, samples.mean(axis=1), atol=2**-15)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.m4a", "aac"),
        ("a.mov", "aac"),
        ("a.mkv", "aac"),
        ("a.webm", "libopus"),
        ("a.mp4", "libopus"),
        ("a.mka", "libvorbis"),
        ("a.ogg", "libvorbis"),
    ],
)
def test_eight_channels_decode(tmp_path: Path, name: str, codec: str) -> None:
    """PyAV crashes on planar frames of so many channels."""
    soundfile.write(tmp_path / "a.wav", make_music(3, 8, 48000), 48000)
    run_ffmpeg("-i", tmp_path / "a.wav", "-c:a", codec, tmp_path / name)
    waveform, rate = decode.read_audio(tmp_path / name, None, 60)
    assert len(waveform) / rate == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("channels", [8, 16])
def test_samples_of_many_channels_are_exact(tmp_path: Path, channels: int) -> None:
    samples = make_music(3, channels)
    path = encode(tmp_path / "a.wv", samples, "wavpack", format="fltp")
    waveform, _ = decode.read_audio(path, None, 60)
    np.testing.assert_allclose(waveform, samples.mean(axis=1), atol=2**-15)


def test_the_rate_may_change_within_a_file_of_eight_channels(tmp_path: Path) -> None:
    parts = [
        encode(tmp_path / f"{rate}.ts", make_music(3, 8, rate), "aac", rate).read_bytes()
        for rate in (44100, 48000)
    ]
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    waveform, rate = decode.read_audio(tmp_path / "a.ts", None, 60)
    assert len(waveform) / rate == pytest.approx(6, abs=0.2)


def test_64_bit_integers_decode(tmp_path: Path) -> None:
    samples = make_music(3)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    run_ffmpeg("-i", tmp_path / "a.wav", "-c:a", "pcm_s64le", tmp_path / "b.wav")
    waveform, _ = decode.read_audio(tmp_path / "b.wav", None, 60)
    np.testing.assert_allclose(waveform, samples.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".m4a", ".flac"])
@pytest.mark.parametrize("name", ["a.raw", "a.RAW", "a.gsm", "a.sln", "a.txt", "a"])
def test_a_name_says_nothing_about_the_format(tmp_path: Path, suffix: str, name: str) -> None:
    path = encode(tmp_path / f"b{suffix}", make_music(3), CODECS_BY_SUFFIX[suffix])
    waveform, notes = read(path.rename(tmp_path / name))
    assert (len(waveform) / RATE, notes) == (pytest.approx(3, abs=0.1), [])


CODECS_BY_SUFFIX = {".wav": "pcm_s16le", ".mp3": "libmp3lame", ".m4a": "aac", ".flac": "flac"}


@pytest.mark.parametrize("name", ["a.sln", "a.dfpwm", "a.aptx", "a.gsm", "a.lbc"])
def test_text_is_no_audio_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"hello world, this is text\n" * 8000)
    with pytest.raises(DecodeError, match=r"text|can read it"):
        decode.read_audio(tmp_path / name, None, 30)


def test_an_encrypted_mp4_file_says_so(tmp_path: Path) -> None:
    """Common Encryption, as streaming services use it; FFmpeg decodes it to nothing or noise."""
    soundfile.write(tmp_path / "a.wav", make_music(3), RATE)
    key = ("-encryption_key", "0" * 31 + "1", "-encryption_kid", "0" * 31 + "2")
    for codec in ("aac", "alac"):
        path = tmp_path / f"{codec}.mp4"
        scheme = ("-encryption_scheme", "cenc-aes-ctr")
        run_ffmpeg("-i", tmp_path / "a.wav", "-c:a", codec, *scheme, *key, path)
        with pytest.raises(DecodeError, match="encrypted"):
            decode.read_audio(path, None, 30)


@pytest.mark.parametrize("size", [0x7FFFF000, 0x7FFFFFFF, 0x80000000])
def test_sizes_that_programs_write_to_pipes_are_no_truncation(tmp_path: Path, size: int) -> None:
    """SoX, arecord and others write a size near 2 GiB, which they cannot correct later."""
    path = tmp_path / "a.wav"
    soundfile.write(path, make_music(3), RATE)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 4, size + 36)
    struct.pack_into("<I", content, 40, size)
    path.write_bytes(content)
    assert read(path)[1] == []


def test_a_file_with_nothing_but_a_tag_says_so(tmp_path: Path) -> None:
    """A tag that states more bytes than the file has does not hide the audio behind it."""
    path, tag = tmp_path / "a.mp3", b"TPE1\0\0\0\7\0\0\3Artist"
    path.write_bytes(b"ID3\4\0\0\0\0\0" + bytes([len(tag) + 100]) + tag + bytes(100))
    with pytest.raises(DecodeError, match="only a tag"):
        decode.read_audio(path, None, 30)
    song = encode(tmp_path / "b.mp3", make_music(3), "libmp3lame").read_bytes()
    path.write_bytes(b"ID3\4\0\0\x10\0\0\0" + tag + bytes(1000) + song)
    assert len(read(path)[0]) / RATE == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("content", [b"\xff", b"ID3", b"RIFF"])
def test_a_few_bytes_are_no_audio(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp3").write_bytes(content)
    with pytest.raises(DecodeError, match=f"{len(content)} B, its size, are too few"):
        decode.read_audio(tmp_path / "a.mp3", None, 30)


def test_vbr_without_a_xing_header_decodes_to_its_end_b3(tmp_path: Path) -> None:
    """B3: libsndfile takes the quiet beginning's bit rate for that of the whole MP3 file."""
    samples = make_music(12)
    samples[: 6 * RATE] *= 1e-3
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    path = tmp_path / "a.mp3"
    run_ffmpeg("-i", tmp_path / "a.wav", "-q:a", 4, "-write_xing", 0, path)
    with soundfile.SoundFile(path) as sound:
        assert sound.frames < 9 * RATE
    waveform, notes = read(path)
    assert 12 <= len(waveform) / RATE < 12.1
    assert notes == []


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".mp3", "libmp3lame"), (".flac", "flac"), (".opus", "libopus"), (".aac", "aac")],
)
def test_joined_files_decode_to_the_end_of_the_last_b4(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    """B4: `cat a.mp3 b.mp3` is played by every player, but its first header counts one of them."""
    rate = 48000 if codec == "libopus" else RATE
    parts = [
        encode(tmp_path / f"{n}{suffix}", make_music(4 + n, rate=rate, seed=n), codec, rate)
        for n in range(2)
    ]
    path = tmp_path / f"joined{suffix}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    waveform, notes = read(path)
    assert 9 <= len(waveform) / rate < 9.15
    assert notes == []
    spectrum = np.abs(np.fft.rfft(waveform[-3 * rate : -2 * rate]))  # of the second file
    strongest = {*np.argsort(spectrum)[-20:]}
    assert all({int(1.1 * tone), int(1.1 * tone) + 1} & strongest for tone in TONES)


def test_an_undercounted_mp3_decodes_to_its_end_b4(tmp_path: Path) -> None:
    """B4: the Xing header says 100 frames, but more than 500 follow."""
    path = encode(tmp_path / "a.mp3", make_music(14), "libmp3lame")
    content = bytearray(path.read_bytes())
    place = max(content.find(b"Xing"), content.find(b"Info"))
    content[place + 8 : place + 12] = struct.pack(">I", 100)
    path.write_bytes(content)
    waveform, _ = read(path)
    assert len(waveform) / RATE > 13.9


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wav_file_without_its_size_decodes(tmp_path: Path, size: int) -> None:
    """What a program writes to a pipe never gets its size; zero is not the length."""
    path = tmp_path / "a.wav"
    soundfile.write(path, make_music(5), RATE)
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[4:8] = content[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    waveform, notes = read(path)
    assert (len(waveform), notes) == (5 * RATE, [])


def test_a_flac_file_without_its_length_decodes(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, make_music(5), RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    waveform, notes = read(path)
    assert (len(waveform), notes) == (5 * RATE, [])


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".wav", ".mp3", ".aiff"])
def test_audio_behind_other_bytes_is_found(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, make_music(5), RATE)
    path.write_bytes(np.random.default_rng(0).bytes(3000) + path.read_bytes())
    assert len(read(path)[0]) / RATE == pytest.approx(5, abs=0.1)


def test_rate_and_channels_may_change_within_a_file(tmp_path: Path) -> None:
    """Joined MP3 files of other rates: all at the rate of the first, none of it lost."""
    rates = {RATE: 2, 22050: 1, 48000: 2}
    parts = [
        encode(tmp_path / f"{rate}.mp3", make_music(3, channels, rate), "libmp3lame", rate)
        for rate, channels in rates.items()
    ]
    path = tmp_path / "joined.mp3"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    samples, rate = next(sound_files.read_stretches(path, 60))
    assert rate == RATE
    assert samples.shape[1] == 2
    assert len(samples) / RATE == pytest.approx(9, abs=0.2)
    for second in (1, 4, 7):  # the same four tones, in Hz
        spectrum = np.abs(np.fft.rfft(samples[second * RATE :][:RATE, 0]))
        strongest = {*np.argsort(spectrum)[-20:]}
        assert all({int(tone), int(tone) + 1} & strongest for tone in TONES)


def test_a_colon_in_the_name_is_no_protocol_b7(tmp_path: Path) -> None:
    """B7: FFmpeg took what comes before a colon for a protocol, and did not read the file."""
    path = encode(tmp_path / "song.m4a", make_music(3), "aac")
    for name in ("Re:Zero.m4a", "04.23:50.m4a", "http:song.m4a", "concat:a|b.m4a"):
        waveform, _ = decode.read_audio(path.rename(tmp_path / name), None, 60)
        path = tmp_path / name
        assert len(waveform) > 3 * RATE


def test_a_name_that_is_not_utf_8_is_no_obstacle(tmp_path: Path) -> None:
    path = encode(tmp_path / "song.m4a", make_music(3), "aac")
    named = tmp_path / os.fsdecode(b"latin1 \xe9.m4a")
    try:
        path.rename(named)
    except OSError:  # macOS
        pytest.skip("the file system refuses such names")
    assert len(decode.read_audio(named, None, 60)[0]) > 3 * RATE


PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile '{other}'\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{other}\n#EXT-X-ENDLIST\n",
    "url": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
    '<AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="1"><BaseURL>{other}'
    "</BaseURL></Representation></AdaptationSet></Period></MPD>",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", [".mp3", ".m4a", ".m3u8"])
def test_a_playlist_reads_no_other_file_b7(tmp_path: Path, kind: str, suffix: str) -> None:
    """B7: a file from a stranger makes FFmpeg open neither other files nor the network."""
    other = encode(tmp_path / "other.wav", make_music(4), "pcm_s16le")
    path = tmp_path / f"song{suffix}"
    path.write_text(PLAYLISTS[kind].format(other=other))
    with pytest.raises(DecodeError, match=r"not audio: (a playlist|an XML file|text)"):
        decode.read_audio(path, None, 60)
    with pytest.raises(DecodeError):
        av_reader.AvReader(Section(path))  # also without the look at its first bytes


def test_formats_that_refer_to_other_files_are_not_read_b7() -> None:
    """B7: none of FFmpeg's formats of several files or of devices is in the list."""
    risky = {"concat", "hls", "dash", "sdp", "rtsp", "rtp", "image2", "imf", "lavfi", "tee", "alsa"}
    assert risky.isdisjoint(av_files.FORMATS.split(","))


@pytest.mark.parametrize("rate", [3_999, 800_001, 2_000_000_000])
@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".au"])
def test_absurd_rates_are_refused_before_memory_is_taken_c3(
    tmp_path: Path, suffix: str, rate: int
) -> None:
    """C3: 30 s at 2 GHz would be 447 GiB."""
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, make_music(3), rate if suffix == ".aiff" else RATE)
    if suffix != ".aiff":
        content = bytearray(path.read_bytes())
        place, kind = {".wav": (24, "<I"), ".au": (16, ">I")}[suffix]
        struct.pack_into(kind, content, place, rate)
        path.write_bytes(content)
    for read_it in (decode.read_audio, lambda *given: list(decode.read_windows(*given))):
        with pytest.raises(DecodeError, match=r"says \d+ Hz; 4000 to 800000 Hz can be read"):
            read_it(path, None, 30)
    with pytest.raises(DecodeError, match=r"says \d+ Hz|can read it"):
        list(av_reader.AvReader(Section(path)).read_blocks())


def test_absurd_numbers_of_channels_are_refused_c3(tmp_path: Path) -> None:
    """C3: as many channels as a header can say would take as much memory as an absurd rate."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full((2 * RATE, 200), 0.1), RATE)
    with pytest.raises(DecodeError, match="says 200 channels; 1 to 64 can be read"):
        decode.read_audio(path, None, 30)


def test_rates_from_4_to_800_khz_are_read_c3(tmp_path: Path) -> None:
    """C3: what is plausible is not refused."""
    for rate in (4000, 384_000, 800_000):
        soundfile.write(tmp_path / "a.wav", make_music(2.5, 1, rate), rate)
        waveform, found = decode.read_audio(tmp_path / "a.wav", 44100, 30)
        assert (len(waveform), found) == (2.5 * 44100, 44100)


@pytest.mark.parametrize("factor", [1e30, 1e300, np.nan, np.inf])
def test_samples_that_are_no_sound_are_refused_by_reason(tmp_path: Path, factor: float) -> None:
    """C2: a WAV file of doubles can hold numbers whose power no float32 can."""
    path = tmp_path / "a.wav"
    soundfile.write(path, make_music(3).astype(float) * factor, RATE, subtype="DOUBLE")
    with pytest.raises(DecodeError, match=r"not finite numbers|samples of up to \de\+\d+, where 1"):
        decode.read_audio(path, None, 30)


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".wav", ".aiff", ".au", ".w64", ".caf"])
def test_a_truncated_file_says_how_much_is_missing_c11(tmp_path: Path, suffix: str) -> None:
    """C11: the first third of a file is used, with a note."""
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, make_music(9), RATE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    waveform, notes = read(path)
    assert len(waveform) / RATE == pytest.approx(3, abs=0.4)
    (note,) = notes
    assert note.endswith(" of 9.0 s decode: the file is truncated or damaged")
    assert note.startswith(f"only {len(waveform) / RATE:.1f} of ")


def test_truncated_files_without_a_length_are_mentioned_c11(tmp_path: Path) -> None:
    """C11: an OGG file does not say how long it is, but its last page does that it is the last."""
    path = tmp_path / "a.ogg"
    soundfile.write(path, make_music(9), RATE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert read(path)[1] == ["the end of the file is missing: it is truncated"]


def test_a_truncated_m4a_file_says_so_c11(tmp_path: Path) -> None:
    """C11: with its index at the beginning, the first third decodes; else nothing does."""
    soundfile.write(tmp_path / "a.wav", make_music(9), RATE)
    path = tmp_path / "a.m4a"
    for flags, match in (("+faststart", None), ("0", r"before its index \(moov\), so it is trunc")):
        run_ffmpeg("-i", tmp_path / "a.wav", "-movflags", flags, path)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 3])
        if match is None:
            assert read(path)[1][0].endswith("of 9.0 s decode: the file is truncated or damaged")
        else:
            with pytest.raises(DecodeError, match=match):
                decode.read_audio(path, None, 30)


OTHERS = {
    "an HTML page": b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "a ZIP archive": b"PK\3\4" + bytes(3000),
    "a JPEG picture": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(range(256)) * 20,
    "a PDF document": b"%PDF-1.4\n" + bytes(2000),
    "a PNG picture": b"\x89PNG\r\n\x1a\n" + bytes(2000),
    "metadata of macOS": b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(4000),
    "text": "Die Liste der Stücke: Ärger, Öl\n".encode() * 100,
    "the file begins with zeros": bytes(100_000),
    "a HEIF or AVIF picture": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(range(256)) * 9,
    "a TIFF picture": b"II*\0" + bytes(range(256)) * 9,
    "a Windows bitmap": b"BM\x36\x10\0\0\0\0\0\0\x36\0\0\0" + bytes(range(256)) * 9,
    "a Zstandard archive": b"\x28\xb5\x2f\xfd" + bytes(range(256)) * 9,
    "a MIDI file": b"MThd\0\0\0\6\0\1\0\2\1\xe0MTrk" + bytes(300),
}


@pytest.mark.parametrize("content", OTHERS)
@pytest.mark.parametrize("suffix", [".mp3", ".wav", ".m4a"])
def test_what_is_not_audio_is_named_c11(tmp_path: Path, content: str, suffix: str) -> None:
    """C11: one line that says what the file is instead of audio."""
    path = tmp_path / f"song{suffix}"
    path.write_bytes(OTHERS[content])
    with pytest.raises(DecodeError, match=f"not audio: {re.escape(content)}"):
        decode.read_audio(path, None, 30)


def test_an_archive_of_music_is_an_archive_c11(tmp_path: Path) -> None:
    """C11: FFmpeg finds the MP3 frames of an uncompressed ZIP file, but it is not one song."""
    song = encode(tmp_path / "a.mp3", make_music(4), "libmp3lame").read_bytes()
    (tmp_path / "b.mp3").write_bytes(b"PK\3\4" + bytes(26) + song + song)
    with pytest.raises(DecodeError, match="not audio: a ZIP archive"):
        decode.read_audio(tmp_path / "b.mp3", None, 30)
    with tarfile.open(tmp_path / "c.mp3", "w") as archive:
        archive.add(tmp_path / "a.mp3", "a.mp3")
    with pytest.raises(DecodeError, match="not audio: a TAR archive"):
        decode.read_audio(tmp_path / "c.mp3", None, 30)


def test_a_picture_is_not_the_music(tmp_path: Path) -> None:
    """Cover art and films have their audio read; a film without any has none."""
    soundfile.write(tmp_path / "a.wav", make_music(4), RATE)
    picture = ["-f", "lavfi", "-i", "testsrc=d=9:s=64x64:r=5"]
    both = ["-map", "0:v", "-map", "1:a"]
    run_ffmpeg(*picture, "-i", tmp_path / "a.wav", *both, tmp_path / "film.mp4")
    run_ffmpeg(*picture, "-i", tmp_path / "a.wav", *both, "-c:v", "mjpeg", tmp_path / "film.mkv")
    for name in ("film.mp4", "film.mkv"):
        waveform, notes = read(tmp_path / name)
        assert len(waveform) / RATE == pytest.approx(4, abs=0.1)
        assert notes == []
    run_ffmpeg(*picture, tmp_path / "silent.mp4")
    with pytest.raises(DecodeError, match="only pictures in it"):
        decode.read_audio(tmp_path / "silent.mp4", None, 30)


def test_of_several_audio_streams_the_default_one_is_read(tmp_path: Path) -> None:
    for n in range(2):
        soundfile.write(tmp_path / f"{n}.wav", make_music(3, seed=n), RATE)
    inputs = ["-i", tmp_path / "0.wav", "-i", tmp_path / "1.wav", "-map", 0, "-map", 1]
    for default in range(2):
        marks = [f"-disposition:a:{default}", "default", f"-disposition:a:{1 - default}", "0"]
        run_ffmpeg(*inputs, "-c:a", "flac", *marks, tmp_path / "a.mka")
        waveform, _ = decode.read_audio(tmp_path / "a.mka", None, 30)
        expected, _ = decode.read_audio(tmp_path / f"{default}.wav", None, 30)
        np.testing.assert_allclose(waveform, expected, atol=1e-4)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_short_audio_stream_is_not_chosen_over_a_long_one(tmp_path: Path, suffix: str) -> None:
    soundfile.write(tmp_path / "a.wav", make_music(1), RATE)
    soundfile.write(tmp_path / "b.wav", make_music(6), RATE)
    path = tmp_path / f"c{suffix}"
    streams = ("-i", tmp_path / "a.wav", "-i", tmp_path / "b.wav", "-map", "0:a", "-map", "1:a")
    run_ffmpeg(*streams, "-c:a", "aac", path)
    waveform, notes = read(path)
    assert len(waveform) / RATE == pytest.approx(6, abs=0.1)
    assert notes == ["the first audio stream is much shorter: stream 1 of 2 is used"]


def test_damaged_packets_are_left_out(tmp_path: Path) -> None:
    """As the program ffmpeg does: what is before and after the damage decodes, with a note."""
    path = encode(tmp_path / "a.m4a", make_music(9), "aac")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = np.random.default_rng(0).bytes(20_000)
    path.write_bytes(content)
    waveform, notes = read(path)
    assert 6 < len(waveform) / RATE < 9.1
    assert len(notes) == 1


def test_endless_output_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of a decoder must not fill the memory: a file of this size cannot hold more."""
    path = encode(tmp_path / "a.m4a", make_music(3), "aac")

    def repeat(*_: object, **__: object) -> object:
        while True:
            yield np.zeros((60 * RATE, 1), np.float32), RATE

    monkeypatch.setattr(av_reader.AvReader, "read_blocks", repeat)
    monkeypatch.setattr(sound_files, "FIRST", 100.0)
    with pytest.raises(DecodeError, match="more audio than a file of its size holds"):
        for _ in sound_files.read_stretches(path, 30):
            pass


@pytest.mark.parametrize("name", ["a.mp3", "a.flac"])
def test_the_rest_is_decoded_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """B22: where libsndfile stops hours into a file, PyAV does not decode those hours again."""
    path = encode(tmp_path / name, make_music(9), {"a.mp3": "libmp3lame"}.get(name, "flac"))
    whole = np.concatenate([each for each, _ in av_reader.AvReader(Section(path)).read_blocks()])
    monkeypatch.setattr(av_reader, "WARM_UP", 1.0)
    decoded: list[int] = []
    arrange = av_reader.AvReader._arrange

    def count(reader: av_reader.AvReader, frame: object) -> np.ndarray:
        samples = arrange(reader, frame)
        decoded.append(len(samples))
        return samples

    monkeypatch.setattr(av_reader.AvReader, "_arrange", count)
    with av_reader.AvReader(Section(path), RATE) as reader:
        rest = np.concatenate([each for each, _ in reader.read_blocks(7 * RATE)])
    np.testing.assert_array_equal(rest, whole[7 * RATE :])
    assert sum(decoded) < 4 * RATE


def test_long_files_take_constant_memory_and_no_disk_b22_c9(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B22, C9: at most two windows are in memory, and nothing is written."""
    path = encode(tmp_path / "a.m4a", make_music(60, 1), "aac")
    before = {*tmp_path.iterdir()}
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    largest = 0
    for samples, rate in sound_files.read_stretches(path, 2):
        base = samples
        while base.base is not None and isinstance(base.base, np.ndarray):
            base = base.base
        largest = max(largest, base.size)
        assert len(samples) <= 2 * rate
        assert {*tmp_path.iterdir()} == before
    assert largest < 5 * RATE


def test_joined_flac_files_decode_to_the_end(tmp_path: Path) -> None:
    """The frames of the second file are numbered from zero again, and are not skipped."""
    parts = [make_music(15, seed=n) for n in range(2)]
    for n, part in enumerate(parts):
        soundfile.write(tmp_path / f"{n}.flac", part, RATE)
    path = tmp_path / "joined.flac"
    path.write_bytes(b"".join((tmp_path / f"{n}.flac").read_bytes() for n in range(2)))
    waveform, notes = read(path)
    assert notes == []
    np.testing.assert_allclose(waveform, np.concatenate(parts).mean(axis=1), atol=1e-4)
