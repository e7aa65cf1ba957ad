"""`genreclf study`: phases of training runs, each starting from what the previous one chose.

Each phase is a Hydra multirun, `genreclf train -m phase=NAME ...`, in its own process. The
overrides of its winner are passed on to the next phase. Finished runs are not repeated, so an
interrupted study resumes when it is started again.
"""

import logging
import multiprocessing
import os
import shlex
import time
from collections.abc import Container
from itertools import product
from pathlib import Path

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from genreclf.audio.own_features import get_stored
from genreclf.audio.workers import exit_with_parent
from genreclf.commands import compose, hydra_app
from genreclf.commands.run_folder import set_output_folder
from genreclf.errors import InputError
from genreclf.evaluation.metrics import LOGGED
from genreclf.protocols import Dataset, DownloadableDataset, FeatureDataset, Features
from genreclf.studies import status
from genreclf.studies.study import Phase, Study
from genreclf.studies.sweep import drop_swept, get_key, plan_phase

log = logging.getLogger(__name__)
OWN_KEYS = ("study", "status", "retry", "estimate", "report")  # not passed on to the training runs


def run(config: DictConfig) -> None:
    """Run what is left of the study, write its report and print the path of the page."""
    if config.status:
        print(status.describe_studies(Path(config.outputs)))
        return
    study = _make_study(config)
    if config.estimate:
        print(_estimate(config, study))
        return
    folder = _choose_folder(config)
    set_output_folder(folder)
    with FileLock(folder / status.LOCK):
        print(_run_phases(config, study, folder))


def _choose_folder(config: DictConfig) -> Path:
    """Choose the study's folder, named after its settings and the content of its data."""
    from genreclf.commands.identity import digest_run, join_hydra  # --status needs no h5py
    from genreclf.commands.stores import find_store
    from genreclf.data.store import digest_values

    store, choices = find_store(config), HydraConfig.get().runtime.choices
    settings = OmegaConf.to_container(config.study, resolve=True)
    data = digest_values([store.source.audio, store.source.table])
    digest = digest_run(join_hydra(config), data, {"study": digest_values(settings)})
    name = f"{choices['study']}-{store.source.dataset}-{digest}"
    return Path(str(config.outputs)) / "study" / name


def _make_study(config: DictConfig) -> Study:
    """Make the study from its config; none of its phases is planned yet.

    Raises:
        InputError: no phases or seeds, a metric that is not logged, or an override of something
            that the study itself decides.
    """
    settings = config.study
    if settings.metric is not None and settings.metric not in LOGGED:
        raise InputError(f"study.metric={settings.metric}: choose one of {', '.join(LOGGED)}")
    if not settings.phases or not settings.seeds:
        raise InputError("study.phases and study.seeds: give at least one of each")
    overrides = HydraConfig.get().overrides.task
    given = [text for text in overrides if get_key(text).partition(".")[0] not in OWN_KEYS]
    phases = [Phase(name) for name in settings.phases]
    for phase in phases:
        sweep = compose.read_sweep(phase.name)
        phase.planned = len(list(product(*sweep.values()))) * len(settings.seeds)
        others = [other.name for other in phases if other is not phase]
        _check_overrides(given, phase.name, sweep, others)
    name = str(HydraConfig.get().runtime.choices["study"])
    command = ["study", *compose.list_hydra_options(), *overrides]
    return Study(name, settings.metric, list(settings.seeds), given, phases, command)


def _check_overrides(
    given: list[str], phase: str, sweep: Container[str], others: list[str]
) -> None:
    """Refuse overrides of anything that the study itself decides."""
    for text in given:
        key = get_key(text)
        if key in ("seed", "phase"):
            raise InputError(f"{text}: use study.{key}s=[...] instead")
        if key in sweep:
            raise InputError(
                f"{text}: phase {phase} chooses {key}; remove this override, or skip the phase: "
                f"study.phases=[{','.join(others)}]"
            )


def _run_phases(config: DictConfig, study: Study, folder: Path) -> Path:
    """Plan, run and report one phase after the other; return the path of the page.

    Raises:
        InputError: a phase ended without a choice.
    """
    from genreclf.report.study import PAGE, write_study_report  # --status needs no Matplotlib

    study.write(folder)
    settings = {get_key(text): text for text in config.study.overrides}
    dataset: Dataset = instantiate(config.data)
    for phase in study.phases:
        plan_phase(
            phase,
            compose.read_sweep(phase.name),
            [*settings.values(), *study.overrides, *_list_phase_overrides(config, phase)],
            study.seeds,
            dataset,
            compose.find_run_folder,
            compose.list_hydra_options(),
        )
        study.write(folder)
        if config.retry:
            phase.forget_exhausted_runs()
        ran = bool(phase.points) and _run_phase(phase, folder)
        if phase.points:
            phase.choose_winner(study.metric)
            study.write(folder)
        if phase.chosen:
            settings |= {get_key(text): text for text in phase.chosen.overrides}
        if ran or phase.error or phase is study.phases[-1]:
            write_study_report(study, folder)
        if phase.error:
            raise InputError(f"{phase.error} (its log: {folder / phase.name}.log)")
        log.info("%s", status.describe_outcome(phase, study.metric))
    return folder / PAGE


def _list_phase_overrides(config: DictConfig, phase: Phase) -> list[str]:
    return list(config.study.phase_overrides.get(phase.name, []))


def _run_phase(phase: Phase, folder: Path) -> bool:
    """Run the unfinished runs in a separate process with its own log, and show their progress.

    Return whether there was anything to run.
    """
    log.info("%s: genreclf %s", phase.name, shlex.join(phase.command))
    if phase.count_finished() == phase.count_runs():
        return False
    context = multiprocessing.get_context("spawn")
    file = folder / f"{phase.name}.log"
    os.environ["WANDB_RUN_GROUP"] = folder.name
    process = context.Process(target=_run_sweep, args=(phase.command, str(file)))
    with status.show_progress(phase) as update:
        process.start()
        try:
            while process.is_alive():
                process.join(1)
                update()
        except KeyboardInterrupt:  # the terminal has interrupted that process, too
            process.join(30)
            raise
        finally:
            process.terminate()
            process.join()
    if process.exitcode == 130:
        raise KeyboardInterrupt
    return True


def _run_sweep(command: list[str], file: str) -> None:
    """Run one command in this process, with all its output appended to a file."""
    exit_with_parent()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    print(f"\n{time.strftime('%F %T')} genreclf {shlex.join(command)}", flush=True)
    hydra_app.keep_interrupts()
    hydra_app.run("train", "config", command[1:])


def _estimate(config: DictConfig, study: Study) -> str:
    """Estimate disk space and time, from the first run of each phase."""
    from genreclf.studies.estimate import (
        Workload,
        count_tracks,
        count_used_tracks,
        describe_estimate,
    )
    from genreclf.training.speed import CLASSES, measure_training_speed  # imports PyTorch

    runs = {phase.name: _compose_first_run(config, study, phase) for phase in study.phases}
    last = runs[study.phases[-1].name]
    dataset: Dataset = instantiate(config.data)
    if isinstance(dataset, FeatureDataset):
        features, shape = [], next(dataset.rows()).shape
    else:
        features, shape = _make_features(config, dataset), instantiate(last.features).shape
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
    )
    return describe_estimate(study, workload)


def _compose_first_run(config: DictConfig, study: Study, phase: Phase) -> DictConfig:
    sweep = compose.read_sweep(phase.name)
    first = [overrides[0] for overrides in sweep.values()]
    settings = [*config.study.overrides, *study.overrides, *_list_phase_overrides(config, phase)]
    return compose.compose_run([f"phase={phase.name}", *first, *drop_swept(settings, sweep)])


def _make_features(config: DictConfig, dataset: Dataset) -> list[Features]:
    """Make the features that the study stores: those that it compares, or the one it uses."""
    if "features" not in config.study.phases:
        return [get_stored(instantiate(config.features))]
    compared = compose.read_sweep("features")["features"]
    duration = f"data.duration={dataset.duration}"
    runs = (compose.compose_run([text, duration]) for text in compared)
    return [get_stored(instantiate(run.features)) for run in runs]
