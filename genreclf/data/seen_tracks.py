"""The tracks that a model has seen in training, and whether those of a store are among them.

A track is recognised by its audio, wherever both sides know it: rows that were computed from audio
differ between features and, in the last digits, between CPUs. Rows that did not come from audio are
compared by their values, in one dtype.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from genreclf.audio.content import UNREADABLE

if TYPE_CHECKING:
    from genreclf.data.store import Store  # h5py is slow to import

# Keys of `SeenTracks.digests` besides dtypes.
AUDIO, SOME_AUDIO = "audio", "some_audio"


@dataclass(frozen=True)
class SeenTracks:
    """The tracks that a model has seen; none, unless some are given.

    Args:
        digests: `row_sha1` of the stored rows, by dtype; and digests of their audio under AUDIO, or
            under SOME_AUDIO if some rows did not come from audio. A model of an early version has
            neither: it recorded no audio. Empty: nothing is known.
    """

    digests: Mapping[str, frozenset[str]] = field(default_factory=lambda: {AUDIO: frozenset()})

    @classmethod
    def read(cls, digests: Mapping[str, Iterable[str]]) -> SeenTracks:
        """Read the plain values that `list_digests` gave, as a checkpoint contains them."""
        return cls({key: frozenset(values) for key, values in digests.items()})

    def list_digests(self) -> dict[str, list[str]]:
        """List the digests as plain values, sorted."""
        return {key: sorted(self.digests[key]) for key in sorted(self.digests)}

    def add(self, store: Store, rows: Sequence[int] | np.ndarray) -> SeenTracks:
        """Return these tracks and those of some rows of a store."""
        dtype, audio = str(store.dtype), _list_audio(store, rows)
        key = AUDIO if AUDIO in self.digests and all(audio) else SOME_AUDIO
        others = {name: self.digests[name] for name in self.digests.keys() - {AUDIO, SOME_AUDIO}}
        values = {store.row_sha1[row] for row in rows}
        return SeenTracks(
            {
                **others,
                dtype: others.get(dtype, frozenset()) | values,
                key: self._get_audio() | {*filter(None, audio)},
            }
        )

    def merge(self, other: SeenTracks) -> SeenTracks:
        """Return these tracks and those of another model; nothing is known if one side knows none.

        Args:
            other: the tracks of the other model.
        """
        if not self.digests or not other.digests:
            return SeenTracks({})
        both = self.digests, other.digests
        dtypes = {name for each in both for name in each} - {AUDIO, SOME_AUDIO}
        key = AUDIO if all(AUDIO in each for each in both) else SOME_AUDIO
        return SeenTracks(
            {
                **{name: frozenset().union(*(e.get(name, ()) for e in both)) for name in dtypes},
                key: self._get_audio() | other._get_audio(),
            }
        )

    def mark(self, store: Store, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Mark the rows of a store that were certainly seen, bool (len(rows),).

        They have the same audio as a seen row, or the same values in the same dtype.
        """
        values, audio = self.digests.get(str(store.dtype), frozenset()), self._get_audio()
        pairs = zip(rows, _list_audio(store, rows), strict=True)
        seen = [digest in audio or store.row_sha1[row] in values for row, digest in pairs]
        return np.array(seen, bool)

    def count(self, store: Store, rows: Sequence[int] | np.ndarray) -> int | None:
        """Count the rows of a store that were certainly seen.

        Returns:
            The count; None if no row is known to have been seen but some may have been, because
            they cannot be compared with all that was seen.
        """
        if not self.digests:
            return None
        count, audio = int(self.mark(store, rows).sum()), _list_audio(store, rows)
        if count or (AUDIO in self.digests and all(audio)):
            return count
        provided = not self.digests.get(SOME_AUDIO, store.dtype.kind not in "iu")
        dtypes = self.digests.keys() - {AUDIO, SOME_AUDIO, str(store.dtype)}
        return 0 if provided and not any(audio) and not dtypes else None

    def _get_audio(self) -> frozenset[str]:
        return self.digests.get(AUDIO, self.digests.get(SOME_AUDIO, frozenset()))


def _list_audio(store: Store, rows: Sequence[int] | np.ndarray) -> list[str]:
    """List the digest of the audio of each row of a store; empty where it is not known."""
    contents = (store.contents[row] for row in rows)
    return ["" if content == UNREADABLE else content for content in contents]
