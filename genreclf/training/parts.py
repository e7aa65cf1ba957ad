"""What a training run consists of, as plain objects.

`genreclf.commands.parts` makes them from a config; a script that trains without Hydra makes them
itself.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from genreclf.data.sampling import Oversampling
from genreclf.data.store import Store
from genreclf.protocols import Features, MakeSampler
from genreclf.training.distillation import Embeddings


@dataclass(frozen=True)
class Parts:
    """The parts of one training run.

    Attributes:
        features: the input of the network.
        make_model: `make_model(classes=n)` makes a network with random weights.
        split: splits a store into the rows of each part.
        make_augmentation: makes the augmentation, given the values of a silent frame.
        make_oversampling: likewise, for the extra copies of some genres.
        make_sampler: makes the sampler of an epoch's training tracks, given `labels` and `seed`.
        optimizer: makes an optimizer for parameters.
        scheduler: makes Lightning's scheduler config for an optimizer.
        normalise: makes a module that normalises features, given batches of training features.
        make_loss: makes the loss (`genreclf.protocols.Loss`).
        make_metrics: makes the metrics to log, by name, given the number of classes; they take
            log-probabilities (batch, classes) and labels (batch,).
        make_callbacks: makes the user's own Lightning callbacks.
        make_trainer: makes Lightning's Trainer, given further keyword arguments.
        loggers: makes each of Lightning's loggers, given `save_dir`, the run's folder.
        distillation: knowledge distillation; None for none.
        init: checkpoint of the pretrained weights to fine-tune; None for random weights.
        seed: seed of weights, order of tracks, augmentation and dropout.
        batch_size: number of tracks per batch, over all processes.
        num_workers: number of processes that read batches.
        monitor: the metric whose best epoch is kept; "last" keeps the last epoch.
        patience: number of epochs without improvement before training stops.
        ema: decay of the moving average of the weights; None for no average.
        label_smoothing: share of each training target that is spread over all genres.
        mixup: alpha of the Beta distribution of mixup; 0 for none.
        tracks_per_genre: most training tracks per genre, other parts in proportion; None for all.
        fast: whether layers are fused and weights stored channels last.
        compile: whether the network is compiled by torch.compile.
        cuda_graphs: whether training steps run as CUDA graphs.
        cache: where all stored values are kept, one of `genreclf.data.cache.KINDS`.
        allow_identical: track ids that may occur in two parts of the split, or "all".
        test: whether to use the test part; otherwise the validation part replaces it.
        precision: precision of Lightning's Trainer.
        progress_bar: whether training shows a progress bar.
        trust: what a checkpoint may import besides genreclf (`genreclf.trust`).
        config: the resolved config, which result.json and the loggers record.
        frozen: names of the layers that keep their pretrained weights.
    """

    features: Features
    make_model: Callable[..., nn.Module]
    split: Callable[[Store], dict[str, np.ndarray]]
    make_augmentation: Callable[[tuple[float, ...]], nn.Module]
    make_oversampling: Callable[[tuple[float, ...]], Oversampling]
    make_sampler: MakeSampler
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    scheduler: Callable[[Optimizer], dict[str, Any]]
    normalise: Callable[[Iterable[Tensor]], nn.Module]
    make_loss: Callable[[], nn.Module]
    make_metrics: Callable[[int], dict[str, Metric]]
    make_callbacks: Callable[[], list[Callback]]
    make_trainer: Callable[..., pl.Trainer]
    loggers: list[Callable[..., Logger]]
    distillation: Embeddings | None
    init: str | None
    seed: int
    batch_size: int
    num_workers: int
    monitor: str
    patience: int
    ema: float | None
    label_smoothing: float
    mixup: float
    tracks_per_genre: int | None
    fast: bool
    compile: bool
    cuda_graphs: bool
    cache: str
    allow_identical: Any
    test: bool
    precision: str
    progress_bar: bool
    trust: list[str]
    config: dict[str, Any]
    frozen: Sequence[str] = ()
