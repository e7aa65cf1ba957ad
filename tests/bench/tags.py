"""Which model `genreclf predict` should use: `make bench-tags MUSIC=folder`.

MUSIC holds a folder for each genre, whose files have artist tags. Compared are the bundled model
(fma8), musicnn's tags mapped to FMA's genres by `genre_map.TO_FMA`, and the mean of both. Nothing
is trained. What is chosen (the candidate, how the scores of several tags are united, a
temperature) is chosen on four of five folds by artist and tested on the fifth.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

import genreclf
from genreclf.audio.search import find_audio_files
from genreclf.audio.tags import read_tags
from genreclf.evaluation.genre_map import TO_FMA
from genreclf.evaluation.intervals import Count, estimate_share
from genreclf.evaluation.metrics import compute_calibration_error, fit_temperature
from genreclf.evaluation.vocabulary import TEMPERATURE

UNITE: dict[str, Callable[..., np.ndarray]] = {
    "max": partial(np.max, axis=1),
    "sum": partial(np.sum, axis=1),
    "mean": partial(np.mean, axis=1),
    "any": lambda scores: 1 - np.prod(1 - scores, axis=1),
}
LEAST = 1e-4  # score


def main() -> None:
    """Print tables in Markdown."""
    parser = argparse.ArgumentParser("make bench-tags", description=__doc__)
    parser.add_argument("music", type=Path, help="folder of a folder per genre")
    parser.add_argument("--limit", type=int, default=0, help="clips of each genre; 0 for all")
    parser.add_argument(
        "--map",
        nargs="*",
        default=["classical=Instrumental"],
        metavar="FOLDER=GENRE",
        help="FMA's genres for names of folders that differ",
    )
    given = parser.parse_args()
    fma8, tags = genreclf.load("fma8"), genreclf.load("tags")
    renamed = dict(pair.split("=") for pair in given.map)
    known = {genre.lower(): genre for genre in fma8.classes}
    paths, truth = [], []
    for folder in sorted(path for path in given.music.iterdir() if path.is_dir()):
        genre = renamed.get(folder.name) or known.get(folder.name.lower())
        if genre is None:
            print(f"{folder.name}: none of {', '.join(fma8.classes)}; left out")
            continue
        found = sorted(map(str, find_audio_files(folder)))[: given.limit or None]
        paths += found
        truth += [fma8.classes.index(genre)] * len(found)
    labels = np.array(truth)
    own = np.array([[p.scores[g] for g in fma8.classes] for p in fma8.predict(paths)])
    predicted = list(tags.predict(paths))
    labels_of_tags = [*tags.vocabulary.genres, *tags.vocabulary.tags]
    scores = np.array([[{**p.scores, **p.tags}[t] for t in labels_of_tags] for p in predicted])
    artists = [read_tags(path)["artist"] for path in paths]
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    parts = [test for _, test in folds.split(scores, labels, artists)]
    print(f"{len(paths)} clips, {len(set(artists))} artists, 5 folds by artist\n")

    candidates = {"fma8": own}
    for name in UNITE:
        mapped = map_tags(scores, labels_of_tags, fma8.classes, name)
        candidates[f"tags, {name}"] = mapped
        candidates[f"both, {name}"] = (own + mapped / mapped.sum(axis=1, keepdims=True)) / 2
    for genre in ("Rock", ""):
        mapped = map_tags(scores, labels_of_tags, fma8.classes, "max", move_indie(genre))
        candidates[f"tags, max, indie in {genre or 'none'}"] = mapped
    among = sorted(set(labels.tolist()))
    print_accuracies(candidates, labels, among, parts)
    print_choice(candidates, labels, among, parts)
    print_calibration(candidates, labels, among, parts)
    print_confidence(predicted, labels, fma8.classes)


def map_tags(
    scores: np.ndarray,
    tags: Sequence[str],
    classes: Sequence[str],
    unite: str,
    genres: Mapping[str, Sequence[str]] = TO_FMA,
) -> np.ndarray:
    """Map scores (n, tags) to the genres of FMA, (n, classes); none for International."""
    found = np.full((len(scores), len(classes)), 1e-9)
    for genre, named in genres.items():
        columns = [tags.index(tag) for tag in named]
        found[:, classes.index(genre)] = UNITE[unite](scores[:, columns])
    return found


def move_indie(to: str) -> dict[str, list[str]]:
    """Map "indie", which may be pop or rock, to another genre; "" for none."""
    genres = {genre: [tag for tag in named if tag != "indie"] for genre, named in TO_FMA.items()}
    if to:
        genres[to].append("indie")
    return genres


def restrict(scores: np.ndarray, labels: np.ndarray, among: list[int]) -> tuple[np.ndarray, ...]:
    """Restrict scores and labels to the genres that occur."""
    return scores[:, among], np.searchsorted(among, labels)


def mark_correct(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mark the clips whose genre has the highest score."""
    return scores.argmax(axis=1) == labels


def format_share(correct: np.ndarray, parts: list[np.ndarray]) -> str:
    """Format a share with its interval over clips and folds."""
    counts = [
        Count(int(correct[part].sum()), len(part), 0, str(fold)) for fold, part in enumerate(parts)
    ]
    share, low, high = estimate_share(counts)
    return f"{share:.1%} ({low or 0:.1%} to {high or 0:.1%})"


def print_accuracies(
    candidates: dict[str, np.ndarray], labels: np.ndarray, among: list[int], parts: list[np.ndarray]
) -> None:
    """Print the accuracy of each candidate, among all genres and among those that occur."""
    print("| scores | right among all genres | among those of the folders |\n| --- | ---: | ---: |")
    for name, scores in candidates.items():
        cells = [mark_correct(scores, labels), mark_correct(*restrict(scores, labels, among))]
        print(f"| {name} | {' | '.join(format_share(cell, parts) for cell in cells)} |")


def choose_on_others(
    parts: list[np.ndarray], count: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the clips of the other folds and those of each fold."""
    for part in parts:
        yield np.setdiff1d(np.arange(count), part), part


def print_choice(
    candidates: dict[str, np.ndarray], labels: np.ndarray, among: list[int], parts: list[np.ndarray]
) -> None:
    """Print which candidate the other folds choose, and how often it is right in each fold."""
    for where, genres in (("all genres", None), ("the folders' genres", among)):
        correct = {
            name: mark_correct(*(restrict(scores, labels, genres) if genres else (scores, labels)))
            for name, scores in candidates.items()
        }
        chosen, right = [], np.zeros(len(labels), bool)
        for others, part in choose_on_others(parts, len(labels)):
            best = max(correct, key=lambda name: correct[name][others].mean())
            chosen.append(best)
            right[part] = correct[best][part]
        print(f"\nchosen by the other folds, among {where}: {'; '.join(chosen)}: ", end="")
        print(format_share(right, parts))


def print_calibration(
    candidates: dict[str, np.ndarray], labels: np.ndarray, among: list[int], parts: list[np.ndarray]
) -> None:
    """Print the expected calibration error: as it is, as shares, with a temperature of others."""
    temperature = f"with a temperature of {TEMPERATURE}"
    print(f"\n| scores | among | calibration error | as shares | {temperature} | of others | it |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name in ("fma8", "tags, max", "both, max"):
        for where, genres in (("all genres", [*range(8)]), ("the folders'", among)):
            scores, own = restrict(candidates[name], labels, genres)
            raised = np.maximum(scores, LEAST)
            shares = raised / raised.sum(axis=1, keepdims=True)
            cooled, used = np.empty_like(shares), []
            for others, part in choose_on_others(parts, len(labels)):
                used.append(fit_temperature(own[others], shares[others]))
                powers = shares[part] ** (1 / used[-1])
                cooled[part] = powers / powers.sum(axis=1, keepdims=True)
            fixed = shares ** (1 / TEMPERATURE)
            fixed /= fixed.sum(axis=1, keepdims=True)
            each_form = (scores, shares, fixed, cooled)
            errors = [compute_calibration_error(own, each) for each in each_form]
            row = " | ".join(f"{error:.3f}" for error in errors)
            print(f"| {name} | {where} | {row} | {min(used):.2f} to {max(used):.2f} |")


def print_confidence(
    predicted: Sequence[genreclf.Prediction], labels: np.ndarray, classes: Sequence[str]
) -> None:
    """Print how often the likeliest of musicnn's genres is right, by its score.

    It is right if it maps to the genre of the folder; genres that map to none are wrong.
    """
    owner = {tag: genre for genre, named in TO_FMA.items() for tag in named}
    best = [next(iter(each.scores.items())) for each in predicted]
    top = np.array([score for _, score in best])
    right = np.array([owner.get(tag) for tag, _ in best]) == np.array(classes)[labels]
    print("\n| score of the likeliest of all tags that are genres | clips | right |")
    print("| --- | ---: | ---: |")
    for low, high in ((0, 0.25), (0.25, 0.35), (0.35, 0.45), (0.45, 1.01), (0, 1.01)):
        inside = (top >= low) & (top < high)
        share = f"{right[inside].mean():.0%}" if inside.any() else ""
        print(f"| {low:.0%} to {min(high, 1):.0%} | {inside.sum()} | {share} |")


if __name__ == "__main__":
    main()
