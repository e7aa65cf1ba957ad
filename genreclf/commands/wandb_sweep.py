"""`genreclf wandb_sweep`: print the YAML of a W&B sweep, whose agents run `genreclf train`.

The values to try are written as in a Hydra sweep: `model=cnn_gru,efficient_cnn` lists them,
`interval(0.1, 0.5)` is a range, `tag(log, interval(1e-4, 1e-2))` a range on a logarithmic scale.
All other overrides apply to every run.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from omegaconf import DictConfig, OmegaConf

from genreclf.commands.own_parts import register_options
from genreclf.commands.path_overrides import quote_paths
from genreclf.commands.user_errors import USER_ERRORS, explain_error, explain_key
from genreclf.errors import InputError
from genreclf.evaluation.metrics import find_direction, name_selected_metric

METHODS = ("bayes", "random", "grid")
HEADER = """\
# Save this as sweep.yaml. Then, in the folder from which the runs are to start:
#   wandb sweep sweep.yaml
#   wandb agent SWEEP        (as the first command prints it; on as many machines as you like)
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command: print the YAML; the exit status is 0, or 1 if something is wrong."""
    options = _make_parser().parse_intermixed_args(arguments)
    register_options()
    try:
        overrides = quote_paths(options.overrides, "config")
        print(HEADER + format_sweep(overrides, options.method, options.config_dir), end="")
    except USER_ERRORS as error:
        hint = explain_key(str(error), "train", "config", arguments)
        print(f"genreclf: {explain_error(error)}{hint}", file=sys.stderr)
        return 1
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "genreclf wandb_sweep",
        description="Print the YAML of a W&B sweep, whose agents run genreclf train.",
        epilog="Values to try: model=cnn_gru,efficient_cnn 'optimizer.lr=tag(log, interval(1e-4, "
        "1e-2))' 'model.cnn_dropout=interval(0.1, 0.5)'. All other overrides apply to every run.",
    )
    parser.add_argument("overrides", nargs="+", metavar="KEY=VALUE", help="as for genreclf train")
    parser.add_argument(
        "--method", choices=METHODS, default="bayes", help="how W&B searches (default: bayes)"
    )
    parser.add_argument(
        "--config-dir", metavar="DIR", help="folder with options of your own, as for train"
    )
    return parser


def format_sweep(overrides: Sequence[str], method: str, config_dir: str | None = None) -> str:
    """Format the YAML of a W&B sweep.

    Args:
        overrides: overrides of `genreclf train`; those with several values are searched.
        method: "bayes", "random" or "grid".
        config_dir: a folder with options of the user's own.

    Raises:
        InputError: nothing is searched, or not in a way that W&B knows.
        hydra.errors.HydraException: an override is wrong.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    searched = {o.get_key_element(): o for o in parsed if o.is_sweep_override()}
    fixed = [o.input_line or "" for o in parsed if not o.is_sweep_override()]
    if not any(text.startswith("logger=") for text in fixed):
        fixed.insert(0, "logger=wandb")
    if not searched:
        raise InputError(
            "nothing to search: give a key several values, such as model=cnn_gru,efficient_cnn"
        )
    listed = {key: _list_values(key, o) for key, o in searched.items() if not _is_interval(o)}
    config = _compose(listed, fixed, config_dir)
    parameters = {
        key: {"values": listed[key]}
        if key in listed
        else _describe_interval(
            key, override.value(), method, OmegaConf.select(config, key, default="")
        )
        for key, override in searched.items()
    }
    monitor = name_selected_metric(config.monitor)
    goal = {"min": "minimize", "max": "maximize"}[find_direction(monitor)]
    folder = ["--config-dir", str(Path(config_dir).absolute())] if config_dir else []
    sweep = {
        "program": "genreclf",
        "method": method,
        "project": config.logger.get("project"),
        "entity": config.logger.get("entity"),
        "metric": {"name": monitor, "goal": goal},
        "parameters": parameters,
        "command": ["${env}", "${program}", "train", *folder, *fixed, "${args_no_hyphens}"],
    }
    chosen = {key: value for key, value in sweep.items() if value is not None}
    return yaml.safe_dump(chosen, sort_keys=False, width=1000)


def _is_interval(override: Override) -> bool:
    return isinstance(override.value(), IntervalSweep)


def _list_values(key: str, override: Override) -> list[Any]:
    """List the values to try as an agent has to write them on the command line."""
    if isinstance(override.value(), Glob):
        raise InputError(f"{key}: list the values, separated by commas")
    return [
        value
        if isinstance(value, bool | int | float)
        else Override._get_value_element_as_str(value)
        for value in override.sweep_iterator()
    ]


def _describe_interval(key: str, interval: Any, method: str, default: Any) -> dict[str, Any]:
    """Describe an interval as W&B does; it has whole numbers if the default is one.

    Raises:
        InputError: there is no such key, or the interval is not one to search in this way.
    """
    low, high = interval.start, interval.end
    if isinstance(default, bool) or not isinstance(default, int | float | None):
        raise InputError(f"{key}: an interval needs a key whose default is a number")
    if method == "grid":
        raise InputError(f"{key}: --method grid needs a list of values, not an interval")
    if not low < high:
        raise InputError(f"{key}=interval({low}, {high}): the lower number comes first")
    if "log" in interval.tags and low <= 0:
        raise InputError(f"{key}=interval({low}, {high}): a logarithmic scale begins above 0")
    if isinstance(default, int):
        scale = {"distribution": "q_log_uniform_values", "q": 1} if "log" in interval.tags else {}
        return {"distribution": "int_uniform", "min": int(low), "max": int(high), **scale}
    scale = "log_uniform_values" if "log" in interval.tags else "uniform"
    return {"distribution": scale, "min": float(low), "max": float(high)}


def _compose(listed: dict[str, list[Any]], fixed: list[str], config_dir: str | None) -> DictConfig:
    """Compose the config with each listed value once; return the first one."""
    path = [f"hydra.searchpath=[file://{Path(config_dir).absolute()}]"] if config_dir else []
    texts = {key: [f"{key}={value}" for value in values] for key, values in listed.items()}
    first = {key: values[0] for key, values in texts.items()}
    with hydra.initialize_config_module("genreclf.conf", version_base="1.3"):
        for key, values in texts.items():
            for text in values[1:]:
                hydra.compose("config", [*path, *fixed, *{**first, key: text}.values()])
        return hydra.compose("config", [*path, *fixed, *first.values()])
