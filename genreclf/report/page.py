"""The page: what it says, in the order in which it is read."""

from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, select_autoescape

from genreclf.report import figures
from genreclf.results import Run

PAIRS = ("train-test", "train-val", "val-test")


def render(runs: list[Run]) -> str:
    """One self-contained HTML page: a comparison where there are several runs, then each run."""
    environment = Environment(
        loader=PackageLoader("genreclf.report", "."),
        autoescape=select_autoescape(default_for_string=True, default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.2f}"
    template = environment.get_template("page.html.j2")
    return template.render(
        runs=[_section(run, number) for number, run in enumerate(runs)],
        comparison=_comparison(runs) if len(runs) > 1 else None,
        differences=differences([run.result["config"] for run in runs]),
    )


def _section(run: Run, number: int) -> dict[str, Any]:
    """What the template shows of one run."""
    result = run.result
    return {
        "anchor": f"run-{number + 1}",
        "name": run.folder.name,
        "result": result,
        "curves": figures.curves(result["history"], result["best_epoch"]),
        "confusion": figures.confusion(result["test"]["confusion"], result["data"]["classes"]),
        "roc": figures.roc_curves(run.predictions),
        "leakage": _leakage(result["data"]["leakage"]),
        "config": yaml.safe_dump(result["config"], sort_keys=False),
    }


def _leakage(audit: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"parts": pair.replace("-", " and "), **audit[pair]} for pair in PAIRS if pair in audit]


def _comparison(runs: list[Run]) -> str:
    tests = [run.result["test"] for run in runs]
    return figures.comparison(
        [run.folder.name for run in runs],
        [test["accuracy"] for test in tests],
        [test["interval"] for test in tests],
    )


def differences(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each config its values of the keys in which not all configs agree."""
    flat = [_flat(config) for config in configs]
    keys = sorted({key for config in flat for key in config})
    differing = [key for key in keys if len({repr(config.get(key)) for config in flat}) > 1]
    return [{key: config.get(key, "") for key in differing} for config in flat]


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in config.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        values |= {prefix + key: value} if inner is None else inner
    return values
