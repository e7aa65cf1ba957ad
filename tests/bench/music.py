"""Clips for the extraction cases: the user's, or generated ones in the same format."""

import shutil
from pathlib import Path

import numpy as np

CLIPS, RATE, SECONDS = 24, 44100, 30


def find_clips(folder: Path) -> list[Path]:
    """Find the MP3 files in a folder of genre folders."""
    return sorted(folder.glob("*/*.mp3"))


def make_music(folder: Path, times: int = 1, source: Path | None = None) -> Path:
    """Make a folder of 24 clips in two genres, each `times` over: 30 s, 44.1 kHz, stereo.

    The clips are the first ones of `source`, or else generated noise and tones.
    """
    clips = find_clips(source)[:CLIPS] if source else []
    for number in range(CLIPS):
        genre = folder / f"genre{number % 2}"
        genre.mkdir(parents=True, exist_ok=True)
        for copy in range(times):
            path = genre / f"{number}-{copy}.mp3"
            if clips:
                shutil.copyfile(clips[number % len(clips)], path)
            elif copy:
                shutil.copyfile(genre / f"{number}-0.mp3", path)
            else:
                _make(path, number)
    return folder


def _make(path: Path, seed: int) -> None:
    import soundfile

    generator = np.random.default_rng(seed)
    seconds = np.arange(SECONDS * RATE) / RATE
    pitch = 110 * 2 ** (generator.integers(0, 24) / 12)
    tones = sum(np.sin(2 * np.pi * k * pitch * seconds) / k for k in range(1, 8))
    beat = np.exp(-8 * (seconds * 2 % 1))
    noise = generator.standard_normal((2, len(seconds)))
    sound = 0.1 * tones * beat + 0.03 * noise
    soundfile.write(path, sound.T.astype(np.float32), RATE, format="MP3", subtype="MPEG_LAYER_III")
