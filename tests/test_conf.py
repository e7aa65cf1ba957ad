import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import NO_EPOCHS

CONF = Path(__file__).parents[1] / "conf"
GROUPS = {
    (file.parent.name, file.stem)
    for file in CONF.glob("*/*.yaml")
    if file.parent.name not in ("data", "study", "distillation", "init", "debug")
}
NOT_FOR_AUDIO = {
    ("features", "precomputed"),
    *(("split", name) for name in ("official", "fold", "all")),
}
NOT_FOR_TRAINING = {("features", "waveform"), ("normalise", "init")}
# Trained on by tests/models/test_huggingface.py and test_onnx.py.
NEED_A_MODEL = {("features", name) for name in ("huggingface", "onnx", "onnx_mel")}
ENCODERS = {("features", name) for name in ("concat", "embedding", "musicnn", "musicnn_frames")}
OF_ENCODERS = {"concatenated_folds": "concat", "musicnn_folds": "musicnn"}  # phases: features
ENCODERS |= {("phase", name) for name in OF_ENCODERS}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "option"), sorted(GROUPS - NOT_FOR_AUDIO - NOT_FOR_TRAINING - NEED_A_MODEL - ENCODERS)
)
def test_every_option_runs_a_step(
    train: Callable[..., dict[str, Any]], group: str, option: str
) -> None:
    # Compiling for a CPU takes half a minute and a C++ compiler; test_train does all but that.
    on_cpu = ["trainer.accelerator=cpu", "compile=false"] * (group == "trainer")
    on_cpu += ["oversampling.genres=[Folk]"] * (option == "enhancement")  # null in the phase
    swept = drop_sweep(option) if group == "phase" else []
    few = [] if f"{group}={option}" in NO_EPOCHS else ["trainer.limit_train_batches=1"]
    result = train(f"{group}={option}", *on_cpu, *swept, *few)
    assert result["metrics"]["val/loss"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("group", "option"), sorted(ENCODERS))
def test_every_encoder_runs_with_an_svm(
    train: Callable[..., dict[str, Any]], musicnn_weights: Path, group: str, option: str
) -> None:
    swept = []
    if group == "phase":
        swept = [*drop_sweep(option), f"features={OF_ENCODERS[option]}"]
    result = train(f"{group}={option}", *swept, "model=svm", "split=artist")
    assert 0 <= result["metrics"]["test/accuracy"] <= 1


def drop_sweep(phase: str) -> list[str]:
    """Run a phase once, with the defaults: otherwise it needs -m."""
    settings = yaml.safe_load((CONF / "phase" / f"{phase}.yaml").read_text())
    inherits = any(isinstance(entry, str) for entry in settings.get("defaults", []))
    return ["hydra.sweeper.params=null"] * (inherits or "sweeper" in settings.get("hydra", {}))


def test_no_two_options_are_written_twice() -> None:
    """An option that is like another names it in its defaults."""
    contents = {}
    for file in sorted(CONF.glob("*/*.yaml")):
        lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        contents.setdefault((file.parent, *lines), []).append(file.name)
    assert [names for names in contents.values() if len(names) > 1] == []


def test_waveforms_are_stored_but_no_model_takes_them(
    train: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train("features=waveform")
    line = "features of 1 x 55125; this model needs 8 x 8 (to compute features of waveforms in"
    assert line in capsys.readouterr().err


def test_data_npz_features_precomputed_split_official_run_a_step(
    command: Callable[..., str], tmp_path: Path
) -> None:
    np.savez(
        tmp_path / "a.npz",
        features=np.random.default_rng(0).normal(size=(12, 8, 16)),
        labels=np.array(["a", "b"] * 6),
        track_ids=np.arange(12),
        split=np.array(["training"] * 6 + ["validation"] * 3 + ["test"] * 3),
    )
    command(
        *("train", "data=npz", f"data.path={tmp_path}/a.npz", "split=official", "report=false"),
        *("trainer.max_epochs=1", "+trainer.limit_train_batches=1"),
    )


def test_init_pretrained_runs_a_step(command: Callable[..., str], music: Path) -> None:
    data = ["data=folder", f"data.root={music}", "report=false"]
    command("train", *data, "init=pretrained", "trainer.max_epochs=1", "split=artist")


@pytest.mark.slow
def test_every_ablation_runs_a_step(command: Callable[..., str], tmp_path: Path) -> None:
    rng, ids = np.random.default_rng(0), np.arange(24)
    np.savez(
        tmp_path / "rows.npz",
        features=rng.uniform(-80, 0, (24, 128, 128)).astype(np.float16),
        labels=np.array(["Folk", "Pop"])[ids % 2],
        track_ids=ids,
        split=np.where(ids < 18, "training", "validation"),
    )
    np.savez(tmp_path / "distillation.npz", features=rng.normal(size=(24, 4)), track_ids=ids)
    printing = tmp_path / "genreclf"
    printing.write_text('#!/bin/sh\nprintf "%s\\n" "$*"\n')
    printing.chmod(0o755)
    given = {
        "DATA": f"data=npz data.path={tmp_path}/rows.npz",
        "DISTILLATION": f"distillation=embeddings distillation.path={tmp_path}/distillation.npz",
    }
    made = subprocess.run(
        [
            "make",
            "ablations",
            "--silent",
            "READY=",
            f"BIN={tmp_path}",
            *map("=".join, given.items()),
        ],
        cwd=CONF.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    *trainings, last = (line.split(" ") for line in made.stdout.splitlines())
    assert len(trainings) == 22
    assert last[0] == "summary"
    for name, *arguments in trainings:
        kept = [text for text in arguments if not text.startswith(("outputs=", "trainer.max"))]
        command(name, *kept, "trainer.max_epochs=1", "+trainer.limit_train_batches=1")
    assert len([*tmp_path.glob("train/*/result.json")]) == len(trainings)


def test_data_synthetic_runs_a_step(command: Callable[..., str]) -> None:
    command(
        *("train", "data.artists=3", "data.clips=3", "data.duration=2.0", "report=false"),
        *("trainer.max_epochs=1", "+trainer.limit_train_batches=1", "features.n_mels=16"),
    )


def test_every_option_says_what_it_is() -> None:
    for file in CONF.rglob("*.yaml"):
        assert file.read_text().startswith("# "), file


def test_every_group_is_in_the_defaults() -> None:
    files = ("config.yaml", "study.yaml")
    defaults = [yaml.safe_load((CONF / name).read_text())["defaults"] for name in files]
    entries = [entry for each in defaults for entry in each if isinstance(entry, dict)]
    named = {group.partition("@")[0] for entry in entries for group in entry}
    assert named == {
        folder.name
        for folder in CONF.iterdir()
        if (folder.is_dir() and folder.name not in ("__pycache__", "hydra"))
    }


@pytest.mark.slow
def test_a_wheel_holds_every_option(tmp_path: Path) -> None:
    root = CONF.parent
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "conf", "genreclf"):
        (copy / name).symlink_to(root / name)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", copy, "--no-deps", "--no-build-isolation"),
            *("--wheel-dir", tmp_path, "--quiet", "--no-index"),
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    packed = {
        str(p.relative_to(tmp_path / "site/genreclf/conf"))
        for p in (tmp_path / "site").rglob("*.yaml")
    }
    assert packed == {str(p.relative_to(CONF)) for p in CONF.rglob("*.yaml")}
    site, source = tmp_path / "site" / "genreclf", root / "genreclf"
    for kind in ("*.py", "*.j2", "pretrained/*"):
        files = {str(path.relative_to(source)) for path in source.rglob(kind)}
        assert files <= {str(path.relative_to(site)) for path in site.rglob(kind)}
    printed = subprocess.run(
        [
            *(sys.executable, "-c", "from genreclf.__main__ import main; main()"),
            *("train", "model=efficient_cnn", "--cfg", "job"),
        ],
        cwd=tmp_path / "site",
        check=True,
        capture_output=True,
        text=True,
    )
    assert "genreclf.models.EfficientCNN" in printed.stdout
