"""Parts of one's own that are not what training needs: one line each."""

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torchmetrics import Accuracy
from torchmetrics.classification import MulticlassConfusionMatrix

from genreclf.errors import InputError
from genreclf.evaluation.metrics import check_metric
from genreclf.training.callbacks import check_monitors
from genreclf.training.classifier import Classifier
from genreclf.training.metrics import check_numbers
from genreclf.training.optimizers import check_schedule, make_sgd

BATCH = (torch.zeros(2, 3, 4), torch.tensor([0, 1]))


class HardLabels(nn.Module):
    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.nll_loss(logits.log_softmax(dim=1), targets)


def make_classifier(**settings: object) -> Classifier:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    return Classifier(net, ["a", "b"], **settings)  # pyright: ignore[reportArgumentType]


def test_a5_a_misspelled_monitor_of_lightnings_callbacks_is_refused() -> None:
    """A5: EarlyStopping found out after the first epoch, with a traceback."""
    logged = ["accuracy", "kappa"]
    check_monitors([EarlyStopping("val/kappa"), ModelCheckpoint(monitor="epoch")], logged)
    with pytest.raises(InputError, match=r"EarlyStopping: monitor=val/accuraci: choose one of val"):
        check_monitors([EarlyStopping("val/accuraci")], logged)

    class Own(Callback):
        """May log what another callback monitors."""

    check_monitors([Own(), EarlyStopping("val/own")], logged)


def test_c12_a_metric_must_be_one_number() -> None:
    """C12: a confusion matrix failed in the report of the first epoch."""
    check_numbers({"top3": Accuracy(task="multiclass", num_classes=10, top_k=3)}, 10)
    with pytest.raises(
        InputError, match=r"metric.conf: it gives values of shape \(10, 10\); one nu"
    ):
        check_numbers({"conf": MulticlassConfusionMatrix(10)}, 10)


def test_c12_d15_what_makes_no_optimizer_or_schedule_is_refused() -> None:
    """C12, D15: ReduceLROnPlateau of PyTorch needs a metric, which scheduler=plateau has."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    check_schedule(optimizer, StepLR(optimizer, 1))
    check_schedule(optimizer, {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "val/loss"})
    for made, line in (
        ((optimizer, ReduceLROnPlateau(optimizer)), "choose scheduler=plateau"),
        ((optimizer, None), "scheduler: it gives a NoneType"),
        (([], StepLR(optimizer, 1)), "optimizer: it gives a list"),
    ):
        with pytest.raises(InputError, match=line):
            check_schedule(*made)


def test_c12_a_failing_optimizer_of_your_own_is_one_line() -> None:
    """C12: an AttributeError in the user's function was a traceback."""

    def make(parameters: object) -> SGD:
        return parameters.missing  # pyright: ignore

    with pytest.raises(
        InputError, match=r"optimizer or scheduler in test_own_checks.py, line \d+: "
    ):
        make_classifier(optimizer=make).configure_optimizers()


def test_d18_a_loss_without_reduction_is_refused() -> None:
    """D18: Lightning's text spoke of self.log."""
    classifier = make_classifier(loss=nn.CrossEntropyLoss(reduction="none"))
    with pytest.raises(
        InputError, match=r"loss: it gives \(2,\) for a batch; one number is needed"
    ):
        classifier._compute_training_loss(*BATCH)


def test_d18_a_loss_of_labels_says_that_targets_are_probabilities() -> None:
    """D18: with label_smoothing, the targets of the loss are probabilities."""
    assert make_classifier(loss=HardLabels())._compute_training_loss(*BATCH)[2] > 0
    classifier = make_classifier(loss=HardLabels(), label_smoothing=0.1)
    with pytest.raises(
        InputError, match=r"its targets are probabilities \(batch, classes\), which"
    ):
        classifier._compute_training_loss(*BATCH)


def test_d13_a_missing_usual_metric_says_how_to_keep_it() -> None:
    """D13: metric=kappa replaces accuracy, which scheduler.monitor names."""
    with pytest.raises(InputError, match=r"train/kappa; metric=\[standard,\.\.\.\] logs the usual"):
        check_metric("scheduler.monitor", "val/accuracy", {"kappa": None})
    with pytest.raises(InputError, match=r"train/kappa$"):
        check_metric("monitor", "val/kapa", {"kappa": None})


def test_a_bad_learning_rate_is_still_one_line() -> None:
    def make(parameters: object) -> SGD:
        return make_sgd(parameters, -1, 0, False, 0)  # pyright: ignore

    with pytest.raises(InputError, match=r"optimizer or scheduler.*: Invalid learning rate: -1"):
        make_classifier(optimizer=make).configure_optimizers()
