"""What is silent in a file does not change what is read of its music (C8, B13, B17)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from encode import make_music, make_song, run_ffmpeg

from genreclf.audio import DecodeError, decode, silence
from genreclf.audio.workers import extract_query, extract_windows

RATE = 22050


class Kept:
    """Features that are the waveform."""

    name, sample_rate, duration, shape = "kept", RATE, 4.0, (1, 4 * RATE)

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        return waveform[None]


KEPT: Any = Kept()


def quiet(seconds: float, level: float = 0.0) -> np.ndarray:
    return np.full(int(seconds * RATE), level, np.float32)


def join(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts)


def split(samples: np.ndarray, seconds: float = 4, overlap: float = 0) -> list[decode.AudioWindow]:
    return [*decode.split_waveform(samples, RATE, None, seconds, overlap)]


def same(some: list[decode.AudioWindow], others: list[decode.AudioWindow]) -> bool:
    return len(some) == len(others) and all(
        np.array_equal(one.samples, other.samples) for one, other in zip(some, others, strict=True)
    )


SONG = make_song(0, 11, RATE)
SONG[[0, -1]] = 0.1  # heard from the first to the last sample


@pytest.mark.parametrize("level", [0, 0.01, -1 / 128, 3e-4, 0.5])
@pytest.mark.parametrize("seconds", [0.5, 3, 32.7])
def test_silence_at_the_ends_changes_no_window(seconds: float, level: float) -> None:
    """A constant is silence as zeros are; the times stay those of the file."""
    expected = split(SONG)
    assert len(expected) == 3
    for before, after in ((seconds, 0), (0, seconds), (seconds, seconds)):
        found = split(join(quiet(before, level), SONG, quiet(after, level)))
        assert same(found, expected)
        for one, other in zip(found, expected, strict=True):
            assert one.start == pytest.approx(other.start + before, abs=1e-3)
            assert one.end == pytest.approx(other.end + before, abs=1e-3)
            assert one.audible == pytest.approx(other.audible, abs=0.11)


def test_less_than_half_a_second_stays() -> None:
    """The delay of lossy encoders, for example, is in the clips that models are trained on."""
    (window,) = split(join(quiet(0.4), SONG[: 3 * RATE], quiet(0.4)), 30)
    assert (window.start, len(window.samples)) == (0, int(3.8 * RATE))


@pytest.mark.parametrize("seconds", [0.5, 1, 8, 61])
def test_of_longer_silence_in_the_middle_half_a_second_is_kept(seconds: float) -> None:
    for level in (0, 0.01):
        (window,) = split(join(SONG, quiet(seconds, level), SONG), 30)
        expected = join(SONG, quiet(0.5), SONG)
        assert len(window.samples) == pytest.approx(len(expected), abs=1)
        np.testing.assert_array_equal(window.samples[: len(SONG)], SONG)
        np.testing.assert_array_equal(window.samples[-len(SONG) :], SONG)
        assert (window.start, window.end) == (0, pytest.approx(22 + seconds, abs=1e-4))
        assert window.audible == pytest.approx(22, abs=0.2)
    starts = [each.start for each in split(join(SONG, quiet(seconds), SONG), 4, 0.5)]
    kept = np.arange(0, 18.5, 2)
    expected = np.where(kept < 11.5, kept, kept + seconds - 0.5)
    np.testing.assert_allclose(starts[: len(kept)], expected, atol=1e-3)


@pytest.mark.parametrize("size", [2000, 2205, 50_000])
def test_where_blocks_of_a_stream_end_makes_no_difference(size: int) -> None:
    """Neither many short stretches nor silence across their borders."""
    parts = [quiet(1.3), SONG[: 2 * RATE], quiet(3.3), SONG[RATE:], quiet(7)]
    samples = join(*parts)

    def read(size: int) -> np.ndarray:
        stretches = ((samples[at : at + size], RATE) for at in range(0, len(samples), size))
        pieces = [*silence.leave_out_silence(stretches)]
        assert pieces[-1][0] + len(pieces[-1][1]) == len(samples)
        for at, piece, _ in pieces:
            np.testing.assert_array_equal(piece, samples[at : at + len(piece)])
        borders = [edge for at, piece, _ in pieces if len(piece) for edge in (at, at + len(piece))]
        assert borders == sorted(borders)
        return join(*(piece for _, piece, _ in pieces))

    assert len(read(size)) == pytest.approx(len(read(len(samples))), abs=4 * 0.1 * RATE)


def test_hours_of_silence_need_no_memory_and_show_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    second = quiet(1)

    def read() -> Iterator[tuple[np.ndarray, int]]:
        yield SONG, RATE
        yield from ((second, RATE) for _ in range(2000))
        yield SONG, RATE

    pieces = 0
    for _, samples, _ in silence.leave_out_silence(read()):
        pieces += 1
        assert len(samples) <= len(SONG) + RATE
    assert pieces > 2000
    monkeypatch.setattr("genreclf.audio.workers.LONGEST", 1000)
    monkeypatch.setattr(
        decode, "read_stretches", lambda *_: ((each[:, None], rate) for each, rate in read())
    )
    windows = extract_windows("song.wav", KEPT)
    assert sum(each is not None for each in windows) == 2
    monkeypatch.setattr(
        decode, "read_stretches", lambda *_: ((second[:, None], RATE) for _ in range(2000))
    )
    with pytest.raises(DecodeError, match=r"silent: .* in its first 1000 s, and no more is read"):
        list(extract_windows("song.wav", KEPT))


def test_what_is_hardly_audible_is_a_short_window() -> None:
    """A click, or one second of music, in a file that is long enough."""
    for sound in (SONG[:40], SONG[:RATE]):
        (window,) = split(join(quiet(15), sound, quiet(15)))
        assert (window.start, len(window.samples)) == (15, 2 * RATE)
        np.testing.assert_array_equal(window.samples[: len(sound)], sound)
        assert not window.samples[len(sound) :].any()
        assert window.end == pytest.approx(15 + len(sound) / RATE, abs=1e-4)
    with pytest.raises(DecodeError, match=r"too short: 1\.00 s"):
        split(SONG[:RATE])


def test_values_that_are_not_finite_are_no_silence() -> None:
    for value in (np.nan, np.inf, 1e30):
        samples = join(quiet(9), SONG, quiet(9))
        samples[RATE] = value
        with pytest.raises(DecodeError, match="does not decode: samples"):
            split(samples)


@pytest.mark.parametrize("offset", [-0.015, 0.02, 0.3])
def test_a_constant_offset_is_subtracted(tmp_path: Path, offset: float) -> None:
    song = SONG - SONG.mean()
    path = tmp_path / "song.wav"
    soundfile.write(path, song + np.float32(offset), RATE, subtype="FLOAT")
    waveform, _ = decode.read_audio(path, None, 30)
    np.testing.assert_allclose(waveform, song, atol=2e-4)
    (window,) = decode.read_windows(path, None, 30)
    np.testing.assert_array_equal(window.samples, waveform)
    soundfile.write(path, join(song[: 4 * RATE], quiet(20, offset)), RATE, subtype="FLOAT")
    waveform, _ = decode.read_audio(path, None, 30)  # as stores do
    np.testing.assert_array_equal(waveform[: 4 * RATE], song[: 4 * RATE])
    assert not waveform[round(4.1 * RATE) :].any()


def test_ordinary_waveforms_stay_as_they_are() -> None:
    """Bit by bit: an offset below 0.01, infrasound, quiet or asymmetric sounds are no offset."""
    time = np.arange(len(SONG)) / RATE
    infrasound = (0.02 * np.sin(2 * np.pi * 0.04 * time)).astype(np.float32)
    for samples in (SONG, SONG + 9e-3, SONG + infrasound, 1e-3 * SONG, SONG**2, np.sign(SONG)):
        samples = samples.astype(np.float32)
        if abs(samples.mean()) > 0.01 and samples.min() >= 0:
            continue
        blocks = silence.measure_blocks(samples, RATE)
        assert silence.remove_offset(samples, blocks) is samples


def test_opposite_channels_with_an_offset_are_music_b13(tmp_path: Path) -> None:
    """B13: a constant in all channels, or in one, does not hide that they cancel each other."""
    for offsets in ((0.2, 0.2), (0.0, 0.3), (-0.01, 0.01)):
        samples = np.stack([0.5 * SONG, -0.5 * SONG], axis=1) + np.array(offsets, np.float32)
        soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
        waveform, _ = decode.read_audio(tmp_path / "a.wav", None, 30)
        assert abs(np.corrcoef(waveform, SONG)[0, 1]) > 0.999
        (window,) = decode.read_windows(tmp_path / "a.wav", None, 30)
        np.testing.assert_array_equal(window.samples, waveform)


def test_a_constant_is_silent(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", quiet(5, 0.25), RATE)
    for read in (decode.read_audio, lambda *given: [*decode.read_windows(*given)]):
        with pytest.raises(DecodeError, match=r"silent: no sample above -80 dB of full scale$"):
            read(tmp_path / "a.wav", None, 30)


def test_a_constant_stream_is_not_chosen(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "constant.wav", np.full((4 * 44100, 2), 0.1), 44100)
    soundfile.write(tmp_path / "music.wav", make_music(4), 44100)
    inputs = ["-i", tmp_path / "constant.wav", "-i", tmp_path / "music.wav", "-c:a", "pcm_s16le"]
    run_ffmpeg(*inputs, "-map", 0, "-map", 1, tmp_path / "a.mka")
    notes: list[str] = []
    decode.read_audio(tmp_path / "a.mka", None, 30, notes)
    assert notes == ["the first audio stream is silent: stream 1 of 2 is used"]


def test_the_reason_says_how_much_was_read(tmp_path: Path) -> None:
    """A store holds the first seconds of each file; music may follow."""
    path = tmp_path / "late.wav"
    soundfile.write(path, join(quiet(6), SONG), RATE)
    with pytest.raises(DecodeError, match=r"silent: .* in its first 5 s, and no more is read"):
        decode.read_audio(path, None, 5)
    longer: Any = Kept()
    longer.duration, longer.shape = 9.0, (1, 9 * RATE)
    with pytest.raises(DecodeError, match=r"silent: .* in its first 4 s, and no more is read"):
        list(extract_query(str(path), KEPT, longer))
    soundfile.write(path, quiet(5), RATE)
    with pytest.raises(DecodeError, match=r"full scale$"):
        decode.read_audio(path, None, 5)
