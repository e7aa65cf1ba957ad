"""What another network knows of the training tracks, for a net to learn beside the genres.

A net that predicts embeddings which were learnt from far more music carries over to artists that it
has not heard better; at use it needs its features alone (distillation: Hinton 2015, Romero 2015).
"""

import logging
from hashlib import sha1
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genreclf.corpora.npz import open_archive, read_array, texts
from genreclf.errors import InputError
from genreclf.store import Store

log = logging.getLogger(__name__)

LARGEST = 4.0  # deviations from the mean; beyond it, values would rule the squared error


class Embeddings:
    """Embeddings of tracks, in a NumPy archive.

    Args:
        path: with arrays `features` (tracks, size) and `track_ids`, those of the store.
        weight: of the squared error to them, where the cross-entropy has 1.

    Raises:
        InputError: a weight that is not above 0.
    """

    def __init__(self, path: str | Path, weight: float = 0.5) -> None:
        if not weight > 0:
            raise InputError(f"teacher.weight={weight}: a number above 0 is needed")
        self.path, self.weight = Path(str(path)).expanduser(), weight

    def targets(self, store: Store, rows: np.ndarray) -> Tensor:
        """Of each row of the store, float32 (len(store), size); NaN where the archive lacks it.

        They have mean 0 and standard deviation 1 over the given rows, which are to be trained on.

        Raises:
            InputError: no such archive, arrays missing or of another shape, or none of the rows.
        """
        ids, embeddings = self._read()
        place = {track_id: number for number, track_id in enumerate(ids)}
        known = np.array([place.get(track_id, -1) for track_id in store.track_ids])
        trained = embeddings[known[rows][known[rows] >= 0]]
        if not len(trained):
            raise InputError(f"teacher.path={self.path}: none of the {len(rows)} training tracks")
        if len(trained) < len(rows):
            log.warning("the teacher knows %d of %d training tracks", len(trained), len(rows))
        deviation = trained.std(axis=0)
        scale = np.where(deviation > 0, deviation, 1)
        targets = ((embeddings - trained.mean(axis=0)) / scale).clip(-LARGEST, LARGEST)
        of_rows = np.where(known[:, None] >= 0, targets[known], np.nan)
        return torch.from_numpy(of_rows.astype(np.float32))

    def digest(self) -> str:
        """SHA-1 of the archive; InputError where there is none."""
        self._check()
        return sha1(self.path.read_bytes()).hexdigest()

    def _check(self) -> None:
        if not self.path.is_file():
            raise InputError(f"teacher.path={self.path}: no such file")

    def size(self) -> int:
        """Of the embeddings; InputError as by `targets`."""
        return self._read()[1].shape[1]

    def _read(self) -> tuple[list[str], np.ndarray]:
        self._check()
        with open_archive(self.path) as archive:
            ids = texts(read_array(archive, self.path, "track_ids"))
            embeddings = read_array(archive, self.path, "features")
        numbers = embeddings.dtype.kind in "biuf"
        if embeddings.ndim != 2 or len(ids) != len(embeddings) or not numbers:
            raise InputError(
                f"teacher.path={self.path}: features {embeddings.shape} of {len(ids)} tracks; "
                "numbers (tracks, size) are needed"
            )
        if len(set(ids)) < len(ids):
            raise InputError(f"teacher.path={self.path}: a track id occurs more than once")
        if not np.isfinite(embeddings).all():
            raise InputError(f"teacher.path={self.path}: values that are not finite numbers")
        return ids, embeddings.astype(np.float64)
