"""Names a run for people, in its loggers: by its sweep or study, and by what differs in it.

`${run:name}`, `${run:group}` and `${run:job_type}` in conf/logger/ are resolved here.
"""

import os
from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from genreclf.files import digest_values

# Set in each job of a sweep: the keys that it varies, and the sweep's name.
VARIED, SWEEP = "GENRECLF_VARIED", "GENRECLF_SWEEP"
STUDY = "WANDB_RUN_GROUP"  # set by genreclf study, or by the user
GROUP_LENGTH = 100  # at most 128 in W&B


def name_run() -> str:
    """Name a run by what differs from the sweep's other runs; outside a sweep, from the defaults.

    Empty if nothing differs.
    """
    from genreclf.evaluation.runs import get_key  # imports NumPy

    hydra = HydraConfig.get()
    varied = set(os.environ.get(VARIED, "").split())
    if SWEEP in os.environ:
        varied |= set(hydra.sweeper.get("params") or {})  # what a phase varies
    differing = [text for text in hydra.overrides.task if get_key(text) in varied]
    return " ".join(differing) or hydra.job.override_dirname


def name_group() -> str | None:
    """Name what a run belongs to: its study, or its sweep; None for a single run."""
    return os.environ.get(STUDY) or os.environ.get(SWEEP)


def name_job_type() -> str | None:
    """Name the phase, or "sweep"; None for a single run."""
    phase = HydraConfig.get().runtime.choices.get("phase")
    return phase or ("sweep" if SWEEP in os.environ else None)


NAMES = {"name": name_run, "group": name_group, "job_type": name_job_type}
OmegaConf.register_new_resolver("run", lambda what: NAMES[what](), replace=True)


def add_sweep_settings(arguments: Sequence[str]) -> list[str]:
    """Add Hydra overrides that tell the jobs of a sweep what it varies, and its name.

    The name depends only on the overrides, so a sweep that is continued keeps it.
    """
    from genreclf.commands.identity import changes_nothing  # imports h5py
    from genreclf.evaluation.runs import get_key

    given = [text for text in arguments if "=" in text and not text.startswith("-")]
    try:
        overrides = OverridesParser.create().parse_overrides(sorted(given))
    except HydraException:
        return list(arguments)  # Hydra reports it
    varied = [o.get_key_element().lstrip("+") for o in overrides if o.is_sweep_override()]
    kept = [text for text in sorted(given) if not changes_nothing(get_key(text))]
    digest = digest_values(kept)[:8]
    phase = [text.partition("=")[2] for text in given if text.startswith("phase=")]
    name = f"{','.join([*phase, *varied])[:GROUP_LENGTH]}-{digest}"
    settings = [
        f"+hydra.job.env_set.{key}='{value}'"
        for key, value in ((VARIED, " ".join(varied)), (SWEEP, name))
    ]
    place = arguments.index(given[0]) if given else len(arguments)  # overrides must be in a row
    return [*arguments[:place], *settings, *arguments[place:]]
