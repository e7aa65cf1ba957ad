"""`genreclf predict`: the genres of audio files, as a table, JSON or CSV."""

import argparse
import contextlib
import csv
import io
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from genreclf.errors import InputError

if TYPE_CHECKING:  # what is slow to import, --help and wrong usage do without
    from genreclf.evaluation.inference import Prediction


def main(arguments: Sequence[str]) -> int:
    """The command; the exit status is 0 where all files were predicted, 1 where some were not."""
    options = _make_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that are no UTF-8 leave as they came
            stream.reconfigure(errors="surrogateescape")
    try:
        return _predict(options.paths, options.checkpoint, options.format, options.top)
    except InputError as error:
        print(f"genreclf: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # of `genreclf predict ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("genreclf: interrupted", file=sys.stderr)
        return 130


def _predict(paths: Sequence[str], checkpoint: str, form: str, top: int | None) -> int:
    from genreclf.audio.decode import find_audio_files
    from genreclf.audio.workers import start_forkserver

    start_forkserver()  # they import librosa while this process imports PyTorch
    from genreclf.evaluation.inference import predict_files
    from genreclf.models.checkpoint import load_checkpoint

    trained = load_checkpoint(checkpoint)
    files = [file for path in paths for file in sorted(map(str, find_audio_files(path))) or [path]]
    failed = 0
    write = WRITERS[form](files, top)
    with _show_progress(len(files)) as advance:
        for prediction in predict_files(files, trained):
            write(prediction)
            advance()
            failed += bool(prediction.error)
    sys.stdout.flush()
    return 1 if failed else 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "genreclf predict",
        epilog="Exit status: 0 all predicted, 1 some failed, 2 wrong usage.",
    )
    parser.add_argument("paths", nargs="+", metavar="FILE_OR_FOLDER", help="searched recursively")
    parser.add_argument(
        "--checkpoint",
        default="pretrained",
        help="a best.ckpt that genreclf train wrote, or a folder of genreclf export; pretrained, "
        "the default: the net that comes with genreclf",
    )
    parser.add_argument(
        "--top",
        type=_parse_positive,
        metavar="N",
        help="genres a file; table: 3, json and csv: all",
    )
    parser.add_argument("--format", choices=list(WRITERS), default="table", help="of the output")
    return parser


def _parse_positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number of at least 1 is needed")
    return int(text)


def _write_table(files: Sequence[str], top: int | None) -> Callable[["Prediction"], None]:
    """A line a file, and another where its genre changes; errors on stderr."""
    width = max(map(len, files))

    def write(prediction: "Prediction") -> None:
        if prediction.error:
            print(f"genreclf: {prediction.path}: {prediction.error}", file=sys.stderr)
            return
        column = max(map(len, prediction.scores))
        best = itertools.islice(prediction.scores.items(), top or 3)
        cells = (f" {name:<{column}} {100 * score:3.0f} %" for name, score in best)
        print(f"{prediction.path:<{width}}", *cells)
        runs = itertools.groupby(prediction.timeline, key=lambda window: window[2])
        changes = [(next(group)[0], genre) for genre, group in runs]
        if len(changes) > 1:
            clock = (f"{int(at) // 60}:{int(at) % 60:02} {genre}" for at, genre in changes)
            print(f"{'':<{width}}  ({', '.join(clock)})")

    return write


def _write_json(files: Sequence[str], top: int | None) -> Callable[["Prediction"], None]:
    """A JSON object a line."""

    def write(prediction: "Prediction") -> None:
        path, scores = prediction.path, prediction.scores
        if prediction.error:
            print(json.dumps({"path": path, "error": prediction.error}))
            return
        keys = ("start", "end", "genre", "score")
        found = {
            "genre": next(iter(scores)),
            "scores": dict(itertools.islice(scores.items(), top)),
            "timeline": [dict(zip(keys, window, strict=True)) for window in prediction.timeline],
        }
        print(json.dumps({"path": path, **found}))

    return write


def _write_csv(files: Sequence[str], top: int | None) -> Callable[["Prediction"], None]:
    """A row for each genre of each file."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "genre", "score", "error"])

    def write(prediction: "Prediction") -> None:
        if prediction.error:
            writer.writerow([prediction.path, "", "", prediction.error])
        for genre, score in itertools.islice(prediction.scores.items(), top):
            writer.writerow([prediction.path, genre, f"{score:.6f}", ""])

    return write


WRITERS = {"table": _write_table, "json": _write_json, "csv": _write_csv}


@contextlib.contextmanager
def _show_progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on the terminal, which lines of the output do not disturb."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("predicting"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=total < 2 or not sys.stderr.isatty(),
        redirect_stdout=sys.stdout.isatty(),
    )
    with bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
