"""What each part of a run must provide, and what genreclf passes to it.

Anything with these attributes is one: no class needs to inherit from ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from pytorch_lightning.loggers import Logger
    from torch import Tensor
    from torch.nn import Parameter
    from torch.optim import Optimizer
    from torch.utils.data import Sampler


class Dataset(Protocol):
    """Which tracks exist.

    Attributes:
        name: short, such as "folder"; the names of stores and runs begin with it.
        duration: seconds of each track that features are made from.

    It may have `known_bad`, a mapping of the ids of tracks that are expected to be rejected, and
    why; and `has_genres`, False if its tracks need no genre, so that nothing can be trained on it.
    """

    name: str
    duration: float

    def tracks(self) -> Sequence[Any]:
        """All tracks (`genreclf.data.Track`), always in the same order; ids are unique."""
        ...

    def genres(self) -> list[str]:
        """Names of their genres, sorted, each once."""
        ...


@runtime_checkable
class FeatureDataset(Dataset, Protocol):
    """A dataset that brings its features along instead of audio.

    It may have a method `check_features(features)` that raises InputError if its rows are not these
    features.

    Attributes:
        silence: value of a silent frame, in scaled units; None: the least value.
    """

    silence: float | None

    def rows(self) -> Iterator[np.ndarray]:
        """Stored features (bins, frames) of each track, in the order of `tracks()`."""
        ...

    def scaling(self) -> tuple[float, float]:
        """(scale, offset): a stored value means `scale * stored + offset`."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """Plain values that change when the features do, wherever they lie; cheap to get."""
        ...


@runtime_checkable
class DownloadableDataset(Dataset, Protocol):
    """A dataset that `genreclf download` can fetch.

    Attributes:
        root: the folder that they are unpacked into.
        archives: mappings of `url` and `sha1`.
        expected: how many tracks it has, known before it is downloaded.
        known_bad: ids of tracks that are expected to be rejected, and why.
    """

    root: Path
    archives: Sequence[Mapping[str, str]]
    known_bad: Mapping[str, str]

    @property
    def expected(self) -> int:
        """How many tracks it has."""
        ...


class Features(Protocol):
    """How a waveform becomes an array.

    The constructor's arguments are the settings; each is kept in the attribute of the same name, as
    in a dataclass. The class may have more attributes:

    - `version`: raised whenever the same audio gives other values than before. Without it, features
      are computed again whenever the file with the class changes.
    - `padded`: False if short clips shall not be padded with silence up to `duration`, as for
      encoders, which know better. Without it, they are if `sample_rate` is a number.
    - `silence`: values of a silent frame, one for all bins or one per bin; measured if missing.
    - `unit`, such as "dB", and `bin_axis`, "frequency" if moving the bins transposes the music:
      what augmentation may do with the values.
    - a method `check_available()`, which raises `InputError` if the features cannot be computed
      here, such as for lack of weights, an extra, or the model that they were made with; it is
      called before any file is read, also of runs that are finished, so it should be quick.
    - `batched`: True if one process computes many clips at a time, which suits large networks: a
      method `compute_batch(clips)` then takes a list of (waveform, sample rate) and returns as many
      arrays (bins, frames), while other processes decode.
    - `trained_on`: if a trained model computes them, the tracks that it has seen, as `SeenTracks`
      (`genreclf.data.seen_tracks`); None if nothing is known of them. A run warns if its validation
      or test tracks are among them.

    Attributes:
        name: one word, such as "mel".
    """

    name: ClassVar[str]

    @property
    def sample_rate(self) -> int | None:
        """Hz of the waveforms it takes; None for each file's own."""
        ...

    @property
    def duration(self) -> float:
        """Seconds of the waveforms it takes: exactly, or at most if they are not `padded`."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """(bins, frames) of every clip."""
        ...

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Features float32 (bins, frames) of a waveform (samples,)."""
        ...


class Split(Protocol):
    """Which rows of a store train, validate and test."""

    def __call__(self, store: Any) -> dict[str, np.ndarray]:
        """The sorted rows of "train", "val" and optionally "test" of a `genreclf.data.Store`."""
        ...


class MakeSampler(Protocol):
    """Makes what chooses the training tracks of an epoch and their order."""

    def __call__(self, *, labels: np.ndarray, seed: int) -> Sampler:
        """Make a sampler with a length, and `set_epoch` if its order depends on the epoch.

        Args:
            labels: int64 (items,), genre of each training track and extra copy.
            seed: seed of the run.

        Returns:
            A sampler of numbers of items, from 0 to `len(labels) - 1`.
        """
        ...


class Model(Protocol):
    """A network: a `torch.nn.Module` whose constructor takes the number of genres as `classes`.

    Its parameters and buffers, and the settings in its config, must be all that its outputs depend
    on, because a checkpoint stores nothing else. All further attributes are optional:

    Attributes:
        min_size: bins and frames that it needs at least (default: 1).
        last_layer: name of the layer whose outputs are the logits (default: the last such layer
            with one row of its weight per genre). Calibration divides them, fine-tuning replaces
            it for other genres, and its input is the embedding. A model without one is exported
            without calibration.
        embedding_size: size of the embedding, if `forward(features, embedded=True)` returns logits
            and embedding (batch, size); knowledge distillation needs it.
        without_epochs: True if it is not trained by gradients but by a method `fit(batches,
            labels)`, which is called once with an iterator over all training features (batch, bins,
            frames) and all labels, int64 (tracks,).
        version: to be raised when the same settings train differently than before; without it,
            any change of the module's source code counts as another model.
    """

    def __call__(self, features: Tensor) -> Tensor:
        """Logits (batch, classes) of features (batch, bins, frames)."""
        ...


class Loss(Protocol):
    """A loss: a `torch.nn.Module`; it may have parameters, which are trained, too.

    An optional method `fit(counts)` is called before training with the number of training tracks
    per genre, int64 (classes,).
    """

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            logits: (batch, classes).
            targets: classes, int64 (batch,); with label smoothing, mixup or soft labels of
                knowledge distillation their probabilities, float32 (batch, classes).
        """
        ...


class Augmentation(Protocol):
    """Changes training clips: a `torch.nn.Module` whose constructor takes `silence`.

    `silence` is a tuple of the feature values of a silent frame, one for all bins or one per bin.
    """

    def __call__(self, features: Tensor) -> Tensor:
        """Changed features (batch, bins, frames); each batch gets the same number of frames."""
        ...


class Metric(Protocol):
    """A metric to log: a `torchmetrics.Metric` whose constructor takes `num_classes`.

    Its value is one number. An attribute `higher_is_better` lets `monitor` choose by it.
    """

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Take in a batch: log-probabilities (batch, classes), and int64 labels (batch,)."""
        ...


class MakeOptimizer(Protocol):
    """Makes an optimizer; a class, such as `torch.optim.SGD`, needs `_partial_: true`."""

    def __call__(self, params: list[Parameter]) -> Optimizer:
        """Make an optimizer of all trained parameters, those of the loss included."""
        ...


class MakeScheduler(Protocol):
    """Makes a scheduler of the learning rate; a class or function needs `_partial_: true`."""

    def __call__(self, optimizer: Optimizer) -> Mapping[str, Any]:
        """Make Lightning's dict: `scheduler`, and optionally `interval`, `frequency`, `monitor`."""
        ...


class MakeLogger(Protocol):
    """Makes a logger: a class or function, such as `pytorch_lightning.loggers.CSVLogger`."""

    def __call__(self, *, save_dir: Path) -> Logger:
        """Make one of Lightning's loggers; also just to check its settings, so start nothing."""
        ...


class Callback(Protocol):
    """A `pytorch_lightning.Callback`; genreclf passes nothing to its constructor.

    What its `state_dict()` returns goes into the checkpoint: tensors and plain values only, which
    are read without running pickled code.
    """

    def state_dict(self) -> dict[str, Any]:
        """State that a run continues from after an interruption."""
        ...
