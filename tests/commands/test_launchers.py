"""Sweeps in several processes: every Hydra launcher gives the same numbers as the default one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from conftest import TINY
from hydra.core.config_store import ConfigStore

from genreclf.data.store import Store

LAUNCHERS = {  # option -> settings that save time
    "joblib": [],
    "ray": ["+hydra.launcher.ray.init.include_dashboard=false"],
    "submitit_local": [],
}
Figures = dict[str, Any]


def need(launcher: str) -> None:
    name = launcher.partition("_")[0]
    pytest.importorskip(f"hydra_plugins.hydra_{name}_launcher")


def genreclf(music: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run a command in `folder`, with one thread per run, as the launchers' workers have."""
    folder.mkdir()
    data = ["data=folder", f"data.root={music}", "data.duration=2.5", *TINY]
    return subprocess.run(
        [sys.executable, "-m", "genreclf", *arguments, *data],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def sweep(music: Path, folder: Path, *arguments: str) -> tuple[Figures, np.ndarray]:
    """Three runs, the first of which fails; returns the others' figures and the store's rows."""
    done = genreclf(
        music, folder, *("train", "-m", "seed=-1,0,1", "trainer.max_epochs=2"), *arguments
    )
    assert done.returncode == 1
    assert "genreclf: seed=-1: choose a number from 0 to 4294967295" in done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    found = {}
    for path in folder.glob("outputs/train/*/result.json"):
        result = json.loads(path.read_text())
        figures = [result[key] for key in ("history", "metrics", "test", "val", "overrides")]
        found[path.parent.name] = [*figures, (path.parent / "predictions.csv").read_text()]
    return found, rows(folder)[0]


def rows(folder: Path) -> list[np.ndarray]:
    stores = [Store(path) for path in sorted(folder.glob("outputs/stores/*.h5"))]
    return [store.read(np.arange(len(store))) for store in stores]


@pytest.fixture(scope="module")
def reference(music: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Figures, np.ndarray]:
    return sweep(music, tmp_path_factory.mktemp("launchers") / "basic")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_gives_the_same_results_to_the_digit(
    music: Path, tmp_path: Path, reference: tuple[Figures, np.ndarray], launcher: str
) -> None:
    need(launcher)
    options = [f"hydra/launcher={launcher}", *LAUNCHERS[launcher]]
    found, stored = sweep(music, tmp_path / launcher, *options)
    assert len(found) == 2
    assert found == reference[0]
    np.testing.assert_array_equal(stored, reference[1])


@pytest.mark.slow
def test_extraction_in_jobs_makes_the_same_stores(music: Path, tmp_path: Path) -> None:
    need("joblib")
    command = ["prepare", "-m", "features=mel_frames,mel"]
    for folder, options in {"basic": [], "joblib": ["hydra/launcher=joblib"]}.items():
        done = genreclf(music, tmp_path / folder, *command, *options)
        assert done.returncode == 0, done.stderr
    stores, again = rows(tmp_path / "basic"), rows(tmp_path / "joblib")
    assert len(stores) == 2
    for expected, actual in zip(stores, again, strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.slow
def test_a_study_passes_the_launcher_on_to_its_sweeps(music: Path, tmp_path: Path) -> None:
    need("joblib")
    study = ["study", "study.phases=[enhancement]", "oversampling.genres=[Rock]"]
    short = ["trainer.max_epochs=1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    done = genreclf(music, tmp_path / "study", *study, *short)
    assert done.returncode == 0, done.stderr
    (log,) = tmp_path.glob("study/outputs/study/*/enhancement.log")
    assert "Joblib.Parallel(n_jobs=2" in log.read_text()
    results = list(tmp_path.glob("study/outputs/train/*/result.json"))
    assert len(results) == 3, "two runs, and the test of the better one"


@pytest.mark.parametrize(
    ("launcher", "overrides", "expected"),
    [
        (
            "submitit_slurm",
            ["partition=gpu", "gpus_per_node=1", "timeout_min=600", "array_parallelism=8"],
            {"partition": "gpu", "gpus_per_node": 1, "timeout_min": 600, "array_parallelism": 8},
        ),
        ("ray", ["+ray.remote.num_gpus=0.25"], {"ray": {"remote": {"num_gpus": 0.25}}}),
        ("joblib", ["n_jobs=4"], {"n_jobs": 4}),
    ],
)
def test_the_documented_settings_compose(
    launcher: str, overrides: list[str], expected: dict[str, Any]
) -> None:
    need(launcher)
    texts = [
        "+hydra.launcher." + text[1:] if text[0] == "+" else "hydra.launcher." + text
        for text in overrides
    ]
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        config = hydra.compose(
            "config", [f"hydra/launcher={launcher}", *texts], return_hydra_config=True
        )
    composed = config.hydra.launcher
    for key, value in expected.items():
        found = composed[key]
        assert found == value or value["remote"].items() <= found["remote"].items()


def test_a_launcher_that_is_not_installed_is_one_line(
    command: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    need("ray")
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], "ray.yaml")
    with pytest.raises(SystemExit):
        command("train", "-m", "hydra/launcher=ray")
    assert capsys.readouterr().err == (
        "genreclf: hydra/launcher=ray is not installed: pip install 'genreclf[ray]'\n"
    )


def test_a_launcher_that_fails_is_one_line(
    command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    need("submitit_slurm")
    with pytest.raises(SystemExit):
        command("train", "-m", "hydra/launcher=submitit_slurm")
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith('genreclf: hydra/launcher: Could not detect "srun"')
