"""How often music is called unknown, and other sounds are not: `make bench-unknown MUSIC=folder`.

The sounds that are not music are generated (`nonmusic.py`); speech needs espeak-ng. Of folders
named after genres, the accuracy is printed as well.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import nonmusic
import numpy as np

import genreclf
from genreclf.audio.search import find_audio_files
from genreclf.models.novelty import THRESHOLD


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
    given = parser.parse_args()
    model = genreclf.load(given.checkpoint)
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


def format_row(kind: str, values: list[float], threshold: float) -> str:
    """Format a row of the table."""
    share = np.mean([value > threshold for value in values])
    return f"| {kind} | {len(values)} | {share:.1%} | {min(values):.3f} to {max(values):.3f} |"


if __name__ == "__main__":
    main()
