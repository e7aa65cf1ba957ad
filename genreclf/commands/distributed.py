"""`genreclf train` with trainer=ddp: one run trained by several processes.

Run on its own, the command starts the processes itself; torchrun and Slurm's srun start the
command in each process. The process of rank 0 writes, logs and tests; the others only train.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from genreclf import files
from genreclf.commands.compose import list_config_folders, list_search_paths
from genreclf.commands.instantiation import instantiate
from genreclf.data.store import Store
from genreclf.errors import DivergedError, InputError, format_error
from genreclf.evaluation import runs
from genreclf.training import launch

if TYPE_CHECKING:
    from genreclf.training.parts import Parts  # imports PyTorch

TRAIN, REUSE, FAILED = "train", "reuse", "failed: "  # what a process says to the others


def start_processes(count: int, folder: Path, batch_size: int) -> None:
    """Run this job's command in several processes; the first writes the result to the folder.

    Raises:
        InputError: one of them failed.
        OutOfMemoryError: one of them ran out of memory.
    """
    from genreclf.training import memory

    arguments = [
        *list_config_folders(),
        *HydraConfig.get().overrides.task,
        *list_search_paths(),
    ]
    try:
        launch.start_processes(count, ["train", *arguments])
    except (InputError, MemoryError) as error:
        file = folder / runs.FAILURE
        failure = files.read_json(file) if file.exists() else {}  # as the first process recorded it
        if isinstance(error, MemoryError) and "device" not in failure:
            raise memory.make_error(batch_size) from None
        if "device" in failure:
            raise memory.OutOfMemoryError(failure["error"], failure["out_of_memory"]) from None
        kind = DivergedError if failure.get("diverged") else InputError
        raise (kind(failure["error"]) if failure else error) from None


def run_child(work: Callable[[], str | None], folder: Path) -> int:
    """Do the work of a process that `start_processes` started.

    Args:
        work: what this process does; returns a line of text if memory ran out.
        folder: the run's folder.

    Returns:
        The exit status.
    """
    from genreclf.training.memory import OutOfMemoryError
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
        if isinstance(error, OutOfMemoryError):
            return launch.EXHAUSTED
        if (folder / runs.FAILURE).exists() and isinstance(error, InputError):
            return 1  # the parent process reads the reason
        raise


def help_rank_0(parts: "Parts", store: Store, folder: Path, agreement: "Agreement") -> None:
    """Train in a process whose rank is not 0, if there is anything to train.

    Raises:
        InputError: parts and data do not fit together, as in the process of rank 0.
    """
    from genreclf.training.run import help_train

    if agreement.reach(TRAIN) == TRAIN:
        help_train(parts, store, folder)


class Agreement:
    """What the processes of a run agree on, once each is ready: rank 0 decides.

    As a context manager, it tells the other processes if this one fails before, so that none
    waits for it; whatever started them may not stop them.

    Args:
        config: the run's config.
    """

    def __init__(self, config: DictConfig) -> None:
        self._make_trainer, self._reached = partial(instantiate, config.trainer), False

    def reach(self, value: str) -> str:
        """Wait for all processes, and return the value of rank 0.

        Raises:
            InputError: a process has failed; the message is its own.
        """
        if launch.read_rank()[1] == 1:
            return value
        values = self._exchange(value)
        if failed := [text for text in values if text.startswith(FAILED)]:
            raise InputError(failed[0].removeprefix(FAILED))
        return values[0]

    def _exchange(self, value: str) -> list[str]:
        from genreclf.training import process_group

        self._reached = True
        return process_group.exchange(self._make_trainer, value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        count = launch.read_rank()[1]
        if count == 1 or self._reached or not isinstance(error, Exception):
            return
        from genreclf.training.process_group import count_processes, make_probe

        with suppress(Exception):  # the first error is what counts
            if count_processes(make_probe(self._make_trainer)) == count:  # else all have failed
                self._exchange(FAILED + format_error(error))
