"""Provenance of results: the commit of the source, and the versions of the libraries."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("genreclf", "torch", "torchaudio", "pytorch-lightning", "librosa", "h5py", "numpy")


def collect_provenance() -> dict[str, Any]:
    """Collect the source's commit (None outside a checkout) and the libraries' versions."""
    versions = {"python": platform.python_version()}
    return {
        "commit": _find_commit(),
        "versions": versions | {name: version(name) for name in LIBRARIES},
    }


def _find_commit() -> str | None:
    """Find the commit, with "-dirty" if tracked files differ from it."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        # A wheel may be installed inside another repository, which does not track this file.
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", Path(__file__).name],
            check=True,
            capture_output=True,
        )
        described = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def shorten_commit(result: dict[str, Any]) -> str:
    """Shorten a result's commit to twelve digits, keeping "-dirty"; empty without a commit."""
    commit, _, dirty = (result["commit"] or "").partition("-")
    return f"{commit[:12]}-{dirty}" if dirty else commit[:12]
