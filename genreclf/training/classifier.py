"""The LightningModule: net + loss + optimizer + metrics.

Metrics are logged once an epoch under fixed names: {train,val}/{loss,accuracy,f1_macro}. Those of
training are taken as it goes, with dropout and augmentation; the test figures come from
`predict_step` and `metrics.evaluate`.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from genreclf.data.datamodule import Batch, StoreDataModule
from genreclf.data.sampling import Shares
from genreclf.errors import InputError
from genreclf.models.checkpoint import FORMAT, Trained
from genreclf.models.fused import fuse
from genreclf.training.optimizers import keep_learning_rate


class Classifier(pl.LightningModule):
    """Trains a net to tell genres apart.

    Args:
        net: features (batch, bins, frames) -> logits (batch, classes).
        classes: names of the genres, by number.
        optimizer: makes the optimizer from the parameters; only training needs it.
        scheduler: makes Lightning's scheduler config from the optimizer.
        description: plain values that a checkpoint keeps, so that it can be used alone: `model`
            (settings of the net, with `_target_`), `features` (`features.settings`), `bins`,
            `store` (digest), `trained_on` (by dtype of the stored rows, `row_sha1` of those that it
            was trained on), `seen_before` (by part, tracks that it knew from an earlier training)
            and `sources` (digests of what else it is made from).
        normalise: applied to features before the net; None leaves them as they are.
        label_smoothing: share of a training target that all genres have alike (Szegedy 2016).
        mixup: in training each clip is mixed with another of its batch, by a share from
            Beta(mixup, mixup) that the batch has in common (Zhang 2018); 0 for no mixing.
        teaching: size of the embeddings that a distillation gives, weight of the squared error to them,
            and share of a training target that its soft labels have, which come after them; they
            are predicted by a linear layer of their own from the net's embedding.

    Raises:
        InputError: a share outside 0 to 1, a negative `mixup`, or a net that cannot be taught.
    """

    def __init__(
        self,
        net: nn.Module,
        classes: list[str],
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], dict[str, Any]] = keep_learning_rate,
        description: dict[str, Any] | None = None,
        normalise: nn.Module | None = None,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        teaching: tuple[int, float, float] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1 or mixup < 0:
            raise InputError(
                f"label_smoothing={label_smoothing}, mixup={mixup}: a share from 0 to 1, and a "
                "number of at least 0 are needed"
            )
        self.label_smoothing, self.mixup = label_smoothing, mixup
        self.student, self.distillation_weight, self.soft_share = None, 0.0, 0.0
        if teaching is not None:
            if not hasattr(net, "embedding_size"):
                raise InputError(
                    "distillation: this model has no embedding to teach; attentive_cnn has"
                )
            size, self.distillation_weight, self.soft_share = teaching
            self.student = nn.Linear(net.embedding_size, size)  # pyright: ignore
        self.net, self.classes, self.description = net, classes, description or {}
        self.normalise = normalise or nn.Identity()
        self._make_optimizer, self._make_scheduler = optimizer, scheduler
        metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(len(classes), average="micro", validate_args=False),
                "f1_macro": MulticlassF1Score(len(classes), average="macro", validate_args=False),
            }
        )
        self.train_metrics = metrics.clone(prefix="train/")
        self.val_metrics = metrics.clone(prefix="val/")

    def forward(self, features: Tensor) -> Tensor:
        """Logits (batch, classes), in the precision of the net."""
        return self.net(self.normalise(features).to(self.dtype))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy of a batch; of a share of one, weighted by its size."""
        shares = getattr(self.trainer.train_dataloader, "batch_sampler", None)
        if not isinstance(shares, Shares):
            return self._step(batch, "train", self.train_metrics, len(batch[1]))
        count, weight = shares.count(batch_idx), shares.weight(batch_idx)
        return self._step(batch, "train", self.train_metrics, count, weight)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the figures of a batch."""
        self._step(batch, "val", self.val_metrics, len(batch[1]))

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Class probabilities (batch, classes), in the precision of the weights.

        That is how the net is used later; what is rounded to bfloat16 would tie, too.
        """
        with torch.autocast(self.device.type, enabled=False):
            return self(batch[0]).float().softmax(dim=1)

    def _step(
        self, batch: Batch, part: str, metrics: MetricCollection, count: int, weight: float = 1.0
    ) -> Tensor:
        """Log and return the loss; of a share of a batch of `count` tracks, its part in the mean.

        So weighted, each process logs as many tracks: Lightning's mean would round them down.
        """
        labels = batch[1]
        if part == "train":
            logits, loss = self._training_loss(*batch)
        else:
            logits = self(batch[0])
            loss = functional.cross_entropy(logits, labels)
        loss = weight * loss
        if weight:
            metrics.update(logits, labels)
        at_epoch: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": count}
        self.log(f"{part}/loss", loss, prog_bar=True, sync_dist=True, **at_epoch)
        self.log_dict(metrics, **at_epoch)  # pyright: ignore[reportArgumentType]
        return loss

    def _training_loss(
        self, features: Tensor, labels: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits, and their cross-entropy to the smoothed labels of what was mixed.

        With a distillation's targets (batch, size, or more with soft labels), the labels are mixed with
        the soft ones, and the error to the embeddings is part of the loss.
        """
        goal, soft = labels, None
        if self.soft_share and targets is not None:
            soft = targets[:, -len(self.classes) :]
        if self.mixup or soft is not None:
            goal = functional.one_hot(labels, len(self.classes)).float()
        if soft is not None:
            goal = torch.lerp(goal, torch.where(soft.isfinite(), soft, goal), self.soft_share)
        if self.mixup:
            share = float(Beta(self.mixup, self.mixup).sample())
            others = torch.randperm(len(labels), device=labels.device)
            features = torch.lerp(features[others], features, share)
            goal = torch.lerp(goal[others], goal, share)
            targets = targets if targets is None else torch.lerp(targets[others], targets, share)
        if targets is None or self.student is None:
            logits, error = self(features), 0.0
        else:
            logits, embedding = self.net(self.normalise(features).to(self.dtype), embedded=True)
            error = _compute_distillation_error(
                self.student(embedding), targets[:, : self.student.out_features]
            )
        loss = functional.cross_entropy(logits, goal, label_smoothing=self.label_smoothing)
        return logits, loss + self.distillation_weight * error

    def configure_optimizers(self) -> Any:
        """Optimizer and scheduler."""
        if self._make_optimizer is None:
            raise ValueError("a Classifier without an optimizer cannot be trained")
        try:
            parameters = [*self.net.parameters(), *(self.student or nn.Identity()).parameters()]
            optimizer = self._make_optimizer(parameters)
            return {"optimizer": optimizer, "lr_scheduler": self._make_scheduler(optimizer)}
        except InputError:
            raise
        except (ValueError, TypeError) as error:  # TypeError: a setting that it does not have
            raise InputError(f"optimizer or scheduler: {error}") from None

    def on_train_epoch_end(self) -> None:
        """Step the schedulers before the checkpoint is written, not after, as Lightning would.

        Otherwise a resumed run would lack the step of the epoch before.
        """
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                config.scheduler.step(self.trainer.callback_metrics[str(config.monitor)])
            else:
                config.scheduler.step()

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Nothing: `on_train_epoch_end` has done it."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint tell what it is."""
        checkpoint["genreclf"] = {
            "format": FORMAT,
            "classes": list(self.classes),
            **self.description,
        }


def _compute_distillation_error(predicted: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of a batch; tracks of which the distillation knows nothing have none."""
    known = targets.isfinite()
    return torch.where(known, predicted.float() - targets, 0.0).square().mean()


def predict_part(
    trainer: pl.Trainer, trained: Trained, data: StoreDataModule, part: str, fast: bool = True
) -> np.ndarray:
    """Class probabilities float32 (n, classes) of a part, in the order of its rows.

    They are those of the plain net but for rounding, whether `fast` or not.

    Raises:
        InputError: they are not numbers.
    """
    net = fuse(trained.net) if fast else trained.net
    classifier = Classifier(net, trained.classes, normalise=trained.normalise)
    data.predicted_part = part
    batches = trainer.predict(classifier, datamodule=data)
    scores = torch.cat(batches).float().cpu().numpy()  # pyright: ignore[reportArgumentType]
    if wrong := int((~np.isfinite(scores)).any(axis=1).sum()):
        raise InputError(
            f"the net's scores of {wrong} of {len(scores)} tracks are not finite numbers: its "
            "weights are damaged, or these are not the features that it was trained on"
        )
    return scores
