"""`genreclf spectrogram`: the features of a clip, and what a checkpoint makes of them."""

import logging
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genreclf.audio import decode
from genreclf.audio.features import MFCC, Chroma, Computed, MelFrames, Waveform
from genreclf.audio.tags import read_tags
from genreclf.audio.workers import extract
from genreclf.errors import InputError
from genreclf.figures import style
from genreclf.models.checkpoint import Trained

log = logging.getLogger(__name__)
PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
FREQUENCIES = (250, 500, 1000, 2000, 4000, 8000, 16000)  # Hz, that are marked
LEVELS = 64  # of colour: as good as 256 to the eye, and half the size as a file
GENRES = 8  # that are shown, the most probable first


@dataclass(frozen=True)
class Clip:
    """What is drawn."""

    title: str
    features: Computed
    values: np.ndarray  # (bins, frames)
    sample_rate: int  # Hz
    seconds: float  # that were decoded

    @property
    def end(self) -> float:
        """Time of the last frame in seconds; a short clip is followed by silence up to there."""
        return self.seconds if isinstance(self.features, MelFrames) else self.features.duration


@dataclass(frozen=True)
class ClipPrediction:
    """What a trained net makes of a clip."""

    scores: dict[str, float]  # probability of each genre, the greatest first
    axis: str = ""  # of attention, time or frequency; empty for a net without any
    weights: np.ndarray | None = None  # (steps,) of the attention; their sum is 1


def read_clip(path: Path, features: Computed) -> Clip:
    """Decode a file and compute its features.

    Raises:
        InputError: no such file, or it does not decode.
    """
    row = extract(str(path), features)
    if isinstance(row, str):
        raise InputError(f"clip={path}: {row}")
    rate = features.sample_rate or decode.read_audio(path, None, features.duration)[1]
    return Clip(read_title(path), features, row[0], rate, row[1])


def read_title(path: Path) -> str:
    """Title and artist from the tags, else the name of the file."""
    tags = read_tags(path)
    name, artist = tags["title"], tags["artist"]
    text = f"{name} by {artist}" if name and artist else name or path.name
    # No SVG may hold control characters.
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return textwrap.shorten(plain, 70, placeholder=" ...")


def predict_clip(trained: Trained, values: np.ndarray) -> ClipPrediction:
    """What the net of a checkpoint makes of features (bins, frames)."""
    net: Any = trained.net
    with torch.no_grad():
        batch = trained.normalise(torch.from_numpy(values)[None])
        scores = net(batch)[0].softmax(dim=0).numpy()
        ranked = {trained.classes[n]: float(scores[n]) for n in np.argsort(-scores, kind="stable")}
        if not hasattr(net, "attention_weights"):
            return ClipPrediction(ranked)
        return ClipPrediction(ranked, net.axis, net.attention_weights(batch)[0].numpy())


def draw_clip(clip: Clip, opinion: ClipPrediction | None = None) -> Figure:
    """Features over time with their scale; attention along its axis; genres below."""
    axis = opinion.axis if opinion is not None else ""
    scores = list(opinion.scores.items())[:GENRES] if opinion is not None else []
    right = ["frequency"] * (axis == "frequency") + ["scale"]
    below = ["time"] * (axis == "time") + ["genres"] * bool(scores)
    inches = {"features": 1.6, "time": 0.4, "genres": 0.14 * len(scores)}
    mosaic: list[Any] = [["features", *right], *([name, *["."] * len(right)] for name in below)]
    with mpl.rc_context({**style.STYLE, "font.size": 8, "axes.grid": False}):
        height = 0.6 + inches["features"] + sum(0.4 + inches[name] for name in below)
        figure = Figure(figsize=(4.5, height), layout="constrained")
        axes = figure.subplot_mosaic(
            mosaic,
            width_ratios=[1, 0.12, 0.03] if len(right) > 1 else [1, 0.03],
            height_ratios=[inches[name] for name in ["features", *below]],
        )
        axes["features"].set_title(clip.title, fontsize=9, parse_math=False)
        short = opinion is None and clip.seconds < clip.end - 0.5  # a net hears the silence as well
        axes["features"].set(xlim=(0, clip.seconds if short else clip.end), xlabel="time, s")
        _draw_features(axes["features"], axes["scale"], clip)
        if opinion is not None and opinion.weights is not None:
            _draw_attention(axes[axis], axes["features"], clip, opinion)
        if scores:
            _draw_genres(axes["genres"], dict(scores))
    return figure


def _draw_features(axes: Axes, scale: Axes, clip: Clip) -> None:
    """The features, and the scale of their colours beside them."""
    features, values = clip.features, clip.values
    bins, _ = values.shape
    colours, label = mpl.colormaps["magma"], ""
    if isinstance(features, Waveform):
        scale.set_axis_off()
        _draw_waveform(axes, clip)
        return
    if isinstance(features, Chroma):
        low, high = 0.0, 1.0
        axes.set_ylabel("pitch class")
        axes.set_yticks(range(bins), PITCHES if bins == len(PITCHES) else None, fontsize=6)
    elif isinstance(features, MFCC):
        high = float(np.percentile(np.abs(values[1:]), 99.5)) if bins > 1 else 1.0
        low = -high  # the first coefficient, far below the others, is cut off
        colours = mpl.colormaps["RdBu_r"]
        axes.set_ylabel("coefficient")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        low, high, label = -features.top_db, 0.0, "dB"
        _mark_frequencies(axes, bins, clip.sample_rate)
    image = axes.imshow(
        values,
        colours.resampled(LEVELS),
        vmin=low,
        vmax=high,
        origin="lower",
        aspect="auto",
        extent=(0, clip.end, -0.5, bins - 0.5),
        interpolation="none",  # a vector format then holds the frames as they are
    )
    axes.figure.colorbar(image, cax=scale, label=label)


def _mark_frequencies(axes: Axes, bins: int, sample_rate: int) -> None:
    """Hz at the mel filters, numbered from 0, that have their peaks there."""
    import librosa  # slow to import

    peaks = librosa.mel_frequencies(bins + 2, fmin=0, fmax=sample_rate / 2)[1:-1]
    marked = [frequency for frequency in FREQUENCIES if peaks[0] <= frequency <= peaks[-1]]
    axes.set_yticks(np.interp(marked, peaks, range(bins)), [f"{f:,}" for f in marked])
    axes.set_ylabel("frequency, Hz")


def _draw_waveform(axes: Axes, clip: Clip) -> None:
    """Least and greatest sample of a thousand stretches, which is all that can be seen."""
    stretches = np.array_split(clip.values[0], min(1000, clip.values.shape[1]))
    low, high = zip(*((part.min(), part.max()) for part in stretches), strict=True)
    times = (np.arange(len(stretches)) + 0.5) * clip.end / len(stretches)
    axes.fill_between(times, low, high, color=style.COLOURS[0], linewidth=0.3)
    axes.set_ylabel("amplitude")


def _draw_attention(axes: Axes, main: Axes, clip: Clip, opinion: ClipPrediction) -> None:
    """Weight of each step in percent, along the axis of the features that it belongs to."""
    assert opinion.weights is not None
    in_time = opinion.axis == "time"
    size = clip.values.shape[1 if in_time else 0]
    edges = np.arange(len(opinion.weights) + 1) * (size // len(opinion.weights))
    places = edges * clip.end / size if in_time else edges - 0.5
    orientation = "vertical" if in_time else "horizontal"
    colour = style.COLOURS[1]
    axes.stairs(100 * opinion.weights, places, fill=True, color=colour, orientation=orientation)
    if in_time:
        axes.sharex(main)
        main.tick_params(labelbottom=False)
        main.set_xlabel("")
        axes.set(xlabel="time, s", ylabel="attention,\n%", ylim=(0, None))
    else:
        axes.sharey(main)
        axes.tick_params(labelleft=False)
        axes.set(xlabel="attention, %", xlim=(0, None))


def _draw_genres(axes: Axes, scores: dict[str, float]) -> None:
    """Probability of each genre, the greatest first."""
    percent = [100 * score for score in scores.values()]
    bars = axes.barh(range(len(scores)), percent, color=style.COLOURS[0])
    axes.bar_label(bars, fmt="%.1f %%", padding=2, fontsize=7)
    axes.set_yticks(range(len(scores)), list(scores), parse_math=False)
    axes.set(xlim=(0, 100), xlabel="probability, %")
    axes.invert_yaxis()
