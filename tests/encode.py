"""Writes sound files of many formats for tests, with PyAV or the FFmpeg program."""

import subprocess
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np

RATE = 44100
TONES = (230.0, 330.0, 690.0, 1350.0)  # Hz


def make_music(seconds: float, channels: int = 2, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Make a chord with a little noise, float32 (n, channels); each seed transposes it."""
    rng, time = np.random.default_rng(seed), np.arange(int(seconds * rate)) / rate
    chord = np.sin(2 * np.pi * (1.1**seed * np.array(TONES)) * time[:, None]).sum(axis=1)
    noise = 0.02 * rng.standard_normal((len(time), channels))
    return (0.1 * chord[:, None] + noise).astype(np.float32)


def make_song(seed: int, seconds: float = 12, rate: int = 22050) -> np.ndarray:
    """Make notes of random pitch and length, over noise with a beat: float32 (n,)."""
    random, time = np.random.default_rng(seed), np.arange(int(rate * seconds)) / rate
    sound = 0.02 * random.standard_normal(len(time)) * np.exp(-6 * (time * 2 % 1))
    start = 0.0
    while start < seconds - 0.5:
        length = random.uniform(0.1, 0.6)
        part = (time >= start) & (time < start + length)
        pitch = 110 * 2 ** (random.integers(0, 36) / 12)
        level = random.uniform(0.05, 0.2) * np.exp(-3 * (time[part] - start))
        for k in range(1, 6):
            sound[part] += level / k * np.sin(2 * np.pi * k * pitch * time[part])
        start += length
    return sound.astype(np.float32)


def encode(path: Path, samples: np.ndarray, codec: str, rate: int = RATE, **options: Any) -> Path:
    """Write samples (n, channels) with one of FFmpeg's encoders; the name gives the container."""
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1", 16: "hexadecagonal"}[samples.shape[1]]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, layout=layout, **options)
        packed = samples.astype(np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def run_ffmpeg(*arguments: Any) -> None:
    """Run the FFmpeg program, for options that PyAV does not have."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)
