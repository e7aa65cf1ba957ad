"""What a phase runs: its sweep, taken apart and composed by Hydra as `genreclf train -m` does."""

from collections.abc import Container
from itertools import product
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from genreclf.data.datasets import Dataset, Npz
from genreclf.studies.study import Phase, Point


def get_key(override: str) -> str:
    """What an override overrides: `optimizer.lr` of `optimizer.lr=1e-3`."""
    return override.partition("=")[0].lstrip("+~")


def read_sweep(phase: str) -> dict[str, list[str]]:
    """What a phase varies: for each key its overrides, such as `seed=0` and `seed=1`."""
    texts = [
        f"{key}={values}"
        for key, values in (compose_run([f"phase={phase}"]).hydra.sweeper.params or {}).items()
    ]
    found = {}
    for override in OverridesParser.create().parse_overrides(texts):
        key = override.get_key_element()
        values = override.sweep_string_iterator() if override.is_sweep_override() else []
        found[key] = [f"{key}={value}" for value in values] or [override.input_line or ""]
    return found


def compose_run(overrides: list[str]) -> DictConfig:
    """The config of a training run, with Hydra's own."""
    return hydra.compose("config", overrides, return_hydra_config=True)


def plan_phase(phase: Phase, settings: list[str], seeds: list[int], dataset: Dataset) -> None:
    """Note the points of a phase with the folders of their runs, and the command that runs them.

    Args:
        phase: of which only the name is known yet.
        settings: overrides of all its runs; later ones win, and what the phase varies is dropped.
        seeds: of the runs of each point.
        dataset: whose tracks may rule points out, or the whole phase.
    """
    varied, reduced = read_sweep(phase.name), []
    for key, overrides in varied.items():
        reasons = {text: reason for text in overrides if (reason := _find_exclusion(text, dataset))}
        phase.left_out |= reasons
        varied[key] = [text for text in overrides if text not in reasons]
        if reasons:
            values = ",".join(text.partition("=")[2] for text in varied[key])
            reduced.append(f'hydra.sweeper.params.{key}="{values}"')
    if not all(varied.values()):
        phase.planned = 0
        return
    own = [f"phase={phase.name}", *drop_varied(settings, varied)]
    seed = f"seed={','.join(map(str, seeds))}"
    phase.command = ["train", "-m", *list_hydra_options(), *own, *reduced, seed, "report=false"]
    phase.points = [
        Point(list(point), [_find_folder([*own, *point, f"seed={seed}"]) for seed in seeds])
        for point in product(*varied.values())
    ]


def drop_varied(settings: list[str], varied: Container[str]) -> list[str]:
    """The last override of each key, less those that the phase varies itself."""
    return list({get_key(text): text for text in settings if get_key(text) not in varied}.values())


def list_hydra_options() -> list[str]:
    """What the user gave to Hydra itself, for the sweeps: a launcher, a folder of options."""
    own = ("hydra.mode", "hydra.run.dir", "hydra.output_subdir", "hydra/job_logging")
    given = [text for text in HydraConfig.get().overrides.hydra if not text.startswith(own)]
    sources = HydraConfig.get().runtime.config_sources
    folders = [source.path for source in sources if source.provider == "command-line"]
    return [text for folder in folders for text in ("--config-dir", folder)] + given


def _find_exclusion(override: str, dataset: Dataset) -> str:
    """Why the data rule out an override; empty where they do not."""
    if override.startswith("features=") and isinstance(dataset, Npz):
        return f"data={dataset.name} holds finished features, of one kind"
    if override == "split=official" and not any(track.split for track in dataset.tracks()):
        return "the data name no official parts"
    if override == "split=artist" and not any(track.artist for track in dataset.tracks()):
        return "the data name no artists"
    return ""


def _find_folder(overrides: list[str]) -> str:
    composed = compose_run(overrides)
    return str(Path(composed.hydra.sweep.dir, composed.hydra.sweep.subdir))
