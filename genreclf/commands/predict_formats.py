r"""The formats in which `genreclf predict` writes predictions: table, JSON and CSV.

JSON and CSV are UTF-8 whatever the terminal; a byte of a file name that is not is written as an
escape, such as `\udce9`. The table shows names as `format_path` does, and also escapes what the
terminal cannot show.
"""

from __future__ import annotations

import io
import itertools
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

from genreclf.files import make_csv_writer
from genreclf.paths import format_path

if TYPE_CHECKING:  # slow to import, and not needed for --help or wrong usage
    from genreclf.evaluation.prediction import Prediction

WIDEST = 60  # characters of a path in a table of aligned columns
LIKELY = 0.1  # probability of a tag in a table


def set_encoding(kind: str) -> None:
    """Choose how the output is encoded: as the terminal, or as UTF-8 for other programs."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = sys.stdout.encoding if kind == "table" else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")


def report_remark(path: str, text: str) -> None:
    """Print a line about a file on standard error."""
    place = format_path(path) or "''"
    print(f"genreclf: {place}: {format_path(text)}", file=sys.stderr)


def pad(text: str, width: int) -> str:
    """Pad text with spaces to a width on the screen, where a letter takes 0, 1 or 2 columns."""
    return text + " " * (width - cell_len(text))


def write_table(files: Sequence[str], top: int | None) -> Callable[[Prediction], None]:
    """Write a line per file, and more if its genre changes; errors and notes go to stderr."""
    from genreclf.evaluation.timeline import find_segments  # imports NumPy

    width = min(WIDEST, max(cell_len(format_path(file)) for file in files))
    named = False

    def write(prediction: Prediction) -> None:
        nonlocal named
        for note in prediction.notes:
            report_remark(prediction.path, note)
        if prediction.error:
            report_remark(prediction.path, prediction.error)
            return
        if not named and prediction.vocabulary:
            print(f"vocabulary: {format_path(prediction.vocabulary)}")
            named = True
        shown = {format_path(name): score for name, score in prediction.scores.items()}
        column = max(map(cell_len, shown))
        best = itertools.islice(shown.items(), top or 3)
        cells = [f" {pad(name, column)} {100 * score:3.0f} %" for name, score in best]
        if prediction.is_unknown:
            nearest = ", ".join(" ".join(cell.split()) for cell in cells)
            cells = [f" unknown (nearest: {nearest})"]
        elif tags := _choose_tags(prediction, top or 3):
            cells.append(f" + {', '.join(tags)}")
        print(pad(format_path(prediction.path), width), *cells)
        segments = find_segments(prediction.timeline, len(prediction.scores))
        if len(segments) > 1:
            changes = [f"{format_clock(at)} {format_path(genre)}," for at, genre in segments]
            changes = [f"({changes[0]}", *changes[1:-1], f"{changes[-1][:-1]})"]
            print(_wrap(changes, width + 2))

    return write


def _choose_tags(prediction: Prediction, most: int) -> list[str]:
    """Choose the likeliest tags that are no genres, among those that are likely at all."""
    likely = [tag for tag, score in prediction.tags.items() if score >= LIKELY]
    return likely[:most]


def format_clock(seconds: float) -> str:
    """Format a time as 1:02 or, from an hour on, as 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _wrap(entries: Sequence[str], indent: int) -> str:
    """Indent entries, and wrap between them at the width of the terminal."""
    columns = max(40, shutil.get_terminal_size().columns)
    if indent + sum(cell_len(entry) + 1 for entry in entries) > columns + 1:
        indent = min(indent, 4)
    lines = [" " * (indent - 1)]
    for entry in entries:
        if cell_len(f"{lines[-1]} {entry}") > columns:
            lines.append(" " * indent)
        lines[-1] += f" {entry}"
    return "\n".join(lines)


def write_json(files: Sequence[str], top: int | None) -> Callable[[Prediction], None]:
    """Write one JSON object per line."""

    def write(prediction: Prediction) -> None:
        path, notes = prediction.path, prediction.notes
        if prediction.error:
            print(json.dumps({"path": path, "error": prediction.error, "notes": notes}))
            return
        found = {
            "vocabulary": prediction.vocabulary,
            "genre": prediction.genre,
            "unknown": prediction.is_unknown,
            "novelty": prediction.novelty,
            "scores": dict(itertools.islice(prediction.scores.items(), top)),
            "tags": dict(itertools.islice(prediction.tags.items(), top)),
            "notes": notes,
            "timeline": [window._asdict() for window in prediction.timeline],
        }
        print(json.dumps({"path": path, **found}))

    return write


def write_csv(files: Sequence[str], top: int | None) -> Callable[[Prediction], None]:
    """Write one row per file and genre, then one per tag that is no genre."""
    writer = make_csv_writer(sys.stdout)
    columns = ["path", "genre", "score", "error", "notes", "novelty", "unknown"]
    writer.writerow([*columns, "kind", "vocabulary"])

    def write(prediction: Prediction) -> None:
        path, notes = prediction.path, "; ".join(prediction.notes)
        if prediction.error:
            writer.writerow([path, "", "", prediction.error, notes, "", "", "", ""])
        novelty = "" if prediction.novelty is None else f"{prediction.novelty:.6f}"
        unknown = str(prediction.is_unknown).lower() if novelty else ""
        for kind, scores in (("genre", prediction.scores), ("tag", prediction.tags)):
            for label, score in itertools.islice(scores.items(), top):
                row = [path, label, f"{score:.6f}", "", notes, novelty, unknown]
                writer.writerow([*row, kind, prediction.vocabulary])

    return write


WRITERS = {"table": write_table, "json": write_json, "csv": write_csv}
