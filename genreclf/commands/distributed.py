"""`genreclf train` with trainer=ddp: one run by several processes.

Started plainly, the command starts the processes itself; torchrun and Slurm's srun start the
command in all of them. The process of rank 0 writes, logs and tests; the others only train.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from genreclf import files
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.evaluation import runs
from genreclf.training import launch


def start_processes(count: int, folder: Path) -> None:
    """Run this job's command in several processes; the first writes the result.

    Raises:
        InputError: one of them failed.
        MemoryError: one of them ran out of memory.
    """
    hydra = HydraConfig.get()
    options = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    arguments = [
        *(text for path in options for text in ("--config-dir", path)),
        *hydra.overrides.task,
        *(text for text in hydra.overrides.hydra if text.startswith("hydra.searchpath")),
        f"hydra.run.dir='{quoted}'",
        "hydra.output_subdir=null",
    ]
    try:
        launch.start_processes(count, ["train", *arguments])
    except InputError:
        if not (folder / runs.FAILURE).exists():
            raise
        failure = files.read_json(folder / runs.FAILURE)  # as the first process noted it
        raise (MemoryError if failure["out_of_memory"] else InputError)(failure["error"]) from None


def run_child(train: Callable[[], str], folder: Path, help_rank_0: Callable[[], None]) -> int:
    """Do the share of a process that `start_processes` started.

    Args:
        train: what rank 0 does; returns a line where memory ran out.
        folder: of the run.
        help_rank_0: what the others do.

    Returns:
        The exit status.
    """
    from genreclf.training.memory import is_exhausted
    from genreclf.training.process_group import ProcessLostError

    launch.exit_with_parent()
    try:
        if launch.read_rank()[0] == 0:
            return launch.EXHAUSTED if train() else 0
        help_rank_0()
    except ProcessLostError:  # the process that ended knows why
        (folder / runs.FAILURE).unlink(missing_ok=True)
        return launch.LOST
    except KeyboardInterrupt:
        return launch.INTERRUPTED
    except Exception as error:
        if is_exhausted(error):
            return launch.EXHAUSTED
        if isinstance(error, InputError) and launch.read_rank()[0] == 0:
            return 1  # noted in the folder, for the process that started this one
        raise
    return 0


def help_rank_0(
    config: DictConfig, folder: Path, open_store: Callable[[DictConfig], Store]
) -> None:
    """Train in a process of another rank than 0, if there is anything to train.

    Raises:
        InputError: a setting is wrong, as in the process of rank 0.
    """
    from genreclf.commands.parts import make_parts
    from genreclf.training.build import check_settings
    from genreclf.training.run import help_train

    logging.disable()  # the process of rank 0 logs
    parts = make_parts(config)
    check_settings(parts, folder)
    store = None if (folder / runs.RESULT).exists() else open_store(config)
    if decide_together(config, True) and store is not None:
        help_train(parts, store, folder)


def decide_together(config: DictConfig, train: bool) -> bool:
    """Whether the run is to be trained: the process of rank 0 tells the others."""
    if launch.read_rank()[1] == 1:
        return train
    from genreclf.training import process_group

    return process_group.broadcast(partial(instantiate, config.trainer), train)
