"""Predicts the genres of audio of any length, and embeds it, window by window.

Audio is decoded in windows as long as the clips that the model was trained on. The
scores and the embedding of a file are means over its windows. A waveform is a float array
(samples,) or (channels, samples), nominally in [-1, 1], together with its sample rate in Hz; it is
mixed down and resampled as files are.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from genreclf.audio.workers import Window
from genreclf.errors import InputError
from genreclf.evaluation.inputs import (
    AudioInput,
    check_audio,
    choose_device,
    extract_input,
    extract_inputs,
    group_windows,
    is_waveform,
    name_audio,
)
from genreclf.models.checkpoint import TrainedModel, load_checkpoint
from genreclf.models.embedding import compute_embedding
from genreclf.models.fused import fuse

BATCH = 32  # windows per batch


class TimelineEntry(NamedTuple):
    """The most likely genre of one window."""

    start: float  # s
    end: float  # s
    genre: str
    score: float  # its probability


@dataclass(frozen=True)
class Prediction:
    """The genres of a file or waveform.

    Args:
        path: path of the file, as given; empty for a waveform.
        scores: probability of each genre, highest first; empty if there is an error.
        timeline: the windows in order; silent ones are left out.
        error: why there are no scores, such as "no such file"; empty if there are.
    """

    path: str
    scores: dict[str, float]
    timeline: list[TimelineEntry]
    error: str = ""

    @property
    def genre(self) -> str:
        """The most likely genre; empty if there is an error."""
        return next(iter(self.scores), "")


def load(
    checkpoint: str | os.PathLike[str] = "pretrained",
    device: str | torch.device = "auto",
    trust: Sequence[str] = (),
) -> "Model":
    """Load a trained model to predict the genres of audio.

    Args:
        checkpoint: "pretrained" for the model that comes with genreclf, the folder of a run (for
            its best checkpoint), a folder from `genreclf export`, or a checkpoint file.
        device: "cpu", "cuda", "cuda:1", ...; "auto" takes a GPU if there is one.
        trust: packages, such as ["mypackage"], whose code the checkpoint may run if its model or
            features are not part of genreclf. Name only packages whose authors you trust.

    Raises:
        InputError: there is no such checkpoint or device, the checkpoint is damaged, or its model
            belongs to a package that is not trusted.
    """
    return Model(load_checkpoint(os.fspath(checkpoint), trust), device)


class Model:
    """A trained model that predicts the genres of audio and embeds it; `load` makes one.

    Args:
        trained: the network and what it was trained on; it is moved to the device.
        device: the device, as for `load`.

    Attributes:
        trained: the network, its normalisation and what it was trained on.
        classes: names of the genres, in the order of the network's outputs.
        features: the input of the network, such as a `genreclf.audio.MelFrames`.
        device: the `torch.device` on which it runs.

    Raises:
        InputError: there is no such device.
    """

    def __init__(self, trained: TrainedModel, device: str | torch.device = "auto") -> None:
        self.device = choose_device(device)
        self.trained, self.classes, self.features = trained, trained.classes, trained.features
        self._net = fuse(trained.net).eval().to(self.device)
        self._normalise = trained.normalise.to(self.device)

    @overload
    def predict(self, audio: AudioInput) -> Prediction: ...  # pyright: ignore  # text iterates, too

    @overload
    def predict(self, audio: Iterable[AudioInput]) -> Iterator[Prediction]: ...

    def predict(self, audio: Any) -> Prediction | Iterator[Prediction]:
        """Predict the genres of a file or waveform, or of each of several.

        Args:
            audio: a path; a tuple of a waveform, float (samples,) or (channels, samples), and its
                sample rate in Hz; or an iterable of these. A folder is not searched.

        Returns:
            A `Prediction`; for an iterable, an iterator over predictions in the same order. In that
            case several processes decode a few files ahead, starting when the first prediction is
            requested. A file that does not decode, is silent or is shorter than 2 s gives a
            prediction with an `error`.

        Raises:
            InputError: `audio` is not a path or a waveform, the model's features cannot be computed
                from audio, its weights are damaged or, while iterating, a process was killed.
        """
        self._check_features()
        if isinstance(audio, str | os.PathLike) or is_waveform(audio):
            (prediction,) = self._predict_each([audio])
            return prediction
        if hasattr(audio, "__array__") or not isinstance(audio, Iterable):
            raise InputError(
                "predict: a path, (waveform, sample_rate) or an iterable of these is needed, not "
                f"{type(audio).__name__}"
            )
        return self._predict_each(audio)

    def embed(self, audio: AudioInput) -> np.ndarray:
        """Compute the embedding of a file or waveform: the input of the model's last layer.

        Args:
            audio: a path, or a tuple of a waveform and its sample rate in Hz, as for `predict`.

        Returns:
            float32 (size,), the mean over the windows; 608 numbers for "pretrained".

        Raises:
            InputError: the audio does not decode, is silent or is shorter than 2 s; or for the
                reasons of `predict`.
        """
        self._check_features()
        checked = check_audio(audio)
        windows = extract_input(checked, self.features)
        if isinstance(windows, str):
            raise InputError(f"{name_audio(checked) or 'waveform'}: {windows}")
        return self._compute([window.features for window in windows], self._embed_batch).mean(0)

    def _check_features(self) -> None:
        if not self.trained.takes_audio:
            raise InputError(
                "the checkpoint was trained on precomputed features, which cannot be computed from "
                "audio; use genreclf evaluate with data=npz"
            )

    def _predict_each(self, audio: Iterable[AudioInput]) -> Iterator[Prediction]:
        try:
            for group in group_windows(extract_inputs(audio, self.features), BATCH):
                rows = [
                    window.features
                    for _, windows in group
                    if not isinstance(windows, str)
                    for window in windows
                ]
                scores = iter(self._compute(rows, self._score_batch))
                for path, windows in group:
                    if isinstance(windows, str):
                        yield Prediction(path, {}, [], windows)
                    else:
                        own = np.stack(list(itertools.islice(scores, len(windows))))
                        yield self._summarise_windows(path, windows, own)
        except BrokenProcessPool:
            raise InputError("a process that decodes was killed (out of memory?)") from None

    def _compute(
        self, rows: Sequence[np.ndarray], compute: Callable[[Tensor], Tensor]
    ) -> np.ndarray:
        """Compute results, float32 (len(rows), size), of features (bins, frames) in batches."""
        parts = []
        cores = 1 if len(rows) == 1 else None  # more would only wait for each other; None: all
        with torch.inference_mode(), threadpool_limits(cores):
            for start in range(0, len(rows), BATCH):
                batch = torch.from_numpy(np.stack(rows[start : start + BATCH])).to(self.device)
                parts.append(compute(self._normalise(batch)).float().cpu().numpy())
        values = np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
        if not np.isfinite(values).all():
            raise InputError("the model's results are not finite numbers: its weights are damaged")
        return values

    def _score_batch(self, features: Tensor) -> Tensor:
        return self._net(features).softmax(dim=1)

    def _embed_batch(self, features: Tensor) -> Tensor:
        return compute_embedding(self._net, len(self.classes), features)

    def _summarise_windows(
        self, path: str, windows: Sequence[Window], scores: np.ndarray
    ) -> Prediction:
        """Make the prediction of a file from the scores (windows, classes) of its windows."""
        timeline = [
            TimelineEntry(window.start, window.end, self.classes[own.argmax()], float(own.max()))
            for window, own in zip(windows, scores, strict=True)
        ]
        mean = scores.mean(axis=0)
        order = np.argsort(-mean, kind="stable")
        return Prediction(path, {self.classes[i]: float(mean[i]) for i in order}, timeline)
