"""Distributes packs to the processes of another launcher (`hydra.launcher.inner`)."""

import copy
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from genreclf.commands.packed.groups import Job, divide_groups

if TYPE_CHECKING:
    from genreclf.commands.packed.launcher import PackedLauncher  # which imports this module


def distribute(
    launcher: "PackedLauncher", groups: Sequence[tuple[list[Job], str]]
) -> dict[int, JobReturn]:
    """Let the inner launcher run packs; each is one of its jobs.

    Args:
        launcher: the launcher of packs.
        groups: the runs, as `group_jobs` gives them.

    Returns:
        What each run returned, by its number.
    """
    chosen = hydra.compose(
        "config", [f"hydra/launcher={launcher.inner}"], return_hydra_config=True
    ).hydra.launcher
    config: Any = copy.deepcopy(launcher.config)
    with read_write(config), open_dict(config):
        config.hydra.launcher = OmegaConf.merge(chosen, launcher.settings)
    together = []
    for jobs, reason in groups:
        together += [[job] for job in jobs] if reason else [jobs]
    packs = divide_groups(together, _count_processes(config), launcher.max_runs)
    task = PackTask(launcher, [[(job.number, job.overrides) for job in pack] for pack in packs])
    inner = Plugins.instance().instantiate_launcher(launcher.hydra_context, task, config)
    returned = inner.launch([pack[0].overrides for pack in packs], 0)
    done: dict[int, JobReturn] = {}
    for pack, result in zip(packs, returned, strict=True):
        whole = result.status == JobStatus.COMPLETED
        results = result.return_value if whole else [result] * len(pack)
        done |= {job.number: each for job, each in zip(pack, results, strict=True)}
    return done


def _count_processes(config: Any) -> int:
    """Count the processes of the inner launcher, as far as it is known."""
    count = config.hydra.launcher.get("n_jobs") or 1  # of joblib
    return count if count > 0 else max(1, (os.cpu_count() or 1) + 1 + count)


class PackTask:
    """What a job of the inner launcher does: it runs one pack.

    Args:
        launcher: the launcher of packs.
        packs: number and overrides of each run, by pack.
    """

    def __init__(
        self, launcher: "PackedLauncher", packs: Sequence[Sequence[tuple[int, list[str]]]]
    ) -> None:
        self.launcher, self.packs = launcher, packs

    def __call__(self, config: DictConfig) -> list[JobReturn]:
        """Run the pack that has the number of the inner launcher's job."""
        number = HydraConfig.get().job.num
        if self.launcher.inner == "joblib":  # Ray and Slurm give each job GPUs of its own
            choose_gpu(number, config.trainer.get("devices", 1))
        return self.launcher.run_jobs(self.packs[number])


def choose_gpu(number: int, devices: Any) -> None:
    """Let this process use one GPU, before it uses any: the packs take the GPUs in turn.

    Args:
        number: number of the pack; those that a process runs later keep its GPU.
        devices: `trainer.devices`; other values than 1 are the user's own choice.
    """
    import torch

    count = torch.cuda.device_count()
    if count < 2 or devices != 1 or torch.cuda.is_initialized():
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number % count]
