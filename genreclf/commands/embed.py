"""`genreclf embed`: the embeddings of a music library or any dataset, as Parquet or npz."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from genreclf.audio.tags import read_all_tags
from genreclf.commands.instantiation import instantiate
from genreclf.commands.stores import build_config_store
from genreclf.data.datasets.track import repair_text
from genreclf.data.library import convert_store, explain_frames
from genreclf.data.library_files import check_writable, write_library
from genreclf.errors import InputError

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Run the command: build the store, write the file and print its path."""
    path = Path(str(config.file))
    check_writable(path)
    if not (config.store and Path(str(config.store)).exists()):
        features: Any = instantiate(config.features)
        bins, frames = getattr(features, "shape", (0, 1))  # those of data=npz are not known yet
        if frames > 1:
            raise InputError(f"features={features.name}: {explain_frames(bins, frames)}")
    store = build_config_store(config, list_rejected=True)
    titles = [repair_text(tags["title"]) for tags in read_all_tags(store.paths)]
    library = convert_store(store, titles)
    write_library(path, library)
    log.info("%d embeddings of %d values", len(library), library.size)
    print(path)
