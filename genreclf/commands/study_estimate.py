"""`genreclf study --estimate`: the disk space and time that a study will need."""

import contextlib
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from genreclf.audio.own_features import get_stored
from genreclf.commands import compose, study_overrides
from genreclf.commands.instantiation import instantiate
from genreclf.errors import InputError
from genreclf.protocols import Dataset, DownloadableDataset, FeatureDataset, Features
from genreclf.studies.estimate import Workload, count_tracks, count_used_tracks, describe_estimate
from genreclf.studies.settings import TEST, StudySettings
from genreclf.studies.study import Study
from genreclf.studies.sweep import count_points, find_exclusions
from genreclf.training.speed import CLASSES, measure_training_speed


def estimate_study(config: DictConfig, settings: StudySettings, study: Study) -> str:
    """Estimate disk space and time, from the first run of each phase."""
    dataset: Dataset = instantiate(config.data)
    study.phases = [phase for phase in study.phases if phase.name != TEST]  # it trains nothing
    runs, compared = {}, {}
    for phase in study.phases:
        sweep = compose.read_sweep(phase.name)
        overrides = study_overrides.list_overrides(settings, study.overrides, phase.name, {})
        runs[phase.name] = study_overrides.compose_first_run(phase.name, sweep, overrides)
        with contextlib.suppress(InputError):  # not downloaded yet
            excluded = find_exclusions(sweep, dataset)
            sweep = {key: [t for t in texts if t not in excluded] for key, texts in sweep.items()}
            phase.planned = count_points(sweep) * len(study.seeds)
        compared |= dict.fromkeys(sweep.get("features", []))
    last = runs[study.phases[-1].name]
    if isinstance(dataset, FeatureDataset):
        features, shape = [], next(dataset.rows()).shape
    else:
        shape = instantiate(last.features).shape
        features = _make_features(config, dataset, list(compared))
    archives = dataset.archives if isinstance(dataset, DownloadableDataset) else []
    counts = count_tracks(dataset)
    workload = Workload(
        tracks=sum(counts),
        used={
            name: count_used_tracks(counts, first.tracks_per_genre) for name, first in runs.items()
        },
        archives=sum(float(entry.get("gib", 0)) for entry in archives),
        features=features,
        outputs=Path(str(config.outputs)),
        workers=config.workers,
        epochs={name: first.trainer.max_epochs for name, first in runs.items()},
        speed=measure_training_speed(
            instantiate(last.model, classes=CLASSES),
            instantiate(last.optimizer),
            last.batch_size,
            shape,
        ),
        packed="packed" in str(HydraConfig.get().runtime.choices["hydra/launcher"])
        or "hydra/launcher=packed" in study_overrides.list_sweep_options(last),
    )
    return describe_estimate(study, workload)


def _make_features(config: DictConfig, dataset: Dataset, compared: list[str]) -> list[Features]:
    """Make the features that the study stores: those that it compares, or the one it uses."""
    if not compared:
        return [get_stored(instantiate(config.features))]
    duration = f"data.duration={dataset.duration}"
    runs = (compose.compose_run([text, duration]) for text in compared)
    return [get_stored(instantiate(run.features)) for run in runs]
