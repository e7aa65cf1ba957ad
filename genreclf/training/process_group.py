"""Settings of Lightning's Trainer, for one process or for several that train one run together."""

import atexit
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import distributed

from genreclf.errors import InputError
from genreclf.training.checkpoint_files import AtomicCheckpointIO
from genreclf.training.launch import read_rank


class ProcessLostError(InputError):
    """Another process of the run has ended."""

    def __init__(self) -> None:
        super().__init__(
            "another process of this run ended (out of memory?); the same command continues after "
            "the last finished epoch"
        )


class SrunEnvironment(SLURMEnvironment):
    """The processes that srun started. Their number has been checked by `check_processes`.

    Lightning's own checks refuse `--ntasks`, however the tasks are spread over the machines.
    """

    @staticmethod
    def _validate_srun_variables() -> None:
        """Accept `--ntasks`."""

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Accept an `srun` that uses a part of the job's tasks."""

    def world_size(self) -> int:
        """Count the processes of this srun; SLURM_NTASKS may be that of the whole job."""
        return read_rank()[1]


def make_probe(make_trainer: Callable[..., pl.Trainer]) -> pl.Trainer:
    """Make a Trainer that shows what the settings mean on this machine; it trains nothing.

    It is the first Trainer of each command, so Lightning's notes and tips end here.
    """
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    return make_trainer(logger=False, plugins=[LightningEnvironment()])


def count_processes(probe: pl.Trainer) -> int:
    """Count the processes that the settings of a Trainer ask for."""
    return probe.num_devices * probe.num_nodes


def check_processes(probe: pl.Trainer, batch_size: int) -> None:
    """Check that the processes have been or can be started, and can share a batch.

    Raises:
        InputError: torchrun or srun started a different number of processes, in all or on this
            machine; nothing starts those on other machines; or the batch cannot be divided.
    """
    count, started = count_processes(probe), read_rank()[1]
    if started not in (1, count):
        raise InputError(
            f"torchrun or srun started {started} processes, but trainer.devices times "
            f"trainer.num_nodes is {count}: set trainer=ddp trainer.devices=N (a machine's "
            "processes) trainer.num_nodes=M, or start a single process"
        )
    local = int(os.environ.get("LOCAL_RANK" if "RANK" in os.environ else "SLURM_LOCALID", 0))
    if started > 1 and local >= probe.num_devices:
        raise InputError(
            f"srun started more than trainer.devices={probe.num_devices} processes on a machine: "
            f"add --ntasks-per-node={probe.num_devices}"
        )
    if started == 1 and probe.num_nodes > 1:
        raise InputError(
            f"trainer.num_nodes={probe.num_nodes}: start the command on each machine, by torchrun "
            "or srun"
        )
    if batch_size % count:
        raise InputError(
            f"batch_size={batch_size} cannot be divided among {count} processes: choose a multiple "
            f"of {count}"
        )


def list_settings(probe: pl.Trainer) -> dict[str, Any]:
    """List the settings of the Trainer that trains, for this process.

    Args:
        probe: a Trainer with the settings that the user chose.
    """
    if count_processes(probe) == 1:
        return {"strategy": "auto", "plugins": [LightningEnvironment(), AtomicCheckpointIO()]}
    environment = TorchElasticEnvironment() if "RANK" in os.environ else SrunEnvironment()
    return {
        "plugins": [environment, AtomicCheckpointIO()],
        "use_distributed_sampler": False,  # StoreDataModule shares the tracks
        "sync_batchnorm": probe.strategy.root_device.type == "cuda",
    }


def list_single_settings(trainer: pl.Trainer) -> dict[str, Any]:
    """List the settings of a Trainer that uses one process, on the device of this one."""
    device = trainer.strategy.root_device
    return {
        "devices": [device.index] if device.type == "cuda" else 1,
        "num_nodes": 1,
        "strategy": "auto",
        "plugins": [LightningEnvironment()],
    }


@contextmanager
def heed_ctrl_c() -> Iterator[None]:
    """Turn the exit with which Lightning answers Ctrl-C into a `KeyboardInterrupt`."""
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None


def exchange(make_trainer: Callable[..., pl.Trainer], value: str) -> list[str]:
    """Connect all processes of a run, and return the value of each, by rank."""
    settings = list_settings(make_probe(make_trainer))
    strategy = make_trainer(logger=False, **settings).strategy
    if not distributed.is_initialized():
        atexit.register(_close_connections)
    strategy.setup_environment()
    values = [""] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def _close_connections() -> None:
    """Close the connections; PyTorch may abort if they are open at exit."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def is_connection_lost(error: BaseException) -> bool:
    """Whether an exception says that another process has ended."""
    return isinstance(error, distributed.DistError) or "gloo/transport" in str(error)
