"""`genreclf predict`: predict the genres of audio files, as a table, JSON or CSV."""

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from genreclf.commands.plain_options import (
    add_format,
    add_trust,
    locate_typed,
    parse_positive,
    run_command,
    start_processes,
)
from genreclf.commands.predict_formats import WRITERS, set_encoding
from genreclf.commands.streams import check_output
from genreclf.errors import InputError

if TYPE_CHECKING:  # slow to import, and not needed for --help or wrong usage
    from genreclf.evaluation.inference import Model

LABELS_SHOWN = 8  # of those that --map leaves out


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status is 0 if all files were predicted, 1 if some were not."""
    options = _make_parser().parse_args(arguments)
    set_encoding(options.format)
    return run_command(_predict, options)


def _predict(options: argparse.Namespace) -> int:
    from genreclf.audio.search import SHOWN, Skipped, find_audio_files

    skipped = Skipped()
    found: dict[str, str] = {}  # by real path, so that each is answered once
    for path in map(locate_typed, dict.fromkeys(options.paths)):
        for file in sorted(map(str, find_audio_files(path, skipped))) or [path]:
            several = file and len(options.paths) > 1  # a search finds each once
            found.setdefault(os.path.realpath(file) if several else file, file)
    files = [*found.values()]
    for line in skipped.describe():
        print(f"genreclf: {line}", file=sys.stderr)
    start_processes(options.trust, len(files))
    import genreclf

    model = genreclf.load(options.checkpoint, options.device, options.trust, options.map)
    if left_out := model.vocabulary.left_out:
        named = [*left_out[:LABELS_SHOWN]]
        if more := len(left_out) - len(named):
            named.append(f"{more} more")
        print(
            f"genreclf: --map {options.map} leaves out {', '.join(named)}; such music gets the "
            "nearest of your genres",
            file=sys.stderr,
        )
    threshold = _choose_threshold(options.threshold, model)
    failed = 0
    write = WRITERS[options.format](files, options.top)
    predictions: Any = model.predict(files, options.overlap, threshold)
    with _show_progress(len(files)) as advance, contextlib.closing(predictions):
        for prediction in predictions:
            if prediction.error and os.path.isdir(prediction.path):  # noqa: PTH112
                reason = f"no audio file in this folder ({SHOWN})"
                prediction = replace(prediction, error=reason)
            write(prediction)
            check_output()  # so that nothing is lost, whatever a later file does
            advance()
            failed += bool(prediction.error)
    return 1 if failed else 0


def _choose_threshold(given: float | None, model: "Model") -> float:
    """Choose the novelty above which a file is unknown."""
    from genreclf.models.novelty import THRESHOLD

    if given is not None and given < 1 and model.trained.novelty is None:
        raise InputError(
            "--threshold: this model cannot tell what is unlike its training data; train it again "
            "with this version, on at least 20 training and 20 validation tracks"
        )
    return THRESHOLD if given is None else given


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
        default="tags",
        metavar="MODEL",
        help="tags (the default: musicnn, trained on a million songs, whose 50 tags include 31 "
        "genres), fma8 (the model that comes with genreclf: eight genres of FMA), best.ckpt or "
        "folder of a run, or folder written by genreclf export",
    )
    parser.add_argument(
        "--map",
        metavar="FILE",
        help="YAML file of genres of your own: on each line a genre and the model's labels that it "
        "stands for, such as Rock: [rock, punk]; or fma, for the genres of FMA from tags",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="auto (a GPU if there is one; the default), cpu, cuda, cuda:1, ...",
    )
    add_trust(parser, "the model may run")
    parser.add_argument(
        "--top",
        type=parse_positive,
        metavar="N",
        help="how many genres, and how many tags that are no genres, to show for each file "
        "(default: 3 in a table, of tags those of at least 10 %%; all in json and csv)",
    )
    parser.add_argument(
        "--overlap",
        type=_parse_share,
        default=0.0,
        metavar="SHARE",
        help="how much of a window the next one repeats, from 0 (the default) to below 1, such as "
        "0.5: slower, with a finer timeline",
    )
    parser.add_argument(
        "--threshold",
        type=_parse_threshold,
        metavar="SHARE",
        help="a file is unknown if it is less like the training data than this share of held-out "
        "music, from 0 to 1 (default: 0.95; 1: no file is unknown)",
    )
    add_format(parser, WRITERS)
    return parser


def _parse_share(text: str) -> float:
    share = _parse_number(text)
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text}: a number from 0 to below 1 is needed")
    return share


def _parse_threshold(text: str) -> float:
    share = _parse_number(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text}: a number from 0 to 1 is needed")
    return share


def _parse_number(text: str) -> float:
    """Return NaN, which is in no range, for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


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
