"""Running out of memory: how to detect it, and how to recover."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from genreclf.errors import InputError
from genreclf.training import turns

# Messages of PyTorch's allocator of main memory, of CUDA and of its libraries. The exceptions of
# PyTorch's allocator of GPU memory have a class of their own.
REFUSED = (
    *("can't allocate memory", "not enough memory", "Cannot allocate memory"),
    *("CUDA error: out of memory", "CUDA out of memory", "CUDA_ERROR_OUT_OF_MEMORY"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUFFT_ALLOC_FAILED"),
    *("CUSOLVER_STATUS_ALLOC_FAILED", "CUSPARSE_STATUS_ALLOC_FAILED"),
)
# PyTorch's messages about the processes of a data loader, and about their shared memory.
KILLED = ("DataLoader worker (pid", "unable to open shared memory", "unable to mmap")
OCCUPIED = 0.1  # share of a GPU from which other programs count as a reason
CONTEXT = 2**30  # bytes that CUDA itself needs in each process, at most


class OutOfMemoryError(InputError):
    """Training or testing a run did not fit in memory.

    Args:
        message: one line.
        final: whether it would fail again: not if other programs used the memory, too.
    """

    def __init__(self, message: str, final: bool = True) -> None:
        super().__init__(message)
        self.final = final

    def describe(self) -> dict[str, Any]:
        """Return what the run's `failure.json` says."""
        return {"error": str(self), "out_of_memory": self.final, "device": name_device()}


@contextmanager
def report_exhaustion(batch_size: int) -> Iterator[None]:
    """Turn an exception that means that memory ran out into an `OutOfMemoryError`."""
    try:
        yield
    except Exception as error:
        if is_exhausted(error):
            raise make_error(batch_size) from error
        raise


@contextmanager
def report_killed_worker() -> Iterator[None]:
    """Turn PyTorch's exception about a killed process of a data loader into one line.

    Raises:
        InputError: such a process was killed.
    """
    try:
        yield
    except (RuntimeError, InputError) as error:  # the latter names the user's line that was running
        if any(text in str(error) for text in KILLED):
            raise InputError(
                "a process that reads batches was killed (out of memory?); use fewer of them: "
                "num_workers=0; the same command continues after the last finished epoch"
            ) from error
        raise


def make_error(batch_size: int) -> OutOfMemoryError:
    """Make the error of a run whose batches do not fit in memory."""
    message = f"batch_size={batch_size} does not fit in the memory of {name_device()}"
    if others := turns.note_exhaustion():
        message = f"{message} next to {others} other runs; it is run again afterwards, alone"
        return OutOfMemoryError(message, final=False)
    others = measure_other_programs()
    if others < OCCUPIED:
        return OutOfMemoryError(f"{message}; choose a smaller one")
    return OutOfMemoryError(
        f"{message}, of which other programs use {100 * others:.0f} %; wait for them, choose "
        "another GPU (CUDA_VISIBLE_DEVICES), or a smaller batch_size",
        final=False,
    )


def is_exhausted(error: BaseException) -> bool:
    """Whether an exception, or one of its causes, means that memory ran out."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(cause, RuntimeError) and any(text in str(cause) for text in REFUSED):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def measure_other_programs() -> float:
    """Measure the share of the GPU's memory that other programs use; 0 without a GPU."""
    if not torch.cuda.is_initialized():
        return 0.0
    try:
        free, total = torch.cuda.mem_get_info()
    except RuntimeError:  # after some errors, CUDA no longer answers
        return 0.0
    return max(0.0, 1 - (free + torch.cuda.memory_reserved() + CONTEXT) / total)


def name_device(device: torch.device | None = None) -> str:
    """Return a readable name of a device; by default, of the one that training would use."""
    if device is None:
        return torch.cuda.get_device_name() if torch.cuda.is_available() else "this machine"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def release_memory() -> None:
    """Free memory that is no longer in use."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class Usage:
    """Bytes of one kind of memory: what this process uses, and what it could use in addition."""

    used: float
    free: float


def measure_memory() -> dict[str, Usage]:
    """Measure main memory, and the memory of the GPUs that this process uses.

    Limits of a container count under Linux's cgroup v2.
    """
    found = {"main memory": _measure_main_memory()}
    if torch.cuda.is_initialized():
        for number in range(torch.cuda.device_count()):
            if used := torch.cuda.memory_reserved(number):  # others would get a context by asking
                found[f"GPU {number}"] = Usage(used, torch.cuda.mem_get_info(number)[0])
    return found


def _measure_main_memory() -> Usage:
    free = min(psutil.virtual_memory().available, _measure_free_in_container())
    return Usage(psutil.Process().memory_info().rss, free)


def _measure_free_in_container() -> float:
    """Measure what the limit of this process's control group leaves; infinite without one."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, current = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int(limit) - int(current) + int(counts["inactive_file"])  # a cache, freed on demand
    except (OSError, ValueError, KeyError):  # no such file, or the limit is "max"
        return float("inf")
