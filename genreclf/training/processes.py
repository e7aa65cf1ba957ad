"""One run trained by several processes of one machine, each on a share of every batch.

The process that the user started is the first: it alone locks the run's folder, logs, tests and
writes. It starts the others to train and ends them when it is done, fails or is interrupted; where
it is killed, they end by themselves. Under torchrun and Slurm all processes are there already.
"""

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from omegaconf import DictConfig
from torch import distributed

from genreclf.audio.workers import exit_with_parent
from genreclf.errors import InputError
from genreclf.training.batch_norm import BatchNormOfAll

GRACE = 60  # s, in which the first process is to notice that another has ended


class Member(LightningEnvironment):
    """Tells Lightning which process this is, and that the others are there already."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning starts none."""
        return True

    def local_rank(self) -> int:
        """Number of the process on this machine; 0 is the first."""
        return self._rank


def _from_outside() -> ClusterEnvironment | None:
    """What started this process together with others: torchrun or Slurm."""
    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect() and (environment := kind()).world_size() > 1:
            return environment
    return None


def rank() -> int:
    """Number of this process among those that torchrun or Slurm started; 0 is the first."""
    environment = _from_outside()
    return environment.global_rank() if environment else 0


class Team:
    """The processes that train one run.

    Args:
        trainer: settings of Lightning's Trainer.

    Attributes:
        size: how many they are; 1 where the trainer wants one device.
    """

    def __init__(self, trainer: DictConfig) -> None:
        probe: pl.Trainer = instantiate(trainer, logger=False)
        self.nodes, self.size = probe.num_nodes, probe.num_devices * probe.num_nodes
        on_gpu = probe.strategy.root_device.type == "cuda"
        self._backend = "nccl" if on_gpu else "gloo"

    def check(self, batch_size: int, tracks: int) -> None:
        """Refuse, with InputError, what they cannot do.

        That is a first batch without a track for each, and machines where nobody starts them.
        """
        if self.nodes > 1 and not _from_outside():
            raise InputError(
                f"trainer.num_nodes={self.nodes}: start the command on each machine, by torchrun "
                "or Slurm"
            )
        if min(batch_size, tracks) < self.size:
            raise InputError(
                f"batch_size={batch_size}, {tracks} training tracks: the {self.size} processes "
                f"share each batch, so at least {self.size} are needed"
            )

    def settings(self, rank: int = 0) -> dict[str, Any]:
        """For the Trainer of a member."""
        if self.size == 1:
            return {"strategy": "auto"}
        environment = _from_outside() or Member(rank)
        return {"plugins": [environment, BatchNormOfAll()], "use_distributed_sampler": False}

    def settings_alone(self) -> dict[str, Any]:
        """For a Trainer of the first member that does without the others."""
        if self.size == 1:
            return {"strategy": "auto"}
        alone = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
        return {**alone, "plugins": [LightningEnvironment()]}

    @contextmanager
    def beside(self, work: Callable[..., None], *arguments: Any) -> Iterator[None]:
        """In here, the other members do `work(settings, *arguments)`; this is the first one.

        Raises:
            InputError: one of them ended before its time.
        """
        if self.size == 1 or _from_outside():
            yield
            return
        context = multiprocessing.get_context("spawn")
        done = threading.Event()
        with tempfile.TemporaryDirectory() as folder:
            place = f"file://{folder}/meeting"
            others = [
                context.Process(target=_help, args=(self, number, place, work, arguments))
                for number in range(1, self.size)
            ]
            try:
                for other in others:
                    other.start()
                threading.Thread(target=_watch, args=(others, done), daemon=True).start()
                with self._joined(0, place):
                    yield
                for other in others:
                    other.join(GRACE)
            except Exception as error:
                if status := _first_failure(others):
                    raise InputError(
                        f"one of the {self.size} processes ended (exit status {status}; out of "
                        "memory?); the same command goes on after the last finished epoch"
                    ) from error
                raise
            finally:
                done.set()
                for other in others:
                    other.kill()  # nothing is theirs to write
                    other.join()

    @contextmanager
    def _joined(self, rank: int, place: str) -> Iterator[None]:
        """The connection between the members, by way of this machine alone."""
        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        distributed.init_process_group(
            self._backend, init_method=place, rank=rank, world_size=self.size
        )
        try:
            yield
        finally:
            distributed.destroy_process_group()


def _help(
    team: Team, rank: int, place: str, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    """What another member does."""
    exit_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process gets Ctrl-C as well
    logging.disable()
    warnings.simplefilter("ignore")  # the first process gives them, too
    with team._joined(rank, place):
        work(team.settings(rank), *arguments)


def _first_failure(others: Sequence[BaseProcess]) -> int:
    """Exit status of a member that failed; 0 where none did, after a moment for it to show."""
    for other in others:
        other.join(5 / len(others))
    return next((other.exitcode for other in others if other.exitcode), 0)


def _watch(others: Sequence[BaseProcess], done: threading.Event) -> None:
    """End the first process where it waits in vain for one that has failed."""
    while not done.wait(1):
        if any(other.exitcode for other in others):
            if not done.wait(GRACE):
                print("genreclf: one of several processes ended", file=sys.stderr, flush=True)
                for other in others:
                    other.kill()
                os._exit(1)
            return
