"""Plans the runs of a phase: the points of its sweep, and the command that runs them.

A sweep is a dict that lists the overrides of each config key that varies, such as
`{"seed": ["seed=0", "seed=1"]}`. Its points are all combinations.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from itertools import product
from pathlib import Path

from genreclf.evaluation.runs import get_key
from genreclf.protocols import Dataset, FeatureDataset
from genreclf.studies.study import Phase, Point

Sweep = Mapping[str, Sequence[str]]


def count_points(sweep: Sweep) -> int:
    """Count the points of a sweep: one if nothing varies."""
    return len(list(product(*sweep.values())))


def plan_phase(
    phase: Phase,
    sweep: Sweep,
    settings: Sequence[str],
    seeds: Sequence[int],
    find_run_folder: Callable[[list[str]], Path],
    hydra_options: Sequence[str] = (),
    option: str | None = None,
) -> None:
    """Set the points of a phase, with the folders of their runs, and its command.

    Overrides in `phase.left_out` are left out, and so is the phase if nothing remains of a key.

    Args:
        phase: a phase that has no points yet.
        sweep: what the phase varies.
        settings: overrides for all its runs; the last one of each key wins, and keys that the
            phase varies are dropped.
        seeds: each point is run once with each seed.
        find_run_folder: returns the folder of the training run with these overrides.
        hydra_options: options for Hydra itself that go into the command.
        option: the option in conf/phase/, of which then only the points in `sweep` are run; None:
            the phase's name.
    """
    kept = {
        key: [text for text in overrides if text not in phase.left_out]
        for key, overrides in sweep.items()
    }
    if not all(kept.values()):
        phase.planned = 0
        return
    shared = [f"phase={option or phase.name}", *drop_swept(settings, sweep)]
    listed = [_join_values(overrides) for overrides in kept.values()]
    varied = ["hydra.sweeper.params=null", *listed] if option or kept != dict(sweep) else []
    seed = f"seed={','.join(map(str, seeds))}"
    phase.command = ["train", "-m", *hydra_options, *shared, *varied, seed, "report=false"]
    phase.points = [
        Point(
            list(point), [str(find_run_folder([*shared, *point, f"seed={seed}"])) for seed in seeds]
        )
        for point in product(*kept.values())
    ]


def _join_values(overrides: Sequence[str]) -> str:
    """Join overrides of one key: `split=stratified,artist`."""
    first, *others = overrides
    return ",".join([first, *(text.partition("=")[2] for text in others)])


def drop_swept(settings: Sequence[str], swept: Container[str]) -> list[str]:
    """Keep the last override of each key, and none of the keys that a phase varies itself."""
    return list({get_key(text): text for text in settings if get_key(text) not in swept}.values())


def find_exclusions(sweep: Sweep, dataset: Dataset) -> dict[str, str]:
    """Find the overrides of a sweep that the dataset rules out, and say why."""
    overrides = [text for values in sweep.values() for text in values]
    return {text: why for text in overrides if (why := _find_exclusion(text, dataset))}


def _find_exclusion(override: str, dataset: Dataset) -> str:
    """Say why the dataset rules out an override; empty if it does not."""
    if override.startswith("features=") and isinstance(dataset, FeatureDataset):
        return f"data={dataset.name} brings its own features"
    if override == "split=official" and not any(track.split for track in dataset.tracks()):
        return "the dataset has no official split"
    if override == "split=artist" and not any(track.artist for track in dataset.tracks()):
        return "the dataset names no artists"
    return ""
