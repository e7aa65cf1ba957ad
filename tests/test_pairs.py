"""Any two options work together: a covering array of small runs, each to its very end.

Each option of the groups below meets each option of every other group in at least one run, unless
the two cannot go together by their nature (`fits`); those are refused in one line.
"""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import forks
import numpy as np
import pytest

from genreclf.data.datasets import Folder

Command = Callable[..., str]
Pair = frozenset[tuple[str, str]]

FEATURES = {  # small ones of the clips of the fixture `music`
    "mel": [
        "features=mel",
        "features.n_mels=32",
        "features.n_fft=1024",
        "features.hop_length=1024",
    ],
    "on_device": ["features=mel", "features.on_device=true", "features.n_mels=32"],
    "mel_frames": ["features=mel_frames"],
    "mfcc": ["features=mfcc"],
    "chroma": ["features=chroma"],
    "precomputed": ["features=precomputed"],
}
OPTIONS = {
    "model": [
        *("attentive_cnn", "cnn_gru", "cnn_lstm", "conventional_cnn", "efficient_cnn", "musicnn"),
        *("svm", "linear"),
    ],
    "features": list(FEATURES),
    "logger": ["csv", "none", "tensorboard", "wandb", "mlflow"],
    "cache": ["none", "memory", "float16", "device"],
    "normalise": ["none", "per_bin", "unit_range", "init"],
    "trainer": ["default", "gpu", "ddp"],
    "scheduler": ["plateau", "none", "cosine"],
    "loss": ["cross_entropy", "balanced", "focal"],
    "sampler": ["shuffle", "balanced"],
    "init": ["none", "pretrained"],
    "distillation": ["none", "embeddings"],
}
NAMES = list(OPTIONS)


def fits(values: list[str]) -> bool:
    """Whether options, the first ones in the order of OPTIONS, can go together by their nature."""
    chosen = dict(zip(NAMES, values, strict=False))

    def is_any(name: str, *options: str) -> bool:
        return chosen.get(name) in options

    def is_other(name: str, *options: str) -> bool:
        return name in chosen and chosen[name] not in options

    large = is_any("model", "attentive_cnn", "conventional_cnn")  # need 16 bins
    if large and is_any("features", "chroma", "mfcc"):
        return False
    if is_any("cache", "float16") and is_any("features", "on_device"):  # would round waveforms
        return False
    if is_any("model", "svm", "linear") and (  # they have no epochs
        is_other("scheduler", "plateau")
        or is_other("loss", "cross_entropy")
        or is_other("sampler", "shuffle")
        or is_other("trainer", "default")
        or is_other("init", "none")
        or is_other("distillation", "none")
    ):
        return False
    if is_any("distillation", "embeddings") and is_other("model", "attentive_cnn"):
        return False
    fine_tuned = is_any("init", "pretrained")
    if fine_tuned and (is_other("model", "attentive_cnn") or is_other("features", "mel_frames")):
        return False
    if fine_tuned and is_other("normalise", "init"):
        return False
    if is_any("normalise", "init"):
        return not (
            is_any("init", "none")
            or is_other("model", "attentive_cnn")
            or is_other("features", "mel_frames")
        )
    return True


def fill(fixed: dict[str, str], missing: set[Pair], values: tuple[str, ...] = ()) -> Any:
    """Complete these options to those of a run that covers many missing pairs; None if none can."""
    if not fits(list(values)):
        return None
    if len(values) == len(NAMES):
        return dict(zip(NAMES, values, strict=True))
    name = NAMES[len(values)]
    known = {**fixed, **dict(zip(NAMES, values, strict=False))}

    def count_covered(option: str) -> int:
        return sum(frozenset(((name, option), each)) in missing for each in known.items())

    options = [fixed[name]] if name in fixed else OPTIONS[name]
    for option in sorted(options, key=count_covered, reverse=True):
        if run := fill(fixed, missing, (*values, option)):
            return run
    return None


def cover_pairs() -> list[dict[str, str]]:
    """List runs in which every two options of different groups meet if they can.

    (allpairspy leaves out some pairs when options exclude each other.)
    """
    each = [(name, option) for name, options in OPTIONS.items() for option in options]
    missing = {frozenset(pair) for pair in combinations(each, 2) if pair[0][0] != pair[1][0]}
    runs = []

    def rank(pair: Pair) -> tuple[bool, list[tuple[int, str]]]:
        """Those with two processes, which take longest, first: fewer runs cover them."""
        return ("trainer", "ddp") not in pair, sorted((NAMES.index(n), o) for n, o in pair)

    for pair in sorted(missing, key=rank):
        if pair in missing and (run := fill(dict(pair), missing)):
            runs.append(run)
            missing -= {frozenset(both) for both in combinations(run.items(), 2)}
    return runs


RUNS = cover_pairs()


def list_overrides(chosen: dict[str, str], music: Path, files: Path) -> list[str]:
    """List the overrides of a run; those that are the default are left out."""
    plain = {
        name: option
        for name, option in chosen.items()
        if name not in ("features", "init", "distillation", "normalise", "trainer")
        if option != OPTIONS[name][0] or name in ("model", "logger")
    }
    overrides = [f"{name}={option}" for name, option in plain.items()]
    if chosen["features"] == "precomputed":
        overrides += ["data=npz", f"data.path={files / 'rows.npz'}"]
    else:
        overrides += ["data=folder", f"data.root={music}"]
        overrides += ["data.duration=2.5"] * (chosen["init"] == "none")
    if chosen["init"] == "pretrained":
        overrides += ["init=pretrained", "trainer.max_epochs=1"]
    else:
        overrides += [*FEATURES[chosen["features"]], f"normalise={chosen['normalise']}"]
        overrides += [] if chosen["model"] in ("svm", "linear") else ["trainer.max_epochs=1"]
    if chosen["distillation"] == "embeddings":
        overrides += ["distillation=embeddings", f"distillation.path={files / 'embeddings.npz'}"]
    if chosen["trainer"] != "default":
        overrides += [f"trainer={chosen['trainer']}", "trainer.accelerator=cpu", "compile=false"]
        overrides += ["trainer.devices=2"] * (chosen["trainer"] == "ddp")
    return overrides


@pytest.fixture(scope="session")
def files(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows of features, and with embeddings of the tracks of both datasets."""
    folder, random = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    rows = random.normal(-40, 10, (48, 32, 32)).astype(np.float32)
    ids = np.arange(1000, 1048)
    labels = np.arange(48) % 4
    np.savez(folder / "rows.npz", features=rows, labels=labels.astype(str), track_ids=ids)
    known = [*map(str, ids), *(track.id for track in Folder(music, duration=2.5).tracks())]
    np.savez(
        folder / "embeddings.npz",
        features=random.normal(size=(len(known), 6)),
        track_ids=np.array(known),
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("chosen", RUNS, ids=lambda chosen: "-".join(chosen.values()))
def test_a_run_with_these_options_ends(
    chosen: dict[str, str], command: Command, music: Path, files: Path, tmp_path: Path
) -> None:
    """Result, report page, W&B's files, and the evaluation of the checkpoint."""
    if chosen["logger"] == "mlflow":
        pytest.importorskip("mlflow")
    overrides = list_overrides(chosen, music, files)
    shared = f"outputs={files / 'outputs'}"  # the stores are made once
    if chosen["trainer"] == "ddp":  # test_ddp.py lets the command start its processes itself
        ranks = forks.run_ranks("-m", "genreclf", "train", shared, *overrides, cwd=tmp_path)
        assert [done.returncode for done in ranks] == [0, 0], ranks
        path = Path(ranks[0].stdout.splitlines()[-1])
    else:
        path = Path(command("train", shared, *overrides))
    result = json.loads(path.read_text())
    assert np.isfinite(result["metrics"]["val/loss"]) or chosen["model"] == "svm"
    assert result["metrics"]["test/accuracy"] >= 0
    page = (path.parent / "report.html").read_text()
    assert page.rstrip().endswith("</html>")
    if chosen["logger"] == "wandb":
        assert list(path.parent.rglob("run-*.wandb"))
    if chosen["model"] == "svm":
        return
    data = [text for text in overrides if text.startswith("data")]
    checkpoint = f"checkpoint={path.parent / 'best.ckpt'}"
    evaluated = json.loads(Path(command("evaluate", shared, checkpoint, *data)).read_text())
    assert evaluated["n"] == 48


IMPOSSIBLE: list[tuple[list[str], str]] = [
    (["model=attentive_cnn", "features=chroma"], "this model needs 16 x 16"),
    (["model=conventional_cnn", "features=mfcc"], "this model needs 16 x 16"),
    (["cache=float16", "features.on_device=true"], "cache=float16"),
    (["model=svm", "scheduler=cosine"], "model=svm does not use scheduler=cosine"),
    (["model=svm", "loss=focal"], "model=svm does not use loss=focal"),
    (["model=svm", "sampler=balanced"], "model=svm does not use sampler=balanced"),
    (["model=svm", "distillation=embeddings", "distillation.path=a.npz"], "model=svm does not use"),
    (["model=cnn_gru", "distillation=embeddings", "distillation.path={}"], "has no embedding"),
    (["init=pretrained", "model=cnn_gru"], "init.checkpoint=pretrained has other model"),
    (["init=pretrained", "features=mel"], "init.checkpoint=pretrained has other features"),
    (["init=pretrained", "normalise=none"], "leave out normalise"),
    (["normalise=init"], "normalise=init goes with init=pretrained"),
]


@pytest.mark.parametrize(("overrides", "line"), IMPOSSIBLE, ids=lambda value: str(value)[:40])
def test_options_that_cannot_go_together_are_refused_before_decoding(
    overrides: list[str],
    line: str,
    command: Command,
    music: Path,
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [text.format(files / "embeddings.npz") for text in overrides]
    given += ["data.duration=2.5"] * ("init=pretrained" not in overrides)
    with pytest.raises(SystemExit):
        command("train", "data=folder", f"data.root={music}", *given)
    error = capsys.readouterr().err
    assert line in error
    assert len(error.splitlines()) == 1, error
    assert not list(tmp_path.rglob("*.h5"))
