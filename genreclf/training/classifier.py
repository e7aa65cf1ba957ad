"""The LightningModule: network, loss, optimizer, metrics.

Metrics are logged once per epoch as {train,val,test}/{loss,accuracy,f1_macro}. Those for training
are computed during the epoch, with dropout and augmentation. `val/loss` and `test/loss` are always
the cross-entropy in nats, whatever loss is minimised, so that runs can be compared.
`genreclf train` computes its test figures from `predict_part` and `metrics.evaluate`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import Metric, MetricCollection

from genreclf.data.datamodule import Batch
from genreclf.errors import InputError
from genreclf.models.checkpoint import load_checkpoint
from genreclf.models.model_files import FORMAT, read_checkpoint
from genreclf.training.losses import CrossEntropy, compute_distillation_error, compute_loss
from genreclf.training.metrics import compute_log_probabilities, make_standard_metrics
from genreclf.training.optimizers import configure_optimizer, keep_learning_rate
from genreclf.training.targets import draw_mix, make_probabilities, mix


class Classifier(pl.LightningModule):
    """Trains a network to classify tracks by genre.

    It works with any Lightning Trainer: `Trainer().fit(classifier, data)` and
    `Trainer().test(classifier, data)`, where `data` is a StoreDataModule.

    Args:
        net: features (batch, bins, frames) -> logits (batch, classes).
        classes: names of the genres, in the order of the logits.
        optimizer: makes an optimizer for parameters; only training needs it.
        scheduler: makes Lightning's scheduler config for an optimizer.
        description: plain values that a checkpoint stores, and that `load_from_checkpoint` needs:
            `model` (settings of the network, with `_target_`), `features` (as
            `describe_features` gives), `bins`, `store` (digest), `trained_on` (as
            `SeenTracks.list_digests` gives), `seen_before` (by part, how many tracks the pretrained
            model was trained on) and `sources` (digests of other files).
        normalise: applied to features before the network; None leaves them as they are.
        loss: the loss to minimise (`genreclf.protocols.Loss`); None for the cross-entropy. Its own
            parameters, if any, are trained along with the network.
        metrics: metrics to log besides the loss, by name; None for accuracy and macro F1. They are
            updated with log-probabilities, finite float32 (batch, classes), and labels (batch,).
        label_smoothing: share of each training target that is spread over all genres (Szegedy
            2016).
        mixup: alpha of Beta(alpha, alpha), the distribution of the share in which each clip of a
            batch is mixed with another (Zhang 2018); 0 for no mixing.
        distillation: size of the target embeddings, weight of their squared error, and weight of
            the soft labels in the training targets; a linear layer on the network's
            embedding predicts the target embeddings. None for no distillation.

    Raises:
        InputError: a share is outside 0 to 1, `mixup` is negative, a metric is called "loss", or
            `distillation` is used with a network that has no embedding.
    """

    def __init__(
        self,
        net: nn.Module,
        classes: list[str],
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], dict[str, Any]] = keep_learning_rate,
        description: dict[str, Any] | None = None,
        normalise: nn.Module | None = None,
        loss: nn.Module | None = None,
        metrics: Mapping[str, Metric] | None = None,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        distillation: tuple[int, float, float] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1 or mixup < 0:
            raise InputError(
                f"label_smoothing={label_smoothing}, mixup={mixup}: a share from 0 to 1, and a "
                "number of at least 0 are needed"
            )
        self.label_smoothing, self.mixup = label_smoothing, mixup
        self.embedding_head, self.distillation_weight, self.soft_share = None, 0.0, 0.0
        if distillation is not None:
            if not hasattr(net, "embedding_size"):
                raise InputError(
                    "distillation: this model has no embedding; choose model=attentive_cnn"
                )
            size, self.distillation_weight, self.soft_share = distillation
            self.embedding_head = nn.Linear(net.embedding_size, size)  # pyright: ignore
        self.net, self.classes, self.description = net, classes, description or {}
        self.normalise = normalise or nn.Identity()
        self._make_optimizer, self._make_scheduler = optimizer, scheduler
        self.loss = loss or CrossEntropy()
        metrics = make_standard_metrics(len(classes)) if metrics is None else metrics
        if "loss" in metrics:
            raise InputError("metric.loss: this name is taken by the loss; choose another")
        collection = MetricCollection(dict(metrics))
        self.train_metrics = collection.clone(prefix="train/")
        self.val_metrics = collection.clone(prefix="val/")
        self.test_metrics = collection.clone(prefix="test/")

    @classmethod
    def load_from_checkpoint(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        checkpoint_path: str | Path,
        map_location: Any = "cpu",
        trust: Sequence[str] = (),
        **settings: Any,
    ) -> Self:
        """Rebuild a classifier from just a checkpoint of `genreclf train`; run no pickled code.

        Args:
            checkpoint_path: path of the file.
            map_location: device that the classifier is moved to.
            trust: packages, besides genreclf, from which model and features may be imported.
            settings: further arguments of the class, such as `optimizer` to continue training.

        Raises:
            InputError: there is no such file, it is another kind of checkpoint, or its model
                belongs to a package that is not trusted.
        """
        trained = load_checkpoint(checkpoint_path, trust)
        description = dict(read_checkpoint(checkpoint_path)["genreclf"])
        del description["format"], description["classes"]
        given = {"description": description, "normalise": trained.normalise} | settings
        return cls(trained.net.train(), trained.classes, **given).to(map_location)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits (batch, classes) of features (batch, bins, frames)."""
        return self.net(self.normalise(features).to(self.dtype))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss of a batch, and log its terms separately."""
        logits, labels, loss, error = self._compute_training_loss(*batch)
        self._log(loss, logits, labels, "train", self.train_metrics)
        if error is None:
            return loss
        at_epoch: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(labels)}
        self.log("train/distillation_error", error, sync_dist=True, **at_epoch)
        return loss + self.distillation_weight * error

    def _compute_training_loss(
        self, features: Tensor, labels: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Compute the terms of a batch's loss.

        Args:
            features: (batch, bins, frames).
            labels: (batch,).
            targets: targets of knowledge distillation: embeddings (batch, size), or (batch, size +
                classes) with soft labels after them, with which the labels are mixed.

        Returns:
            The logits (batch, classes) of the mixed clips; the labels (batch,) of the louder clip
            of each mix; the loss; and the squared error of the embeddings, None without targets.
        """
        soft = None
        if self.soft_share and targets is not None:
            soft = targets[:, -len(self.classes) :]
        if soft is None and not self.mixup and not self.label_smoothing:
            goal = labels
        else:
            shares = self.label_smoothing, self.soft_share
            goal = make_probabilities(labels, len(self.classes), soft, *shares)
        if self.mixup:
            share, others = draw_mix(labels, self.mixup)
            features, goal = mix(features, share, others), mix(goal, share, others)
            targets = targets if targets is None else mix(targets, share, others)
            labels = torch.where(share >= 0.5, labels, labels[others])
        if targets is None or self.embedding_head is None:
            logits = self(features)
            return logits, labels, compute_loss(self.loss, logits, goal), None
        logits, embedding = self.net(self.normalise(features).to(self.dtype), embedded=True)
        error = compute_distillation_error(
            self.embedding_head(embedding), targets[:, : self.embedding_head.out_features]
        )
        return logits, labels, compute_loss(self.loss, logits, goal), error

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the metrics of a batch."""
        self._evaluate(batch, "val", self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the metrics of a batch."""
        self._evaluate(batch, "test", self.test_metrics)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute class probabilities (batch, classes), in the precision of the weights.

        A trained model is used in that precision; in bfloat16, there would also be ties.
        """
        with torch.autocast(self.device.type, enabled=False):
            return self(batch[0]).float().softmax(dim=1)

    def _evaluate(self, batch: Batch, part: str, metrics: MetricCollection) -> None:
        with torch.autocast(self.device.type, enabled=False):  # as in `predict_step`
            logits = self(batch[0])
        self._log(functional.cross_entropy(logits, batch[1]), logits, batch[1], part, metrics)

    def _log(
        self, loss: Tensor, logits: Tensor, labels: Tensor, part: str, metrics: MetricCollection
    ) -> Tensor:
        """Log the metrics of a batch, to be averaged over the epoch; return the loss."""
        metrics.update(compute_log_probabilities(logits), labels)
        at_epoch: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(labels)}
        self.log(f"{part}/loss", loss, prog_bar=True, sync_dist=True, **at_epoch)
        self.log_dict(metrics, **at_epoch)  # pyright: ignore[reportArgumentType]
        return loss

    def configure_optimizers(self) -> Any:
        """Make the optimizer and the scheduler."""
        if self._make_optimizer is None:
            raise ValueError("training needs an optimizer: Classifier(..., optimizer=...)")
        head = self.embedding_head or nn.Identity()
        trained = [*self.net.parameters(), *head.parameters(), *self.loss.parameters()]
        trained = [each for each in trained if each.requires_grad]
        return configure_optimizer(self._make_optimizer, self._make_scheduler, trained)

    def on_train_epoch_end(self) -> None:
        """Step the schedulers before the checkpoint is written; Lightning would step them after.

        A resumed run would then lack the step of the epoch before. Schedulers with `interval: step`
        are stepped by Lightning, during the epoch.
        """
        finished = self.trainer.current_epoch + 1
        for config in self.trainer.lr_scheduler_configs:
            if config.interval != "epoch" or finished % config.frequency:
                continue
            if isinstance(config.scheduler, ReduceLROnPlateau):
                config.scheduler.step(self.trainer.callback_metrics[str(config.monitor)])
            else:
                config.scheduler.step()

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step a scheduler during the epoch; `on_train_epoch_end` steps those of whole epochs."""
        configs = self.trainer.lr_scheduler_configs
        if any(each.scheduler is scheduler and each.interval == "step" for each in configs):
            super().lr_scheduler_step(scheduler, metric)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description from which the classifier can be rebuilt."""
        checkpoint["genreclf"] = {
            "format": FORMAT,
            "classes": list(self.classes),
            **self.description,
        }
