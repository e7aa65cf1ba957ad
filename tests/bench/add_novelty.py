"""Fits the novelty score of an exported model that has none: `make novelty ROWS=rows.npz`.

A model that `genreclf train` trains has one, and `genreclf export` writes it. The bundled model was
exported before there was one; its score needs only the features of the tracks that it was trained
on, not the model:

    make novelty ROWS=rows.npz BENCH="--scale 0.3137254902 --offset -80"
"""

import argparse
from pathlib import Path

import numpy as np

from genreclf.data.summaries import summarise_features
from genreclf.files import write_text
from genreclf.models.checkpoint import load_checkpoint
from genreclf.models.model_files import (
    CARD,
    DESCRIPTION,
    NOVELTY,
    NOVELTY_DIGEST,
    PRETRAINED,
    read_exported,
    write_exported,
)
from genreclf.models.novelty import Novelty, limit_band, make_copies

TRACKS = 2000, 1000  # for training and calibration, as in genreclf.training.novelty


def main() -> None:
    """Write the file and print its size and how many validation tracks are called unknown."""
    parser = argparse.ArgumentParser("make novelty", description=__doc__)
    parser.add_argument(
        "rows", type=Path, help="npz: features (n, bins, frames), split; also scale and offset"
    )
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--offset", type=float, default=0.0)
    parser.add_argument("--folder", type=Path, default=PRETRAINED, help="of genreclf export")
    given = parser.parse_args()
    load_checkpoint(given.folder)  # refuses a folder that holds no model
    with np.load(given.rows) as file:
        rows, split = file["features"], file["split"]
    training, held_out = (
        [rows[place] * np.float32(given.scale) + np.float32(given.offset) for place in places]
        for places in (
            choose(split == "training", TRACKS[0]),
            choose(split == "validation", TRACKS[1]),
        )
    )
    limited = [limit_band(row, place) for place, row in enumerate(training[::3])]
    summaries = np.stack([*map(summarise_features, [*training, *limited])])
    copies = [
        summarise_features(copy)
        for place, row in enumerate(held_out)
        for copy in make_copies(row, place, spectral=True)
    ]
    known = np.stack([*map(summarise_features, held_out)])
    novelty = Novelty.fit(summaries, known, np.stack(copies))
    described = (given.folder / DESCRIPTION).read_text(encoding="utf-8")
    exported = read_exported(given.folder)
    exported["genreclf"]["novelty"] = novelty.list_tensors()
    write_exported(given.folder, exported, (given.folder / CARD).read_text(encoding="utf-8"))
    if NOVELTY_DIGEST not in described:  # runs that used the model are identified by this file
        write_text(given.folder / DESCRIPTION, described)
    share = (load_novelty(given.folder).rate(held_out) > 0.95).mean()
    print(f"{given.folder / NOVELTY}: {(given.folder / NOVELTY).stat().st_size} bytes")
    print(f"{share:.1%} of the validation tracks are above 0.95")


def choose(marked: np.ndarray, most: int) -> np.ndarray:
    """Choose at most this many of the marked places, evenly spaced."""
    places = np.flatnonzero(marked)
    return places[np.arange(min(most, len(places))) * len(places) // min(most, len(places))]


def load_novelty(folder: Path) -> Novelty:
    """Load what was written."""
    novelty = load_checkpoint(folder).novelty
    assert novelty is not None
    return novelty


if __name__ == "__main__":
    main()
