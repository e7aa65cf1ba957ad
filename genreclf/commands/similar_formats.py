"""The formats in which `genreclf similar` writes its answers: table, JSON and CSV.

As those of `genreclf predict`: JSON and CSV are UTF-8 whatever the terminal, and bytes of a file
name that are not are written as escapes.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from rich.cells import cell_len

from genreclf.commands.predict_formats import WIDEST, pad, report_remark
from genreclf.files import make_csv_writer
from genreclf.paths import format_path

Write = Callable[[str, "list[ShownTrack] | str"], None]  # a file, and its neighbours or an error


@dataclass(frozen=True)
class ShownTrack:
    """A track of the library; texts that are not known are empty.

    Args:
        path: of its file; empty if it came without audio.
        similarity: from -1 to 1.
        same_recording: whether it is the same recording; None if its file cannot be read.
        title, artist, album, genre, track_id: what the library says of it.
    """

    path: str
    similarity: float
    same_recording: bool | None
    title: str
    artist: str
    album: str
    genre: str
    track_id: str


def write_table(files: Sequence[str]) -> Write:
    """Write a line per track below each file; errors go to standard error."""

    def write(path: str, found: list[ShownTrack] | str) -> None:
        if isinstance(found, str):
            report_remark(path, found)
            return
        if len(files) > 1:
            print(format_path(path))
        places = [format_path(each.path or each.track_id) for each in found]
        width = min(WIDEST, max(map(cell_len, places)))
        for each, place in zip(found, places, strict=True):
            named = " - ".join(filter(None, (each.artist, each.title)))
            mark = "  the same recording" * bool(each.same_recording)
            described = f"  {format_path(named)}" * bool(named)
            print(f"{each.similarity:6.3f}  {pad(place, width)}{described}{mark}".rstrip())
        if unread := sum(each.same_recording is None for each in found):
            whole = "none" if unread == len(found) else f"{unread}"
            report_remark(path, f"{whole} of these files can be read to compare their recordings")

    return write


def write_json(files: Sequence[str]) -> Write:
    """Write one JSON object per file, on a line."""

    def write(path: str, found: list[ShownTrack] | str) -> None:
        if isinstance(found, str):
            print(json.dumps({"path": path, "error": found}))
        else:
            print(json.dumps({"path": path, "similar": [_round(each) for each in found]}))

    return write


def write_csv(files: Sequence[str]) -> Write:
    """Write one row per file and track."""
    names = [field.name for field in fields(ShownTrack)]
    writer = make_csv_writer(sys.stdout)
    writer.writerow(["file", "rank", *names, "error"])

    def write(path: str, found: list[ShownTrack] | str) -> None:
        if isinstance(found, str):
            writer.writerow([path, *[""] * (1 + len(names)), found])
            return
        for rank, each in enumerate(found, 1):
            values = _round(each)
            known = each.same_recording is not None
            values["same_recording"] = str(each.same_recording).lower() if known else ""
            writer.writerow([path, rank, *values.values(), ""])

    return write


def _round(found: ShownTrack) -> dict[str, Any]:
    return {**asdict(found), "similarity": round(found.similarity, 4)}


WRITERS: dict[str, Callable[[Sequence[str]], Write]] = {
    "table": write_table,
    "json": write_json,
    "csv": write_csv,
}
