"""`cuda_graphs=true`: steps run as a whole. A capture needs a GPU; a stand-in takes its place."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from genreclf.data.datamodule import StoreDataModule
from genreclf.data.datasets import Track
from genreclf.data.store import Store
from genreclf.models import EfficientCNN
from genreclf.models.checkpoint import load_checkpoint
from genreclf.training import capture, cuda_graphs, optimizers

SETTINGS = [  # each changes something of the step
    ("mixup=0.4", "label_smoothing=0.1", "loss=focal"),
    ("trainer.gradient_clip_val=0.1", "ema=0.9", "sampler=balanced"),
    ("optimizer=sgd", "scheduler=cosine", "trainer.precision=bf16-mixed"),
]


class StandIn:
    """Runs the step when it is replayed, as a graph does, instead of capturing it."""

    made = 0

    def __init__(self, function: Callable[..., Tensor], batch: Sequence[Tensor], pool: str) -> None:
        assert pool == "the run's"
        self.function, self.inputs = function, [each.clone() for each in batch]
        StandIn.made += 1

    def replay(self, batch: Sequence[Tensor]) -> Tensor:
        for mine, given in zip(self.inputs, batch, strict=True):
            mine.copy_(given)
        return self.function(*self.inputs)


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    """Everything but the capture itself, on the CPU."""
    StandIn.made = 0
    monkeypatch.setattr(cuda_graphs, "CapturedStep", StandIn)
    monkeypatch.setattr(cuda_graphs, "can_capture", lambda device: True)
    monkeypatch.setattr(cuda_graphs, "run_aside", lambda function, *given: function(*given))
    monkeypatch.setattr(cuda_graphs, "make_capturable", lambda optimizer: None)
    monkeypatch.setattr(cuda_graphs, "make_pool", lambda: "the run's")
    return StandIn


def check_same(graphed: dict[str, Any], plain: dict[str, Any]) -> None:
    """Check that two runs have the same history and weights, up to rounding."""
    assert len(graphed["history"]) == len(plain["history"])
    for mine, theirs in zip(graphed["history"], plain["history"], strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)
    nets = [load_checkpoint(run["folder"] / "best.ckpt").net for run in (graphed, plain)]
    for mine, theirs in zip(*(net.state_dict().values() for net in nets), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=" ".join)
def test_the_numbers_are_those_of_plain_steps(
    settings: tuple[str, ...], train: Callable[..., dict[str, Any]], captured: type[StandIn]
) -> None:
    shared = ("trainer.max_epochs=3", "batch_size=5", *settings)
    plain = train(*shared)
    assert not captured.made
    graphed = train(*shared, "cuda_graphs=true")
    assert captured.made
    check_same(graphed, plain)


def test_weights_moments_and_statistics_stay_in_float32(
    train: Callable[..., dict[str, Any]],
    captured: type[StandIn],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In bfloat16, a moving average with a factor of .999 would not move."""
    kinds = set()

    def note_kinds(self: cuda_graphs.GraphClassifier) -> None:
        state = [*self.state_dict().values()]
        for moments in self.trainer.optimizers[0].state.values():
            state += moments.values()
        kinds.update(each.dtype for each in state if each.is_floating_point())

    monkeypatch.setattr(cuda_graphs.GraphClassifier, "on_fit_end", note_kinds)
    train(
        "trainer.max_epochs=1", "batch_size=5", "trainer.precision=bf16-mixed", "cuda_graphs=true"
    )
    assert captured.made
    assert kinds == {torch.float32}


@pytest.mark.slow
def test_a_resumed_run_continues(
    train: Callable[..., dict[str, Any]], captured: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = ("trainer.max_epochs=3", "batch_size=8")
    plain = train(*shared)
    read = cuda_graphs.GraphClassifier.log_epoch

    def fail(self: cuda_graphs.GraphClassifier, part: str, metrics: Any) -> None:
        if part == "train" and self.current_epoch == 1:
            raise RuntimeError("stopped")
        read(self, part, metrics)

    with monkeypatch.context() as patched:
        patched.setattr(cuda_graphs.GraphClassifier, "log_epoch", fail)
        with pytest.raises(SystemExit):
            train(*shared, "cuda_graphs=true")
    graphed = train(*shared, "cuda_graphs=true")
    assert [session["epoch"] for session in graphed["sessions"]] == [0, 1]
    check_same(graphed, plain)


def fail_at_capture(*_: Any) -> None:
    raise RuntimeError("operation not permitted when stream is capturing")


def test_a_step_that_cannot_be_captured_runs_as_it_is(
    train: Callable[..., dict[str, Any]],
    captured: type[StandIn],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = ("trainer.max_epochs=2", "batch_size=4", "seed=5")
    plain = train(*shared)
    monkeypatch.setattr(cuda_graphs, "CapturedStep", fail_at_capture)
    graphed = train(*shared, "cuda_graphs=true")
    lines = (graphed["folder"] / "train.log").read_text().splitlines()
    (line,) = [text for text in lines if "cuda_graphs:" in text]
    assert "operation not permitted" in line
    check_same(graphed, plain)


def test_what_an_optimizer_keeps_on_the_cpu_is_noticed_and_restored() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adagrad([weight], lr=0.1)
    weight.grad = torch.ones(2)
    optimizer.step()
    before = capture.HostState(optimizer)
    assert not before.has_changed()
    optimizer.step()
    assert before.has_changed()
    before.restore()
    assert float(optimizer.state[weight]["step"]) == 1


class ReadsGradients(pl.Callback):
    """Looks at each gradient."""

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert any(each.grad is not None for each in pl_module.parameters())


def test_an_optimizer_becomes_capturable_and_its_checkpoint_stays_plain() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    adam = torch.optim.Adam([weight], lr=0.001)
    capture.make_capturable(adam)
    (group,) = adam.param_groups
    assert group["capturable"]
    assert isinstance(group["lr"], Tensor)
    assert optimizers.read_rate(group["lr"]) == 0.001
    scheduler = optimizers.reduce_on_plateau(adam, "val/loss", patience=0, factor=0.5)["scheduler"]
    rate = group["lr"]
    for loss in (1.0, 2.0):
        scheduler.step(loss)
    assert group["lr"] is rate  # the graph reads it from there
    assert optimizers.read_rate(rate) == 0.0005
    classifier = cuda_graphs.GraphClassifier(torch.nn.Linear(1, 2), ["a", "b"])
    checkpoint = {"optimizer_states": [adam.state_dict()]}
    classifier.on_save_checkpoint(checkpoint)
    (stored,) = checkpoint["optimizer_states"][0]["param_groups"]
    assert (stored["lr"], stored["capturable"]) == (0.0005, False)
    assert (group["lr"], group["capturable"]) == (rate, True)


def fit(
    data: StoreDataModule,
    folder: Path,
    schedule: Callable[[Optimizer], dict[str, Any]] = optimizers.keep_learning_rate,
    **settings: Any,
) -> None:
    net = EfficientCNN(2)
    classifier = cuda_graphs.GraphClassifier(
        net, ["a", "b"], lambda given: torch.optim.SGD(given, lr=0.01), schedule
    )
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(logger=False, default_root_dir=folder, **quiet, **settings)
    trainer.fit(classifier, data)


@pytest.fixture
def data(make_store: Callable[..., Store]) -> StoreDataModule:
    rows = np.random.default_rng(0).normal(size=(20, 16, 16)).astype(np.float32)
    store = make_store([Track(str(n), "ab"[n % 2]) for n in range(20)], rows)
    split = {"train": np.arange(16), "val": np.arange(16, 20)}
    return StoreDataModule(store, split, batch_size=4, cached="memory")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"accumulate_grad_batches": 2}, "trainer.accumulate_grad_batches is above 1"),
        ({"callbacks": [ReadsGradients()]}, "the callback ReadsGradients reads gradients"),
    ],
)
def test_the_log_says_why_no_graph_is_used(
    settings: dict[str, Any],
    reason: str,
    data: StoreDataModule,
    captured: type[StandIn],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    fit(data, tmp_path, max_epochs=2, **settings)
    assert not captured.made
    assert f"cuda_graphs: {reason}, so no CUDA graphs are used" in caplog.messages


def test_a_setting_that_changes_each_epoch_is_captured_again(
    data: StoreDataModule, captured: type[StandIn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "SHORT", 3)  # an epoch has four steps

    def schedule(optimizer: Optimizer) -> dict[str, Any]:
        return {"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)}

    fit(data, tmp_path, schedule, max_epochs=3)
    assert captured.made == 3


def test_a_setting_that_changes_each_step_ends_the_captures(
    data: StoreDataModule,
    captured: type[StandIn],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def schedule(optimizer: Optimizer) -> dict[str, Any]:
        each = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return {"scheduler": each, "interval": "step"}

    fit(data, tmp_path, schedule, max_epochs=2)
    assert not captured.made
    (line,) = [text for text in caplog.messages if "cannot be captured" in text]
    assert "a setting of the optimizer changes too often" in line


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_captured_step_computes_the_same_on_a_gpu(train: Callable[..., dict[str, Any]]) -> None:
    shared = ("trainer.max_epochs=4", "batch_size=4", "trainer.accelerator=gpu")
    plain = train(*shared)
    graphed = train(*shared, "cuda_graphs=true")
    assert "cannot be captured" not in (graphed["folder"] / "train.log").read_text()
    for mine, theirs in zip(graphed["history"], plain["history"], strict=True):
        assert mine == pytest.approx(theirs, abs=1e-3)
