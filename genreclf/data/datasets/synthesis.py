"""Generates short musical clips by invented artists, for use without any audio files.

A genre determines rhythm and instrument. An artist has a sound (brightness, detuning, room, tempo)
and borrows from a second genre, in the same way in all clips. So, as with real music, accuracy is
higher if a split has the same artists in training and test. The same seed gives the same samples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RATE = 22050  # Hz
SCALE = np.array([0, 2, 3, 5, 7, 8, 10])  # natural minor, in semitones


@dataclass(frozen=True)
class Artist:
    """What the clips of one artist have in common."""

    name: str
    genre: str
    influence: str  # the genre that is mixed in
    blend: float  # 0 to 1, its loudness
    tonic: float  # Hz
    tempo: float  # beats per minute
    brightness: float  # 0 to 1, share of the spectrum that is kept
    detune: float  # relative, between the voices of one note
    room: float  # 0 to 1, loudness of the echo
    hiss: float  # amplitude of the background noise


def invent_artist(genre: str, number: int, rng: np.random.Generator) -> Artist:
    """Invent an artist of `genre`; the tempo ranges of the genres overlap."""
    others = [other for other in GENRES if other != genre]
    slow, fast = {"Ambient": (50, 110), "Dance": (90, 140)}.get(genre, (70, 160))
    return Artist(
        name=f"{genre} Artist {number + 1}",
        genre=genre,
        influence=others[rng.integers(len(others))],
        blend=rng.uniform(0.0, 1.0),
        tonic=110 * 2 ** (rng.integers(0, 12) / 12),
        tempo=rng.uniform(slow, fast),
        brightness=rng.uniform(0.15, 1.0),
        detune=rng.uniform(0.0, 0.012),
        room=rng.uniform(0.0, 0.6),
        hiss=10 ** rng.uniform(-4, -1.7),
    )


def render(artist: Artist, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Render one clip, float32 of shape (seconds * RATE,), peak 0.9."""
    size = int(seconds * RATE)
    beat = int(60 / artist.tempo * RATE)
    own, borrowed = (
        GENRES[genre](artist, size, beat, rng) for genre in (artist.genre, artist.influence)
    )
    clip = own / own.std() + artist.blend * borrowed / borrowed.std()
    clip = _darken(clip, artist.brightness)
    echo = np.zeros(size)
    echo[beat // 2 :] = clip[: size - beat // 2]
    clip = clip + artist.room * echo
    clip = clip / np.abs(clip).max() + artist.hiss * rng.standard_normal(size)
    return (0.9 * clip / np.abs(clip).max()).astype(np.float32)


def _compute_pitch(artist: Artist, degree: int, octave: int) -> float:
    step = SCALE[degree % 7] + 12 * (octave + degree // 7)
    return artist.tonic * 2 ** (step / 12)


def _render_saw(frequency: float, size: int, detune: float) -> np.ndarray:
    """Render a tone of two detuned sawtooth voices."""
    cycles = frequency * np.arange(size) / RATE
    return 2 * ((cycles * (1 - detune)) % 1 + (cycles * (1 + detune)) % 1) - 2


def _make_decay(size: int, seconds: float) -> np.ndarray:
    return np.exp(-np.arange(size) / (seconds * RATE))


def _add_sound(track: np.ndarray, sound: np.ndarray, at: int) -> None:
    end = min(len(track), at + len(sound))
    track[at:end] += sound[: end - at]


def _darken(clip: np.ndarray, brightness: float) -> np.ndarray:
    """Apply a gentle low-pass filter, whose cut-off rises with the brightness."""
    spectrum = np.fft.rfft(clip)
    hertz = np.fft.rfftfreq(len(clip), 1 / RATE)
    return np.fft.irfft(spectrum / (1 + (hertz / (400 + 8000 * brightness)) ** 2), len(clip))


def _render_drum(size: int, tone: float, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Render a kick (mostly tone), or a snare or hat (mostly noise)."""
    time = np.arange(size) / RATE
    body = np.sin(2 * np.pi * tone * time * (1 + np.exp(-30 * time))) * _make_decay(size, 0.08)
    return body + noise * rng.standard_normal(size) * _make_decay(size, 0.05)


def _render_ambient(artist: Artist, size: int, beat: int, rng: np.random.Generator) -> np.ndarray:
    """Render slow, swelling chords."""
    clip = np.zeros(size)
    length = 4 * beat
    swell = np.sin(np.pi * np.arange(length) / length)
    for at in range(0, size, 3 * beat):
        root = int(rng.integers(0, 7))
        for degree in (root, root + 2, root + 4):
            _add_sound(
                clip,
                swell * _render_saw(_compute_pitch(artist, degree, 1), length, artist.detune),
                at,
            )
    return clip


def _render_dance(artist: Artist, size: int, beat: int, rng: np.random.Generator) -> np.ndarray:
    """Render four kicks to the bar, off-beat hats, a bass line in eighths."""
    clip = np.zeros(size)
    line = rng.integers(0, 5, 8)
    for number, at in enumerate(range(0, size, beat // 2)):
        bass = _render_saw(
            _compute_pitch(artist, int(line[number % 8]), 0), beat // 2, artist.detune
        )
        _add_sound(clip, 0.7 * bass * _make_decay(beat // 2, 0.12), at)
        if number % 2 == 0:
            _add_sound(clip, 3 * _render_drum(beat, 50, 0.05, rng), at)
        else:
            _add_sound(clip, 0.5 * _render_drum(beat // 2, 4000, 1.0, rng), at)
    return clip


def _render_folk(artist: Artist, size: int, beat: int, rng: np.random.Generator) -> np.ndarray:
    """Render plucked, arpeggiated chords; no drums."""
    clip = np.zeros(size)
    root = 0
    for number, at in enumerate(range(0, size, beat // 2)):
        if number % 8 == 0:
            root = int(rng.integers(0, 6))
        degree = root + (0, 2, 4, 7)[number % 4]
        pluck = _render_saw(_compute_pitch(artist, degree, 2), 2 * beat, artist.detune)
        _add_sound(clip, pluck * _make_decay(2 * beat, 0.25) * rng.uniform(0.6, 1.0), at)
    return clip


def _render_rock(artist: Artist, size: int, beat: int, rng: np.random.Generator) -> np.ndarray:
    """Render distorted power chords, kick and back-beat snare."""
    clip = np.zeros(size)
    for number, at in enumerate(range(0, size, beat)):
        root = int(rng.integers(0, 5))
        chord = sum(
            _render_saw(_compute_pitch(artist, d, 1), beat, artist.detune) for d in (root, root + 4)
        )
        _add_sound(clip, np.tanh(4 * np.asarray(chord)) * _make_decay(beat, 0.6), at)
        kick = number % 2 == 0
        _add_sound(clip, 2 * _render_drum(beat, 60 if kick else 180, 0.1 if kick else 1.2, rng), at)
    return clip


GENRES: dict[str, Callable[[Artist, int, int, np.random.Generator], np.ndarray]] = {
    "Ambient": _render_ambient,
    "Dance": _render_dance,
    "Folk": _render_folk,
    "Rock": _render_rock,
}
