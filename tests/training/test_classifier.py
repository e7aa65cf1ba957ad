"""The LightningModule and the data module with a plain Trainer, as in one's own training loop."""

import contextlib
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from genreclf.data.datamodule import StoreDataModule
from genreclf.data.datasets import Track
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.models import AttentiveCNN, EfficientCNN
from genreclf.models.checkpoint import load_checkpoint
from genreclf.training.classifier import Classifier

SPLIT = {"train": np.arange(12), "val": np.arange(12, 16), "test": np.arange(16, 20)}


@pytest.fixture
def data(make_store: Callable[..., Store]) -> StoreDataModule:
    rows = np.random.default_rng(0).normal(size=(20, 16, 16)).astype(np.float32)
    store = make_store([Track(str(n), "ab"[n % 2]) for n in range(20)], rows)
    return StoreDataModule(store, SPLIT, batch_size=4, cached="memory")


def make_trainer(folder: Path, **settings: Any) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(max_epochs=1, logger=False, default_root_dir=folder, **quiet, **settings)


def test_a_plain_trainer_fits_and_tests(data: StoreDataModule, tmp_path: Path) -> None:
    net = EfficientCNN(2)
    classifier = Classifier(net, ["a", "b"], lambda given: torch.optim.SGD(given, lr=0.01))
    trainer = make_trainer(tmp_path)
    trainer.fit(classifier, data)
    (figures,) = trainer.test(classifier, data, verbose=False)
    assert set(figures) == {"test/loss", "test/accuracy", "test/f1_macro"}
    rows = torch.from_numpy(data.store.read(SPLIT["test"]))
    labels = torch.from_numpy(data.store.labels[SPLIT["test"]])
    with torch.no_grad():
        logits = net.eval()(rows)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    assert figures["test/loss"] == pytest.approx(float(loss), abs=1e-5)
    assert figures["test/accuracy"] == float((logits.argmax(dim=1) == labels).float().mean())


def test_training_needs_an_optimizer(data: StoreDataModule, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="training needs an optimizer"):
        make_trainer(tmp_path).fit(Classifier(EfficientCNN(2), ["a", "b"]), data)


def test_a_checkpoint_is_enough_to_test_and_to_train_on(
    train: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    result = train("normalise=per_bin")
    path = result["folder"] / "best.ckpt"
    classifier = Classifier.load_from_checkpoint(path)
    assert classifier.classes == result["data"]["classes"]
    assert classifier.description["model"] == result["config"]["model"]
    trained = load_checkpoint(path)
    clips = torch.randn(2, *result["data"]["shape"])
    expected = trained.net(trained.normalise(clips))
    torch.testing.assert_close(classifier.eval()(clips), expected, atol=0, rtol=0)
    store = Store(result["folder"] / result["data"]["store"])
    split = {"train": np.arange(8), "val": np.arange(8, 12), "test": np.arange(40, len(store))}
    (figures,) = make_trainer(tmp_path).test(
        classifier, StoreDataModule(store, split, features=trained.features), verbose=False
    )
    assert np.isfinite(figures["test/loss"])
    classifier = Classifier.load_from_checkpoint(
        path, optimizer=lambda given: torch.optim.SGD(given, lr=0.01)
    )
    trainer = make_trainer(tmp_path)
    trainer.fit(classifier, StoreDataModule(store, split, features=trained.features))
    trainer.save_checkpoint(tmp_path / "again.ckpt")
    assert Classifier.load_from_checkpoint(tmp_path / "again.ckpt").classes == trained.classes


def test_only_models_of_this_package_are_rebuilt(tmp_path: Path) -> None:
    described = {"format": 1, "classes": ["a"], "model": {"_target_": "os.system"}}
    torch.save({"genreclf": described, "state_dict": {}, "epoch": 0}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"os\.system is not part of genreclf"):
        Classifier.load_from_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_releases_its_cache(
    train: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """A9: no tensor of the cache outlives its run, so a sweep holds one at a time."""
    kept: list[weakref.ref] = []
    setup = StoreDataModule.setup

    def note(self: StoreDataModule, stage: str) -> None:
        setup(self, stage)
        kept.append(weakref.ref(self._values))

    def refuse(*_: Any) -> None:
        raise InputError("no")

    monkeypatch.setattr(StoreDataModule, "setup", note)
    if fails:
        monkeypatch.setattr("genreclf.training.run._test", refuse)
    gc.disable()
    try:
        with pytest.raises(SystemExit) if fails else contextlib.nullcontext():
            train("cache=memory", "model=efficient_cnn")
        assert kept
        assert not any(reference() is not None for reference in kept)
    finally:
        gc.enable()


class Oracle(torch.nn.Module):
    """Its logits are its input: features (batch, classes, 1) that are one-hot are never wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features[:, :, 0] * self.scale


def test_a_perfect_model_has_full_training_accuracy_under_mixup_a6() -> None:
    """A6: mixed clips count for the louder one; scored against the first, it had .63."""
    torch.manual_seed(0)
    classifier = Classifier(Oracle(), list("abcd"), mixup=0.4)
    labels = torch.arange(64) % 4
    clips = torch.nn.functional.one_hot(labels, 4).float()[:, :, None]
    for _ in range(10):
        logits, scored, loss, _ = classifier._compute_training_loss(clips, labels)
        assert (logits.argmax(dim=1) == scored).all()
        assert loss.isfinite()


def test_the_terms_of_the_training_loss_are_logged_separately_a6() -> None:
    """A6: train/loss is the cross-entropy to the targets, without the error of distillation."""
    torch.manual_seed(0)
    net = AttentiveCNN(3, (4, 4, 4, 4), mixed=8)
    classifier = Classifier(net, list("abc"), distillation=(4, 0.5, 0.0))
    logged = {}
    classifier.log = lambda name, value, **_: logged.update({name: float(value.detach())})
    classifier.log_dict = lambda *_, **__: None
    batch = torch.randn(2, 32, 32), torch.tensor([0, 2]), torch.randn(2, 4)
    loss = classifier.training_step(batch, 0)
    total = logged["train/loss"] + 0.5 * logged["train/distillation_error"]
    assert float(loss.detach()) == pytest.approx(total)
    assert logged["train/distillation_error"] > 0
