"""Parts of one's own: used as named, checked before anything is decoded, and read back."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY

import genreclf
from genreclf.commands import parts as commands_parts
from genreclf.commands import predict
from genreclf.errors import InputError
from genreclf.models.model_files import read_seen_tracks
from genreclf.training import Classifier, check, trial

Train = Callable[..., dict[str, Any]]
Command = Callable[..., str]

MODULE = """
import torch
from pytorch_lightning import Callback
from torch import nn
from torchmetrics.classification import MulticlassCohenKappa


class Net(nn.Module):
    def __init__(self, classes, size=4):
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool1d(size)
        self.head = nn.LazyLinear(classes) if size == 0 else nn.Linear(size, classes)

    def forward(self, features):
        return self.head(self.squeeze(features.mean(dim=1)))


class TwoDimensional(Net):
    def forward(self, features):
        return self.head(features)


class WrongSize(Net):
    def __init__(self, classes):
        super().__init__(classes + 1)


class Forgetful(Net):
    def __init__(self, classes):
        super().__init__(classes)
        self.noise = torch.rand(4)  # neither a parameter nor a buffer

    def forward(self, features):
        return super().forward(features) + self.noise.sum()


class NoClasses(nn.Module):
    def __init__(self, size=4):
        super().__init__()


class HardLabelsOnly(nn.Module):
    def forward(self, logits, targets):
        return -logits.log_softmax(dim=1)[torch.arange(len(targets)), targets].mean()


class Recorder(Callback):
    def __init__(self, path):
        self.path = path

    def on_train_epoch_end(self, trainer, module):
        with open(self.path, "a") as file:
            file.write(f"{trainer.current_epoch}")


def make_one_cycle(optimizer, steps):
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    return {"scheduler": scheduler, "interval": "step"}


def make_every_second_epoch(optimizer):
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    return {"scheduler": scheduler, "interval": "epoch", "frequency": 2}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An importable module `mine` with the parts above."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    yield folder / "mine.py"
    sys.modules.pop("mine", None)


def use(group: str, target: str, **settings: Any) -> list[str]:
    """Overrides that put a class of `mine` in the place of a group's option."""
    values = "".join(f",{key}:{value}" for key, value in settings.items())
    return [f"~{group}", f"+{group}={{_target_:mine.{target}{values}}}"]


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., list[str]]:
    """Writes an option file; returns the arguments that choose it."""

    def write(group: str, target: str, text: str = "") -> list[str]:
        file = tmp_path / "options" / group / "mine.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"_target_: mine.{target}\n{text}")
        return ["--config-dir", str(tmp_path / "options"), f"{group}=mine"]

    return write


def test_d4_a_model_of_your_own_is_trained_tested_and_read_back(
    train: Train, command: Command, module: Path, music: Path, options: Any
) -> None:
    result = train(*options("model", "Net", "size: 6\n"), "test=false")
    assert result["params"] == 6 * 4 + 4
    checkpoint = result["folder"] / "best.ckpt"
    data = ["data=folder", f"data.root={music}", "data.duration=2.5"]
    path = command("evaluate", f"checkpoint={checkpoint}", "trust=[mine]", *data)
    assert json.loads(Path(path).read_text())["accuracy"] >= 0
    model = genreclf.load(checkpoint, trust=["mine"])
    song = next(music.rglob("*.mp3"))
    assert sum(model.predict(song).scores.values()) == pytest.approx(1)
    assert model.embed(song).shape == (6,)
    assert type(Classifier.load_from_checkpoint(checkpoint, trust=["mine"]).net).__name__ == "Net"
    exported = Path(command("export", f"checkpoint={checkpoint}"))
    assert genreclf.load(exported, trust=["mine"]).predict(song).genre in model.classes
    assert "--trust mine" in (exported / "README.md").read_text()


def test_a_model_of_an_unnamed_package_is_refused_everywhere(
    train: Train,
    command: Command,
    module: Path,
    music: Path,
    options: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A stranger's checkpoint imports nothing, even if a package of that name is installed."""
    checkpoint = train(*options("model", "Net"), "test=false")["folder"] / "best.ckpt"
    exported = Path(command("export", f"checkpoint={checkpoint}"))
    del sys.modules["mine"]
    marker = tmp_path / "imported"
    module.write_text(f"open({str(marker)!r}, 'w')\n")
    line = r"mine\.Net is not part of genreclf, so it is not imported.*trust=\[mine\.Net\]"
    for path in (checkpoint, checkpoint.parent, exported):
        with pytest.raises(InputError, match=line):
            genreclf.load(path)
        with pytest.raises(InputError, match=line):
            Classifier.load_from_checkpoint(path)
        assert read_seen_tracks(path).digests["audio"]  # this needs no model
        for name in ("evaluate", "spectrogram"):
            given = [f"checkpoint={path}"]
            given += ["clip=none.mp3"] if name == "spectrogram" else [f"data.root={music}"]
            given += ["data=folder"] if name == "evaluate" else []
            with pytest.raises(SystemExit):
                command(name, *given)
            assert "mine.Net is not part of genreclf" in capsys.readouterr().err
    assert predict.main(["--checkpoint", str(exported), str(music)]) == 1
    assert "mine.Net is not part of genreclf" in capsys.readouterr().err
    command("export", f"checkpoint={checkpoint}", f"folder={tmp_path / 'again'}")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("TwoDimensional", r"features \(2, 32, 54\) fails in mine.py, line 20: RuntimeError"),
        ("WrongSize", r"its output for 2 clips is \(2, 5\); logits \(2, 4\)"),
        ("Forgetful", "rebuilt from its checkpoint, it computes something else"),
        ("NoClasses", "mine.NoClasses takes no argument classes"),
        ("Missing", r"model._target_=mine.Missing: there is no Missing in mine"),
    ],
)
def test_d4_a_broken_model_is_found_before_anything_is_decoded(
    train: Train,
    module: Path,
    options: Any,
    target: str,
    line: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        train(
            *options("model", target), f"outputs={tmp_path / 'out'}", f"store={tmp_path / 's.h5'}"
        )
    found = capsys.readouterr().err
    assert len(found.splitlines()) == 1, found
    assert re.search(line, found), found
    assert not (tmp_path / "s.h5").exists()


def test_parts_are_checked_once_per_run(
    train: Train, module: Path, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a missing store, they were made and tried before decoding, and again before training."""
    called: list[str] = []

    def count(module: ModuleType, name: str) -> None:
        function = getattr(module, name)

        def counted(*given: Any) -> Any:
            called.append(name)
            return function(*given)

        monkeypatch.setattr(module, name, counted)

    count(commands_parts, "make_parts")
    count(check, "check_settings")
    count(trial, "try_parts")
    own, missing = options("model", "Net"), f"store={tmp_path / 's.h5'}"
    assert train(*own, missing)["params"]
    assert called == ["make_parts", "check_settings", "try_parts"]
    called.clear()
    assert train(*own, missing, "seed=1")["params"]  # the store is there now
    assert called == ["make_parts", "check_settings", "try_parts"]


def test_a_model_that_was_changed_is_trained_again(
    train: Train, module: Path, options: Any
) -> None:
    """Editing the code of a model must not give back the result of the old code."""
    first = train(*options("model", "Net"))
    assert train(*options("model", "Net"))["folder"] == first["folder"]
    sys.modules.pop("mine")
    module.write_text(MODULE.replace("mean(dim=1)", "amax(dim=1)"))
    second = train(*options("model", "Net"))
    assert second["folder"] != first["folder"]
    sys.modules.pop("mine")
    module.write_text(
        MODULE.replace(
            "    def __init__(self, classes, size=4):",
            "    version = 3\n\n    def __init__(self, classes, size=4):",
        )
    )
    third = train(*options("model", "Net"))
    sys.modules.pop("mine")
    module.write_text(module.read_text() + "\n# a comment\n")
    assert train(*options("model", "Net"))["folder"] == third["folder"]


def test_a_loss_of_your_own_is_minimised(train: Train, module: Path, options: Any) -> None:
    plain = train("model=efficient_cnn")
    assert train(*options("loss", "HardLabelsOnly"), "model=efficient_cnn")["history"][0][
        "train/loss"
    ] == pytest.approx(plain["history"][0]["train/loss"], abs=1e-5)
    focal = train("loss=focal", "model=efficient_cnn")["history"][0]
    assert focal["train/loss"] < 0.9 * plain["history"][0]["train/loss"]


def test_a_loss_that_takes_no_soft_targets_is_found_before_training(
    train: Train, module: Path, options: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    own = [*options("loss", "HardLabelsOnly"), f"store={tmp_path / 's.h5'}"]
    for setting in ("label_smoothing=0.1", "mixup=0.2"):
        with pytest.raises(SystemExit):
            train(*own, setting)
        assert "fails in mine.py, line" in capsys.readouterr().err
    assert not (tmp_path / "s.h5").exists()


def test_a_metric_of_your_own_is_logged_monitored_and_tested(train: Train) -> None:
    own = "+metric.kappa._target_=torchmetrics.classification.MulticlassCohenKappa"
    result = train(own, "monitor=val/kappa", "trainer.max_epochs=2")
    assert {"train/kappa", "val/kappa"} <= set(result["history"][0])
    best = max(result["history"], key=lambda epoch: epoch["val/kappa"])
    assert result["best_epoch"] == best["epoch"]
    assert result["metrics"]["val/kappa"] == pytest.approx(best["val/kappa"], abs=1e-6)
    matrix = np.array(result["test"]["confusion"])
    chance = (matrix.sum(0) * matrix.sum(1)).sum() / matrix.sum() ** 2
    expected = (np.trace(matrix) / matrix.sum() - chance) / (1 - chance)
    assert result["metrics"]["test/kappa"] == pytest.approx(expected, abs=1e-5)


def test_an_unknown_monitor_is_refused_with_the_known_ones(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train("monitor=val/kappa")
    assert "monitor=val/kappa: choose one of val/loss, val/accuracy" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["callback.mine", "trainer.callbacks"])
def test_d2_callbacks_of_your_own_are_called(
    train: Train, module: Path, tmp_path: Path, key: str
) -> None:
    path = tmp_path / "epochs"
    own = f"{{_target_:mine.Recorder,path:{path}}}"
    train(f"+{key}=" + (f"[{own}]" if "trainer" in key else own), "trainer.max_epochs=2")
    assert path.read_text() == "01"


def test_d6_a_scheduler_keeps_its_interval_and_frequency(train: Train, module: Path) -> None:
    """OneCycleLR is stepped after each batch, others after as many epochs as they say."""
    own = ["~scheduler", "+scheduler={_target_:mine.make_one_cycle,_partial_:true,steps:8}"]
    result = train(*own, "trainer.max_epochs=2", "trainer.limit_train_batches=2")
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1), 0.1, total_steps=8
    )
    rates = []
    for _ in range(8):
        scheduler.optimizer.step()
        rates += [scheduler.get_last_lr()[0]]
        scheduler.step() if len(rates) < 8 else None
    assert result["history"][0]["lr"] == pytest.approx(rates[2])
    assert result["history"][1]["lr"] == pytest.approx(rates[4])
    own = ["~scheduler", "+scheduler={_target_:mine.make_every_second_epoch,_partial_:true}"]
    rates = [epoch["lr"] for epoch in train(*own, "trainer.max_epochs=4")["history"]]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4])


def test_d3_a_loss_is_chosen_with_or_without_a_plus(music: Path, tmp_path: Path) -> None:
    """D3: +loss=focal was ignored. (Nothing but the run's own lines is printed, either.)"""
    words = ["data=folder", f"data.root={music}", "data.duration=2.5", *TINY]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "genreclf", "train", *words, f"outputs={tmp_path}"),
            *("+loss=focal", "model=efficient_cnn", "trainer.max_epochs=1"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(Path(done.stdout.splitlines()[-1]).read_text())
    assert result["choices"]["loss"] == "focal"
    assert result["config"]["loss"]["gamma"] == 2
    assert not re.search(r"Tip|GPU available|litlogger|[Ww]arning", done.stdout + done.stderr)
