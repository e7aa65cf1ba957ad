"""`genreclf predict`: predict the genres of audio files, as a table, JSON or CSV."""

import argparse
import contextlib
import csv
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from genreclf.errors import InputError

if TYPE_CHECKING:  # slow to import, and not needed for --help or wrong usage
    from genreclf.evaluation.inference import Prediction


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status is 0 if all files were predicted, 1 if some were not."""
    options = _make_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # print file names that are not UTF-8 unchanged
            stream.reconfigure(errors="surrogateescape")
    try:
        return _predict(options)
    except InputError as error:
        text = re.sub(r"trust=\[([^\]]+)\]", lambda named: _name_flags(named[1]), str(error))
        print(f"genreclf: {text}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # as in `genreclf predict ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("genreclf: interrupted", file=sys.stderr)
        return 130


def _predict(options: argparse.Namespace) -> int:
    from genreclf.audio.search import SHOWN, Skipped, find_audio_files
    from genreclf.files import locate_path

    skipped = Skipped()
    files = [
        file
        for path in (
            typed if os.path.lexists(typed) else str(locate_path(typed)) for typed in options.paths
        )
        for file in sorted(map(str, find_audio_files(path, skipped))) or [path]
    ]
    for line in skipped.describe():
        print(f"genreclf: {line}", file=sys.stderr)
    _find_modules_here(options.trust)
    if len(files) > 1:
        from genreclf.audio.workers import start_forkserver

        start_forkserver()  # it gets ready while this process imports PyTorch
    import genreclf

    model = genreclf.load(options.checkpoint, options.device, options.trust)
    failed = 0
    write = WRITERS[options.format](files, options.top)
    with _show_progress(len(files)) as advance:
        for prediction in model.predict(files):
            if Path(prediction.path).is_dir():  # it contains no audio file
                reason = f"no audio file in this folder ({SHOWN})"
                prediction = replace(prediction, error=reason)
            write(prediction)
            advance()
            failed += bool(prediction.error)
    sys.stdout.flush()
    return 1 if failed else 0


def _find_modules_here(trust: Sequence[str]) -> None:
    """Let Python find trusted modules in the current folder that are not installed."""
    tops = {name.partition(".")[0] for name in trust}
    if any(_is_here(top) and find_spec(top) is None for top in tops if top.isidentifier()):
        sys.path.append(str(Path.cwd()))
        known = os.environ.get("PYTHONPATH")  # of the processes that decode
        os.environ["PYTHONPATH"] = os.pathsep.join([*([known] if known else []), str(Path.cwd())])


def _is_here(module: str) -> bool:
    return Path(f"{module}.py").is_file() or any(Path(module).glob("**/*.py"))


def _name_flags(trusted: str) -> str:
    """Name the options that stand for trust=[...] of the other commands."""
    return " ".join(f"--trust {name}" for name in trusted.split(","))


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "genreclf predict",
        description="Predict the genres of audio files of any length.",
        epilog="Exit status: 0 if all files were predicted, 1 if some were not, 2 for wrong usage.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="FILE_OR_FOLDER",
        help="audio file, or folder to search for audio files, subfolders included",
    )
    parser.add_argument(
        "--checkpoint",
        default="pretrained",
        metavar="MODEL",
        help="best.ckpt or folder of a run, or folder written by genreclf export "
        "(default: pretrained, the model that comes with genreclf)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="auto (a GPU if there is one; the default), cpu, cuda, cuda:1, ...",
    )
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="a package whose code the model may run if it is not part of genreclf: an installed "
        "one, or a module of the current folder",
    )
    parser.add_argument(
        "--top",
        type=_parse_positive,
        metavar="N",
        help="how many genres to show for each file (default: 3 in a table, all in json and csv)",
    )
    parser.add_argument(
        "--format", choices=list(WRITERS), default="table", help="output format (default: table)"
    )
    return parser


def _parse_positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number of at least 1 is needed")
    return int(text)


def _write_table(files: Sequence[str], top: int | None) -> Callable[["Prediction"], None]:
    """Write one line per file, and a second if its genre changes; errors go to stderr."""
    width = max(map(len, files))

    def write(prediction: "Prediction") -> None:
        if prediction.error:
            print(f"genreclf: {prediction.path}: {prediction.error}", file=sys.stderr)
            return
        column = max(map(len, prediction.scores))
        best = itertools.islice(prediction.scores.items(), top or 3)
        cells = (f" {name:<{column}} {100 * score:3.0f} %" for name, score in best)
        print(f"{prediction.path:<{width}}", *cells)
        stretches = itertools.groupby(prediction.timeline, key=lambda window: window.genre)
        changes = [(next(group).start, genre) for genre, group in stretches]
        if len(changes) > 1:
            clock = (f"{int(at) // 60}:{int(at) % 60:02} {genre}" for at, genre in changes)
            print(f"{'':<{width}}  ({', '.join(clock)})")

    return write


def _write_json(files: Sequence[str], top: int | None) -> Callable[["Prediction"], None]:
    """Write one JSON object per line."""

    def write(prediction: "Prediction") -> None:
        path = prediction.path
        if prediction.error:
            print(json.dumps({"path": path, "error": prediction.error}))
            return
        found = {
            "genre": prediction.genre,
            "scores": dict(itertools.islice(prediction.scores.items(), top)),
            "timeline": [window._asdict() for window in prediction.timeline],
        }
        print(json.dumps({"path": path, **found}))

    return write


def _write_csv(files: Sequence[str], top: int | None) -> Callable[["Prediction"], None]:
    """Write one row per file and genre."""
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
    """Show a progress bar on the terminal, below the lines of the output."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
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
        redirect_stdout=sys.stdout.isatty(),
    )
    with bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
