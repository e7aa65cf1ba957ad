"""`genreclf train` with trainer=ddp: one run trained by several processes.

Run on its own, the command starts the processes itself; torchrun and Slurm's srun start the
command in each process. The process of rank 0 writes, logs and tests; the others only train.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from genreclf import files
from genreclf.commands.compose import list_config_folders
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.evaluation import runs
from genreclf.training import launch


def start_processes(count: int, folder: Path) -> None:
    """Run this job's command in several processes; the first writes the result to the folder.

    Raises:
        InputError: one of them failed.
        MemoryError: one of them ran out of memory.
    """
    overrides = HydraConfig.get().overrides
    arguments = [
        *list_config_folders(),
        *overrides.task,
        *(text for text in overrides.hydra if text.startswith("hydra.searchpath")),
    ]
    try:
        launch.start_processes(count, ["train", *arguments])
    except InputError:
        if not (folder / runs.FAILURE).exists():
            raise
        failure = files.read_json(folder / runs.FAILURE)  # as the first process recorded it
        raise (MemoryError if failure["out_of_memory"] else InputError)(failure["error"]) from None


def run_child(work: Callable[[], str | None], folder: Path) -> int:
    """Do the work of a process that `start_processes` started.

    Args:
        work: what this process does; returns a line of text if memory ran out.
        folder: the run's folder.

    Returns:
        The exit status.
    """
    from genreclf.training.memory import is_exhausted
    from genreclf.training.process_group import ProcessLostError

    launch.exit_with_parent()
    try:
        return launch.EXHAUSTED if work() else 0
    except ProcessLostError:  # the process that ended knows why
        (folder / runs.FAILURE).unlink(missing_ok=True)
        return launch.LOST
    except KeyboardInterrupt:
        return launch.INTERRUPTED
    except Exception as error:
        if is_exhausted(error):
            return launch.EXHAUSTED
        if (folder / runs.FAILURE).exists() and isinstance(error, InputError):
            return 1  # the parent process reads the reason
        raise


def help_rank_0(config: DictConfig, store: Store, folder: Path) -> None:
    """Train in a process whose rank is not 0, if there is anything to train.

    Raises:
        InputError: a setting is wrong, as in the process of rank 0.
    """
    from genreclf.commands.parts import make_parts
    from genreclf.training.check import check_settings
    from genreclf.training.run import help_train

    parts = make_parts(config)
    check_settings(parts)
    if decide_together(config, train=True):
        help_train(parts, store, folder)


def decide_together(config: DictConfig, train: bool) -> bool:
    """Agree on whether to train the run: the process of rank 0 tells the others."""
    if launch.read_rank()[1] == 1:
        return train
    from genreclf.training import process_group

    return process_group.broadcast(partial(instantiate, config.trainer), train)
