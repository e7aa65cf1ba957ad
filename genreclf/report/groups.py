"""Names, filters and groups runs by their settings.

A setting is a key of the config or a config group, such as `optimizer.lr` or `model`. Runs of one
configuration that differ only in `seed` are repetitions; those that differ only in `split.number`
are folds.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from genreclf.errors import InputError
from genreclf.evaluation.runs import PLACES, Run, get_key, hide_location
from genreclf.report.cells import get_config_value

NOT_SHOWN = (  # overrides that have a column, do not affect results or describe an archive
    *("seed", "split", "split.number", "allow_identical", "test"),
    *("data", "data.scale", "data.offset", "data.path", "data.root", "data.lists"),
    "distillation.path",
)


REPEATED = ("seed", "split.number")  # keys of repetitions and folds


def list_settings(result: Mapping[str, Any]) -> list[str]:
    """List a run's overrides that distinguish configurations, experiments first."""
    shown = [hide_location(text) for text in result["overrides"] if _is_shown(text, result)]
    return sorted(shown, key=lambda text: (not text.startswith("experiment"), text))


def _is_shown(override: str, result: Mapping[str, Any]) -> bool:
    config, key = result["config"], get_key(override)
    match key:
        case "split_seed":  # each seed has its own split: it does not distinguish configurations
            return re.search(r"\$\\?\{seed\\?\}", override) is None
        case "features":  # for an archive they only say what its rows are
            return not config["data"]["_target_"].endswith(".Npz")
        case "cache":
            return override.endswith("=float16")  # the only one that changes numbers
    return key not in NOT_SHOWN


def split_settings(text: str) -> dict[str, str]:
    """Split overrides that are separated by spaces into keys and values."""
    parts = re.split(r" (?=[+~]?[\w.@/]+=)", text) if text else []
    return {get_key(part): part.partition("=")[2] for part in parts}


def read_setting(result: Mapping[str, Any], key: str) -> str:
    """Return the value of a setting as text, whether or not it was overridden; "" without one."""
    if key in result["choices"]:
        return result["choices"][key]
    if key.endswith(PLACES):
        return ""
    return _format_value(get_config_value(result["config"], key))


def _format_value(value: Any) -> str:
    """Format a value of a config as Hydra reads it."""
    match value:
        case None | dict():
            return ""
        case bool():
            return str(value).lower()
        case float():
            return repr(value)
        case list():
            return f"[{','.join(map(_format_value, value))}]"
    return str(value)


def find_varying(runs: Sequence[Run], without: Sequence[str] = ()) -> dict[str, list[str]]:
    """Find the overridden settings in which runs differ: the value of each run, by key.

    Args:
        runs: the runs to compare.
        without: keys to leave out.
    """
    overrides = dict.fromkeys(text for run in runs for text in run.result["overrides"])
    keys = dict.fromkeys(key for text in overrides if (key := get_key(text)) not in without)
    keys = sorted(keys, key=lambda key: key in REPEATED)  # these last
    values = {key: [read_setting(run.result, key) for run in runs] for key in keys}
    return {key: each for key, each in values.items() if len(set(each)) > 1}


def label_runs(runs: Sequence[Run], without: Sequence[str] = ()) -> list[str]:
    """Name each run by the settings in which the runs differ; by its folder if that is ambiguous.

    A setting that one run overrides and another leaves at its default is named for both.

    Args:
        runs: the runs to compare.
        without: keys that are not named.
    """
    varying = find_varying(runs, without)
    labels = [
        " ".join(f"{key}={values[number]}" for key, values in varying.items() if values[number])
        for number in range(len(runs))
    ]
    times = Counter(labels)
    return [
        label if label and times[label] == 1 else f"{label} {run.folder.name}".strip()
        for label, run in zip(labels, runs, strict=True)
    ]


def group_runs(runs: Sequence[Run]) -> list[list[Run]]:
    """Group the runs of one configuration on the same data: its seeds and folds."""
    groups: dict[tuple, dict[tuple, Run]] = {}
    for run in runs:
        result, config = run.result, run.result["config"]
        split = {key: value for key, value in config["split"].items() if key != "seed"}
        place = config["seed"], split.pop("number", None)
        data = result["data"]["digest"], result["choices"]["split"], str(split)
        same = (*list_settings(result), *data, result["tested_on"], result["params"])
        number = 0  # of a run with the same seed and fold, which differs in something else
        while place in groups.setdefault((*same, number), {}):
            number += 1
        groups[*same, number][place] = run
    return [list(same.values()) for same in groups.values()]


def select_runs(runs: Sequence[Run], where: Any) -> list[Run]:
    """Select the runs with all of these settings, such as {"phase": "grid"}; None selects all.

    Raises:
        InputError: `where` is not such a dict, or no run has one of its values.
    """
    where = {} if where is None else where
    if not isinstance(where, Mapping):
        raise InputError(f"where={where}: write 'where={{KEY: VALUE}}'")
    found = list(runs)
    for key, value in where.items():
        values = sorted({read_setting(run.result, key) for run in found} - {""})
        text = _format_value(value)
        found = [run for run in found if _is_equal(read_setting(run.result, key), text)]
        if not found:
            hint = f"these runs have {', '.join(values[:8])}" if values else "no run sets it"
            raise InputError(f"where={{{key}: {text or 'null'}}}: {hint}")
    return found


def _is_equal(text: str, other: str) -> bool:
    """Whether two values are the same text or the same number."""
    try:
        return float(text) == float(other)
    except ValueError:
        return text == other
