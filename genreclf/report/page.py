"""The page of one run, or of several with a comparison."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from genreclf.evaluation.runs import Run
from genreclf.figures import curves
from genreclf.files import write_text
from genreclf.paper import BY_TRUE_NAME
from genreclf.report.templates import render_template

PAIRS = ("train-test", "train-val", "val-test")


def write_report(runs: Sequence[Run], page: Path) -> None:
    """Write one self-contained HTML page: a comparison if there are several runs, then each run."""
    names = label_runs(runs)
    order = sorted(range(len(runs)), key=lambda number: names[number])
    runs, names = [runs[number] for number in order], [names[number] for number in order]
    tested = {tuple(sorted(run.predictions.track_ids)) for run in runs}
    sections = [_describe_run(*pair) for pair in zip(runs, names, strict=True)]
    tests = [run.result["test"] for run in runs]
    accuracies, intervals = ([test[key] for test in tests] for key in ("accuracy", "interval"))
    comparison = curves.draw_comparison(names, accuracies, intervals) if len(runs) > 1 else None
    html = render_template(
        "page.html.j2", runs=sections, comparison=comparison, mixed=len(tested) > 1
    )
    write_text(page, html)


def label_runs(runs: Sequence[Run]) -> list[str]:
    """Name each run by the overrides that not all share; by its folder where it has none."""
    overrides = [run.result["overrides"] for run in runs]
    common = set(overrides[0]).intersection(*overrides)
    own = [[override for override in each if override not in common] for each in overrides]
    return [" ".join(each) or run.folder.name for each, run in zip(own, runs, strict=True)]


def _describe_run(run: Run, label: str) -> dict[str, Any]:
    """Collect what the template shows of one run."""
    result = run.result
    data, history = result["data"], result["history"]
    leakage = data["leakage"]
    return {
        "name": run.folder.name,
        "label": label,
        "result": result,
        "curves": history and curves.draw_history(history, result["best_epoch"]),
        "confusion": curves.draw_confusion(result["test"]["confusion"], data["classes"]),
        "roc": curves.draw_roc_curves(run.predictions),
        "leakage": [
            {"parts": pair.replace("-", " and "), **leakage[pair]}
            for pair in PAIRS
            if pair in leakage
        ],
        "paper": BY_TRUE_NAME if set(data["classes"]) == set(BY_TRUE_NAME) else None,
        "config": yaml.safe_dump(result["config"], sort_keys=False),
    }
