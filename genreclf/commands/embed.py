"""`genreclf embed`: the embeddings of a music library or any dataset, as Parquet or npz."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from genreclf.commands.instantiation import instantiate
from genreclf.commands.stores import plan_config_store
from genreclf.data.build_store import StorePlan, write_store
from genreclf.data.datasets.track import Track
from genreclf.data.library import convert_store, explain_frames, read_titles
from genreclf.data.library_files import check_file, write_library
from genreclf.errors import InputError
from genreclf.files import check_free_disk
from genreclf.paths import format_path

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Run the command: build the store, write the file and print its path."""
    path = Path(str(config.file))
    check_file(path)
    size = _check_shape(config)
    plan = plan_config_store(config)
    tracks: Sequence[Track] = ()
    if isinstance(plan, StorePlan):
        tracks = plan.tracks
        check_free_disk(path.parent, 4 * size * len(tracks), format_path(path), "file")
        plan = write_store(plan, config.workers, list_rejected=True)
    library = convert_store(plan, read_titles(plan, tracks))
    write_library(path, library)
    log.info("%d embeddings of %d values", len(library), library.size)
    print(path)


def _check_shape(config: DictConfig) -> int:
    """Check that the chosen features have one frame; return the number of their values.

    Returns:
        0 if it is not known yet, with `data=npz` or an existing `store=...`.
    """
    if config.store and Path(str(config.store)).exists():
        return 0
    features: Any = instantiate(config.features)
    bins, frames = getattr(features, "shape", (0, 1))
    if frames > 1:
        raise InputError(f"features={features.name}: {explain_frames(bins, frames)}")
    return bins
