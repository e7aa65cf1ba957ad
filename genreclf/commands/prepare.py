"""`genreclf prepare`: from a dataset to its store of features."""

import logging

from omegaconf import DictConfig

from genreclf.commands.stores import build_config_store
from genreclf.data.audit import format_groups
from genreclf.data.near_duplicates import find_near_duplicates

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Run the command: build the store, list its near-duplicates and print its path."""
    store = build_config_store(config)
    pairs = find_near_duplicates(store)
    if pairs:
        named = [[store.track_ids[pair.first], store.track_ids[pair.second]] for pair in pairs]
        log.warning(
            "%d pairs of tracks are probably the same recording: %s",
            len(pairs),
            format_groups(named),
        )
    print(store.path)
