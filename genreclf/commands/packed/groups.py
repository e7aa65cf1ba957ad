"""Which runs of a sweep can train in one process, over the same batches."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from genreclf.errors import InputError
from genreclf.training import launch
from genreclf.trust import import_target

SHARED = (  # keys whose values the runs of a pack have in common
    *("outputs", "store", "data", "features", "split", "split_seed", "tracks_per_genre", "seed"),
    *(
        "batch_size",
        "sampler",
        "augmentation",
        "oversampling",
        "cache",
        "fast",
        "compile",
        "cuda_graphs",
    ),
)
OWN = (  # keys of the Trainer that each run may set for itself
    *("max_epochs", "min_epochs", "max_time", "callbacks", "enable_progress_bar"),
    *("gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches"),
)


@dataclass(frozen=True)
class Job:
    """A run of a sweep.

    Attributes:
        number: its number in the sweep.
        overrides: the overrides that it was composed from.
        config: its config, including Hydra's own.
    """

    number: int
    overrides: list[str]
    config: DictConfig


def group_jobs(jobs: Sequence[Job]) -> list[tuple[list[Job], str]]:
    """Group the runs that can be packed, in the order of the first of each group.

    Returns:
        Pairs of runs, and why they are not packed: empty if they are.
    """
    groups: dict[str, tuple[list[Job], str]] = {}
    for job in jobs:
        reason = find_obstacle(job.config)
        key = reason or digest_shared(job.config)
        groups.setdefault(key, ([], reason))[0].append(job)
    only = "no other run has its data, batch size, augmentation and seed"
    return [(group, reason or only * (len(group) == 1)) for group, reason in groups.values()]


def find_obstacle(config: Any) -> str:
    """Say why a run cannot be packed; empty if it can, or if it cannot be told."""
    try:
        return _find_obstacle(config)
    except (OmegaConfBaseException, InputError, AttributeError):  # the run itself will tell
        return "its settings cannot be read"


def _find_obstacle(config: Any) -> str:
    hydra = config.hydra
    if hydra.job.name != "train":
        return f"genreclf {hydra.job.name} trains nothing"
    if debug := hydra.runtime.choices.get("debug"):
        return f"debug={debug}"
    if launch.read_rank()[1] > 1:
        return "torchrun or srun started several processes"
    trainer = config.trainer
    devices, strategy = trainer.get("devices", 1), trainer.get("strategy")
    single = str(devices) == "1" or (OmegaConf.is_list(devices) and len(devices) == 1)
    if not single or trainer.get("num_nodes") not in (None, 1) or strategy not in (None, "auto"):
        return "it trains in several processes (trainer.devices, num_nodes or strategy)"
    if trainer.get("profiler"):
        return "trainer.profiler would measure the other runs, too"
    from genreclf.models import has_no_epochs  # imports PyTorch

    if has_no_epochs(import_target(config.model["_target_"])):
        return f"model={hydra.runtime.choices.model} is not trained in epochs"
    return ""


def digest_shared(config: Any) -> str:
    """Return a text that is the same for runs that can be packed with each other."""
    shared = {key: config.get(key) for key in SHARED}
    shared["trainer"] = {k: v for k, v in config.trainer.items() if k not in OWN}
    plain: Any = {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in shared.items()
    }
    return json.dumps(plain, sort_keys=True, default=str)


def divide_groups(
    groups: Sequence[Sequence[Job]], packs: int, max_runs: int | None
) -> list[list[Job]]:
    """Divide groups into packs for several processes.

    Args:
        groups: the groups.
        packs: number of processes, each of which should get a pack.
        max_runs: maximum number of runs of a pack; None for any number.
    """
    count = sum(map(len, groups))
    divided = []
    for group in groups:
        size = math.ceil(len(group) / max(1, round(packs * len(group) / count)))
        size = min(size, max_runs or size)
        divided += [list(group[start : start + size]) for start in range(0, len(group), size)]
    return divided
