"""`genreclf study`: phases of training runs, each begun with what the one before it chose.

Each phase is a Hydra multirun, `genreclf train -m phase=NAME ...`, in a process of its own; what a
phase chose becomes overrides of the next. Runs that are finished are not run again, so that a study
that was killed goes on when it is started again.
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
from omegaconf import DictConfig

from genreclf.audio.workers import exit_with_parent
from genreclf.commands import hydra_app
from genreclf.errors import InputError
from genreclf.evaluation.metrics import LOGGED
from genreclf.report.study import PAGE, write_study
from genreclf.studies import estimate, status, sweep
from genreclf.studies.study import Phase, Study

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """The command: run what is left of the study, write its report, print the page's path."""
    if config.status:
        print(status.describe_studies(Path(config.outputs)))
        return
    if config.estimate:
        print(estimate.describe_estimate(config, _begin(config)))
        return
    folder = Path(HydraConfig.get().runtime.output_dir)
    with FileLock(folder / status.LOCK):
        study = _begin(config)
        study.write(folder)
        settings = {sweep.get_key(text): text for text in config.study.begin}
        dataset = instantiate(config.data)
        for phase in study.phases:
            also = config.study.also.get(phase.name, [])
            sweep.plan_phase(
                phase, [*settings.values(), *study.overrides, *also], study.seeds, dataset
            )
            study.write(folder)
            ran = bool(phase.points) and _run_phase(phase, folder)
            if phase.points:
                phase.choose_winner(study.metric)
                study.write(folder)
                chosen = phase.chosen.overrides if phase.chosen else []
                settings |= {sweep.get_key(text): text for text in chosen}
            if ran or phase.error or phase is study.phases[-1]:
                write_study(study, folder)
            if phase.error:
                raise InputError(f"{phase.error} (its log: {folder / phase.name}.log)")
            log.info("%s", status.describe_outcome(phase, study.metric))
    print(folder / PAGE)


def _begin(config: DictConfig) -> Study:
    """The study as it is given, nothing of it run yet.

    Raises:
        InputError: no phases or seeds, a metric that is not logged, or overrides of what a study
            decides itself.
    """
    settings = config.study
    if settings.metric is not None and settings.metric not in LOGGED:
        raise InputError(f"study.metric={settings.metric}: choose one of {', '.join(LOGGED)}")
    if not settings.phases or not settings.seeds:
        raise InputError("study.phases and study.seeds: at least one of each is needed")
    tasks = HydraConfig.get().overrides.task
    own = ("study", "status", "estimate", "report")
    given = [text for text in tasks if sweep.get_key(text).partition(".")[0] not in own]
    phases = [Phase(name) for name in settings.phases]
    for phase in phases:
        swept = sweep.read_sweep(phase.name)
        phase.planned = len(list(product(*swept.values()))) * len(settings.seeds)
        _refuse(given, phase.name, swept, [other.name for other in phases if other is not phase])
    name = str(HydraConfig.get().runtime.choices["study"])
    command = ["study", *sweep.list_hydra_options(), *tasks]
    return Study(name, settings.metric, list(settings.seeds), given, phases, command)


def _refuse(given: list[str], phase: str, swept: Container[str], others: list[str]) -> None:
    """Overrides of what the study decides itself."""
    for text in given:
        key = sweep.get_key(text)
        if key in ("seed", "phase"):
            raise InputError(f"{text}: a study has study.{key}s=[...]")
        if key in swept:
            raise InputError(
                f"{text}: phase {phase} chooses it; leave it out, or leave the phase out with "
                f"study.phases=[{','.join(others)}]"
            )


def _run_phase(phase: Phase, folder: Path) -> bool:
    """Run what is not finished in a process of its own, with a log; show how far it is.

    Returns whether anything was left to run.
    """
    log.info("%s: genreclf %s", phase.name, shlex.join(phase.command))
    if phase.count_finished() == phase.count_runs():
        return False
    context = multiprocessing.get_context("spawn")
    file = folder / f"{phase.name}.log"
    os.environ["WANDB_RUN_GROUP"] = folder.name
    process = context.Process(target=_sweep, args=(phase.command, str(file)))
    with status.show_progress(phase) as update:
        process.start()
        try:
            while process.is_alive():
                process.join(1)
                update()
        except KeyboardInterrupt:  # the terminal has told that process as well
            process.join(30)
            raise
        finally:
            process.terminate()
            process.join()
    if process.exitcode == 130:
        raise KeyboardInterrupt
    return True


def _sweep(command: list[str], file: str) -> None:
    """What that process does."""
    exit_with_parent()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    print(f"\n{time.strftime('%F %T')} genreclf {shlex.join(command)}", flush=True)
    hydra_app.keep_interrupts()
    hydra_app.run("train", "config", command[1:])
