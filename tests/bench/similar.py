"""`make bench-similar`: how well `genreclf similar` and the audit find what belongs together.

python tests/bench/similar.py FOLDER [--copies N] [--outputs outputs]

FOLDER holds a folder for each genre; artists come from the tags. Prints two tables: how often the
track nearest to another is of the same artist and genre, for several measures of similarity; and
how many copies of N songs are recognised as the same recording, by `genreclf similar` and by the
search of stores, together with the pairs that are found among the songs themselves.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from encode import run_ffmpeg  # a module of the tests

from genreclf.audio import Mel
from genreclf.audio.cores import count_available_cores
from genreclf.audio.pool import map_in_order
from genreclf.audio.sound_files import DecodeError
from genreclf.audio.workers import extract
from genreclf.data import Folder, Track
from genreclf.data.build_store import build_store
from genreclf.data.library import convert_store
from genreclf.data.near_duplicates import find_near_duplicates
from genreclf.data.similarity import fit_standard, search_library
from genreclf.data.store import Scaling, Source, Store
from genreclf.data.store_writer import StoreWriter
from genreclf.models import MusicnnEmbedding

CORES = count_available_cores()
COPIES = {  # name, extension and FFmpeg's arguments
    "MP3, 64 kbit/s": ("mp3", ("-b:a", "64k")),
    "Opus, 64 kbit/s": ("opus", ("-c:a", "libopus", "-b:a", "64k", "-ar", "48000")),
    "AAC, 96 kbit/s": ("m4a", ("-b:a", "96k")),
    "begins 3.4 s later, MP3": ("mp3", ("-ss", "3.4", "-b:a", "128k")),
    "begins 8 s later, MP3": ("mp3", ("-ss", "8", "-b:a", "128k")),
    "begins 14 s later, MP3": ("mp3", ("-ss", "14", "-b:a", "128k")),
    "20 dB quieter, MP3": ("mp3", ("-af", "volume=-20dB", "-b:a", "128k")),
    "8 kHz, WAV": ("wav", ("-ar", "8000")),
    "8 kHz, MP3, 16 kbit/s": ("mp3", ("-ar", "8000", "-ac", "1", "-b:a", "16k")),
}


def compare_measures(store: Store) -> None:
    """Print how often the nearest track, and of five, is of the same artist or genre."""
    library = convert_store(store)
    embeddings = np.concatenate(list(library.read_blocks())).astype(np.float64)
    centred = embeddings - embeddings.mean(axis=0)
    variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    shrunk = 0.65 * np.maximum(variances, 0) + 0.35 * variances.mean()
    measures = {
        "cosine": embeddings,
        "cosine, centred": centred,
        "cosine, standardised (used)": fit_standard(library).apply(embeddings),
        "cosine, whitened": centred @ axes / np.sqrt(shrunk),
    }
    artists, genres = np.array(store.artists), store.labels
    several = np.array([(artists == each).sum() > 1 for each in artists])
    print(f"{len(store)} songs; {several.sum()} are by an artist of several\n")
    print("| similarity | artist | genre | genre, of five | of five by other artists |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, values in measures.items():
        unit = values / np.linalg.norm(values, axis=1, keepdims=True)
        similarity = unit @ unit.T
        np.fill_diagonal(similarity, -2)
        five = np.argsort(-similarity, axis=1)[:, :5]
        similarity[artists[:, None] == artists] = -2
        others = np.argsort(-similarity, axis=1)[:, :5]
        shares = (
            (artists[five[:, 0]] == artists)[several],
            genres[five[:, 0]] == genres,
            genres[five] == genres[:, None],
            genres[others] == genres[:, None],
        )
        print(f"| {name} |", " | ".join(f"{100 * each.mean():.0f} %" for each in shares), "|")


def find_copies(store: Store, songs: int, place: Path) -> None:
    """Print how many copies are recognised, and what else is called the same recording."""
    chosen = np.linspace(0, len(store) - 1, songs).astype(int).tolist()
    copies = [(kind, row) for kind in COPIES for row in chosen]
    paths = [
        encode(store.paths[row], place / f"{number}", *COPIES[kind])
        for number, (kind, row) in enumerate(copies)
    ]
    near = search_store([*store.paths, *paths])
    songs_of = [*range(len(store)), *(row for _, row in copies)]  # of each row of that store
    alike = {pair for pair in near if max(pair) < len(store)}
    in_store, wrong = dict.fromkeys(COPIES, 0), set[tuple[int, int]]()
    for first, second in near - alike:
        pair = (songs_of[first], songs_of[second])
        if pair[0] != pair[1]:
            wrong |= {tuple(sorted(pair))} - alike
        elif first < len(store):
            in_store[copies[second - len(store)][0]] += 1
    similar, more_wrong = search_similar(store, copies, paths)
    print("\n| copy | genreclf similar | search of stores |")
    print("| --- | ---: | ---: |")
    for kind in COPIES:
        print(f"| {kind} | {similar[kind]} of {songs} | {in_store[kind]} of {songs} |")
    print("\npairs of songs:", *(f"{store.paths[a]} = {store.paths[b]}" for a, b in sorted(alike)))
    print("pairs that are none, in stores:", len(wrong), "by similar:", len(more_wrong - alike))


def encode(source: str, target: Path, suffix: str, arguments: tuple[str, ...]) -> str:
    """Encode a copy of a file; return its path."""
    path = f"{target}.{suffix}"
    run_ffmpeg("-i", source, "-map", "0:a:0", *arguments, path)
    return path


def search_store(paths: list[str]) -> set[tuple[int, int]]:
    """Find pairs that are the same recording in a store of mel spectrograms."""
    mel, tracks = Mel(), [Track(str(number), "", path=path) for number, path in enumerate(paths)]
    source = Source("bench", {}, {}, "", "")
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "mel.h5")
        with StoreWriter(file, source, tracks, mel.shape, np.dtype(np.float32)) as writer:
            rows: Any = map_in_order(partial(extract, features=mel), paths, CORES)
            for row in rows:
                writer.accept(*row)
            writer.finish(Scaling(silence=mel.silence))
        return {pair[:2] for pair in find_near_duplicates(Store(file))}


def search_similar(
    store: Store, copies: list[tuple[str, int]], paths: list[str]
) -> tuple[dict[str, int], set[tuple[int, int]]]:
    """Count the copies whose song is found as the same recording; list the other pairs found."""
    library, features = convert_store(store), MusicnnEmbedding()
    found, others = dict.fromkeys(COPIES, 0), set[tuple[int, int]]()
    answers = search_library(paths, library, features, 10, CORES)
    for (kind, row), near in zip(copies, answers, strict=True):
        assert not isinstance(near, DecodeError), near
        for each in near:
            if each.same_recording and each.row == row:
                found[kind] += 1
            elif each.same_recording:
                others.add((min(row, each.row), max(row, each.row)))
    return found, others


def main() -> None:
    """Embed the music and print the tables."""
    parser = argparse.ArgumentParser(description="How well similar tracks and copies are found.")
    parser.add_argument("folder", type=Path, help="music, in a folder for each genre")
    parser.add_argument(
        "--copies", type=int, default=30, help="songs that are copied (default: 30)"
    )
    parser.add_argument("--outputs", default="outputs", help="where embeddings are kept")
    given = parser.parse_args()
    features: Any = MusicnnEmbedding()
    store = build_store(Folder(given.folder), features, outputs=given.outputs)
    compare_measures(store)
    with tempfile.TemporaryDirectory() as place:
        find_copies(store, min(given.copies, len(store)), Path(place))


if __name__ == "__main__":
    main()
