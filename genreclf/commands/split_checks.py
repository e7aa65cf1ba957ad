"""Checks a config's split on the list of tracks, before any of them is decoded."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from omegaconf import DictConfig

from genreclf.audio.batches import extract_in_order
from genreclf.audio.features import Waveform
from genreclf.commands.instantiation import instantiate
from genreclf.data import splits
from genreclf.data.build_store import StorePlan
from genreclf.data.datasets.track import Track
from genreclf.data.preview import Split, check_parts, check_split
from genreclf.protocols import FeatureDataset

SHORT = 2.5  # s of a track that tell whether it decodes


def check_config_split(config: DictConfig, plan: StorePlan, to_train: bool = True) -> None:
    """Check that the tracks of a store that does not exist yet can be split as the config says.

    A split of the user's own is not tried, because it may read features.

    Args:
        config: the config of a run or of an evaluation.
        plan: the store.
        to_train: whether parts to train and to validate on are needed.

    Raises:
        InputError: they cannot, or a part is missing.
    """
    if not str(config.split["_target_"]).startswith("genreclf."):
        return
    split = instantiate(config.split)
    most = config.tracks_per_genre if to_train else None

    def divide(store: Any) -> Split:
        found = split(store)
        if to_train:
            check_parts(found)
        return found if most is None else splits.limit_tracks(store, found, most)

    provided = isinstance(plan.dataset, FeatureDataset)
    find: Callable[[Sequence[Track]], Sequence[Track]] = (
        (lambda tracks: tracks) if provided else partial(_find_decodable, plan.dataset.duration)
    )
    check_split(divide, plan.tracks, find)


def _find_decodable(duration: float, tracks: Sequence[Track]) -> list[Track]:
    """Find the tracks whose audio decodes."""
    features = Waveform(duration=min(SHORT, duration))
    rows = extract_in_order((track.path for track in tracks), features, workers=1)
    with contextlib.closing(rows):
        return [track for track, row in zip(tracks, rows, strict=True) if not isinstance(row, str)]
