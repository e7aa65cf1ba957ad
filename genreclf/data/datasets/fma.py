"""The Free Music Archive data set (Defferrard et al., 2017): its subsets small and medium.

Layout below the root, as the archives unpack:

    fma_metadata/tracks.csv      three header lines (level 0, level 1, index name), 52 columns
    fma_small/000/000002.mp3     track 2; six digits, in a folder named by the first three
    fma_medium/...               likewise; holds the tracks of the subset small as well
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

from genreclf.data.datasets.track import PARTS, Track
from genreclf.errors import InputError

SUBSETS = {"small": {"small"}, "medium": {"small", "medium"}}  # with the marks of their tracks
SIZES = {"small": 8_000, "medium": 25_000}  # tracks, according to the authors
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
    """Clips of 30 s with one genre each, and with artist, album, licence and official split.

    Every track of the subset is listed, even if its file is missing or known to be bad: decoding
    decides what is rejected.

    Args:
        root: the folder that `genreclf download` unpacked into.
        subset: small (8,000 clips of 8 genres) or medium (25,000 of 16).
        duration: how many seconds of each clip features are computed from.
        genres: the top genres to use; None means all.
        known_bad: track ids that are expected to be rejected, with the reasons.
        archives: what `genreclf download` fetches: mappings with the keys `url` and `sha1`.

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
    ) -> None:
        if subset not in SUBSETS:
            raise InputError(f"data.subset={subset}: choose one of {', '.join(SUBSETS)}")
        self.name, self.subset = f"fma_{subset}", subset
        self.root, self.duration = Path(root).expanduser(), duration
        if isinstance(genres, str):
            raise InputError(f"data.genres={genres}: a list is needed: [{genres}]")
        self.chosen = sorted({str(genre) for genre in genres}) if genres is not None else None
        self.known_bad = {str(track_id): str(why) for track_id, why in (known_bad or {}).items()}
        self.archives = archives

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
            InputError: the table or the clips are missing, the table is damaged, a track has no
                genre, or a chosen genre does not occur.
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
        tracks = [self._make_track(row, folder) for row in self._read_rows()]
        self._check_genres(tracks)
        return [track for track in tracks if self.chosen is None or track.genre in self.chosen]

    def _make_track(self, row: dict[str, str], folder: Path) -> Track:
        file = f"{int(row['id']):06d}.mp3"
        nameless = f"artist {row['artist_id']}" if row["artist_id"] else ""
        return Track(
            id=row["id"],
            genre=row["genre"],
            artist=row["artist"].strip() or nameless,
            album=row["album"].strip(),
            split=PARTS.get(row["split"], row["split"]),
            license=row["license"].strip(),
            path=str(folder / file[:3] / file),
        )

    def _check_genres(self, tracks: list[Track]) -> None:
        if not tracks:
            raise self._make_damage_error(f"no tracks of subset {self.subset}")
        if nameless := [track.id for track in tracks if not track.genre]:
            # In the original table each track has a genre: skipping those would hide a wrong table.
            raise self._make_damage_error(
                f"{len(nameless)} tracks have no genre_top, such as {nameless[0]}"
            )
        known = sorted({track.genre for track in tracks})
        if unknown := [genre for genre in self.chosen or () if genre not in known]:
            raise InputError(
                f"data.genres: {self.name} has no {', '.join(unknown)}; it has {', '.join(known)}"
            )
        if self.chosen == []:
            raise InputError(f"data.genres is empty; name some of {', '.join(known)}, or null")

    def _read_rows(self) -> Iterator[dict[str, str]]:
        """Read the id and the `COLUMNS` of each row of the subset."""
        csv.field_size_limit(LONGEST_FIELD)
        try:
            with self.metadata.open(encoding="utf-8", newline="") as file:
                reader = csv.reader(file)
                places = self._find_columns(list(islice(reader, 3)))
                for values in reader:
                    if len(values) <= max(places.values()) or not values[0].isdecimal():
                        raise self._make_damage_error(f"line {reader.line_num} is no track")
                    if values[places["subset"]] in SUBSETS[self.subset]:
                        row = {name: values[place] for name, place in places.items()}
                        yield {"id": values[0], **row}
        except (csv.Error, UnicodeDecodeError) as error:
            raise self._make_damage_error(str(error)) from None

    def _find_columns(self, header: list[list[str]]) -> dict[str, int]:
        """Find the positions of the columns in the first two header lines."""
        if len(header) < 3 or header[2][:1] != ["track_id"]:
            raise self._make_damage_error(
                "its three header lines (the last: track_id) are not there"
            )
        pairs = list(zip(header[0], header[1], strict=False))
        if missing := [pair for pair in COLUMNS.values() if pair not in pairs]:
            raise self._make_damage_error(f"no column ({', '.join(missing[0])})")
        return {name: pairs.index(pair) for name, pair in COLUMNS.items()}

    def _make_damage_error(self, what: str) -> InputError:
        return InputError(
            f"{self.metadata}: {what}; delete the file and download it again: genreclf download "
            f"data={self.name} data.root={self.root}"
        )
