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

from genreclf import sweep
from genreclf.corpora import FMA, Corpus, Npz
from genreclf.errors import InputError
from genreclf.extraction import available_cores, extract
from genreclf.features import Computed
from genreclf.phase import Study

GIB = 2**30
STEPS = 3  # that are timed
RATE = 44_100  # Hz, of the clip that is timed: stereo MP3, as most collections are
TRAINED, VALIDATED = 0.7, 0.1  # share of the tracks, in split=stratified
FORWARD = 1 / 3  # of the time of a training step, which goes forward, back and updates


def describe(config: DictConfig, study: Study) -> str:
    """A few lines for the user.

    Args:
        config: of the study.
        study: as it is given, not begun.
    """
    corpus = instantiate(config.data)
    count = track_count(corpus)
    configs = {phase.name: _config(config, study, phase.name) for phase in study.phases}
    features = _features(corpus, config)
    return "\n".join(
        [
            f"{count} tracks, {sum(phase.planned for phase in study.phases)} training runs",
            _disk(config, features, count),
            _extraction(config, features, count),
            _training(configs, study, corpus, count),
        ]
    )


def track_count(corpus: Corpus) -> int:
    """How many tracks there are, or will be once they are downloaded."""
    try:
        return len(corpus.tracks())
    except InputError:
        if not isinstance(corpus, FMA):
            raise
        return corpus.expected


def _config(config: DictConfig, study: Study, phase: str) -> DictConfig:
    """Of the first run of a phase."""
    varied = sweep.swept(phase)
    settings = [*config.study.begin, *study.overrides, *config.study.also.get(phase, [])]
    first = [overrides[0] for overrides in varied.values()]
    return sweep.compose([f"phase={phase}", *first, *sweep.fixed(settings, varied)])


def _features(corpus: Corpus, config: DictConfig) -> list[Computed]:
    """Those that are stored: what the phase of features compares, or the one kind there is."""
    if isinstance(corpus, Npz):
        return []
    options = sweep.swept("features")["features"] if "features" in config.study.phases else []
    kinds = [sweep.compose([text, f"data.duration={corpus.duration}"]).features for text in options]
    return [instantiate(kind) for kind in kinds or [config.features]]


def _disk(config: DictConfig, stored: list[Computed], count: int) -> str:
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


def _extraction(config: DictConfig, stored: list[Computed], count: int) -> str:
    cores = config.workers or available_cores()
    seconds = sum(map(seconds_per_clip, stored)) * count / cores
    return f"decoding and features: {_duration(seconds)} on {cores} cores"


def seconds_per_clip(features: Computed) -> float:
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


def _training(configs: dict[str, DictConfig], study: Study, corpus: Corpus, count: int) -> str:
    last = configs[study.phases[-1].name]
    speed = clips_per_second(last, _shape(last, corpus))
    passes = {p.name: p.planned * configs[p.name].trainer.max_epochs for p in study.phases}
    clips = sum(passes.values()) * count * (TRAINED + VALIDATED * FORWARD)
    return (
        f"training: {_duration(clips / speed)} at most, at {speed:.1f} clips/s and one run at a "
        f"time: {sum(passes.values())} epochs, of which early stopping saves many"
    )


def _shape(config: DictConfig, corpus: Corpus) -> tuple[int, int]:
    """(bins, frames) of the features; those of an archive are read from it."""
    if isinstance(corpus, Npz):
        return next(corpus.rows()).shape
    return instantiate(config.features).shape


def clips_per_second(config: DictConfig, shape: tuple[int, int]) -> float:
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


def _duration(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
