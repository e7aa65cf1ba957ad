"""Sounds that are not music: noise, hum, tones, clicks, applause, telephones, engines, speech.

Each function returns 30 s at 44.1 kHz, float64 in [-1, 1]; everything is seeded.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE, SECONDS = 44100, 30
TIME = np.arange(RATE * SECONDS) / RATE
SPEECH = {
    "en": "The weather tomorrow will be mostly cloudy, with light rain in the north and sunny "
    "spells in the south. Trains between the two cities run every half hour, except on public "
    "holidays. The council has decided to renew the old bridge, which was built more than a "
    "hundred years ago. The work is expected to take three years and will cost several million. ",
    "de": "Morgen wird es meist bewölkt sein, mit leichtem Regen im Norden und Sonne im Süden. Die "
    "Züge zwischen den beiden Städten fahren alle halbe Stunde. Der Rat hat beschlossen, die alte "
    "Brücke zu erneuern, die vor mehr als hundert Jahren gebaut wurde. ",
    "fr": "Demain le temps sera nuageux, avec un peu de pluie dans le nord et du soleil dans le "
    "sud. Les trains entre les deux villes partent toutes les demi-heures. Le conseil a décidé de "
    "rénover le vieux pont, construit il y a plus de cent ans. ",
    "es": "Mañana el tiempo estará nublado, con lluvias en el norte y sol en el sur. Los trenes "
    "entre las dos ciudades salen cada media hora. El consejo ha decidido renovar el viejo puente, "
    "construido hace más de cien años. ",
}
VOICES = ("en", "en-us+f3", "en-gb+m3", "en+whisper", "de", "de+f2", "fr", "fr+f4", "es", "es+m1")


def has_speech() -> bool:
    """Whether espeak-ng is installed (Debian: apt-get install espeak-ng)."""
    return shutil.which("espeak-ng") is not None


def speak(voice: str, speed: int = 160, pitch: int = 50) -> np.ndarray:
    """Speak with espeak-ng, at a number of words per minute and a pitch from 0 to 99."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "speech.wav")
        options = ["-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(path)]
        subprocess.run(["espeak-ng", *options, 3 * SPEECH[voice[:2]]], check=True)
        samples, rate = soundfile.read(path)
    return soxr.resample(samples, rate, RATE)[: len(TIME)]


def make_noise(exponent: float, seed: int = 0) -> np.ndarray:
    """Make noise whose power falls with frequency: 0 white, 1 pink, 2 brown, -1 blue."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(len(TIME)))
    frequencies = np.fft.rfftfreq(len(TIME), 1 / RATE)
    frequencies[0] = frequencies[1]
    noise = np.fft.irfft(spectrum * frequencies ** (-exponent / 2), len(TIME))
    return 0.3 * noise / np.abs(noise).max()


def make_hum(frequency: float, seed: int = 0) -> np.ndarray:
    """Make mains hum with harmonics and a little noise."""
    random = np.random.default_rng(seed)
    harmonics = (
        np.sin(2 * np.pi * k * frequency * TIME + random.uniform(0, 6)) / k**1.5
        for k in range(1, 12)
    )
    return 0.2 * np.sum([*harmonics], axis=0) + 0.001 * random.standard_normal(len(TIME))


def make_tones(*frequencies: float) -> np.ndarray:
    """Make steady sines."""
    return 0.2 * np.mean([np.sin(2 * np.pi * f * TIME) for f in frequencies], axis=0)


def make_sweep(low: float, high: float, period: float) -> np.ndarray:
    """Make a sine that glides from one frequency to another, again and again."""
    frequency = low * (high / low) ** (TIME % period / period)
    return 0.3 * np.sin(2 * np.pi * np.cumsum(frequency) / RATE)


def make_bursts(rate: float, decay: float, seed: int = 0) -> np.ndarray:
    """Make bursts of noise at random times: clicks in silence if few, applause if many."""
    random = np.random.default_rng(seed)
    sound = np.zeros(len(TIME))
    burst = np.exp(-np.arange(int(8 * decay * RATE)) / (decay * RATE))
    for start in random.integers(0, len(TIME) - len(burst), int(rate * SECONDS)):
        level = random.uniform(0.2, 1)
        sound[start : start + len(burst)] += level * burst * random.standard_normal(len(burst))
    return 0.7 * sound / np.abs(sound).max()


def make_telephone(seed: int = 0) -> np.ndarray:
    """Make touch tones of random digits with pauses."""
    random, sound, start = np.random.default_rng(seed), np.zeros(len(TIME)), 0
    while start < len(TIME):
        part = TIME[start : start + int(random.uniform(0.1, 0.3) * RATE)]
        pair = random.choice([697, 770, 852, 941]), random.choice([1209, 1336, 1477])
        sound[start : start + len(part)] = sum(np.sin(2 * np.pi * f * part) for f in pair)
        start += len(part) + int(random.uniform(0.05, 0.3) * RATE)
    return 0.2 * sound


def make_engine(frequency: float, seed: int = 0) -> np.ndarray:
    """Make the sound of an engine whose speed wavers: many harmonics and low noise."""
    random = np.random.default_rng(seed)
    speed = frequency * (1 + 0.15 * np.sin(2 * np.pi * TIME / 7))
    speed += np.cumsum(random.standard_normal(len(TIME))) / 2 / RATE**0.5
    phase = 2 * np.pi * np.cumsum(speed) / RATE
    harmonics = (random.uniform(0.3, 1) / k * np.sin(k * phase) for k in range(1, 25))
    sound = np.sum([*harmonics], axis=0)
    return 0.3 * (sound / np.abs(sound).max() + make_noise(2, seed))


def make_surf(exponent: float, period: float, seed: int = 0) -> np.ndarray:
    """Make noise that swells and falls, like surf or wind."""
    return make_noise(exponent, seed) * (0.55 + 0.45 * np.sin(2 * np.pi * TIME / period))


def make_siren(low: float, high: float, period: float) -> np.ndarray:
    """Make a siren of two alternating tones."""
    frequency = np.where(TIME % period < period / 2, low, high)
    phase = 2 * np.pi * np.cumsum(frequency) / RATE
    return 0.2 * sum(np.sin(k * phase) / k for k in (1, 2, 3))  # pyright: ignore


def list_sounds() -> Iterator[tuple[str, np.ndarray]]:
    """Yield the kind and the samples of each sound; without speech if espeak-ng is missing."""
    for seed in range(4):
        for kind, exponent in (("white", 0), ("pink", 1), ("brown", 2), ("blue", -1)):
            yield f"{kind} noise", make_noise(exponent, seed)
        yield "clicks in silence", make_bursts((0.3, 1, 3, 10)[seed], 0.001, seed)
        yield "applause", make_bursts((30, 60, 200, 800)[seed], 0.004, seed)
        yield "telephone", make_telephone(seed)
        yield "engine", make_engine((30, 55, 80, 200)[seed], seed)
        yield "surf", make_surf((0, 0.5, 1, 1.5)[seed], (4, 6, 8, 10)[seed], seed)
    for frequency in (50, 60, 100, 150):
        yield "hum", make_hum(frequency)
        yield "siren", make_siren(5 * frequency, 6.5 * frequency, frequency / 100)
    for frequency in (220, 440, 1000, 8000):
        yield "sine", make_tones(frequency)
        yield "chord of sines", make_tones(frequency / 2, frequency * 0.6, frequency * 0.75)
    for low, high, period in ((50, 10000, 30), (100, 5000, 5), (20, 20000, 10), (9000, 100, 15)):
        yield "sweep", make_sweep(low, high, period)
    if has_speech():
        for voice in VOICES:
            for speed, pitch in ((120, 40), (160, 50), (220, 70)):
                yield "speech", speak(voice, speed, pitch)
