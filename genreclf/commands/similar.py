"""`genreclf similar`: the tracks of a library that sound most like a file."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genreclf.commands.plain_options import (
    add_format,
    add_trust,
    locate_typed,
    parse_positive,
    run_command,
    start_processes,
)
from genreclf.commands.predict_formats import set_encoding
from genreclf.commands.similar_formats import WRITERS, ShownTrack
from genreclf.commands.streams import check_output
from genreclf.errors import InputError

if TYPE_CHECKING:  # slow to import, and not needed for --help or wrong usage
    from genreclf.data.library import Library
    from genreclf.data.similarity import Neighbour

TOP = 10  # tracks for each file


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status is 0 if all files have an answer, 1 if some have none."""
    options = _make_parser().parse_args(arguments)
    set_encoding(options.format)
    return run_command(_search, options)


def _search(options: argparse.Namespace) -> int:
    from genreclf.paths import locate_path

    files = [*map(locate_typed, options.files)]
    start_processes(options.trust, len(files))
    library = _open_library(locate_path(options.library), options)
    features = _build_features(library, options.trust)

    from genreclf.audio.cores import count_available_cores
    from genreclf.audio.sound_files import DecodeError
    from genreclf.data.similarity import search_library

    failed, write = 0, WRITERS[options.format](files)
    answers = search_library(files, library, features, options.top, count_available_cores())
    with contextlib.closing(answers):
        for path, found in zip(files, answers, strict=True):
            if isinstance(found, DecodeError):
                failed += 1
                is_folder = os.path.isdir(path)  # noqa: PTH112
                write(path, "a folder; the path of a file is needed" if is_folder else str(found))
            else:
                write(path, _describe(found, library))
            check_output()
    return 1 if failed else 0


def _open_library(path: Path, options: argparse.Namespace) -> "Library":
    """Open a file of embeddings; embed a folder, or take its embeddings from the last time."""
    from genreclf.data.library_files import read_library

    if not path.is_dir():
        return read_library(path)
    from genreclf.data import Files, Store
    from genreclf.data.build_store import plan_store, write_store
    from genreclf.data.library import convert_store, read_titles
    from genreclf.models import MusicnnEmbedding

    features: Any = MusicnnEmbedding()
    with contextlib.redirect_stdout(sys.stderr):  # progress bars: standard output is the answer's
        plan = plan_store(Files(path), features, outputs=options.outputs)
        known = plan.path.exists()
        store = Store(plan.path) if known else write_store(plan, list_rejected=True)
    return convert_store(store, read_titles(store, plan.tracks))


def _build_features(library: "Library", trust: Sequence[str]) -> Any:
    """Build the features of a library's embeddings.

    Raises:
        InputError: they cannot be computed from audio, or not by this version of genreclf.
    """
    from genreclf.audio.descriptions import build_features, identify_features
    from genreclf.audio.own_features import check_features
    from genreclf.data.store import format_identity

    try:
        built = build_features(dict(library.features), trust)
        if not callable(built):
            raise InputError("its embeddings did not come from audio, so no file can be compared")
        features: Any = built
        if (identity := identify_features(features)) != dict(library.identity):
            raise InputError(
                f"its embeddings were made by {format_identity(dict(library.identity))}, this "
                f"installation has {format_identity(identity)}: write it again with genreclf embed"
            )
        check_features(features)
        if tuple(features.shape) != (library.size, 1):
            raise InputError(
                f"its embeddings have {library.size} values, but features={features.name} have "
                f"{features.shape[0]}: write it again with genreclf embed"
            )
    except InputError as error:
        raise InputError(f"{library.name}: {error}") from None
    return features


def _describe(found: Sequence["Neighbour"], library: "Library") -> list[ShownTrack]:
    from genreclf.audio.tags import read_all_tags
    from genreclf.data.datasets.track import repair_text

    described = [
        {name: column[each.row] for name, column in library.texts.items()} for each in found
    ]
    untitled = [texts for texts in described if texts["path"] and not library.has_titles]
    tags = read_all_tags([texts["path"] for texts in untitled])
    for texts, read in zip(untitled, tags, strict=True):
        texts["title"] = repair_text(read["title"])
    return [
        ShownTrack(similarity=each.similarity, same_recording=each.same_recording, **texts)
        for each, texts in zip(found, described, strict=True)
    ]


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "genreclf similar",
        description="Find the tracks of a library that sound most like a file.",
        epilog="Exit status: 0 if all files have an answer, 1 if some do not, 2 for wrong usage.",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="audio file, in the library or outside it"
    )
    parser.add_argument(
        "--library",
        required=True,
        metavar="FOLDER_OR_FILE",
        help="folder of music, subfolders included, or file written by genreclf embed",
    )
    parser.add_argument(
        "--top",
        type=parse_positive,
        default=TOP,
        metavar="N",
        help=f"how many tracks to show for each file (default: {TOP})",
    )
    parser.add_argument(
        "--outputs",
        default="outputs",
        metavar="FOLDER",
        help="where the embeddings of a folder are kept (default: outputs)",
    )
    add_trust(parser, "may compute the library's embeddings")
    add_format(parser, WRITERS)
    return parser
