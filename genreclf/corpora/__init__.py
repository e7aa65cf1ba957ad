"""Which tracks exist: file or row, genre, artist, album, official split.

A corpus has a `name`, `identity()` (plain values that change when its content does, cheap to get),
`genres()` and `tracks()`. Audio corpora give each track a path; `Npz` brings its features along
instead, in the same order, by `rows()`. A new corpus is a new file here and a new option in
`conf/data/`.
"""

from genreclf.corpora.fma import FMA
from genreclf.corpora.folder import Folder
from genreclf.corpora.npz import Npz
from genreclf.corpora.synthetic import Synthetic
from genreclf.corpora.track import Track

Corpus = FMA | Folder | Npz

__all__ = ["FMA", "Corpus", "Folder", "Npz", "Synthetic", "Track"]
