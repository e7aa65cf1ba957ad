"""Datasets: lists of tracks, with their genre, artist, album and official part.

A dataset satisfies `genreclf.protocols.Dataset`. An audio dataset gives each track a path; `Npz`
provides features instead. A new dataset is a new file here and a new option in `conf/data/`.
"""

from genreclf.data.datasets.files import Files
from genreclf.data.datasets.fma import FMA
from genreclf.data.datasets.folder import Folder
from genreclf.data.datasets.gtzan import GTZAN
from genreclf.data.datasets.npz import Npz
from genreclf.data.datasets.synthetic import Synthetic
from genreclf.data.datasets.table import Table
from genreclf.data.datasets.track import Track

__all__ = ["FMA", "GTZAN", "Files", "Folder", "Npz", "Synthetic", "Table", "Track"]
