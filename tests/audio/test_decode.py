from collections.abc import Generator
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
from encode import encode, make_music

from genreclf.audio import ConcatenatedFeatures, DecodeError, MelFrames, decode, workers
from genreclf.audio.workers import Decoding
from genreclf.evaluation.two_inputs import TwoInputs

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


def test_channels_are_averaged(tmp_path: Path) -> None:
    samples = np.zeros((3 * RATE, 2), np.float32)
    samples[:, 0] = tone(3, channels=1)[:, 0]
    soundfile.write(tmp_path / "left.wav", samples, RATE, subtype="FLOAT")
    waveform, _ = decode.read_audio(tmp_path / "left.wav", RATE, 30)
    np.testing.assert_array_equal(waveform, samples[:, 0] / 2)


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
        (b"not music at all", "not audio: text"),
        (np.random.default_rng(0).bytes(100_000), "does not decode"),
    ],
    ids=("empty", "text", "noise"),
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
    assert [rate for _, _, rate, *_ in found] == [RATE] * 3
    for start, waveform, *_ in found:
        first = round(start * RATE)
        np.testing.assert_array_equal(waveform, whole[first : first + 4 * RATE])
    assert round(found[2][0] * RATE) == len(whole) - 4 * RATE  # as long as the others


def test_windows_of_a_short_file_are_what_load_gives(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(3), RATE)
    ((start, waveform, rate, *_),) = decode.read_windows(path, 22050, 30)
    assert (start, rate) == (0, 22050)
    np.testing.assert_array_equal(waveform, decode.read_audio(path, 22050, 30)[0])


def test_less_than_two_seconds_at_the_end_are_no_window(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(9.5), RATE)
    assert [start for start, *_ in decode.read_windows(path, 22050, 4)] == [0, 4]


def test_silent_windows_are_left_out_unless_all_are(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.concatenate([tone(4), np.zeros((9 * RATE, 2)), tone(4)]), RATE)
    assert [start for start, *_ in decode.read_windows(path, 22050, 4)] == [0, 4]
    soundfile.write(path, np.zeros((8 * RATE, 2)), RATE)
    with pytest.raises(DecodeError, match="silent"):
        list(decode.read_windows(path, 22050, 4))


def test_windows_go_through_pyav_and_name_what_cannot_be_read(tmp_path: Path) -> None:
    path = encode(tmp_path / "tone.m4a", tone(9), "aac")
    assert [round(start, 2) for start, *_ in decode.read_windows(path, 22050, 3)][:3] == [0, 3, 6]
    (tmp_path / "broken.m4a").write_bytes(b"\0no audio" * 100)
    for name in ("broken.m4a", "gone.wav"):
        with pytest.raises(DecodeError):
            list(decode.read_windows(tmp_path / name, 22050, 3))


@pytest.mark.parametrize("overlap", [0.25, 0.5, 0.9])
def test_overlapping_windows_repeat_a_share(tmp_path: Path, overlap: float) -> None:
    """C10: each window begins `(1 - overlap)` of a window after the last, and none is lost."""
    path = tmp_path / "tone.wav"
    soundfile.write(path, make_music(21), RATE, subtype="FLOAT")
    whole, _ = decode.read_audio(path, None, 60)
    found = list(decode.read_windows(path, None, 4, overlap))
    starts = [window.start for window in found]
    hop = 4 * (1 - overlap)
    np.testing.assert_allclose(starts[:-1], np.arange(len(starts) - 1) * hop, atol=1e-4)
    assert 17 - decode.MIN_SECONDS < starts[-1] <= 17
    for window in found:
        first = round(window.start * RATE)
        np.testing.assert_array_equal(window.samples, whole[first : first + 4 * RATE])
    split = list(decode.split_waveform(whole, RATE, None, 4, overlap))
    assert [window.start for window in split] == starts


def test_the_audible_part_of_a_window_is_measured(tmp_path: Path) -> None:
    """C8: a window of one second of music and three of silence weighs as much as one second."""
    samples = np.zeros((8 * RATE, 2))
    samples[: 5 * RATE] = tone(5)
    windows = list(decode.split_waveform(samples.T, RATE, 22050, 4, whole=True))
    assert [round(window.audible, 3) for window in windows] == [4, 1]
    samples[4 * RATE : round(4.4 * RATE)] = 0
    soundfile.write(tmp_path / "tone.wav", samples, RATE)
    (window,) = decode.read_windows(tmp_path / "tone.wav", 22050, 8)
    assert window.audible == pytest.approx(4.6, abs=0.1)
    assert window.end == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("codec", ["", "libmp3lame", "aac", "libopus"])
def test_stereo_that_cancels_is_read_from_its_loudest_channel_b13(
    tmp_path: Path, codec: str
) -> None:
    """B13: right = -left is music, not silence, also with the noise of a lossy codec in between."""
    rate = 48000 if codec == "libopus" else RATE
    left = make_music(4, 1, rate)
    samples = np.concatenate([0.9 * left, -0.9 * left], axis=1)
    samples[:, 1] *= 0.999
    path = tmp_path / f"a.{codec or 'wav'}"
    if codec:
        path = encode(tmp_path / f"a{SUFFIXES[codec]}", samples, codec, rate)
    else:
        soundfile.write(path, samples, rate, subtype="FLOAT")
    waveform, _ = decode.read_audio(path, None, 30)
    assert np.std(waveform) == pytest.approx(np.std(0.9 * left), rel=0.1)
    (window,) = decode.read_windows(path, None, 30)
    np.testing.assert_array_equal(window.samples, waveform)
    (window,) = decode.split_waveform(samples.T, rate, None, 30)
    np.testing.assert_array_equal(window.samples, samples[:, 0])


SUFFIXES = {"libmp3lame": ".mp3", "aac": ".m4a", "libopus": ".opus"}


def test_ordinary_stereo_is_averaged_b13() -> None:
    """B13: neither wide stereo nor one silent channel nor six channels count as cancelled."""
    rng = np.random.default_rng(0)
    for samples in (
        rng.normal(0, 0.1, (2, 3 * RATE)),
        np.stack([tone(3, 1)[:, 0], np.zeros(3 * RATE)]),
        np.stack([tone(3, 1)[:, 0], *np.zeros((5, 3 * RATE))]),
        tone(3).T * [[1], [-0.9]],
    ):
        (window,) = decode.split_waveform(samples, RATE, None, 30)
        expected = samples.astype(np.float32).mean(axis=0)
        np.testing.assert_allclose(window.samples, expected, atol=1e-6)


def test_a_low_sample_rate_gets_a_note_b1(tmp_path: Path) -> None:
    """B1: what 8 kHz cannot hold cannot be computed, so the listener is told."""
    for rate, noted in ((8000, True), (32000, True), (36000, False), (48000, False)):
        path = tmp_path / "a.wav"
        soundfile.write(path, make_music(5, rate=rate), rate)
        notes: list[list[str]] = [[], [], []]
        decode.read_audio(path, 44100, 30, notes[0])
        list(decode.read_windows(path, 44100, 2, notes=notes[1]))
        list(decode.split_waveform(make_music(5, rate=rate).T, rate, 44100, 2, notes=notes[2]))
        expected = f"sampled at {rate} Hz, so it lacks the band above {rate // 2} Hz that the model"
        for each in notes:
            assert [note.startswith(expected) for note in each] == [True] * noted
        decode.read_audio(path, None, 30, none := [])
        assert none == []


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
        np.testing.assert_allclose(waveform, whole[first : first + 5 * RATE], atol=1e-4)


def exhaust(windows: Generator[Any, None, list[str]]) -> list[str]:
    """Take all windows; return what is said of the file."""
    while True:
        try:
            next(windows)
        except StopIteration as stop:
            return stop.value


def test_features_of_each_files_own_rate_may_need_a_band_b1(tmp_path: Path) -> None:
    """B1: the default of predict gave no note for a file at 8 kHz, as its input has two rates."""
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 24_000), 8000)
    tags = MelFrames(sample_rate=16_000, n_fft=512, n_mels=16)
    note = "sampled at 8000 Hz, so it lacks the band above 4000 Hz that the model was trained with"
    kinds: list[Any] = [
        tags,
        TwoInputs(tags, MelFrames()),
        ConcatenatedFeatures([tags, MelFrames()]),
        Decoding(None, 30.0, 16_000),
    ]
    for features in kinds:
        windows = workers.extract_windows(str(tmp_path / "a.wav"), features)
        assert exhaust(windows) == [note]
        clip = workers.extract(str(tmp_path / "a.wav"), features)
        assert not isinstance(clip, str)
        assert clip.note == note
