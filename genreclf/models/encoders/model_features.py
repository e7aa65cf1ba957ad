"""Features from the embedding of a model of genreclf."""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genreclf.audio.own_features import check_features, compute_features
from genreclf.audio.settings import check_duration
from genreclf.errors import InputError
from genreclf.models.encoders.digests import check_digest, digest_tensors
from genreclf.models.encoders.places import name_encoders
from genreclf.models.encoders.windowed import cut_windows
from genreclf.models.model_files import BUNDLED
from genreclf.paths import make_absolute
from genreclf.trust import list_untrusted

if TYPE_CHECKING:
    from genreclf.data.seen_tracks import SeenTracks
    from genreclf.models.checkpoint import TrainedModel

KEPT = ("net.", "normalise.")  # tensors that the embedding depends on
LARGEST = 32  # windows per batch


@dataclasses.dataclass(frozen=True)
class ModelEmbedding:
    """The embedding of a trained model: the input of its last layer, as one frame.

    The model gets the features, the sample rate and the length of clips that it was trained with. A
    longer clip is divided into windows of that length; their embeddings are averaged, weighted by
    the audible seconds of each window. The model computes on one core, because the processes that
    compute features already use every core.

    Two embeddings are equal if their models are, wherever the checkpoints are.

    Args:
        checkpoint: "pretrained" for the model that comes with the package, the folder of a run (for
            its best checkpoint), a folder from `genreclf export`, or a checkpoint file.
        duration: seconds of a clip; longer clips are cut.
        digest: identifies the model that the checkpoint has to contain; empty for the one that it
            contains now. Checkpoints of classifiers on these features record it.

    Raises:
        InputError: there is no such checkpoint, it is damaged, or its code is not part of genreclf.
    """

    checkpoint: str = dataclasses.field(default="pretrained", compare=False)
    duration: float = 30.0  # s
    digest: str = ""

    name: ClassVar[str] = "embedding"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "activation"
    bin_axis: ClassVar[str] = "unit"
    padded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.checkpoint, str) or not self.checkpoint:
            raise InputError(
                f"features.checkpoint={self.checkpoint}: pretrained, a run's folder or a "
                "checkpoint is needed"
            )
        if self.checkpoint not in BUNDLED:
            object.__setattr__(self, "checkpoint", make_absolute(self.checkpoint))
        check_duration(self)
        if not self.digest:
            object.__setattr__(self, "digest", digest_model(self.checkpoint))

    @property
    def sample_rate(self) -> int:
        """Hz: the model's."""
        return self._load().features.sample_rate

    @property
    def shape(self) -> tuple[int, int]:
        """(values, 1) of every clip."""
        return measure_size(self.checkpoint, self.digest), 1

    @property
    def trained_on(self) -> SeenTracks | None:
        """The tracks that the model has seen; None if nothing is known of them."""
        return self._load().trained_on

    def check_available(self) -> None:
        """Check that the model is there, and that its own features can be computed.

        Raises:
            InputError: they cannot, or the checkpoint now contains another model.
        """
        check_features(self._load().features)

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute float32 features (values, 1) of a waveform (samples,) at `sample_rate`."""
        trained = self._load()
        clips, weights = cut_windows(waveform, sample_rate, trained.features.duration)
        rows = np.stack([compute_features(trained.features, clip, sample_rate) for clip in clips])
        return np.average(embed_rows(trained, rows), axis=0, weights=weights)[:, None]

    def _load(self) -> TrainedModel:
        return load_encoder(self.checkpoint, self.digest)


def digest_model(checkpoint: str) -> str:
    """Compute a SHA-256 of what a model computes: weights, network, features and genres' number.

    An exported model has the digest of the checkpoint that it was exported from.

    Raises:
        InputError: there is no such checkpoint, it is damaged, or its code is not part of genreclf.
    """
    from genreclf.models.model_files import read_model_files

    try:
        found = read_model_files(checkpoint)
        described = found["genreclf"]
        # Wherever encoders below it are: their digests count.
        features = name_encoders(described["features"])
        settings = [described["model"], features, len(described["classes"])]
        # Whoever wrote a file with these features chose this checkpoint, so it is not trusted.
        if own := list_untrusted(settings):
            raise InputError(
                f"checkpoint={checkpoint}: {' and '.join(own)} "
                f"{'is' if len(own) == 1 else 'are'} not part of genreclf; only models of "
                "genreclf's own classes can be features"
            )
        tensors = {
            name: tensor.contiguous().numpy()
            for name, tensor in found["state_dict"].items()
            if name.startswith(KEPT)
        }
    except InputError as error:
        raise InputError(f"features.{error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"features.checkpoint={checkpoint}: does not fit this version of genreclf ({error!r})"
        ) from None
    text = json.dumps(settings, sort_keys=True) + digest_tensors(tensors)
    return sha256(text.encode()).hexdigest()


@lru_cache(maxsize=4)
def load_encoder(checkpoint: str, digest: str) -> TrainedModel:
    """Load a model for inference, once per process.

    Raises:
        InputError: as `digest_model`, or the checkpoint does not contain the model of this digest,
            or its features cannot be computed from audio.
    """
    from genreclf.models.checkpoint import load_checkpoint
    from genreclf.models.fused import fuse

    check_digest(digest_model(checkpoint), digest, f"features.checkpoint={checkpoint}")
    trained = load_checkpoint(checkpoint)
    if not trained.takes_audio:
        raise InputError(
            f"features.checkpoint={checkpoint}: it was trained on precomputed features, which "
            "cannot be computed from audio; choose another model"
        )
    return dataclasses.replace(trained, net=fuse(trained.net).eval())


@lru_cache(maxsize=16)
def measure_size(checkpoint: str, digest: str) -> int:
    """Measure how many values the embedding of a model has."""
    trained = load_encoder(checkpoint, digest)
    return embed_rows(trained, np.zeros((1, *trained.features.shape), np.float32)).shape[1]


def embed_rows(trained: TrainedModel, rows: np.ndarray) -> np.ndarray:
    """Compute the embeddings, float32 (rows, values), of features (rows, bins, frames)."""
    import torch
    from threadpoolctl import threadpool_limits

    from genreclf.models.embedding import compute_embedding

    classes, parts = len(trained.classes), []
    with torch.inference_mode(), threadpool_limits(1):
        for first in range(0, len(rows), LARGEST):
            batch = trained.normalise(torch.from_numpy(rows[first : first + LARGEST]))
            parts.append(compute_embedding(trained.net, classes, batch).float().numpy())
    return np.concatenate(parts)
