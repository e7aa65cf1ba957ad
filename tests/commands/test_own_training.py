"""Training with parts of one's own: what metrics get, batches of one, splits, early refusals."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MODULE = """
import numpy as np
import torch
from pytorch_lightning import Callback
from torch import nn
from torchmetrics import Metric


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(8, classes)

    def forward(self, features):
        return self.head(features.mean(dim=2))


class Norm(Net):
    def __init__(self, classes):
        super().__init__(classes)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, features):
        return self.head(self.norm(features.mean(dim=2)))


class Squeezed(Net):
    def forward(self, features):
        return super().forward(features).squeeze()


class Logarithmic(Net):
    def forward(self, features):
        return self.head(features.log().mean(dim=2))


class Tokens(Net):
    def __init__(self, classes):
        super().__init__(classes)
        self.meanings = nn.Embedding(10, 8)

    def forward(self, features):
        return self.head(self.meanings(features.long()).mean(dim=(1, 2)))


class Lazy(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

    def forward(self, features):
        return self.layers(features)


class View(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4 * 6 * 6, classes)

    def forward(self, features):
        return self.head(self.layers(features[:, None]).view(len(features), -1))


class WithFit(Net):
    def fit(self, history):
        raise NotImplementedError


class Nearest(Net):
    without_epochs = True

    def fit(self, batches, labels):
        features = torch.cat([batch.mean(dim=2) for batch in batches])
        means = [features[torch.from_numpy(labels == label)].mean(dim=0) for label in range(3)]
        self.head.weight.data = torch.stack(means)


class Interrupted(Net):
    def forward(self, features):
        if self.training:
            raise KeyboardInterrupt
        return super().forward(features)


class Huge(Net):
    def forward(self, features):
        if self.training:
            raise RuntimeError("CUDA error: out of memory")
        return super().forward(features)


class NLL(Metric):
    higher_is_better = False

    def __init__(self, num_classes):
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits, labels):
        assert logits.isfinite().all()
        self.total += nn.functional.nll_loss(logits, labels, reduction="sum")
        self.count += len(labels)

    def compute(self):
        return self.total / self.count


class Keeper(Callback):
    def state_dict(self):
        return {"seen": np.zeros(3)}


class LateKeeper(Callback):
    def on_validation_end(self, trainer, module):
        self.seen = np.zeros(3)

    def state_dict(self):
        return {"seen": self.seen}


class BadEnd(Callback):
    def on_train_end(self, trainer, module):
        raise ValueError("oops at the end")


def split_as(store, kind):
    rows = np.arange(len(store))
    parts = {"train": rows[:20], "val": rows[20:30], "test": rows[30:]}
    if kind == "lists":
        return {part: rows.tolist() for part, rows in parts.items()}
    if kind == "mask":
        return {part: np.isin(np.arange(len(store)), rows) for part, rows in parts.items()}
    if kind == "pair":
        return parts["train"], parts["val"]
    if kind == "failing":
        raise KeyError("artist")
    changed = {
        "far": {"test": rows + 1},
        "negative": {"val": rows[20:30] - 21},
        "names": {"val": np.array(store.track_ids)},
        "empty": {"val": []},
        "unknown": {"validation": rows[20:30]},
        "none": {"train": None},
    }
    return parts | changed[kind]
"""


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of options, empty at first; the module above can be imported as `mine`."""
    (tmp_path / "options").mkdir()
    (tmp_path / "options" / "mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path / "options"))
    yield tmp_path / "options"
    sys.modules.pop("mine", None)


@pytest.fixture
def run(
    command: Callable[..., str], options: Path, tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Trains the model Net on 41 precomputed clips (8, 8) of whole numbers from 1 to 9."""
    random, names = np.random.default_rng(0), ["a", "b", "c"]
    np.savez(
        tmp_path / "data.npz",
        features=random.integers(1, 10, (41, 8, 8)).astype(np.float32),
        labels=np.array([names[n % 3] for n in range(41)]),
        track_ids=np.array([f"t{n}" for n in range(41)]),
    )

    def train(*arguments: str, model: str = "Net") -> dict[str, Any]:
        file = options / "model" / "mine.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"_target_: mine.{model}\n")
        data = ["data=npz", f"data.path={tmp_path / 'data.npz'}", "report=false", "logger=none"]
        once = ["trainer.max_epochs=1"] * ("model=svm" not in arguments)
        once.append("trainer.accelerator=cpu")
        chosen = [] if any(a.startswith("model=") for a in arguments) else ["model=mine"]
        given = ["--config-dir", str(options), *data, *once, *chosen, *arguments]
        path = Path(command("train", *given))
        result = json.loads(path.read_text()) if path.is_file() else {}
        return {**result, "folder": path.parent}

    return train


Run = Callable[..., dict[str, Any]]


def refuse(
    run: Run, capsys: pytest.CaptureFixture[str], *arguments: str, model: str = "Net"
) -> str:
    """Train, which fails with a single line; return the line."""
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(*arguments, model=model)
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("genreclf: ") for line in lines] == [True], lines
    return lines[0]


def test_metrics_get_log_probabilities_everywhere(run: Run) -> None:
    """They got logits in training and validation, but probabilities in the test."""
    found = run("+metric.nll_error={_target_:mine.NLL}", "monitor=val/nll_error")
    epoch, metrics = found["history"][0], found["metrics"]
    for part in ("train", "val"):
        assert epoch[f"{part}/nll_error"] == pytest.approx(epoch[f"{part}/loss"], rel=1e-5)
    for part in ("val", "test"):
        assert metrics[f"{part}/nll_error"] == pytest.approx(metrics[f"{part}/loss"], rel=1e-5)


def test_a_model_without_epochs_has_the_monitored_metric(run: Run) -> None:
    """A sweep over model=svm and networks ended in a KeyError after the result of the SVM."""
    own = "+metric.nll_error={_target_:mine.NLL}"
    metrics = run("model=svm", own)["metrics"]
    assert metrics["val/nll_error"] == pytest.approx(metrics["val/loss"], abs=1e-4)
    assert metrics["test/nll_error"] == pytest.approx(metrics["test/loss"], abs=1e-4)


def test_a_model_without_epochs_has_no_metric_of_training(run: Run, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        run("-m", "monitor=train/loss", "model=mine", model="Nearest")
    line = "monitor=train/loss: a model without epochs logs nothing in training"
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting",
    ["metric.accuracy.average=macro", "+metric.accuracy.top_k=2", "metric.f1_macro._target_=X"],
)
def test_accuracy_and_f1_macro_are_what_results_say_they_are(
    run: Run, capsys: Any, setting: str
) -> None:
    """result.json and Optuna had the usual accuracy where the history had the changed one."""
    own = "torchmetrics.classification.MulticlassF1Score"
    line = refuse(run, capsys, setting.replace("=X", f"={own}"))
    name = "f1_macro" if "f1" in setting else "accuracy"
    assert f"metric.{name}: results and studies need the usual definition" in line
    assert f"+metric.own_{name}=..." in line


def test_a_metric_whose_name_says_the_opposite_is_refused(run: Run, capsys: Any) -> None:
    """monitor=val/noerror minimised an accuracy, because its name ends in error."""
    accuracy = "torchmetrics.classification.MulticlassAccuracy"
    own = f"+metric.noerror={{_target_:{accuracy}}}"
    line = refuse(run, capsys, own, "monitor=val/noerror")
    assert "monitor=val/noerror: higher is better for this metric" in line


def test_a_callback_that_cannot_be_stored_is_named_before_training(
    run: Run, capsys: Any, tmp_path: Path
) -> None:
    """Training ran to its end, and then best.ckpt was "not a checkpoint of genreclf"."""
    line = refuse(run, capsys, "+callback.mine={_target_:mine.Keeper}")
    assert re.search(r"callback Keeper keeps numpy\S+ in the checkpoint, which could not", line)
    assert not list(tmp_path.rglob("last.ckpt"))


def test_a_callback_that_cannot_be_stored_later_is_named_after_an_epoch(
    run: Run, capsys: Any, tmp_path: Path
) -> None:
    line = refuse(run, capsys, "+callback.mine={_target_:mine.LateKeeper}")
    assert "callback LateKeeper keeps numpy" in line
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_failing_callback_is_one_line_with_the_line_of_its_code(run: Run, capsys: Any) -> None:
    line = refuse(run, capsys, "+callback.mine={_target_:mine.BadEnd}")
    number = MODULE[: MODULE.index("raise ValueError")].count("\n") + 1
    assert f"training fails in mine.py, line {number}: ValueError: oops at the end" in line


def test_a_method_fit_does_not_make_a_model_one_without_epochs(run: Run) -> None:
    """A network with a method `fit` was tested without having been trained."""
    assert len(run(model="WithFit")["history"]) == 1


def test_a_model_of_your_own_may_have_no_epochs(run: Run) -> None:
    found = run(model="Nearest")
    assert found["history"] == []
    assert found["val"]["accuracy"] > 0


@pytest.mark.parametrize("cuda_graphs", ["true", "false"])
@pytest.mark.parametrize("batch_size", [9, 27])
def test_a_last_batch_of_one_joins_the_one_before(
    run: Run, batch_size: int, cuda_graphs: str
) -> None:
    """Batch norm fails on a batch of one clip: 28 training tracks, batch_size=9."""
    found = run(f"batch_size={batch_size}", f"cuda_graphs={cuda_graphs}", model="Norm")
    assert sum(found["data"]["split"]["train"].values()) % batch_size == 1
    assert found["metrics"]["train/loss"] > 0


def test_batch_norm_with_batches_of_one_is_found_before_training(run: Run, capsys: Any) -> None:
    line = refuse(run, capsys, "batch_size=1", model="Norm")
    assert re.search(r"tiny batch of features .* fails in mine.py.* more than 1 value", line)


def test_a_model_that_cannot_take_a_single_clip_is_found_before_training(
    run: Run, capsys: Any
) -> None:
    """The last batch of validation, and each clip that is predicted, may be a single one."""
    line = refuse(run, capsys, model="Squeezed")
    assert "its output for 1 clips is (3,); logits (1, 3)" in line


def test_lazy_layers_are_trained_and_read_back(run: Run) -> None:
    found = run(model="Lazy")
    assert found["params"] == 8 * 8 * 3 + 3
    assert found["metrics"]["test/loss"] > 0


def test_layers_may_depend_on_the_memory_format(run: Run) -> None:
    """A `view` of a convolution failed in training, since fast=true made it channels last."""
    assert run(model="View")["metrics"]["test/loss"] > 0


@pytest.mark.parametrize("model", ["Logarithmic", "Tokens"])
def test_a_model_is_tried_on_tracks_of_the_store(run: Run, model: str) -> None:
    """On noise, a logarithm gave NaN, and numbers of tokens were out of range."""
    assert run("augmentation=none", model=model)["metrics"]["test/loss"] > 0


def test_a_model_that_gives_nan_is_said_to(run: Run, capsys: Any) -> None:
    """It was said to compute something else when it is read back."""
    line = refuse(run, capsys, "normalise=per_bin", model="Logarithmic")
    assert "model: its logits for 2 clips are not numbers (NaN)" in line


def test_a_model_of_your_own_is_trained_in_bfloat16(run: Run) -> None:
    """It was compared in bfloat16 with itself in float32: "computes something else"."""
    assert run("trainer.precision=bf16-true")["metrics"]["test/loss"] > 0


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        (
            "+metric.f1={_target_:torchmetrics.classification.MulticlassF1Score,average:none}",
            r"metric\.f1: .*values of shape",
        ),
        ("scheduler=bare", "scheduler: ReduceLROnPlateau needs a metric"),
    ],
)
def test_classes_of_libraries_are_tried_too(
    run: Run, capsys: Any, options: Path, setting: str, line: str
) -> None:
    """With a finished store, they were tracebacks, the metric's after the first epoch."""
    run("model=svm")  # makes the store
    (options / "scheduler").mkdir()
    text = "_target_: torch.optim.lr_scheduler.ReduceLROnPlateau\n_partial_: true\n"
    (options / "scheduler" / "bare.yaml").write_text(text)
    assert re.search(line, found := refuse(run, capsys, setting, "model=efficient_cnn")), found


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("mask", r"split: train is a mask; rows are needed: np.flatnonzero\(mask\)"),
        ("pair", "split: it returns <class 'tuple'>; a dict with train, val and test is needed"),
        ("far", "split: test has rows from 1 to 41; the store has 0 to 40"),
        ("negative", "split: val has rows from -1 to 8"),
        ("names", r"split: val has shape \(41,\) and dtype <U3; whole numbers"),
        ("empty", "split: val has no tracks"),
        ("unknown", "it returns parts train, val, test, validation; a dict with train, val"),
        ("none", "split: train has shape .* dtype object"),
        ("failing", "split fails in mine.py, line .*: KeyError: 'artist'"),
    ],
)
def test_a_split_that_gives_no_rows_is_one_line(
    run: Run, capsys: Any, options: Path, kind: str, line: str
) -> None:
    """Masks, lists and rows out of range were tracebacks."""
    choose_split(options, kind)
    assert re.search(line, found := refuse(run, capsys, "split=mine")), found


def test_a_split_may_give_lists(run: Run, options: Path) -> None:
    choose_split(options, "lists")
    counts = run("split=mine")["data"]["split"]
    assert [sum(counts[part].values()) for part in ("train", "val", "test")] == [20, 10, 11]


def choose_split(options: Path, kind: str) -> None:
    (options / "split").mkdir()
    text = f"_target_: mine.split_as\n_partial_: true\nkind: {kind}\n"
    (options / "split" / "mine.yaml").write_text(text)


def test_ctrl_c_is_heeded_while_parts_are_tried(run: Run, capsys: Any) -> None:
    """Lightning answers it by a silent exit with status 1."""
    assert "interrupted" in refuse(run, capsys, model="Interrupted")


def test_full_memory_is_recognised_while_parts_are_tried(
    run: Run, capsys: Any, tmp_path: Path
) -> None:
    """failure.json said out_of_memory: false, so a study did not count it as too large."""
    line = refuse(run, capsys, model="Huge")
    assert "batch_size=16 does not fit in the memory of" in line
    (failure,) = tmp_path.rglob("failure.json")
    assert json.loads(failure.read_text())["out_of_memory"]
