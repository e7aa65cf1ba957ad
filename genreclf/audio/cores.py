"""The cores that this process may use, and the memory that it keeps."""

import ctypes
import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from genreclf.errors import InputError

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")  # lines such as "0::/user.slice" or "4:cpu,cpuacct:/a/b"


def keep_memory() -> None:
    """Keep freed memory in this process, ready for the next step; only glibc (Linux) can.

    Each training step, and each clip, needs the same large arrays. By default glibc returns them to
    the kernel, which zeroes every page again for the next: on long clips that takes longer than the
    arithmetic of training.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, 2**30)  # bytes; larger arrays are still returned
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def release_memory() -> None:
    """Return freed memory to the kernel, although `keep_memory` keeps it; only glibc can."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def check_workers(workers: int | None) -> None:
    """Refuse, with InputError, a number of processes below 1."""
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers}: at least 1 is needed; null takes all cores")


def count_available_cores() -> int:
    """Count the cores that this process may use: its CPU affinity and its container's quota."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    quotas = [math.ceil(quota) for quota in _read_quotas()]
    return max(1, min([cores, *quotas]))


def _read_quotas() -> Iterator[float]:
    """Read the CPU quotas, in cores, of this process's control groups (cgroup v1 and v2)."""
    try:
        lines = [line.split(":", 2) for line in OWN_CGROUP.read_text().splitlines()]
    except OSError:  # not Linux
        return
    for number, controllers, place in (line for line in lines if len(line) == 3):
        if number == "0":
            roots, files = [CGROUPS, CGROUPS / "unified"], ["cpu.max"]
        elif "cpu" in controllers.split(","):
            roots = [CGROUPS / controllers, CGROUPS / "cpu"]
            files = ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        path = PurePosixPath(place.lstrip("/"))
        for folder in (root / each for root in roots for each in (path, *path.parents)):
            try:
                values = " ".join((folder / file).read_text() for file in files).split()
                quota, period = map(int, values)
            except (OSError, ValueError):  # no such group, or the quota is "max"
                continue
            if quota > 0 and period > 0:  # -1: no quota
                yield quota / period
