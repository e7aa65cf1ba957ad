"""The Free Music Archive data set (Defferrard et al., 2017) and its subsets.

Layout below the root, as the archives unpack:

    fma_metadata/tracks.csv      three header lines (level 0, level 1, index name), 52 columns
    fma_small/000/000002.mp3     track 2; six digits, in a folder named by the first three
    fma_medium/...               likewise; each larger subset holds the tracks of the smaller ones
"""

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path

from genreclf.data.datasets.track import Track, check_genre_list, choose_genres, rename_tracks
from genreclf.data.spelling import check_renaming
from genreclf.errors import InputError
from genreclf.paths import locate_path, refuse_special

log = logging.getLogger(__name__)
MARKS = {  # of the tracks of each subset, in the column (set, subset)
    "small": ("small",),
    "medium": ("small", "medium"),
    "large": ("small", "medium", "large"),
    "full": ("small", "medium", "large"),
}
SIZES = {  # tracks with a top genre, according to the authors
    "small": 8_000,
    "medium": 25_000,
    "large": 49_598,
    "full": 49_598,
}
COLUMNS = {
    "subset": ("set", "subset"),
    "split": ("set", "split"),
    "genre": ("track", "genre_top"),
    "license": ("track", "license"),
    "artist": ("artist", "name"),
    "artist_id": ("artist", "id"),
    "album": ("album", "title"),
}
LONGEST_FIELD = 10**8  # characters; biographies exceed the 131,072 that csv allows by default


class FMA:
    """Tracks with one top genre each, and with artist, album, licence and official split.

    Every track of the subset that has a top genre is listed, even if its file is missing or known
    to be bad: decoding decides what is rejected. In the subsets large and full, more than half of
    the tracks have no top genre; they are skipped, and the log counts them.

    Args:
        root: the folder that `genreclf download` unpacked into.
        subset: small (8,000 clips of 8 genres), medium (25,000 of 16), large (106,574, of which
            about 49,600 have one of these 16 genres) or full (the same tracks at full length).
        duration: how many seconds of each file features are computed from, from its start.
        genres: the top genres to use; None means all.
        known_bad: track ids that are expected to be rejected, with the reasons.
        archives: what `genreclf download` fetches: mappings with the keys `url` and `sha1`.
        rename: new names of genres, such as {"Hip-Hop": "Rap"}.

    Raises:
        InputError: there is no such subset.
    """

    def __init__(
        self,
        root: str | Path,
        subset: str = "small",
        duration: float = 30,
        genres: Sequence[str] | None = None,
        known_bad: Mapping[str, str] | None = None,
        archives: Sequence[Mapping[str, str]] = (),
        rename: Mapping[str, str] | str | None = None,
    ) -> None:
        if subset not in MARKS:
            raise InputError(f"data.subset={subset}: choose one of {', '.join(MARKS)}")
        self.name, self.subset = f"fma_{subset}", subset
        self.root, self.duration = locate_path(root), duration
        self.chosen = check_genre_list(genres)
        self.known_bad = {str(track_id): str(why) for track_id, why in (known_bad or {}).items()}
        self.archives = archives
        self.rename = check_renaming(rename)

    @property
    def expected(self) -> int:
        """How many tracks the subset has, known before anything is downloaded."""
        return SIZES[self.subset]

    @property
    def audio(self) -> Path:
        """The folder of the clips."""
        return self.root / self.name

    @property
    def metadata(self) -> Path:
        """The table of tracks."""
        return self.root / "fma_metadata" / "tracks.csv"

    def genres(self) -> list[str]:
        """List the top genres of the tracks, sorted."""
        return sorted({track.genre for track in self._tracks})

    def tracks(self) -> list[Track]:
        """List the tracks of the subset, in the order of the table; an id is FMA's number.

        Raises:
            InputError: the table or the clips are missing, the table is damaged or lists a track
                twice, a track of the subset small or medium has no genre, or a chosen genre does
                not occur.
        """
        return list(self._tracks)

    def _check_layout(self) -> None:
        for path, there in (
            (self.metadata, self.metadata.is_file()),
            (self.audio / "*/*.mp3", any(self.audio.glob("*/*.mp3"))),
        ):
            if not there:
                raise InputError(
                    f"{path} is missing; download it: genreclf download data={self.name} "
                    f"data.root={self.root}"
                )

    @cached_property
    def _tracks(self) -> list[Track]:
        self._check_layout()
        folder = self.audio.resolve()
        rows = self._read_rows()
        named = [row for row in rows if row["genre"]]
        if not named:
            raise self._make_damage_error(f"no tracks of subset {self.subset} with a genre_top")
        if len(named) < len(rows):
            self._skip_nameless(len(rows) - len(named), rows)
        tracks = [self._make_track(row, folder) for row in named]
        return choose_genres(rename_tracks(tracks, self.rename), self.chosen, self.name)

    def _skip_nameless(self, count: int, rows: Sequence[Mapping[str, str]]) -> None:
        """Count the tracks without a top genre; in the smaller subsets, each track has one."""
        if self.subset in ("small", "medium"):
            first = next(row["id"] for row in rows if not row["genre"])
            raise self._make_damage_error(f"{count} tracks have no genre_top, such as {first}")
        log.info("%s: %d of %d tracks skipped: no top genre", self.name, count, len(rows))

    def _make_track(self, row: Mapping[str, str], folder: Path) -> Track:
        file = f"{int(row['id']):06d}.mp3"
        nameless = f"artist {row['artist_id']}" if row["artist_id"] else ""
        return Track(
            id=row["id"],
            genre=row["genre"],
            artist=row["artist"].strip() or nameless,
            artist_id=row["artist_id"],
            album=row["album"].strip(),
            split=row["split"],
            license=row["license"].strip(),
            path=str(folder / file[:3] / file),
        )

    def _read_rows(self) -> Sequence[Mapping[str, str]]:
        """Read the id and the `COLUMNS` of each row of the subset, once in each process."""
        stat = self.metadata.stat()
        try:
            return _read_table(self.metadata, self.subset, stat.st_mtime_ns, stat.st_size)
        except (ValueError, csv.Error) as error:
            raise self._make_damage_error(str(error)) from None

    def _make_damage_error(self, what: str) -> InputError:
        return InputError(
            f"{self.metadata}: {what}; delete the file and download it again: genreclf download "
            f"data={self.name} data.root={self.root}"
        )


@lru_cache(maxsize=2)
def _read_table(path: Path, subset: str, *_: int) -> list[dict[str, str]]:
    """Read the rows of a subset; ValueError or csv.Error if the table is damaged.

    Further arguments (modification time and size) make a changed table be read again.
    """
    csv.field_size_limit(LONGEST_FIELD)
    lines: dict[str, int] = {}
    rows = []
    refuse_special(path)
    with path.open(encoding="utf-8", newline="") as file:
        for line, row in _parse_rows(csv.reader(file)):
            if (first := lines.setdefault(row["id"], line)) != line:
                raise ValueError(f"lines {first} and {line} are both track {row['id']}")
            if row["subset"] in MARKS[subset]:
                rows.append(row)
    return rows


def _parse_rows(reader: Iterator[list[str]]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the first line and the values of each row; a biography may have several lines."""
    places, line = _find_columns(list(islice(reader, 3))), 4
    for values in reader:
        if len(values) <= max(places.values()) or not values[0].isdecimal():
            raise ValueError(f"line {line} is no track")
        row = {name: values[place].strip() for name, place in places.items()}
        yield line, {"id": values[0], **row}
        line = reader.line_num + 1  # pyright: ignore[reportAttributeAccessIssue]


def _find_columns(header: list[list[str]]) -> dict[str, int]:
    """Find the positions of the columns in the first two header lines."""
    if len(header) < 3 or header[2][:1] != ["track_id"]:
        raise ValueError("its three header lines (the last: track_id) are not there")
    pairs = list(zip(header[0], header[1], strict=False))
    if missing := [pair for pair in COLUMNS.values() if pair not in pairs]:
        raise ValueError(f"no column ({', '.join(missing[0])})")
    return {name: pairs.index(pair) for name, pair in COLUMNS.items()}
