"""Features that one process computes for many clips at a time, such as those of large networks.

Each of several worker processes would need the network in its own memory and have one core for it.
So workers only decode, and the process that wants the features computes them, on the GPU if there
is one. A class whose attribute `batched` is true has a method `compute_batch`.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from genreclf.audio.own_features import NotFiniteError, check_values, is_batched
from genreclf.audio.pool import Event
from genreclf.audio.workers import Decoding, Row

CLIPS = 16  # per batch


def choose_work(features: Any) -> Any:
    """Choose what workers make of a clip: its features, or its waveform if they are batched."""
    if not is_batched(features):
        return features
    return Decoding(features.sample_rate, features.duration)


def compute_rows(features: Any, decoded: Iterator[Any]) -> Iterator[Row]:
    """Compute the rows of decoded clips, in their order.

    Args:
        features: batched features.
        decoded: what `extract` gave for `Decoding`, or the DecodeError of a file.

    Raises:
        InputError: the features are not what they declare.
    """
    while some := [*itertools.islice(decoded, CLIPS)]:
        clips = [each[0] for each in some if isinstance(each, tuple)]
        computed = iter(features.compute_batch(clips) if clips else ())
        for each in some:
            if not isinstance(each, tuple):
                yield str(each)
                continue
            try:
                yield check_values(features, next(computed)), each[1]
            except NotFiniteError:
                yield f"features={features.name} are not finite numbers"


def compute_windows(features: Any, events: Sequence[Event]) -> list[Event]:
    """Compute the features of decoded windows; without batched features, return the events."""
    arrived = [event for event in events if not event.ended]
    if not arrived or not is_batched(features):
        return [*events]
    computed = iter(features.compute_batch([event.value.features for event in arrived]))
    return [
        event
        if event.ended
        else event._replace(value=replace(event.value, features=next(computed)))
        for event in events
    ]
