"""Predicts the genres of audio of any length, and embeds it, window by window.

Audio is decoded in windows as long as the clips that the model was trained on. The scores and the
embedding of a file are means over its windows, weighted by the seconds that are not silent. Windows
are computed as they are decoded, so a file of any length needs the memory of a few. A waveform is
a float array (samples,) or (channels, samples), nominally in [-1, 1], together with its sample rate
in Hz; it is mixed down and resampled as files are.
"""

import contextlib
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, overload

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from genreclf.errors import InputError
from genreclf.evaluation.genre_map import GenreMap
from genreclf.evaluation.inputs import (
    AudioInput,
    check_audio,
    check_items,
    check_overlap,
    choose_device,
    is_waveform,
    stream_input,
    stream_inputs,
)
from genreclf.evaluation.prediction import Prediction, summarise_windows
from genreclf.evaluation.two_inputs import TwoInputs
from genreclf.evaluation.vocabulary import Vocabulary
from genreclf.evaluation.windows import compute_files
from genreclf.models.checkpoint import TrainedModel, load_checkpoint
from genreclf.models.embedding import compute_embedding
from genreclf.models.fused import fuse
from genreclf.models.model_files import TAGS
from genreclf.models.novelty import THRESHOLD

FEW = 16  # windows that are computed on one core while workers decode on the others
SEVERAL = 2  # windows that are worth several cores


def load(
    checkpoint: str | os.PathLike[str] = TAGS,
    device: str | torch.device = "auto",
    trust: Sequence[str] = (),
    genre_map: GenreMap | None = None,
) -> "Model":
    """Load a trained model to predict the genres of audio.

    Args:
        checkpoint: "tags" for musicnn, whose 50 tags include 31 genres; "fma8" (or "pretrained")
            for the model that comes with genreclf, with eight genres of FMA; the folder of a run
            (for its best checkpoint), a folder from `genreclf export`, or a checkpoint file.
        device: "cpu", "cuda", "cuda:1", ...; "auto" takes a GPU if there is one.
        trust: packages, such as ["mypackage"], whose code the checkpoint may run if its model or
            features are not part of genreclf. Name only packages whose authors you trust.
        genre_map: genres of your own and the labels of the model that each stands for, such as
            {"Rock": ["rock", "punk"], "Club": "House"}; the path of a YAML file of such lines; or
            "fma", which maps musicnn's tags to genres of FMA.

    Raises:
        InputError: there is no such checkpoint or device, the checkpoint is damaged, its model
            belongs to a package that is not trusted, the weights of musicnn have not been
            downloaded, or the map does not fit the model.
    """
    if not isinstance(checkpoint, str | os.PathLike):
        raise InputError(
            f"checkpoint={checkpoint!r}: the path of a checkpoint, or a name such as {TAGS}, is "
            "needed"
        )
    name, chosen = os.fspath(checkpoint), choose_device(device)
    if name != TAGS:
        return Model(load_checkpoint(name, trust), chosen, genre_map)
    from genreclf.models.encoders.musicnn_tagger import load_tagger

    return Model(load_tagger(), chosen, genre_map)


class Model:
    """A trained model that predicts the genres of audio and embeds it; `load` makes one.

    Args:
        trained: the network and what it was trained on; it is moved to the device.
        device: the device, as for `load`.
        genre_map: genres of your own, as for `load`.

    Attributes:
        trained: the network, its normalisation and what it was trained on.
        classes: names of the genres, in the order of the network's outputs or of the map.
        vocabulary: what the answers are made of: `name`, `genres`, `tags`.
        features: the input of the network, such as a `genreclf.audio.MelFrames`.
        device: the `torch.device` on which it runs.

    Raises:
        InputError: there is no such device, or the map does not fit the model.
    """

    def __init__(
        self,
        trained: TrainedModel,
        device: str | torch.device = "auto",
        genre_map: GenreMap | None = None,
    ) -> None:
        self.device = choose_device(device)
        self.trained, self.features = trained, trained.features
        self.vocabulary = Vocabulary.choose(trained, genre_map)
        self.classes = self.vocabulary.genres
        self._rated, rated = trained.novelty is not None, trained.novelty_input
        self._inputs = TwoInputs(trained.features, rated) if rated is not None else None
        self._net = fuse(trained.net).eval().to(self.device)
        self._normalise = trained.normalise.to(self.device)

    @overload
    def predict(  # pyright: ignore  # text iterates, too
        self, audio: AudioInput, overlap: float = 0.0, threshold: float = THRESHOLD
    ) -> Prediction: ...

    @overload
    def predict(
        self, audio: Iterable[AudioInput], overlap: float = 0.0, threshold: float = THRESHOLD
    ) -> Iterator[Prediction]: ...

    def predict(
        self, audio: Any, overlap: float = 0.0, threshold: float = THRESHOLD
    ) -> Prediction | Iterator[Prediction]:
        """Predict the genres of a file or waveform, or of each of several.

        Args:
            audio: a path; a tuple of a waveform, float (samples,) or (channels, samples), and its
                sample rate in Hz; or an iterable of these. A folder is not searched.
            overlap: share of a window that the next one repeats, 0 <= overlap < 1.
            threshold: the novelty above which audio is "unknown"; 1 for never. At the default,
                about 5 % of held-out music is.

        Returns:
            A `Prediction`; for an iterable, an iterator over predictions in the same order. A
            single file is decoded in this process. Several are decoded ahead by processes that are
            watched, starting when the first prediction is requested: a file that crashes or stalls
            a decoder (20 s) or needs more than 1.5 GB costs only itself. A file that does not
            decode, is silent or is shorter than 2 s gives a prediction with an `error`.

        Raises:
            InputError: `audio` is not a path or a waveform, `overlap` is out of range, the model's
                features cannot be computed from audio, or its weights are damaged.
        """
        self._check_features()
        check_overlap(overlap)
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold={threshold}: a number from 0 to 1 is needed")
        if isinstance(audio, str | os.PathLike) or is_waveform(audio):
            checked = check_audio(audio)
            batches = stream_input(checked, self._inputs or self.features, overlap)
            (found,) = compute_files(batches, self._score)
            path = checked if isinstance(checked, str) else ""
            return summarise_windows(path, found, self.vocabulary, self._rated, threshold)
        if hasattr(audio, "__array__") or not isinstance(audio, Iterable):
            raise InputError(
                "predict: a path, (waveform, sample_rate) or an iterable of these is needed, not "
                f"{type(audio).__name__}"
            )
        if isinstance(audio, list | tuple):  # others are checked as they come
            check_items(audio)
        return self._predict_each(audio, overlap, threshold)

    def embed(self, audio: AudioInput) -> np.ndarray:
        """Compute the embedding of a file or waveform: the input of the model's last layer.

        Args:
            audio: a path, or a tuple of a waveform and its sample rate in Hz, as for `predict`.

        Returns:
            float32 (size,), the mean over the windows; 608 numbers for "fma8", 200 for "tags".

        Raises:
            InputError: the audio does not decode, is silent or is shorter than 2 s; or for the
                reasons of `predict`.
        """
        self._check_features()
        checked = check_audio(audio)
        (found,) = compute_files(stream_input(checked, self.features, 0.0), self._embed)
        if found.error:
            name = checked if isinstance(checked, str) else "waveform"
            raise InputError(f"{name}: {found.error}")
        return found.average().astype(np.float32)

    def _check_features(self) -> None:
        if not self.trained.takes_audio:
            raise InputError(
                "the checkpoint was trained on precomputed features, which cannot be computed from "
                "audio; use genreclf evaluate with data=npz"
            )
        self.trained.check_features()

    def _predict_each(
        self, audio: Iterable[AudioInput], overlap: float, threshold: float
    ) -> Iterator[Prediction]:
        paths: dict[int, str] = {}
        batches = stream_inputs(audio, self._inputs or self.features, overlap, paths)
        several = operator.length_hint(audio, 2) > 1
        score = partial(self._score, few=FEW if several else SEVERAL)
        with contextlib.closing(batches):  # without this, an error would leave processes behind
            for number, found in enumerate(compute_files(batches, score)):
                yield summarise_windows(
                    paths.pop(number), found, self.vocabulary, self._rated, threshold
                )

    def _compute(
        self, rows: Sequence[np.ndarray], compute: Callable[[Tensor], Tensor], few: int = SEVERAL
    ) -> np.ndarray:
        """Compute results, float32 (len(rows), size), of features (bins, frames).

        Fewer than `few` are computed on one core: several would only wait for each other, unless
        the network divides its work itself.
        """
        if not rows:
            return np.empty((0, 0), np.float32)
        limit = len(rows) < few and not getattr(self._net, "divides_work", False)
        with torch.inference_mode(), threadpool_limits(1 if limit else None):
            batch = torch.from_numpy(np.stack(rows)).to(self.device)
            values = compute(self._normalise(batch)).float().cpu().numpy()
        if not np.isfinite(values).all() and not self._has_finite_weights():
            raise InputError("the model's results are not finite numbers: its weights are damaged")
        return values

    def _score(self, rows: Sequence[np.ndarray], few: int = SEVERAL) -> np.ndarray:
        """Compute scores of genres, of tags, and the novelty (0 if the model has none)."""
        if not rows:
            return np.empty((0, 0), np.float32)
        rows, rated = self._inputs.divide(rows) if self._inputs else (rows, rows)
        scores = self.vocabulary.combine(self._compute(rows, self._score_batch, few))
        rate = self.trained.novelty
        return np.column_stack([scores, rate.rate(rated) if rate else np.zeros(len(rated))])

    def _embed(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        return self._compute(rows, self._embed_batch)

    def _has_finite_weights(self) -> bool:
        tensors = [*self._net.state_dict().values(), *self._normalise.state_dict().values()]
        return all(bool(tensor.isfinite().all()) for tensor in tensors)

    def _score_batch(self, features: Tensor) -> Tensor:
        logits = self._net(features)
        return logits.sigmoid() if self.trained.multi_label else logits.softmax(dim=1)

    def _embed_batch(self, features: Tensor) -> Tensor:
        return compute_embedding(self._net, len(self.trained.classes), features)
