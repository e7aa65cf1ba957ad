"""The page: what it says, in the order in which it is read."""

from pathlib import Path
from typing import Any

import yaml

from genreclf.evaluation.runs import Run
from genreclf.figures import curves
from genreclf.files import write_text
from genreclf.paper import BY_TRUE_NAME, Genre
from genreclf.report.templates import template

PAIRS = ("train-test", "train-val", "val-test")


def render(runs: list[Run]) -> str:
    """One self-contained HTML page: a comparison where there are several runs, then each run."""
    runs = [
        run for _, run in sorted(zip(labels(runs), runs, strict=True), key=lambda pair: pair[0])
    ]
    names = labels(runs)
    tested = {tuple(sorted(run.predictions.track_ids)) for run in runs}
    return template("page.html.j2").render(
        mixed=len(tested) > 1,
        runs=[_section(*pair, number) for number, pair in enumerate(zip(runs, names, strict=True))],
        comparison=_comparison(runs, names) if len(runs) > 1 else None,
    )


def labels(runs: list[Run]) -> list[str]:
    """For each run the overrides that not all runs have; its folder where there are none."""
    overrides = [run.result["overrides"] for run in runs]
    common = set(overrides[0]).intersection(*overrides)
    own = [[override for override in each if override not in common] for each in overrides]
    return [" ".join(each) or run.folder.name for each, run in zip(own, runs, strict=True)]


def _section(run: Run, label: str, number: int) -> dict[str, Any]:
    """What the template shows of one run."""
    result = run.result
    return {
        "anchor": f"run-{number + 1}",
        "name": run.folder.name,
        "label": label,
        "result": result,
        "curves": result["history"]
        and curves.draw_history(result["history"], result["best_epoch"]),
        "confusion": curves.draw_confusion(result["test"]["confusion"], result["data"]["classes"]),
        "roc": curves.draw_roc_curves(run.predictions),
        "leakage": _leakage(result["data"]["leakage"]),
        "paper": _paper(result["data"]["classes"]),
        "config": yaml.safe_dump(result["config"], sort_keys=False),
    }


def _paper(classes: list[str]) -> dict[str, Genre] | None:
    """The paper's rows by true name, beside a run on its eight genres."""
    return BY_TRUE_NAME if set(classes) == set(BY_TRUE_NAME) else None


def _leakage(audit: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"parts": pair.replace("-", " and "), **audit[pair]} for pair in PAIRS if pair in audit]


def _comparison(runs: list[Run], names: list[str]) -> str:
    tests = [run.result["test"] for run in runs]
    return curves.draw_comparison(
        names,
        [test["accuracy"] for test in tests],
        [test["interval"] for test in tests],
    )


def write(runs: list[Run], page: Path) -> None:
    """Write the page of these runs."""
    write_text(page, render(runs))
