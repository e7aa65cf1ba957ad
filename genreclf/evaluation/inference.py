"""Audio files of any length, scored window by window.

A file is decoded in windows of the length that the net was trained on; its scores are the mean of
theirs, and they themselves its timeline.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from genreclf.audio.features import Precomputed
from genreclf.audio.workers import Window, count_available_cores, extract_windows, map_in_order
from genreclf.errors import InputError
from genreclf.models.checkpoint import Trained
from genreclf.models.fused import fuse

AT_ONCE = 32  # windows that the net takes together
FILES_A_PROCESS = 8  # for fewer, another process would take longer to begin than they take


@dataclass(frozen=True)
class Prediction:
    """What a file is taken for.

    Args:
        path: of the file, as it was given or found.
        scores: probability of each genre, highest first; empty where there is an error.
        timeline: start and end in seconds, likeliest genre and its probability, window by window.
        error: why there are no scores.
    """

    path: str
    scores: dict[str, float]
    timeline: list[tuple[float, float, str, float]]
    error: str = ""


def predict_files(files: Sequence[str], trained: Trained) -> Iterator[Prediction]:
    """Of each file, in their order; several processes decode where there are many.

    Raises:
        InputError: the net was trained on features that cannot be made from audio, or a process
            was killed.
    """
    if isinstance(trained.features, Precomputed):
        raise InputError(
            "the checkpoint was trained on precomputed features, which cannot be made from audio; "
            "evaluate it with data=npz"
        )
    score = _make_scorer(trained)
    decode = partial(extract_windows, features=trained.features)
    workers = min(count_available_cores(), math.ceil(len(files) / FILES_A_PROCESS))
    decoded = map_in_order(decode, files, workers)
    try:
        for group in _group_windows(zip(files, decoded, strict=True)):
            known = [found for _, found in group if not isinstance(found, str)]
            rows = [window.features for found in known for window in found]
            found_scores = score(rows)
            if not np.isfinite(found_scores).all():
                raise InputError("the net's scores are not finite numbers: its weights are damaged")
            scores = iter(found_scores)
            for path, found in group:
                if isinstance(found, str):
                    yield Prediction(path, {}, [], found)
                else:
                    of_file = list(itertools.islice(scores, len(found)))
                    yield _summarise_windows(path, found, np.stack(of_file), trained.classes)
    except BrokenProcessPool:
        raise InputError("a process that decodes was killed (out of memory?)") from None


Decoded = tuple[str, list[Window] | str]  # a path, and what `extract_windows` gives


def _group_windows(decoded: Iterable[Decoded]) -> Iterator[list[Decoded]]:
    """As many files as have windows enough for the net."""
    group: list[Decoded] = []
    count = 0
    for path, found in decoded:
        group.append((path, found))
        count += 1 if isinstance(found, str) else len(found)
        if count >= AT_ONCE:
            yield group
            group, count = [], 0
    if group:
        yield group


def _make_scorer(trained: Trained) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """Features of windows -> probabilities (windows, classes)."""
    net = fuse(trained.net).eval()

    @torch.inference_mode()
    def score(rows: Sequence[np.ndarray]) -> np.ndarray:
        parts = [np.stack(rows[at : at + AT_ONCE]) for at in range(0, len(rows), AT_ONCE)]
        logits = [net(trained.normalise(torch.from_numpy(part))) for part in parts]
        return torch.cat(logits).softmax(dim=1).numpy() if logits else np.empty((0, 0))

    return score


def _summarise_windows(
    path: str, found: Sequence[Window], scores: np.ndarray, classes: list[str]
) -> Prediction:
    """Of one file, by the scores (windows, classes) of its windows."""
    mean = scores.mean(axis=0)
    timeline = [
        (window.start, window.end, classes[of_window.argmax()], float(of_window.max()))
        for window, of_window in zip(found, scores, strict=True)
    ]
    order = np.argsort(-mean, kind="stable")
    return Prediction(path, {classes[i]: float(mean[i]) for i in order}, timeline)
