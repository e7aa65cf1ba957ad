"""Checks the data of all phases of a study before the first of them starts."""

from itertools import product
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from genreclf.commands import compose, study_overrides
from genreclf.commands.instantiation import instantiate
from genreclf.commands.split_checks import check_config_split
from genreclf.commands.stores import plan_config_store
from genreclf.data.build_store import StorePlan
from genreclf.errors import InputError
from genreclf.studies.settings import TEST, StudySettings
from genreclf.studies.study import Study
from genreclf.studies.sweep import find_exclusions
from genreclf.training.sources import digest_sources

CHECKED = ("data", "features", "split", "init", "experiment")  # groups that say what is read
READ = ("data", "features", "split", "store", "outputs", "workers", "trust", "tracks_per_genre")


def check_phases(config: DictConfig, settings: StudySettings, study: Study) -> None:
    """Check that the features of all phases can be computed or are stored, and their splits.

    What a phase takes over from the winner of another has been checked there.

    Args:
        config: the config of the study.
        settings: its settings.
        study: the study, before any phase is planned.

    Raises:
        InputError: names the phase, and what it lacks.
    """
    known = set[str]()
    dataset: Any = instantiate(config.data)
    for phase in study.phases:
        if phase.name == TEST:
            continue
        sweep = compose.read_sweep(phase.name)
        excluded = find_exclusions(sweep, dataset)
        kept = [
            [text for text in texts if text not in excluded]
            if key.partition(".")[0] in CHECKED
            else texts[:1]
            for key, texts in sweep.items()
        ]
        overrides = study_overrides.list_overrides(settings, study.overrides, phase.name, {})
        for point in product(*kept):
            first = {key: [text] for key, text in zip(sweep, point, strict=True)}
            try:
                run = study_overrides.compose_first_run(phase.name, first, overrides)
            except HydraException:  # without what earlier phases choose
                continue
            try:
                _check_run(run, known)
            except InputError as error:
                raise InputError(f"phase {phase.name}: {error}") from None


def _check_run(run: DictConfig, known: set[str]) -> None:
    init = OmegaConf.select(run, "init.checkpoint")
    parts = OmegaConf.masked_copy(run, [key for key in READ if key in run])
    OmegaConf.resolve(parts)
    text = f"{OmegaConf.to_yaml(parts)}{init}"
    if text in known:
        return
    known.add(text)
    digest_sources(None, init)
    plan = plan_config_store(parts)
    if isinstance(plan, StorePlan) and not plan.path.exists():
        check_config_split(parts, plan)
