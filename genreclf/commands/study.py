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
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from genreclf.audio.serving import exit_with_parent
from genreclf.commands import compose, hydra_app, study_overrides
from genreclf.commands.instantiation import instantiate
from genreclf.commands.run_folder import set_output_folder
from genreclf.errors import InputError
from genreclf.evaluation.runs import get_key
from genreclf.files import digest_values
from genreclf.locks import hold_lock
from genreclf.protocols import Dataset
from genreclf.studies import status
from genreclf.studies.ranking import find_weakest_genre
from genreclf.studies.settings import TEST, StudySettings
from genreclf.studies.study import STUDY, Phase, Study
from genreclf.studies.sweep import find_exclusions, plan_phase

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Run what is left of the study, write its report and print the path of the page."""
    if config.status:
        print(status.describe_studies(Path(config.outputs)))
        return
    settings, study = study_overrides.read_study(config)
    if config.estimate:
        from genreclf.commands.study_estimate import estimate_study  # imports PyTorch

        print(estimate_study(config, settings, study))
        return
    from genreclf.commands.study_checks import check_phases  # --status needs no h5py

    check_phases(config, settings, study)
    folder = _choose_folder(config)
    set_output_folder(folder)
    with hold_lock(folder / status.LOCK, "the same study"):
        _run_phases(config, settings, study, folder)
    from genreclf.report.study import PAGE

    print(folder / (PAGE if config.report else STUDY))


def _choose_folder(config: DictConfig) -> Path:
    """Choose the study's folder, named after its settings and the content of its data."""
    from genreclf.commands.identity import digest_run, join_hydra  # --status needs no h5py
    from genreclf.commands.stores import plan_config_store

    store, choices = plan_config_store(config), HydraConfig.get().runtime.choices
    settings = OmegaConf.to_container(config.study, resolve=True)
    data = digest_values([store.source.audio, store.source.table])
    digest = digest_run(join_hydra(config), data, {"study": digest_values(settings)})
    name = f"{choices['study']}-{store.source.dataset}-{digest}"
    return Path(str(config.outputs)) / "study" / name


def _run_phases(config: DictConfig, settings: StudySettings, study: Study, folder: Path) -> None:
    """Plan, run and report one phase after the other.

    Raises:
        InputError: a phase ended without a choice.
    """
    study.write(folder)
    dataset: Dataset = instantiate(config.data)
    chosen: dict[str, str] = {}
    planned: dict[str, list[str]] = {}  # the overrides of each phase
    for phase in study.phases:
        if phase.name == TEST:
            _plan_test(study, phase, planned)
        else:
            planned[phase.name] = _plan_phase(settings, study, phase, chosen, dataset)
        study.write(folder)
        if config.retry:
            phase.forget_exhausted_runs()
        ran = bool(phase.points) and _run_phase(phase, folder)
        if phase.points:
            phase.choose_winner(study.metric)
            study.write(folder)
        if phase.chosen:
            chosen |= {get_key(text): text for text in phase.chosen.overrides}
        if config.report and (ran or phase.error or phase is study.phases[-1]):
            from genreclf.report.study import write_study_report  # --status needs no Matplotlib

            write_study_report(study, folder)
        if phase.error:
            raise InputError(f"{phase.error} (its log: {folder / phase.slug}.log)")
        log.info("%s", status.describe_outcome(phase, study.metric))


def _plan_phase(
    settings: StudySettings, study: Study, phase: Phase, chosen: dict[str, str], dataset: Dataset
) -> list[str]:
    """Plan a phase; return the overrides of its runs.

    If it copies tracks of a genre that has yet to be found, that genre is added to `chosen`.
    """
    sweep = compose.read_sweep(phase.name)
    overrides = study_overrides.list_overrides(settings, study.overrides, phase.name, chosen)
    first = study_overrides.compose_first_run(phase.name, sweep, overrides)
    if study_overrides.lacks_genres(first):
        chosen[study_overrides.GENRES] = _find_genre(study, phase)
        overrides = study_overrides.list_overrides(settings, study.overrides, phase.name, chosen)
    phase.left_out = find_exclusions(sweep, dataset)
    plan_phase(
        phase,
        sweep,
        overrides,
        study.seeds,
        compose.find_run_folder,
        study_overrides.list_sweep_options(
            study_overrides.compose_first_run(phase.name, sweep, overrides)
        ),
    )
    return overrides


def _find_genre(study: Study, phase: Phase) -> str:
    """Find the genre that the last winner recognises worst; return the override that names it."""
    winners = [each.chosen for each in study.phases if each.chosen]
    if not winners:
        raise InputError(
            f"phase {phase.name}: {study_overrides.GENRES}=[...] is needed, because no earlier "
            "phase has chosen a model that could tell which genre is recognised worst"
        )
    genre = find_weakest_genre(winners[-1].runs)
    log.info("%s: the genre recognised worst so far is %s", phase.name, genre)
    if "${" in genre:  # from the data, and Hydra would resolve it
        raise InputError(f"the genre {genre!r} cannot get extra copies: rename it, without ${{")
    return f"{study_overrides.GENRES}=[{QuotedString(genre, Quote.double).with_quotes()}]"


def _plan_test(study: Study, test: Phase, planned: dict[str, list[str]]) -> None:
    """Plan the test of a phase's winner: its runs again, with test=true, which trains nothing."""
    tested = next(phase for phase in study.phases if phase.name == study.tested)
    if tested.chosen is None:
        test.left_out, test.planned = dict.fromkeys([TEST], f"{tested.name} was left out"), 0
        return
    plan_phase(
        test,
        {get_key(text): [text] for text in tested.chosen.overrides},
        [*planned[tested.name], "test=true"],
        study.seeds,
        compose.find_run_folder,
        compose.list_hydra_options(),
        option=tested.name,
    )


def _run_phase(phase: Phase, folder: Path) -> bool:
    """Run the unfinished runs in a separate process with its own log, and show their progress.

    Return whether there was anything to run.
    """
    log.info("%s: genreclf %s", phase.name, shlex.join(phase.command))
    if phase.count_finished() == phase.count_runs():
        return False
    context = multiprocessing.get_context("spawn")
    file = folder / f"{phase.slug}.log"
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
