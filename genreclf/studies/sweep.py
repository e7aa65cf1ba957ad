"""Plans the runs of a phase: the points of its sweep, and the command that runs them.

A sweep is a dict that lists the overrides of each config key that varies, such as
`{"seed": ["seed=0", "seed=1"]}`. Its points are all combinations.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from itertools import product
from pathlib import Path

from genreclf.protocols import Dataset, FeatureDataset
from genreclf.studies.study import Phase, Point


def get_key(override: str) -> str:
    """Return the config key of an override: `optimizer.lr` for `optimizer.lr=1e-3`."""
    return override.partition("=")[0].lstrip("+~")


def plan_phase(
    phase: Phase,
    sweep: Mapping[str, Sequence[str]],
    settings: Sequence[str],
    seeds: Sequence[int],
    dataset: Dataset,
    find_run_folder: Callable[[list[str]], Path],
    hydra_options: Sequence[str] = (),
) -> None:
    """Set the points of a phase, with the folders of their runs, and its command.

    Points that the dataset cannot provide are left out, and so is the phase if none remains.

    Args:
        phase: a phase that has only a name so far.
        sweep: what the phase varies.
        settings: overrides for all its runs; the last one of each key wins, and keys that the
            phase varies are dropped.
        seeds: each point is run once with each seed.
        dataset: the dataset of all runs.
        find_run_folder: returns the folder of the training run with these overrides.
        hydra_options: options for Hydra itself that go into the command.
    """
    swept, shortened = {}, []
    for key, overrides in sweep.items():
        reasons = {text: reason for text in overrides if (reason := _find_exclusion(text, dataset))}
        phase.left_out |= reasons
        swept[key] = [text for text in overrides if text not in reasons]
        if reasons:
            values = ",".join(text.partition("=")[2] for text in swept[key])
            shortened.append(f'hydra.sweeper.params.{key}="{values}"')
    if not all(swept.values()):
        phase.planned = 0
        return
    shared = [f"phase={phase.name}", *drop_swept(settings, sweep)]
    seed = f"seed={','.join(map(str, seeds))}"
    phase.command = ["train", "-m", *hydra_options, *shared, *shortened, seed, "report=false"]
    phase.points = [
        Point(
            list(point), [str(find_run_folder([*shared, *point, f"seed={seed}"])) for seed in seeds]
        )
        for point in product(*swept.values())
    ]


def drop_swept(settings: Sequence[str], swept: Container[str]) -> list[str]:
    """Keep the last override of each key, and none of the keys that a phase varies itself."""
    return list({get_key(text): text for text in settings if get_key(text) not in swept}.values())


def _find_exclusion(override: str, dataset: Dataset) -> str:
    """Say why the dataset rules out an override; empty if it does not."""
    if override.startswith("features=") and isinstance(dataset, FeatureDataset):
        return f"data={dataset.name} brings its own features"
    if override == "split=official" and not any(track.split for track in dataset.tracks()):
        return "the dataset has no official split"
    if override == "split=artist" and not any(track.artist for track in dataset.tracks()):
        return "the dataset names no artists"
    return ""
