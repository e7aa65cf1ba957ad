"""Audio files to waveforms: the only decoder.

Conventions: a waveform is a mono float32 array of shape (samples,), nominally in [-1, 1] (lossy
decoders overshoot a little). Channels are averaged, the rate is changed with soxr's "HQ" setting:
what `librosa.load(path, sr=sample_rate, duration=duration)` gives, sample for sample, together
with the sample rate.
"""

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import soundfile

EXTENSIONS = (".mp3", ".wav", ".flac", ".ogg", ".m4a")
MIN_SECONDS = 2.0
SILENCE = 1e-4  # peak amplitude, -80 dB of full scale


class DecodeError(ValueError):
    """A file that gives no usable waveform; the message is the reason, without the path."""


def load(path: str | Path, sample_rate: int | None, duration: float) -> tuple[np.ndarray, int]:
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
    seconds = len(samples) / native_rate
    if seconds < MIN_SECONDS:
        raise DecodeError(f"too short: {seconds:.2f} s of audio decode, {MIN_SECONDS:g} s needed")
    waveform = _mixed(samples)
    peak = max(waveform.max(), -waveform.min())
    if not np.isfinite(peak):
        raise DecodeError("does not decode: samples that are not finite numbers")
    if peak < SILENCE:
        raise DecodeError("silent: no sample above -80 dB of full scale")
    if sample_rate in (None, native_rate):
        return waveform, native_rate
    import librosa  # slow to import, and not needed where the rates agree

    resampled = librosa.resample(
        waveform, orig_sr=native_rate, target_sr=sample_rate, res_type="soxr_hq"
    )
    return resampled, sample_rate


def _mixed(samples: np.ndarray) -> np.ndarray:
    """Mean (n,) of the channels (n, channels): `samples.mean(axis=1)`, twenty times as fast."""
    mixed = samples[:, 0].copy()
    for channel in samples.T[1:]:
        mixed += channel
    return mixed / np.float32(samples.shape[1])


def _decode(path: Path, duration: float) -> tuple[np.ndarray, int]:
    """Samples (n, channels) at the file's own rate: libsndfile first, then FFmpeg."""
    if not path.is_file():
        raise DecodeError("no such file")
    if path.stat().st_size == 0:
        raise DecodeError("does not decode: the file is empty")
    try:
        return _read(path, duration)
    except soundfile.LibsndfileError:
        # libsndfile knows no AAC, and gives up on MP3 files that FFmpeg can still find a frame in.
        return _decode_with_ffmpeg(path, duration)


def _read(file: Path | io.BytesIO, duration: float) -> tuple[np.ndarray, int]:
    with soundfile.SoundFile(file) as sound:
        frames = int(duration * sound.samplerate)
        return sound.read(frames, dtype="float32", always_2d=True), sound.samplerate


def _decode_with_ffmpeg(path: Path, duration: float) -> tuple[np.ndarray, int]:
    ffmpeg = find_ffmpeg()
    if ffmpeg is None:
        raise DecodeError(
            f"does not decode: libsndfile cannot read this {path.suffix} file and FFmpeg, which "
            "might, is not installed (system package ffmpeg, or pip install genreclf[ffmpeg])"
        )
    command = [ffmpeg, "-v", "error", "-nostdin", "-i", str(path), "-t", str(duration)]
    command += ["-map", "0:a:0", "-f", "wav", "-c:a", "pcm_f32le", "-"]
    done = subprocess.run(command, capture_output=True, check=False)
    try:
        return _read(io.BytesIO(done.stdout), duration)
    except soundfile.LibsndfileError:
        raise DecodeError("does not decode: neither libsndfile nor FFmpeg can read it") from None


def find_ffmpeg() -> str | None:
    """The FFmpeg program: of the system, else of the package imageio-ffmpeg, else None."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    return imageio_ffmpeg.get_ffmpeg_exe()
