"""The GTZAN genre collection (Tzanetakis & Cook, 2002): 1,000 clips of 30 s, ten genres.

Layout below the root; the folder of genre folders may also be the root itself:

    genres/blues/blues.00000.au              as published
    genres_original/blues/blues.00000.wav    as commonly converted

The clips have no artists, several are by one artist, some are repeated, and some labels are wrong
(Sturm, 2013). The fault-filtered lists (Kereliuk et al., 2015) leave these out and keep artists
apart: train_filtered.txt, valid_filtered.txt and test_filtered.txt, with lines such as
blues/blues.00029.wav.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from genreclf.data.datasets.track import Track, check_genre_list, choose_genres, rename_tracks
from genreclf.data.spelling import check_renaming
from genreclf.errors import InputError
from genreclf.files import read_text
from genreclf.paths import explain_no_folder, format_path, locate_path

log = logging.getLogger(__name__)
FOLDERS = ("genres", "genres_original")
CLIP = re.compile(r"(?P<id>[a-z]+\.\d{5})\.(wav|au)", re.IGNORECASE)
LISTS = {"train": "train_filtered.txt", "val": "valid_filtered.txt", "test": "test_filtered.txt"}
SIZE = 1000  # clips


class GTZAN:
    """The clips of GTZAN; an id is a name such as blues.00000.

    Args:
        root: the folder that contains genres/ or genres_original/, or one of these.
        duration: how many seconds of each clip features are computed from.
        genres: the genres to use; None means all.
        lists: the folder of the fault-filtered lists, for `split=official`; None: no official
            parts. Clips that no list names have no part. A list may name a clip that is known to
            be bad and has been removed, as they do.
        known_bad: ids of clips that are expected to be rejected, with the reasons.
        rename: new names of genres, such as {"hiphop": "Hip-Hop"}.
    """

    name = "gtzan"

    def __init__(
        self,
        root: str | Path,
        duration: float = 30,
        genres: Sequence[str] | None = None,
        lists: str | Path | None = None,
        known_bad: Mapping[str, str] | None = None,
        rename: Mapping[str, str] | str | None = None,
    ) -> None:
        self.root, self.duration = locate_path(root), duration
        self.chosen = check_genre_list(genres)
        self.rename = check_renaming(rename)
        self.lists = locate_path(lists) if lists is not None else None
        self.known_bad = dict(known_bad or {})

    def genres(self) -> list[str]:
        """List the genres of the clips, sorted."""
        return sorted({track.genre for track in self._tracks})

    def tracks(self) -> list[Track]:
        """List the clips, sorted.

        Raises:
            InputError: there are no clips, a clip is there twice or in the folder of another genre,
                a list is missing or names an unknown clip, or a chosen genre does not occur.
        """
        return list(self._tracks)

    @cached_property
    def _tracks(self) -> list[Track]:
        clips = self._find_clips()
        parts = self._read_lists(clips)
        if len(clips) != SIZE:
            log.warning("GTZAN has %d clips, %s has %d", SIZE, self.root, len(clips))
        tracks = [
            Track(
                clip,
                path.parent.name,
                split=parts.get(clip, ""),
                path=str(path),
            )
            for clip, path in clips.items()
        ]
        return choose_genres(rename_tracks(tracks, self.rename), self.chosen, str(self.root))

    def _find_clips(self) -> dict[str, Path]:
        if fault := explain_no_folder(self.root):
            raise InputError(f"data.root={format_path(self.root)}: {fault}")
        found = [self.root / name for name in FOLDERS if (self.root / name).is_dir()]
        if len(found) > 1:
            raise InputError(
                f"data.root={self.root}: both {' and '.join(FOLDERS)}; choose one: data.root="
                f"{found[0]}"
            )
        clips: dict[str, Path] = {}
        for path in sorted((found or [self.root])[0].resolve().glob("*/*")):
            name = CLIP.fullmatch(path.name)
            if name is None:
                continue
            clip = name["id"].lower()
            if path.parent.name.lower() != clip.partition(".")[0]:
                raise InputError(f"{path}: a clip of {clip.partition('.')[0]} in another folder")
            if clip in clips:
                raise InputError(f"{path}: the same clip as {clips[clip].name}; remove one of them")
            clips[clip] = path
        if not clips:
            raise InputError(
                f"data.root={self.root}: no clips of GTZAN (genres/blues/blues.00000.wav, ...)"
            )
        return clips

    def _read_lists(self, clips: Mapping[str, Path]) -> dict[str, str]:
        """Read the part of each clip that a list names."""
        if self.lists is None:
            return {}
        parts: dict[str, str] = {}
        for part, name in LISTS.items():
            path = self.lists / name
            try:
                lines = read_text(path).splitlines()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or error
                raise InputError(f"data.lists={self.lists}: {name}: {reason}") from None
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                clip = CLIP.fullmatch(PurePosixPath(line.strip()).name)
                track = clip["id"].lower() if clip else ""
                if track not in clips and track not in self.known_bad:
                    raise InputError(f"{path}, line {number}: {line.strip()} is not in {self.root}")
                if parts.setdefault(track, part) != part:
                    raise InputError(f"{path}, line {number}: {track} is in {parts[track]}, too")
        return parts
