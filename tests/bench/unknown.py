"""How often music is called unknown, and other sounds are not: `make bench-unknown MUSIC=folder`.

The sounds that are not music are generated (`nonmusic.py`); speech needs espeak-ng. Of folders
named after genres, the accuracy is printed as well. With `--copies`, both are also rated as short
clips, at low sample rates and in lossy formats, which takes a quarter of an hour.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nonmusic
import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1]))
from encode import run_ffmpeg  # a module of the tests

import genreclf
from genreclf.audio.search import find_audio_files
from genreclf.models.novelty import THRESHOLD

COPIES = {  # the extension of a file, and the arguments of FFmpeg
    "whole, 30 s": ("wav", ""),
    "10 s": ("wav", "-ss 10 -t 10"),
    "5 s": ("wav", "-ss 12 -t 5"),
    "3 s": ("wav", "-ss 13 -t 3"),
    "at 22 kHz": ("wav", "-ar 22050"),
    "at 16 kHz": ("wav", "-ar 16000"),
    "at 8 kHz": ("wav", "-ar 8000"),
    "5 s at 16 kHz": ("wav", "-ss 12 -t 5 -ar 16000"),
    "5 s at 8 kHz": ("wav", "-ss 12 -t 5 -ar 8000"),
    "MP3 128 kbit/s": ("mp3", "-b:a 128k"),
    "MP3 64 kbit/s": ("mp3", "-b:a 64k"),
    "MP3 16 kbit/s at 8 kHz": ("mp3", "-b:a 16k -ar 8000"),
    "Vorbis 96 kbit/s": ("ogg", "-c:a libvorbis -b:a 96k"),
    "Opus 64 kbit/s": ("opus", "-c:a libopus -b:a 64k"),
    "Opus 24 kbit/s": ("opus", "-c:a libopus -b:a 24k"),
}


def main() -> None:
    """Print a table in Markdown: kind, clips, share called unknown, range of the novelty."""
    parser = argparse.ArgumentParser("make bench-unknown", description=__doc__)
    parser.add_argument("music", type=Path, nargs="?", help="folder of music, or of genre folders")
    parser.add_argument("--checkpoint", default="pretrained")
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    parser.add_argument(
        "--map",
        nargs="*",
        default=[],
        metavar="FOLDER=GENRE",
        help="genres of the model for the names of folders, such as classical=Instrumental",
    )
    parser.add_argument("--copies", action="store_true", help="rate copies of other formats, too")
    given = parser.parse_args()
    model = genreclf.load(given.checkpoint)
    if given.copies:
        if given.music is None:
            parser.error("--copies needs a folder of music")
        compare_copies(model, given.music, given.threshold)
        return
    rated: dict[str, list[float]] = defaultdict(list)
    for kind, samples in nonmusic.list_sounds():
        novelty = model.predict((samples.astype(np.float32), nonmusic.RATE)).novelty
        rated[kind].append(novelty if novelty is not None else 0.0)
    if not nonmusic.has_speech():
        print("espeak-ng is not installed: no speech")
    print("| sound | clips | called unknown | novelty |\n| --- | ---: | ---: | ---: |")
    for kind, values in rated.items():
        print(format_row(kind, values, given.threshold))
    others = [value for values in rated.values() for value in values]
    print(format_row("all that is not music", others, given.threshold))
    if given.music is None:
        return
    paths = sorted(map(str, find_audio_files(given.music)))
    found = [(path, each) for path, each in zip(paths, model.predict(paths), strict=True)]
    found = [(path, each) for path, each in found if each.novelty is not None]
    music = [each.novelty or 0.0 for _, each in found]
    print(format_row("music", music, given.threshold))
    wins = np.mean([[other > value for value in music] for other in others])
    print(f"\narea under the ROC curve: {wins:.3f}")
    genres = dict(pair.split("=") for pair in given.map)
    names = {genre.lower(): genre for genre in model.classes}
    truth = [
        genres.get(Path(path).parent.name, names.get(Path(path).parent.name.lower()))
        for path, _ in found
    ]
    known = [(genre, each) for genre, (_, each) in zip(truth, found, strict=True) if genre]
    if not known:
        return
    among = {genre for genre, _ in known}
    strict = np.mean([next(iter(each.scores)) == genre for genre, each in known])
    restricted = np.mean(
        [next(name for name in each.scores if name in among) == genre for genre, each in known]
    )
    print(f"accuracy on {len(known)} of them: {strict:.1%} of {len(model.classes)} genres, ")
    print(f"{restricted:.1%} if only {', '.join(sorted(among))} are considered")


def compare_copies(model: Any, music: Path, threshold: float) -> None:
    """Print how often music is called unknown, and other sounds are not, for each kind of copy."""
    with tempfile.TemporaryDirectory() as folder:
        songs = [*map(str, find_audio_files(music))]
        sounds = []
        for number, (_, samples) in enumerate(nonmusic.list_sounds()):
            sounds.append(f"{folder}/sound{number}.wav")
            soundfile.write(sounds[-1], samples.astype(np.float32), nonmusic.RATE, subtype="FLOAT")
        print("| copy | music called unknown | other sounds not | area under the ROC curve |")
        print("| --- | ---: | ---: | ---: |")
        for name, (suffix, options) in COPIES.items():
            known, others = (
                np.array([*rate_copies(model, paths, f"{folder}/copy.{suffix}", options.split())])
                for paths in (songs, sounds)
            )
            wins = (others[:, None] > known).mean()
            print(
                f"| {name} | {(known > threshold).mean():.1%} | {(others <= threshold).mean():.1%} "
                f"| {wins:.3f} |",
                flush=True,
            )


def rate_copies(model: Any, paths: list[str], copy: str, options: list[str]) -> Iterator[float]:
    """Yield the novelty of a copy of each file, in mono."""
    for path in paths:
        run_ffmpeg("-i", path, "-map", "0:a:0", "-ac", "1", *options, copy)
        found = model.predict(copy)
        if found.novelty is None and not found.error:
            raise SystemExit("this model has no novelty score")
        yield 1.0 if found.novelty is None else found.novelty  # silent: a tone above the band


def format_row(kind: str, values: list[float], threshold: float) -> str:
    """Format a row of the table."""
    share = np.mean([value > threshold for value in values])
    return f"| {kind} | {len(values)} | {share:.1%} | {min(values):.3f} to {max(values):.3f} |"


if __name__ == "__main__":
    main()
