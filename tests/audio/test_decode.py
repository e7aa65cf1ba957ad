import shutil
import subprocess
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from genreclf.audio import DecodeError, decode, sound_files

RATE = 44100


def tone(seconds: float, channels: int = 2) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    pitches = (220, 330)[:channels]
    return np.stack([0.5 * np.sin(2 * np.pi * hertz * time) for hertz in pitches], axis=1)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_every_format_decodes_as_librosa_does(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tone{suffix}"
    soundfile.write(path, tone(4), RATE)
    waveform, rate = decode.read_audio(path, 22050, 3)
    assert rate == 22050
    expected, _ = librosa.load(path, sr=22050, duration=3)
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, expected)


def test_a_real_mp3_decodes_as_librosa_does(real_music: Path) -> None:
    path = min(real_music.glob("*/*.mp3"))
    expected, _ = librosa.load(path, sr=22050, duration=30)
    np.testing.assert_array_equal(decode.read_audio(path, 22050, 30)[0], expected)


def test_m4a_goes_through_ffmpeg(tmp_path: Path) -> None:
    ffmpeg = sound_files.find_ffmpeg()
    assert ffmpeg, "imageio-ffmpeg is among the development packages"
    soundfile.write(tmp_path / "tone.wav", tone(4), RATE)
    path = tmp_path / "tone.m4a"
    subprocess.run([ffmpeg, "-v", "error", "-i", tmp_path / "tone.wav", path], check=True)
    waveform, rate = decode.read_audio(path, 22050, 3)
    assert rate == 22050
    assert len(waveform) == 3 * 22050
    spectrum = np.abs(np.fft.rfft(waveform))
    assert set(np.argsort(spectrum)[-2:]) == {3 * 220, 3 * 330}  # 1/3 Hz a bin


def test_without_ffmpeg_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound_files, "find_ffmpeg", lambda: None)
    (tmp_path / "song.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(1000))
    with pytest.raises(DecodeError, match=r"\.m4a .*pip install 'genreclf\[ffmpeg\]'"):
        decode.read_audio(tmp_path / "song.m4a", 22050, 30)


def test_ffmpeg_of_the_system_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/somewhere/{name}")
    assert sound_files.find_ffmpeg() == "/somewhere/ffmpeg"


def test_channels_are_averaged(tmp_path: Path) -> None:
    samples = np.zeros((3 * RATE, 2), np.float32)
    samples[:, 0] = 0.5
    soundfile.write(tmp_path / "left.wav", samples, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(decode.read_audio(tmp_path / "left.wav", RATE, 30)[0], 0.25)


def mp3(folder: Path) -> bytes:
    soundfile.write(folder / "whole.mp3", tone(6), RATE)
    return (folder / "whole.mp3").read_bytes()


def test_a_truncated_mp3_gives_what_is_left(tmp_path: Path) -> None:
    content = mp3(tmp_path)
    (tmp_path / "cut.mp3").write_bytes(content[: len(content) // 2])
    assert 2.5 < len(decode.read_audio(tmp_path / "cut.mp3", 22050, 30)[0]) / 22050 < 3.5


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"not music at all", "does not decode"),
        (np.random.default_rng(0).bytes(100_000), "does not decode"),
    ],
    ids=("empty", "text", "noise"),  # pytest hands the id on to ffmpeg, in its environment
)
def test_what_does_not_decode_says_so(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "bad.mp3").write_bytes(content)
    with pytest.raises(DecodeError, match=reason):
        decode.read_audio(tmp_path / "bad.mp3", 22050, 30)


def test_what_is_too_short_says_so(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", tone(1.5), RATE)
    with pytest.raises(DecodeError, match=r"too short: 1\.50 s"):
        decode.read_audio(tmp_path / "short.wav", 22050, 30)
    content = mp3(tmp_path)
    (tmp_path / "cut.mp3").write_bytes(content[: len(content) // 10])
    with pytest.raises(DecodeError, match="too short"):
        decode.read_audio(tmp_path / "cut.mp3", 22050, 30)


def test_silence_says_so(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.flac", np.zeros((3 * RATE, 2)), RATE)
    with pytest.raises(DecodeError, match="silent"):
        decode.read_audio(tmp_path / "silent.flac", 22050, 30)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="no such file"):
        decode.read_audio(tmp_path / "none.mp3", 22050, 30)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])  # the MP3 of variable bit rate
def test_windows_are_the_whole_file_one_after_the_other(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tone{suffix}"
    samples = tone(10.5, channels=1)[:, 0] * np.linspace(0.1, 1, int(10.5 * RATE))
    soundfile.write(path, samples, RATE)
    whole, _ = decode.read_audio(path, None, 60)
    found = list(decode.read_windows(path, None, 4))
    assert [start for start, *_ in found[:2]] == [0, 4]
    assert [rate for _, _, rate, _ in found] == [RATE] * 3
    for start, waveform, *_ in found:
        first = round(start * RATE)
        np.testing.assert_array_equal(waveform, whole[first : first + 4 * RATE])
    assert round(found[2][0] * RATE) == len(whole) - 4 * RATE  # as long as the others


def test_windows_of_a_short_file_are_what_load_gives(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(3), RATE)
    ((start, waveform, rate, _),) = decode.read_windows(path, 22050, 30)
    assert (start, rate) == (0, 22050)
    np.testing.assert_array_equal(waveform, decode.read_audio(path, 22050, 30)[0])


def test_less_than_two_seconds_at_the_end_are_no_window(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(9.5), RATE)
    assert [start for start, *_ in decode.read_windows(path, 22050, 4)] == [0, 4]


def test_silent_windows_are_left_out_unless_all_are(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.concatenate([tone(4), np.zeros((4 * RATE, 2)), tone(4)]), RATE)
    assert [start for start, *_ in decode.read_windows(path, 22050, 4)] == [0, 8]
    soundfile.write(path, np.zeros((8 * RATE, 2)), RATE)
    with pytest.raises(DecodeError, match="silent"):
        list(decode.read_windows(path, 22050, 4))


def test_windows_go_through_ffmpeg_and_name_what_cannot_be_read(tmp_path: Path) -> None:
    ffmpeg = sound_files.find_ffmpeg()
    assert ffmpeg
    soundfile.write(tmp_path / "tone.wav", tone(9), RATE)
    path = tmp_path / "tone.m4a"
    subprocess.run([ffmpeg, "-v", "error", "-i", tmp_path / "tone.wav", path], check=True)
    assert [round(start, 2) for start, *_ in decode.read_windows(path, 22050, 3)][:3] == [0, 3, 6]
    (tmp_path / "broken.m4a").write_bytes(b"no audio" * 100)
    for name in ("broken.m4a", "gone.wav"):
        with pytest.raises(DecodeError):
            list(decode.read_windows(tmp_path / name, 22050, 3))


@pytest.mark.parametrize("suffix", [".flac", ".mp3"])
def test_damage_ends_windows_no_sooner_than_load(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tone{suffix}"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (20 * RATE, 2))
    soundfile.write(path, noise, RATE)
    data = bytearray(path.read_bytes())
    if suffix == ".flac":
        del data[int(0.6 * len(data)) :]
    else:
        data[len(data) // 2 : len(data) // 2 + 20_000] = bytes(20_000)
    path.write_bytes(data)
    whole, _ = decode.read_audio(path, None, 60)
    found = list(decode.read_windows(path, None, 5))
    assert found[-1][0] + 5 >= len(whole) / RATE - 2
    for start, waveform, *_ in found[:2]:
        first = round(start * RATE)
        np.testing.assert_allclose(waveform, whole[first : first + 5 * RATE], atol=1e-4)  # FFmpeg's
