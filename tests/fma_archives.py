"""Archives with the layout, names and header of FMA Small, and a server that hands them out."""

import contextlib
import csv
import hashlib
import io
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import soundfile

from genreclf.data.datasets import synthesis

GENRES = (
    *("Electronic", "Experimental", "Folk", "Hip-Hop"),
    *("Instrumental", "International", "Pop", "Rock"),
)
COLUMNS = {
    "album": "comments date_created date_released engineer favorites id information listens "
    "producer tags title tracks type",
    "artist": "active_year_begin active_year_end associated_labels bio comments date_created "
    "favorites id latitude location longitude members name related_projects tags website "
    "wikipedia_page",
    "set": "split subset",
    "track": "bit_rate comments composer date_created date_recorded duration favorites genre_top "
    "genres genres_all information interest language_code license listens lyricist number "
    "publisher tags title",
}
HEADER = [(level, name) for level, names in COLUMNS.items() for name in names.split()]
SPLITS = ("training", "training", "training", "validation", "test")  # by artist
DUPLICATE = (2, 3)  # two training tracks of one artist
TOO_SHORT, GARBAGE, SILENT = 98565, 99134, 107535  # known to be bad
MISSING = 140  # in the table, not in the archive
BIOGRAPHY = '<p>Born in "Utrecht",\nraised in 3 cities;\r\nçafé owner</p>' + "x" * 200_000


def mp3(waveform: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, synthesis.RATE, format="MP3")
    return file.getvalue()


def row(track: int, genre: str, artist: int, split: str, subset: str = "small") -> list[str]:
    """A line of tracks.csv; the first artist has no name."""
    known = {
        ("set", "subset"): subset,
        ("set", "split"): split,
        ("track", "genre_top"): genre,
        ("track", "title"): f"Title, {track}",
        ("track", "license"): "CC BY-NC-SA 3.0",
        ("artist", "id"): str(artist),
        ("artist", "name"): f"Artist {artist}" if artist else "",
        ("artist", "bio"): BIOGRAPHY if artist == 1 else "",
        ("album", "id"): str(artist),
        ("album", "title"): f"Album of {artist}",
    }
    return [str(track), *(known.get(column, "") for column in HEADER)]


def clips() -> tuple[dict[int, bytes], list[list[str]]]:
    """Files by track id, and lines of the table: 8 genres x 5 artists x 2 clips, and the bad."""
    rng = np.random.default_rng(0)
    sounds = list(synthesis.GENRES)
    files, rows, track = {}, [], 2
    for number, genre in enumerate(GENRES):
        for place, split in enumerate(SPLITS):
            artist = 5 * number + place
            inventor = synthesis.invent_artist(sounds[number % 4], artist, rng)
            for _ in range(2):
                files[track] = mp3(synthesis.render(inventor, 2.5, rng))
                rows.append(row(track, genre, artist, split))
                track += 1 if track < 100 else 1000
    files[DUPLICATE[1]] = files[DUPLICATE[0]]
    files[TOO_SHORT] = mp3(0.1 * rng.standard_normal(synthesis.RATE))
    files[GARBAGE] = rng.bytes(20_000)
    files[SILENT] = mp3(np.zeros(3 * synthesis.RATE))
    rows += [row(bad, "Rock", 35, "training") for bad in (TOO_SHORT, GARBAGE, SILENT, MISSING)]
    rows += [row(20_000, "Jazz", 90, "training", "medium"), row(20_001, "", 91, "test", "large")]
    return files, sorted(rows, key=lambda line: int(line[0]))


def table(rows: list[list[str]]) -> str:
    """tracks.csv: two levels of names, the name of the index, the rows."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *(level for level, _ in HEADER)])
    writer.writerow(["", *(name for _, name in HEADER)])
    writer.writerow(["track_id", *("" for _ in HEADER)])
    writer.writerows(rows)
    return text.getvalue()


def zipped(members: dict[str, bytes | str], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def archives() -> dict[str, bytes]:
    """fma_metadata.zip and fma_small.zip, as bytes."""
    files, rows = clips()
    metadata = {"fma_metadata/README.txt": "read me", "fma_metadata/tracks.csv": table(rows)}
    paths = {f"{track:06d}"[:3] + f"/{track:06d}.mp3": audio for track, audio in files.items()}
    sums = "".join(f"{hashlib.sha1(audio).hexdigest()}  {path}\n" for path, audio in paths.items())
    audio = {"README.txt": "read me", "checksums": sums, **paths}
    small = {f"fma_small/{name}": content for name, content in audio.items()}
    members = {"fma_metadata.zip": metadata, "fma_small.zip": small}
    return {name: zipped(content, zipfile.ZIP_BZIP2) for name, content in members.items()}


@dataclass
class Server:
    """Files on loopback; `cuts` are bytes after which the next transfers break off."""

    files: dict[str, bytes]
    url: str = ""
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    got: list[tuple[str, int]] = field(default_factory=list)  # name and first byte of each GET

    def archive(self, name: str, sha1: str | None = None) -> str:
        """An entry of data.archives, as an override writes it."""
        digest = sha1 or hashlib.sha1(self.files[name]).hexdigest()
        return f"{{url:'{self.url}/{name}',sha1:{digest}}}"


@contextlib.contextmanager
def serve(files: dict[str, bytes]) -> Iterator[Server]:
    server = Server(files)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            name = Path(self.path).name
            if name not in server.files:
                self.send_error(404)
                return
            content, first = server.files[name], 0
            asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if asked and server.ranges:
                first = int(asked[1])
                if first >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            if body:
                server.got.append((name, first))
                end = first + server.cuts.pop(0) if server.cuts else len(content)
                self.wfile.write(content[first:end])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
