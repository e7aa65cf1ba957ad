"""Estimates the disk space and time that a study needs, from a short measurement."""

import math
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from genreclf.audio.cores import count_available_cores
from genreclf.audio.decode import read_audio
from genreclf.audio.own_features import compute_features
from genreclf.errors import InputError
from genreclf.protocols import Dataset, DownloadableDataset, Features
from genreclf.studies.study import Study

GIB = 2**30
REPEATS = 3  # extractions that are timed
RATE = 44_100  # Hz, of the timed clip: stereo MP3, as in most collections
GENRES = 8  # of a dataset that has not been downloaded yet, as in FMA Small
TRAINED, VALIDATED = 0.7, 0.1  # shares of the tracks, as in split=stratified
FORWARD = 1 / 3  # share of a training step's time that the forward pass takes


@dataclass(frozen=True)
class Workload:
    """What a study has to process, and how fast this machine trains.

    Args:
        tracks: number of tracks, all of which are stored.
        used: number of tracks in the split of a run, by phase; see `count_used_tracks`.
        archives: size of the archives to download, in GiB.
        features: the kinds of features to store; empty if the dataset provides its own.
        outputs: the folder of the stores; it need not exist yet.
        workers: number of processes that extract features; None means one per core.
        epochs: the maximum number of epochs of a run, by phase.
        speed: training speed in clips per second; infinite for models without training steps.
        packed: whether runs share a process, in which they take turns.
    """

    tracks: int
    used: Mapping[str, float]
    archives: float
    features: Sequence[Features]
    outputs: Path
    workers: int | None
    epochs: Mapping[str, int]
    speed: float
    packed: bool = False


def describe_estimate(study: Study, workload: Workload) -> str:
    """Describe runs, disk space and time in four lines; this times extraction for some seconds."""
    runs = sum(phase.planned for phase in study.phases)
    return "\n".join(
        [
            f"{workload.tracks} tracks, {runs} training runs",
            _describe_disk(workload),
            _describe_extraction(workload),
            _describe_training(study, workload),
        ]
    )


def count_tracks(dataset: Dataset) -> list[int]:
    """Count the tracks of each genre, even if the dataset has not been downloaded yet.

    A dataset that is not there is assumed to have eight genres of the same size.

    Raises:
        InputError: the dataset cannot be read, and its size is not known in advance.
    """
    try:
        return list(Counter(track.genre for track in dataset.tracks()).values())
    except InputError:
        if not isinstance(dataset, DownloadableDataset):
            raise
        return [dataset.expected // GENRES] * GENRES


def count_used_tracks(counts: Sequence[int], tracks_per_genre: int | None) -> float:
    """Count the tracks in the split of a run.

    Args:
        counts: number of tracks of each genre.
        tracks_per_genre: maximum number of training tracks of each genre; None for all.
    """
    most = math.inf if tracks_per_genre is None else tracks_per_genre / TRAINED
    return sum(min(count, most) for count in counts)


def time_extraction(features: Features) -> float:
    """Measure the seconds that one core needs to decode a stereo MP3 and compute its features."""
    noise = np.random.default_rng(0).normal(0, 0.1, (int(features.duration * RATE), 2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp3")
        soundfile.write(path, noise, RATE)
        seconds = []
        for _ in range(1 + REPEATS):
            start = time.perf_counter()
            compute_features(features, *read_audio(path, features.sample_rate, features.duration))
            seconds.append(time.perf_counter() - start)
    return sum(seconds[1:]) / REPEATS  # the first extraction imports and compiles


def _describe_disk(workload: Workload) -> str:
    row_sizes = [4 * math.prod(features.shape) for features in workload.features]
    archives, stores = workload.archives, sum(row_sizes) * workload.tracks / GIB
    place = workload.outputs.resolve()
    existing = next(path for path in (place, *place.parents) if path.exists())
    free = shutil.disk_usage(existing).free / GIB
    # MP3s hardly compress, so the clips are as large as their archive, which is deleted afterwards.
    peak = max(2 * archives, archives + stores)
    return (
        f"disk: {archives:.1f} GiB of clips, twice that while unpacking, plus {stores:.1f} GiB of "
        f"features; {peak:.0f} GiB at peak, {free:.0f} GiB free"
    )


def _describe_extraction(workload: Workload) -> str:
    cores = workload.workers or count_available_cores()
    seconds = sum(map(time_extraction, workload.features)) * workload.tracks / cores
    return f"feature extraction: {_format_duration(seconds)} on {cores} cores"


def _describe_training(study: Study, workload: Workload) -> str:
    epochs = {phase.name: phase.planned * workload.epochs[phase.name] for phase in study.phases}
    seen = sum(number * workload.used[name] for name, number in epochs.items())
    clips = seen * (TRAINED + VALIDATED * FORWARD)
    order = "packed runs in turns, less on a GPU" if workload.packed else "one run at a time"
    return (
        f"training: at most {_format_duration(clips / workload.speed)} at {workload.speed:.1f} "
        f"clips/s, {order}: {sum(epochs.values())} epochs, fewer with early stopping"
    )


def _format_duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
