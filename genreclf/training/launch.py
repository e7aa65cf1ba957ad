"""Starts the processes of `trainer=ddp`, as torchrun does; detects those that others started.

Imports no PyTorch until processes are started: every `genreclf train` checks what started it.
"""

import logging
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from genreclf.errors import InputError

RUN_ID = "genreclf"  # torchrun's name for the processes that are started here
# Exit statuses: the process lost the connection to another one; it ran out of memory.
LOST, EXHAUSTED = 3, 4
INTERRUPTED = 130


def read_rank() -> tuple[int, int]:
    """Return the rank of this process, from 0, and how many processes train together.

    torchrun sets RANK and WORLD_SIZE; Slurm's srun sets SLURM_PROCID and SLURM_STEP_NUM_TASKS. The
    variables that Slurm sets for a job without srun, such as SLURM_NTASKS, mean a single process.
    """
    environment = os.environ
    for rank, size in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        if rank in environment and int(environment.get(size, 1)) > 1:
            return int(environment[rank]), int(environment[size])
    return 0, 1


def is_child() -> bool:
    """Whether another `genreclf train` started this process, by `start_processes`."""
    return os.environ.get("TORCHELASTIC_RUN_ID") == RUN_ID


def exit_with_parent() -> None:
    """End this process when its parent has ended, even if the parent was killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def start_processes(count: int, arguments: list[str]) -> None:
    """Run `genreclf ARGUMENTS` in several processes of this machine until all have finished.

    The first one writes to this process's output; the output of the others is kept for error
    messages. All are stopped if this process is interrupted, terminated or killed, or if one fails.

    Raises:
        InputError: one of them failed.
        MemoryError: one of them ran out of memory.
        KeyboardInterrupt: this process was interrupted or terminated.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with tempfile.TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=RUN_ID,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(folder, dict.fromkeys(range(1, count), Std.ALL)),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "genreclf", *arguments)
        except SignalException:
            raise KeyboardInterrupt from None
        except ChildFailedError as error:
            statuses = {rank: failure.exitcode for rank, failure in error.failures.items()}
            _raise_failure(statuses, count, Path(folder))
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in handlers.items():
                    signal.signal(number, handler)


def _raise_failure(statuses: dict[int, int], count: int, folder: Path) -> None:
    """Report which process failed first; the others were then stopped or lost their connection."""
    consequences = (LOST, INTERRUPTED, -signal.SIGTERM)
    rank, status = next(
        ((rank, status) for rank, status in statuses.items() if status not in consequences),
        next(iter(statuses.items())),
    )
    if status == EXHAUSTED:
        raise MemoryError
    written = "".join(file.read_text() for file in folder.rglob(f"{rank}/stderr.log")).strip()
    reason = written.splitlines()[-1] if written else f"exit status {status}; out of memory?"
    raise InputError(
        f"process {rank + 1} of {count} failed ({reason.removeprefix('genreclf: ')}); the same "
        "command continues after the last finished epoch"
    )
