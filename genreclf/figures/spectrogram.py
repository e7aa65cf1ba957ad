"""Draws the features of a clip over time, with what a trained model predicts from them."""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genreclf.audio.pool import map_in_order
from genreclf.audio.sound_files import DecodeError
from genreclf.audio.tags import read_tags
from genreclf.audio.workers import extract_with_rate
from genreclf.errors import InputError
from genreclf.figures import style
from genreclf.paths import explain_irregular, format_path

PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
FREQUENCIES = (250, 500, 1000, 2000, 4000, 8000, 16000)  # Hz, labelled on the axis
LEVELS = 64  # of colour: as good as 256 to the eye, and half the size as a file
GENRES = 8  # maximum number shown, the most probable first


def mark_frequencies(bins: int, sample_rate: int | None) -> Mapping[float, str]:
    """Label mel filters by frequency in Hz; filter 0 is the lowest."""
    assert sample_rate is not None
    import librosa  # slow to import

    peaks = librosa.mel_frequencies(bins + 2, fmin=0, fmax=sample_rate / 2)[1:-1]
    marked = [frequency for frequency in FREQUENCIES if peaks[0] <= frequency <= peaks[-1]]
    places = np.interp(marked, peaks, range(bins))
    return {float(place): f"{each:,}" for place, each in zip(places, marked, strict=True)}


def find_spread(values: np.ndarray) -> tuple[float, float]:
    """Find a range around 0 with most values of all bins except the first, which is far larger."""
    high = float(np.percentile(np.abs(values[1:]), 99.5)) if len(values) > 1 else 1.0
    return -high, high


def mark_pitches(bins: int, sample_rate: int | None) -> Mapping[float, str]:
    """Label the twelve pitch classes; a finer or coarser division has no names."""
    return dict(enumerate(PITCHES)) if bins == len(PITCHES) else {}


@dataclass(frozen=True)
class Display:
    """How features are drawn. A feature class of your own may have any of these attributes.

    Args:
        bin_label: label of the vertical axis.
        value_label: label of the colour scale.
        value_range: ends of the colour scale, or a function of values (bins, frames) that returns
            them; None for the smallest and largest value. A range that is symmetric about 0 gets
            colours that diverge from there.
        bin_ticks: labels by position on the vertical axis, where bin 0 is at 0; or a function of
            the number of bins and the sample rate in Hz (None if unknown) that returns them.
        padded: whether a short clip is padded with silence, up to the features' `duration`.
    """

    bin_label: str = "bin"
    value_label: str = "value"
    value_range: tuple[float, float] | Callable[[np.ndarray], tuple[float, float]] | None = None
    bin_ticks: Mapping[float, str] | Callable[[int, int | None], Mapping[float, str]] | None = None
    padded: bool = True


MEL = Display("frequency, Hz", "dB", bin_ticks=mark_frequencies)
DISPLAYS = {  # of the features that come with genreclf, by their names
    "mel": MEL,
    "mel_frames": replace(MEL, padded=False),
    "mfcc": Display("coefficient", "", find_spread),
    "chroma": Display("pitch class", "", (0.0, 1.0), mark_pitches),
    "waveform": Display("amplitude", ""),
    "precomputed": Display(padded=False),
}


def get_display(features: Any) -> Display:
    """Return how features are drawn: by `DISPLAYS`, unless they have attributes of their own."""
    own = {field.name: getattr(features, field.name, None) for field in fields(Display)}
    known = {name: value for name, value in own.items() if value is not None}
    return replace(DISPLAYS.get(features.name, Display()), **known)


@dataclass(frozen=True)
class Clip:
    """A clip to be drawn.

    Args:
        title: title of the figure.
        display: how its features are drawn.
        values: features (bins, frames).
        sample_rate: sample rate in Hz of the waveform they were made from; None if unknown.
        seconds: number of seconds that were decoded.
        end: time in seconds where the last frame ends; silence fills what was not decoded.
    """

    title: str
    display: Display
    values: np.ndarray
    sample_rate: int | None
    seconds: float
    end: float


@dataclass(frozen=True)
class ClipPrediction:
    """What a trained model predicts for a clip.

    Args:
        scores: probability of each genre, highest first.
        axis: axis of the attention, "time" or "frequency"; empty for a model without attention.
        weights: attention (steps,), which sums to 1; None for a model without attention.
    """

    scores: dict[str, float]
    axis: str = ""
    weights: np.ndarray | None = None


def make_clip(
    title: str, features: Any, values: np.ndarray, sample_rate: int | None, seconds: float
) -> Clip:
    """Prepare the features (bins, frames) of a clip for drawing."""
    display = get_display(features)
    if sample_rate is None and display.bin_ticks is mark_frequencies:
        display = replace(display, bin_label="mel filter", bin_ticks=None)
    end = features.duration if display.padded else seconds
    return Clip(title, display, values, sample_rate, seconds, end)


def read_clip(path: Path, features: Any) -> Clip:
    """Decode a file and compute its features, in a process that is watched.

    Raises:
        InputError: there is no such file, or it does not decode.
    """
    if fault := explain_irregular(path):
        raise InputError(f"clip={format_path(path)}: {fault}")
    (row,) = map_in_order(partial(extract_with_rate, features=features), [str(path)], 1)
    if isinstance(row, str | DecodeError):
        raise InputError(f"clip={format_path(path)}: {row}")
    values, seconds, rate = row
    return make_clip(read_title(path), features, values, rate, seconds)


def read_title(path: Path) -> str:
    """Read title and artist from the tags; without a title, return the name of the file."""
    tags = read_tags(path)
    name, artist = tags["title"], tags["artist"]
    text = f"{name} by {artist}" if name and artist else name or path.name
    # An SVG must not contain control characters.
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return textwrap.shorten(plain, 70, placeholder=" ...")


def draw_clip(clip: Clip, prediction: ClipPrediction | None = None) -> Figure:
    """Draw features over time with their colour scale, attention along its axis, and genres."""
    axis = prediction.axis if prediction is not None else ""
    scores = list(prediction.scores.items())[:GENRES] if prediction is not None else []
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
        short = prediction is None and clip.seconds < clip.end - 0.5  # a model sees the silence
        axes["features"].set(xlim=(0, clip.seconds if short else clip.end), xlabel="time, s")
        _draw_features(axes["features"], axes["scale"], clip)
        if prediction is not None and prediction.weights is not None:
            _draw_attention(axes[axis], axes["features"], clip, prediction)
        if scores:
            _draw_genres(axes["genres"], dict(scores))
    return figure


def _draw_features(axes: Axes, scale: Axes, clip: Clip) -> None:
    """Draw the features, with the scale of their colours next to them; one bin as a curve."""
    display, values = clip.display, clip.values
    axes.set_ylabel(display.bin_label)
    if len(values) == 1:
        scale.set_axis_off()
        _draw_waveform(axes, clip)
        return
    ticks, limits = display.bin_ticks, display.value_range
    ticks = ticks(len(values), clip.sample_rate) if callable(ticks) else ticks
    low, high = (limits(values) if callable(limits) else limits) or (values.min(), values.max())
    if ticks:
        axes.set_yticks(list(ticks), list(ticks.values()), fontsize=6 if len(ticks) > 8 else None)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    image = axes.imshow(
        values,
        mpl.colormaps["RdBu_r" if low == -high else "magma"].resampled(LEVELS),
        vmin=low,
        vmax=high,
        origin="lower",
        aspect="auto",
        extent=(0, clip.end, -0.5, len(values) - 0.5),
        interpolation="none",  # a vector format then holds the frames as they are
    )
    axes.figure.colorbar(image, cax=scale, label=display.value_label)


def _draw_waveform(axes: Axes, clip: Clip) -> None:
    """Draw the smallest and largest sample of a thousand stretches: finer detail is invisible."""
    stretches = np.array_split(clip.values[0], min(1000, clip.values.shape[1]))
    low, high = zip(*((part.min(), part.max()) for part in stretches), strict=True)
    times = (np.arange(len(stretches)) + 0.5) * clip.end / len(stretches)
    axes.fill_between(times, low, high, color=style.COLOURS[0], linewidth=0.3)


def _draw_attention(axes: Axes, main: Axes, clip: Clip, prediction: ClipPrediction) -> None:
    """Draw the weight of each step in percent, along the axis of the attention."""
    assert prediction.weights is not None
    in_time = prediction.axis == "time"
    size = clip.values.shape[1 if in_time else 0]
    edges = np.arange(len(prediction.weights) + 1) * (size // len(prediction.weights))
    places = edges * clip.end / size if in_time else edges - 0.5
    orientation = "vertical" if in_time else "horizontal"
    colour = style.COLOURS[1]
    axes.stairs(100 * prediction.weights, places, fill=True, color=colour, orientation=orientation)
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
    """Draw the probability of each genre, highest first."""
    percent = [100 * score for score in scores.values()]
    bars = axes.barh(range(len(scores)), percent, color=style.COLOURS[0])
    axes.bar_label(bars, fmt="%.1f %%", padding=2, fontsize=7)
    axes.set_yticks(range(len(scores)), list(scores), parse_math=False)
    axes.set(xlim=(0, 100), xlabel="probability, %")
    axes.invert_yaxis()
