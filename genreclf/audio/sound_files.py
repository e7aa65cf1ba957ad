"""The samples of sound files as stored, read with libsndfile or FFmpeg."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile


class DecodeError(ValueError):
    """A file without a usable waveform; the message gives the reason, without the path."""


def read_start(path: Path, duration: float) -> tuple[np.ndarray, int]:
    """Read the first `duration` seconds of a file, with libsndfile or else FFmpeg.

    Returns:
        float32 (n, channels), and the file's own sample rate in Hz.

    Raises:
        DecodeError: there is no such file, or it does not decode.
    """
    _check_file(path)
    try:
        return _read(path, duration)
    except soundfile.LibsndfileError:
        # libsndfile has no AAC decoder, and rejects damaged MP3 files that FFmpeg still decodes.
        with _convert_with_ffmpeg(path, duration) as file:
            return _read(file, duration)


def _read(file: Path, duration: float) -> tuple[np.ndarray, int]:
    with soundfile.SoundFile(_encode(file)) as sound:
        frames = int(duration * sound.samplerate)
        return sound.read(frames, dtype="float32", always_2d=True), sound.samplerate


def _encode(path: Path) -> Any:
    """Encode a path for soundfile, which itself only encodes names that are valid UTF-8."""
    return path if os.name == "nt" else os.fsencode(path)


def read_stretches(path: Path, duration: float) -> Iterator[tuple[np.ndarray, int]]:
    """Read a file of any length, `duration` seconds at a time, as `read_start` does.

    If libsndfile fails partway, FFmpeg decodes the rest.
    """
    _check_file(path)
    done = 0
    try:
        with _Stream(_encode(path)) as sound:
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


class _Stream(soundfile.SoundFile):
    """A file that is read from start to end.

    soundfile seeks after each read of a seekable file. That resets an MP3 decoder, which then lacks
    the bits that earlier frames keep for later ones (the bit reservoir).
    """

    def seekable(self) -> bool:
        return False


def _read_blocks(sound: soundfile.SoundFile, duration: float) -> Iterator[np.ndarray]:
    size = int(duration * sound.samplerate)
    while len(samples := sound.read(size, dtype="float32", always_2d=True)):
        yield samples


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise DecodeError("no such file")
    if path.stat().st_size == 0:
        raise DecodeError("does not decode: the file is empty")


@contextlib.contextmanager
def _convert_with_ffmpeg(path: Path, duration: float | None = None) -> Iterator[Path]:
    """Convert the first `duration` seconds, or the whole file, to a temporary WAV file."""
    ffmpeg = find_ffmpeg()
    if ffmpeg is None:
        raise DecodeError(
            f"does not decode: this {path.suffix} file needs FFmpeg, which is not installed; "
            "install the system package ffmpeg, or: pip install 'genreclf[ffmpeg]'"
        )
    cut = [] if duration is None else ["-t", str(duration)]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "converted.wav")
        command = [ffmpeg, "-v", "error", "-nostdin", "-i", str(path), *cut, "-map", "0:a:0"]
        command += ["-f", "wav", "-rf64", "auto", "-c:a", "pcm_f32le", str(file)]
        done = subprocess.run(command, capture_output=True, check=False)
        if b"No space left" in done.stderr:
            raise DecodeError(f"no space left in {tempfile.gettempdir()} to convert it; set TMPDIR")
        try:
            soundfile.info(file)
        except soundfile.LibsndfileError:
            raise DecodeError(
                "does not decode: neither libsndfile nor FFmpeg can read it"
            ) from None
        yield file


def find_ffmpeg() -> str | None:
    """Find FFmpeg: the system's, else that of the package imageio-ffmpeg, else None."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    return imageio_ffmpeg.get_ffmpeg_exe()
