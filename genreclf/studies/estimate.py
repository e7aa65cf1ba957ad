"""What a study will take of disk and time: a short measurement, before it begins."""

import math
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch.nn.functional import cross_entropy

from genreclf.audio.features import Computed
from genreclf.audio.workers import count_available_cores, extract
from genreclf.data.datasets import FMA, Dataset, Npz
from genreclf.errors import InputError
from genreclf.studies import sweep
from genreclf.studies.study import Study

GIB = 2**30
STEPS = 3  # that are timed
RATE = 44_100  # Hz, of the clip that is timed: stereo MP3, as most collections are
TRAINED, VALIDATED = 0.7, 0.1  # share of the tracks, in split=stratified
FORWARD = 1 / 3  # of the time of a training step, which goes forward, back and updates


def describe_estimate(config: DictConfig, study: Study) -> str:
    """A few lines for the user.

    Args:
        config: of the study.
        study: as it is given, not begun.
    """
    dataset = instantiate(config.data)
    count = count_tracks(dataset)
    configs = {phase.name: _compose_phase(config, study, phase.name) for phase in study.phases}
    features = _list_stored_features(dataset, config)
    return "\n".join(
        [
            f"{count} tracks, {sum(phase.planned for phase in study.phases)} training runs",
            _describe_disk(config, features, count),
            _describe_extraction(config, features, count),
            _describe_training(configs, study, dataset, count),
        ]
    )


def count_tracks(dataset: Dataset) -> int:
    """How many tracks there are, or will be once they are downloaded."""
    try:
        return len(dataset.tracks())
    except InputError:
        if not isinstance(dataset, FMA):
            raise
        return dataset.expected


def _compose_phase(config: DictConfig, study: Study, phase: str) -> DictConfig:
    """Of the first run of a phase."""
    varied = sweep.read_sweep(phase)
    settings = [*config.study.begin, *study.overrides, *config.study.also.get(phase, [])]
    first = [overrides[0] for overrides in varied.values()]
    return sweep.compose_run([f"phase={phase}", *first, *sweep.drop_varied(settings, varied)])


def _list_stored_features(dataset: Dataset, config: DictConfig) -> list[Computed]:
    """Those that are stored: what the phase of features compares, or the one kind there is."""
    if isinstance(dataset, Npz):
        return []
    options = sweep.read_sweep("features")["features"] if "features" in config.study.phases else []
    kinds = [
        sweep.compose_run([text, f"data.duration={dataset.duration}"]).features for text in options
    ]
    return [instantiate(kind) for kind in kinds or [config.features]]


def _describe_disk(config: DictConfig, stored: list[Computed], count: int) -> str:
    archives = sum(float(entry["gib"]) for entry in config.data.get("archives") or [])
    sizes = [4 * np.prod(features.shape) for features in stored]
    stores = float(sum(sizes)) * count / GIB
    place = Path(str(config.outputs)).resolve()
    there = next(path for path in (place, *place.parents) if path.exists())
    free = shutil.disk_usage(there).free / GIB
    # MP3s do not shrink in an archive, which is deleted once it is unpacked.
    most = max(2 * archives, archives + stores)
    return (
        f"disk: {archives:.1f} GiB of clips, as much again while they are unpacked, then "
        f"{stores:.1f} GiB of features: {most:.0f} GiB at most; {free:.0f} GiB are free"
    )


def _describe_extraction(config: DictConfig, stored: list[Computed], count: int) -> str:
    cores = config.workers or count_available_cores()
    seconds = sum(map(time_extraction, stored)) * count / cores
    return f"decoding and features: {_format_duration(seconds)} on {cores} cores"


def time_extraction(features: Computed) -> float:
    """To decode a stereo MP3 of the features' duration and compute them, on one core."""
    noise = np.random.default_rng(0).normal(0, 0.1, (int(features.duration * RATE), 2))
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "clip.mp3"))
        soundfile.write(path, noise, RATE)
        extract(path, features)  # imports and compiles what it needs
        begun = time.perf_counter()
        for _ in range(STEPS):
            extract(path, features)
    return (time.perf_counter() - begun) / STEPS


def _describe_training(
    configs: dict[str, DictConfig], study: Study, dataset: Dataset, count: int
) -> str:
    last = configs[study.phases[-1].name]
    speed = time_training(last, _find_shape(last, dataset))
    passes = {p.name: p.planned * configs[p.name].trainer.max_epochs for p in study.phases}
    clips = sum(passes.values()) * count * (TRAINED + VALIDATED * FORWARD)
    return (
        f"training: {_format_duration(clips / speed)} at most, at {speed:.1f} clips/s and "
        f"one run at a "
        f"time: {sum(passes.values())} epochs, of which early stopping saves many"
    )


def _find_shape(config: DictConfig, dataset: Dataset) -> tuple[int, int]:
    """(bins, frames) of the features; those of an archive are read from it."""
    if isinstance(dataset, Npz):
        return next(dataset.rows()).shape
    return instantiate(config.features).shape


def time_training(config: DictConfig, shape: tuple[int, int]) -> float:
    """Of training, forward, back and update, on the device that it would take."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net: Any = instantiate(config.model, classes=8).to(device)
    if not any(True for _ in net.parameters()):
        return math.inf  # fitted at once, in seconds
    optimizer = instantiate(config.optimizer)(net.parameters())
    batch = torch.randn(config.batch_size, *shape, device=device)
    labels = torch.arange(config.batch_size, device=device) % 8

    def step() -> None:
        optimizer.zero_grad()
        loss = cross_entropy(net(batch), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device

    step()  # the first one sets up
    begun = time.perf_counter()
    for _ in range(STEPS):
        step()
    return STEPS * config.batch_size / (time.perf_counter() - begun)


def _format_duration(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
