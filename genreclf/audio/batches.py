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

from genreclf.audio.own_features import (
    NotFiniteError,
    check_values,
    explain_origin,
    get_highest_rate,
    is_batched,
)
from genreclf.audio.pool import Event, map_in_order
from genreclf.audio.sound_files import DecodeError
from genreclf.audio.workers import Clip, Decoding, Row, extract
from genreclf.errors import InputError, report_own_failure
from genreclf.trust import is_own

CLIPS = 16  # per batch


def choose_work(features: Any) -> Any:
    """Choose what workers make of a clip: its features, or its waveform if they are batched."""
    if not is_batched(features):
        return features
    return Decoding(features.sample_rate, features.duration, get_highest_rate(features))


def extract_in_order(
    paths: Iterable[str], features: Any, workers: int
) -> Generator[Row, None, None]:
    """Yield the features, decoded seconds and notes of each file in order, or why it has none.

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
    clips = [each.values for each in decoded if isinstance(each, Clip)]
    computed = iter(compute_clips(features, clips))
    for each in decoded:
        if not isinstance(each, Clip):
            yield _tell(each)
            continue
        values = next(computed)
        yield str(values) if isinstance(values, DecodeError) else each._replace(values=values)


def compute_windows(features: Any, events: Sequence[Event]) -> list[Event]:
    """Compute the features of decoded windows; without batched features, return the events.

    A window whose features are not finite numbers becomes an event with an error.

    Raises:
        InputError: the features are not what they declare.
    """
    if not is_batched(features):
        return [*events]
    clips = [event.value.features for event in events if not event.ended]
    computed, found = iter(compute_clips(features, clips)), []
    for event in events:
        if event.ended:
            found.append(event)
        elif isinstance(values := next(computed), DecodeError):
            found.append(Event(event.number, error=values))
        else:
            found.append(event._replace(value=replace(event.value, features=values)))
    return found


def compute_clips(
    features: Any, clips: Sequence[tuple[np.ndarray, int]]
) -> list[np.ndarray | DecodeError]:
    """Compute the features of clips: waveforms (samples,) and their sample rates.

    Returns:
        For each clip float32 (bins, frames), or a DecodeError if they are not finite numbers.

    Raises:
        InputError: the user's own code fails, gives another number of results, or values that are
            not what the features declare.
    """
    if not clips:
        return []
    with report_own_failure(f"features={features.name}: computing them"):
        computed = [np.asarray(each) for each in features.compute_batch(clips)]
    if len(computed) != len(clips):
        raise InputError(
            f"features={features.name}: compute_batch gives {len(computed)} results for "
            f"{len(clips)} clips; {explain_origin(features)}"
        )
    checked: list[np.ndarray | DecodeError] = []
    for values in computed:
        try:
            checked.append(check_values(features, values))
        except NotFiniteError:
            origin = "" if is_own(type(features)) else f"; {explain_origin(features)}"
            checked.append(DecodeError(f"features={features.name} are not finite numbers{origin}"))
    return checked
