import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from genreclf.audio import workers

FAULTS = """
import resource, sys
from genreclf.audio import workers
if sys.argv[1] == "kept":
    workers.keep_memory()
import torch
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        a = torch.ones(10_000_000)  # 40 MB
        b = torch.ones(10_000_000)
        del a, b
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_is_kept_for_the_next_step() -> None:
    faults = {
        way: int(subprocess.check_output([sys.executable, "-c", FAULTS, way]))
        for way in ("kept", "given back")
    }
    assert faults["given back"] > 10_000  # pages of 4 kB, of 800 MB
    assert faults["kept"] < 100


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("150000 100000", 2), ("20000 100000", 1), ("900000 100000", 8), ("", 8)],
)
def test_cores_are_those_of_affinity_and_container_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(workers, "CPU_QUOTA", tmp_path / "cpu.max")
    (tmp_path / "cpu.max").write_text(quota)
    assert workers.count_available_cores() == cores
    (tmp_path / "cpu.max").unlink()
    assert workers.count_available_cores() == 8
