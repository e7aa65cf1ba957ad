"""Features that one process computes for many clips at a time, such as those of large networks.

Each of several worker processes would need the network in its own memory and have one core for it.
So workers only decode, and the process that wants the features computes them, on the GPU if there
is one. A class whose attribute `batched` is true has a method `compute_batch`.
"""

import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from genreclf.audio.own_features import NotFiniteError, check_values, is_batched
from genreclf.audio.pool import Event, map_in_order
from genreclf.audio.sound_files import DecodeError
from genreclf.audio.workers import Decoding, Row, extract
from genreclf.errors import InputError, report_own_failure

CLIPS = 16  # per batch


def choose_work(features: Any) -> Any:
    """Choose what workers make of a clip: its features, or its waveform if they are batched."""
    if not is_batched(features):
        return features
    return Decoding(features.sample_rate, features.duration)


def extract_in_order(
    paths: Iterable[str], features: Any, workers: int
) -> Generator[Row, None, None]:
    """Yield the features and decoded seconds of each file in order, or why it has none.

    Args:
        paths: the files.
        features: what is computed of each.
        workers: number of processes that decode, and compute features that are not batched.

    Raises:
        InputError: the processes do not start, or the features are not what they declare.
    """
    decoded = map_in_order(partial(extract, features=choose_work(features)), paths, workers)
    with contextlib.closing(decoded):  # without this, an error would leave processes behind
        if not is_batched(features):
            yield from map(_tell, decoded)
            return
        while some := [*itertools.islice(decoded, CLIPS)]:
            yield from _compute_rows(features, some)


def _tell(row: Any) -> Row:
    return str(row) if isinstance(row, DecodeError) else row


def _compute_rows(features: Any, decoded: Sequence[Any]) -> Iterator[Row]:
    """Compute the rows of what `extract` gave for `Decoding`."""
    clips = [each[0] for each in decoded if isinstance(each, tuple)]
    computed = iter(_compute_batch(features, clips) if clips else ())
    for each in decoded:
        if not isinstance(each, tuple):
            yield _tell(each)
            continue
        try:
            yield check_values(features, next(computed)), each[1]
        except NotFiniteError:
            yield f"features={features.name} are not finite numbers"


def compute_windows(features: Any, events: Sequence[Event]) -> list[Event]:
    """Compute the features of decoded windows; without batched features, return the events.

    Raises:
        InputError: as `extract_in_order`. If values are not finite, the event has an error, and
            zeros in their place.
    """
    arrived = [event for event in events if not event.ended]
    if not arrived or not is_batched(features):
        return [*events]
    computed = iter(_compute_batch(features, [event.value.features for event in arrived]))
    return [event if event.ended else _fill_in(features, event, next(computed)) for event in events]


def _fill_in(features: Any, event: Event, values: np.ndarray) -> Event:
    error = None
    try:
        values = check_values(features, values)
    except NotFiniteError:
        error = DecodeError(f"features={features.name} are not finite numbers")
        values = np.zeros(features.shape, np.float32)
    return event._replace(value=replace(event.value, features=values), error=error)


def _compute_batch(features: Any, clips: Sequence[tuple[np.ndarray, int]]) -> list[np.ndarray]:
    """Compute the features of clips: waveforms (samples,) and their sample rates.

    Raises:
        InputError: the user's own code fails, or gives another number of results.
    """
    with report_own_failure(f"features={features.name}: computing them"):
        computed = [np.asarray(each) for each in features.compute_batch(clips)]
    if len(computed) != len(clips):
        raise InputError(
            f"features={features.name}: compute_batch gives {len(computed)} results for "
            f"{len(clips)} clips; correct {type(features).__qualname__}"
        )
    return computed
