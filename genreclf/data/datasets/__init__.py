"""Which tracks exist: file or row, genre, artist, album, official split.

A dataset has a `name`, `identity()` (plain values that change when its content does, cheap to get),
`genres()` and `tracks()`. Audio datasets give each track a path; `Npz` brings its features along
instead, in the same order, by `rows()`. A new dataset is a new file here and a new option in
`conf/data/`.
"""

from genreclf.data.datasets.fma import FMA
from genreclf.data.datasets.folder import Folder
from genreclf.data.datasets.npz import Npz
from genreclf.data.datasets.synthetic import Synthetic
from genreclf.data.datasets.track import Track

Dataset = FMA | Folder | Npz
__all__ = ["FMA", "Dataset", "Folder", "Npz", "Synthetic", "Track"]
