"""Reads a study from its config, and lists the overrides of each phase's runs.

Of several overrides of one key, the last in this order counts: `study.overrides`, what earlier
phases chose, `study.phase_overrides` of the study's own file, the user's overrides, and
`study.phase_overrides` that the user gave.
"""

from collections.abc import Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from genreclf.commands import compose
from genreclf.commands.instantiation import instantiate
from genreclf.errors import InputError
from genreclf.evaluation.metrics import LOGGED, check_metric
from genreclf.evaluation.runs import get_key
from genreclf.studies.settings import TEST, StudySettings
from genreclf.studies.study import Phase, Study
from genreclf.studies.sweep import Sweep, count_points, drop_swept

OWN_KEYS = ("study", "status", "estimate", "report")  # not passed on to the training runs
GENRES = "oversampling.genres"  # null in a phase: of the genre recognised worst so far


def read_study(config: DictConfig) -> tuple[StudySettings, Study]:
    """Read the study; none of its phases is planned yet.

    Raises:
        InputError: a setting of the study is wrong, a phase varies nothing that exists, or the user
            overrides something that the study itself decides.
        hydra.errors.HydraException: there is no such phase, or its runs cannot be composed.
    """
    plain: Any = OmegaConf.to_container(config.study, resolve=True)
    settings = StudySettings.read(plain)
    _check_phase_names(settings)
    overrides = list(HydraConfig.get().overrides.task)
    given = [text for text in overrides if get_key(text).partition(".")[0] not in OWN_KEYS]
    for key in ("hydra/sweeper", "hydra.sweeper"):
        if any(get_key(text).startswith(key) for text in HydraConfig.get().overrides.hydra):
            raise InputError(f"{key}: the phases of a study say what varies; remove this override")
    sweeps = {name: compose.read_sweep(name) for name in settings.phases}
    _check_overrides(settings, given, sweeps)
    phases = []
    for name, sweep in sweeps.items():
        first = compose_first_run(name, sweep, list_overrides(settings, given, name, {}))
        _check_metric(settings.metric, first)
        if lacks_genres(first) and (settings.metric is None or not phases):
            raise InputError(
                f"{GENRES}=[...] is needed: phase {name} copies tracks of one genre, and no phase "
                "before it chooses a model that could tell which genre is recognised worst"
            )
        phases.append(Phase(name, planned=count_points(sweep) * len(settings.seeds)))
    tested = settings.test if settings.test in sweeps else None
    if tested:
        phases.append(Phase(TEST, planned=len(settings.seeds)))
    option = str(HydraConfig.get().runtime.choices["study"])
    command = ["study", *compose.list_hydra_options(), *overrides]
    return settings, Study(option, settings.metric, settings.seeds, given, phases, command, tested)


def _check_metric(metric: str | None, run: DictConfig) -> None:
    """Check that a phase can choose by this metric, given its first run, as for `monitor`."""
    if metric is None:
        return
    logged: dict[str, Any] = dict.fromkeys(map(str, run.metric))
    name = metric.partition("/")[2]
    if metric not in LOGGED and name in logged:  # one of the user's own
        logged[name] = instantiate(run.metric[name], num_classes=2)
    check_metric("study.metric", metric, logged)


def list_overrides(
    settings: StudySettings, given: list[str], phase: str, chosen: Mapping[str, str]
) -> list[str]:
    """List the overrides of a phase's runs; the last one of each key counts.

    Args:
        settings: the settings of the study.
        given: the user's overrides, which apply to all runs.
        phase: name of the phase.
        chosen: what earlier phases chose, by key.
    """
    of_phase = settings.phase_overrides.get(phase, [])
    by_user = _is_given(f"study.phase_overrides.{phase}")
    return [
        *(*settings.overrides, *chosen.values()),
        *(() if by_user else of_phase),
        *given,
        *(of_phase if by_user else ()),
    ]


def compose_first_run(phase: str, sweep: Sweep, overrides: list[str]) -> DictConfig:
    """Compose the config of the first run of a phase."""
    first = [values[0] for values in sweep.values()]
    try:
        return compose.compose_run([f"phase={phase}", *first, *drop_swept(overrides, sweep)])
    except ConfigCompositionException as error:
        missing = [key for key in sweep if f"Could not override '{key}'." in str(error)]
        if not missing:
            raise
        group = missing[0].partition(".")[0]
        raise InputError(
            f"phase {phase} varies {missing[0]}, which does not exist with the {group} that was "
            f"chosen; leave {group}=... out"
        ) from None


def list_sweep_options(run: DictConfig) -> list[str]:
    """List the options for Hydra of a phase: the user's, and hydra/launcher=packed on a GPU.

    Args:
        run: the config of one of the phase's runs.
    """
    options = compose.list_hydra_options()
    chosen = any(get_key(text) == "hydra/launcher" for text in options)
    return options if chosen or not _uses_gpu(run) else [*options, "hydra/launcher=packed"]


def _uses_gpu(run: DictConfig) -> bool:
    if run.trainer.accelerator == "cpu":
        return False
    from torch import cuda  # slow to import

    return cuda.is_available()


def lacks_genres(run: DictConfig) -> bool:
    """Whether the study has to find the genre whose tracks get extra copies."""
    return OmegaConf.select(run, GENRES, default=()) is None


def _is_given(key: str) -> bool:
    """Whether the user has set a key, or one that it is part of, on the command line."""
    given = {get_key(text) for text in HydraConfig.get().overrides.task} - {"study"}  # the option
    return any(name == key or key.startswith(f"{name}.") for name in given)


def _check_phase_names(settings: StudySettings) -> None:
    """Refuse settings for phases that the study does not have.

    If the user has shortened the list of phases, settings in the study's file may be of others.
    """
    named = [f"phase_overrides.{phase}" for phase in settings.phase_overrides]
    named += [] if settings.test is None else ["test"]
    for key in named:
        phase = settings.test if key == "test" else key.partition(".")[2]
        unknown = phase not in settings.phases
        if unknown and (_is_given(f"study.{key}") or not _is_given("study.phases")):
            raise InputError(
                f"study.{key}: the phases of this study are {', '.join(settings.phases)}"
                + f", not {phase}" * (key == "test")
            )


def _check_overrides(
    settings: StudySettings, given: list[str], sweeps: Mapping[str, Sweep]
) -> None:
    """Refuse overrides of anything that the study itself decides."""
    of_phases = [
        (f"study.phase_overrides.{phase}: ", text, phase)
        for phase, texts in settings.phase_overrides.items()
        for text in texts
    ]
    for_all = [("study.overrides: ", text, None) for text in settings.overrides]
    for place, text, phase in [*(("", text, None) for text in given), *for_all, *of_phases]:
        key = get_key(text)
        if key in ("seed", "phase"):
            raise InputError(f"{place}{text}: use study.{key}s=[...] instead")
        if key == "test" and settings.test is not None:
            raise InputError(
                f"{place}{text}: only the winner of phase {settings.test} is tested; use "
                "study.test=PHASE, or study.test=null for none"
            )
        if phase in sweeps and key in sweeps[phase]:
            raise InputError(f"{place}{text}: this phase varies {key} itself; remove this override")
    for text in given:
        for name, sweep in sweeps.items():
            if get_key(text) in sweep:
                others = ",".join(other for other in sweeps if other != name)
                raise InputError(
                    f"{text}: phase {name} chooses {get_key(text)}; remove this override, or skip "
                    f"the phase: study.phases=[{others}]"
                )
