"""Audio files to waveforms: the only decoder.

Conventions: a waveform is a mono float32 array of shape (samples,), nominally in [-1, 1] (lossy
decoders overshoot a little). Channels are averaged, the rate is changed with soxr's "HQ" setting:
what `librosa.load(path, sr=sample_rate, duration=duration)` gives, sample for sample, together
with the sample rate.
"""

import contextlib
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

EXTENSIONS = (
    *(".mp3", ".wav", ".flac", ".ogg", ".opus", ".aif", ".aiff"),
    *(".m4a", ".aac", ".wma"),  # by FFmpeg
)
MIN_SECONDS = 2.0
SILENCE = 1e-4  # peak amplitude, -80 dB of full scale


class DecodeError(ValueError):
    """A file that gives no usable waveform; the message is the reason, without the path."""


def find_audio_files(folder: str | Path) -> Iterator[Path]:
    """Files in the folder and the folders below whose names end in one of EXTENSIONS.

    Links are followed; what begins with a dot is passed over.
    """
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = (name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS:
                yield Path(parent, name)


def read_audio(
    path: str | Path, sample_rate: int | None, duration: float
) -> tuple[np.ndarray, int]:
    """Decode the first `duration` seconds of a file, as mono at `sample_rate` Hz.

    Args:
        path: MP3, WAV, FLAC or OGG file; any other format needs FFmpeg.
        sample_rate: of the result, in Hz; None for the file's own.
        duration: seconds to read at most; a shorter file gives a shorter waveform.

    Returns:
        float32 array of shape (samples,), and its sample rate.

    Raises:
        DecodeError: the file does not decode, is shorter than 2 s, or is silent (peak under 1e-4).
    """
    samples, native_rate = _decode(Path(path), duration)
    _check_length(len(samples) / native_rate)
    waveform = _mix_down(samples)
    if _is_silent(waveform):
        raise DecodeError("silent: no sample above -80 dB of full scale")
    return _resample(waveform, native_rate, sample_rate)


def read_windows(
    path: str | Path, sample_rate: int | None, duration: float
) -> Iterator[tuple[float, np.ndarray, int]]:
    """Decode a whole file, of any length, in windows one after the other.

    What is left at the end, if it is 2 s at least, becomes a whole window with samples of the one
    before. Silent windows are left out.

    Args:
        path: as `read_audio` takes it.
        sample_rate: of the windows, in Hz; None for the file's own.
        duration: of a window, in seconds; a shorter file is one shorter window.

    Yields:
        Where the window begins, in seconds; float32 samples (n,); their rate.

    Raises:
        DecodeError: as `read_audio` does, at the first or a later window.
    """
    yield from _make_windows(_read_stretches(Path(path), duration), sample_rate, duration)


def split_waveform(
    waveform: np.ndarray, native_rate: int, sample_rate: int | None, duration: float
) -> Iterator[tuple[float, np.ndarray, int]]:
    """The windows of a waveform in memory, as `read_windows` gives them for a file.

    Args:
        waveform: float array (samples,) or (channels, samples), nominally in [-1, 1].
        native_rate: of the waveform, in Hz.
        sample_rate: of the windows, in Hz; None for the waveform's own.
        duration: of a window, in seconds.

    Raises:
        DecodeError: the waveform is shorter than 2 s, is silent, or has values that are not finite.
    """
    samples, size = np.atleast_2d(waveform).T, int(duration * native_rate)
    stretches = (
        (samples[first : first + size].astype(np.float32), native_rate)
        for first in range(0, len(samples), size)
    )
    yield from _make_windows(stretches, sample_rate, duration)


def _make_windows(
    stretches: Iterable[tuple[np.ndarray, int]], sample_rate: int | None, duration: float
) -> Iterator[tuple[float, np.ndarray, int]]:
    """Windows at the sample rate, without the silent ones, of samples (n, channels) in order."""
    heard = False
    for start, waveform, rate in _complete_windows(stretches, duration):
        if not _is_silent(waveform):
            heard = True
            yield start, *_resample(waveform, rate, sample_rate)
    if not heard:
        raise DecodeError("silent: no sample above -80 dB of full scale")


def _complete_windows(
    stretches: Iterable[tuple[np.ndarray, int]], duration: float
) -> Iterator[tuple[float, np.ndarray, int]]:
    """Where each window begins, in seconds, its mono samples and their rate; the last one whole."""
    first, before = 0, None
    for samples, rate in stretches:
        waveform, size = _mix_down(samples), int(duration * rate)
        if len(waveform) < size and before is None:
            _check_length(len(waveform) / rate)
        elif len(waveform) < MIN_SECONDS * rate:
            return
        elif len(waveform) < size and before is not None:
            first -= size - len(waveform)
            waveform = np.concatenate([before[len(waveform) :], waveform])
        yield first / rate, waveform, rate
        first, before = first + len(waveform), waveform
    if before is None:
        _check_length(0.0)


def _read_stretches(path: Path, duration: float) -> Iterator[tuple[np.ndarray, int]]:
    """Samples (n, channels) and their rate, `duration` seconds at a time.

    From where libsndfile gives up, if it does, FFmpeg's conversion is read.
    """
    _check_file(path)
    done = 0
    try:
        with _Stream(path) as sound:
            for samples in _read_blocks(sound, duration):
                yield samples, sound.samplerate
                done += len(samples)
        return
    except soundfile.LibsndfileError:
        pass
    with _convert_with_ffmpeg(path) as file, soundfile.SoundFile(file) as sound:
        sound.seek(min(done, sound.frames))
        for samples in _read_blocks(sound, duration):
            yield samples, sound.samplerate


def _read_blocks(sound: soundfile.SoundFile, duration: float) -> Iterator[np.ndarray]:
    size = int(duration * sound.samplerate)
    while len(samples := sound.read(size, dtype="float32", always_2d=True)):
        yield samples


def _check_length(seconds: float) -> None:
    if seconds < MIN_SECONDS:
        raise DecodeError(f"too short: {seconds:.2f} s of audio decode, {MIN_SECONDS:g} s needed")


def _is_silent(waveform: np.ndarray) -> bool:
    """Whether no sample is above -80 dB of full scale."""
    peak = max(waveform.max(), -waveform.min())
    if not np.isfinite(peak):
        raise DecodeError("does not decode: samples that are not finite numbers")
    return bool(peak < SILENCE)


def _resample(
    waveform: np.ndarray, native_rate: int, sample_rate: int | None
) -> tuple[np.ndarray, int]:
    if sample_rate in (None, native_rate):
        return waveform, native_rate
    resampled = soxr.resample(waveform, native_rate, sample_rate, quality="HQ")
    size = math.ceil(len(waveform) * (sample_rate / native_rate))  # librosa rounds up, too
    return np.pad(resampled[:size], (0, max(0, size - len(resampled)))), sample_rate


def _mix_down(samples: np.ndarray) -> np.ndarray:
    """Mean (n,) of the channels (n, channels): `samples.mean(axis=1)`, twenty times as fast."""
    mixed = samples[:, 0].copy()
    for channel in samples.T[1:]:
        mixed += channel
    return mixed / np.float32(samples.shape[1])


def _decode(path: Path, duration: float) -> tuple[np.ndarray, int]:
    """Samples (n, channels) at the file's own rate: libsndfile first, then FFmpeg."""
    _check_file(path)
    try:
        return _read(path, duration)
    except soundfile.LibsndfileError:
        # libsndfile knows no AAC, and gives up on MP3 files that FFmpeg can still find a frame in.
        with _convert_with_ffmpeg(path, duration) as file:
            return _read(file, duration)


class _Stream(soundfile.SoundFile):
    """Read from begin to end.

    soundfile seeks after each read of a file that can seek; that makes an MP3 decoder begin anew,
    without what the frames before have left for the next.
    """

    def seekable(self) -> bool:
        return False


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise DecodeError("no such file")
    if path.stat().st_size == 0:
        raise DecodeError("does not decode: the file is empty")


def _read(file: Path, duration: float) -> tuple[np.ndarray, int]:
    with soundfile.SoundFile(file) as sound:
        frames = int(duration * sound.samplerate)
        return sound.read(frames, dtype="float32", always_2d=True), sound.samplerate


@contextlib.contextmanager
def _convert_with_ffmpeg(path: Path, duration: float | None = None) -> Iterator[Path]:
    """A temporary WAV file of the first seconds, or of all, by FFmpeg."""
    ffmpeg = find_ffmpeg()
    if ffmpeg is None:
        raise DecodeError(
            f"does not decode: libsndfile cannot read this {path.suffix} file and FFmpeg, which "
            "might, is not installed (system package ffmpeg, or pip install genreclf[ffmpeg])"
        )
    cut = [] if duration is None else ["-t", str(duration)]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "converted.wav")
        command = [ffmpeg, "-v", "error", "-nostdin", "-i", str(path), *cut, "-map", "0:a:0"]
        command += ["-f", "wav", "-rf64", "auto", "-c:a", "pcm_f32le", str(file)]
        done = subprocess.run(command, capture_output=True, check=False)
        if b"No space left" in done.stderr:
            raise DecodeError(f"no space left below {tempfile.gettempdir()} to convert it")
        try:
            soundfile.info(file)
        except soundfile.LibsndfileError:
            raise DecodeError(
                "does not decode: neither libsndfile nor FFmpeg can read it"
            ) from None
        yield file


def find_ffmpeg() -> str | None:
    """The FFmpeg program: of the system, else of the package imageio-ffmpeg, else None."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    return imageio_ffmpeg.get_ffmpeg_exe()
