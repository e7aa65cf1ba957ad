"""The page of one run, or of several with a comparison.

The size of a page is bounded: with many runs, only the best is shown in detail, and long lists are
cut.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from genreclf.evaluation.intervals import (
    average_runs,
    count_accuracy,
    estimate_accuracy,
    estimate_share,
    find_complete,
)
from genreclf.evaluation.runs import PAGE, Run
from genreclf.figures import curves
from genreclf.files import write_text
from genreclf.paper import BY_TRUE_NAME
from genreclf.report import cells, groups
from genreclf.report.templates import render_template

PAIRS = ("train-test", "train-val", "val-test")
DETAILED = 8  # with more runs, only the best is shown in detail
LISTED = 200  # rows of a table
DRAWN = 40  # rows of the figure that compares configurations
PANELS, VALUES = 12, 12  # of the figure of hyperparameters: panels, and values in each
NAMED = 20  # duplicates and rejected tracks that are named


class Configuration(NamedTuple):
    """Runs that differ only in seed and fold.

    Args:
        label: the settings in which it differs from the others.
        runs: its runs.
    """

    label: str
    runs: list[Run]


def write_report(runs: Sequence[Run], page: Path) -> None:
    """Write one self-contained HTML page: a comparison if there are several runs, then each run."""
    labels = {run.folder: label for run, label in zip(runs, groups.label_runs(runs), strict=True)}
    ranked = sorted(runs, key=lambda run: (-run.result["test"]["accuracy"], labels[run.folder]))
    detailed = ranked if len(runs) <= DETAILED else ranked[:1]
    html = render_template(
        "page.html.j2",
        runs=[_describe_run(run, labels[run.folder]) for run in detailed],
        comparison=_compare(ranked, labels, detailed, page) if len(runs) > 1 else None,
        named=NAMED,
    )
    write_text(page, html)


def _compare(
    runs: Sequence[Run], labels: dict[Path, str], detailed: Sequence[Run], page: Path
) -> dict[str, Any]:
    """Collect what the template shows of all runs together."""
    found = _list_configurations(runs)
    anchors = {run.folder: f"#run-{number}" for number, run in enumerate(detailed, start=1)}
    listed = [_describe_configuration(each) for each in found[:LISTED]]
    drawn = listed[:DRAWN]
    figure = curves.draw_comparison(
        [each["label"] for each in drawn],
        [each["accuracy"].value for each in drawn],
        [[each["accuracy"].low, each["accuracy"].high] for each in drawn],
    )
    tested = {_name_tracks(each.runs[0].result) for each in found}
    return {
        "count": len(runs),
        "configurations": listed,
        "total": len(found),
        "figure": figure,
        "drawn": len(drawn),
        "impact": _draw_impact(found),
        "mixed": len(tested) > 1,
        "rows": [
            {
                "label": labels[run.folder],
                "link": anchors.get(run.folder) or _find_page(run, page),
                "result": run.result,
            }
            for run in runs[:LISTED]
        ],
    }


def _list_configurations(runs: Sequence[Run]) -> list[Configuration]:
    """List the configurations, the most accurate first."""
    same = groups.group_runs(runs)
    names = groups.label_runs([each[0] for each in same], without=groups.REPEATED)
    found = [Configuration(*pair) for pair in zip(names, same, strict=True)]
    return sorted(found, key=lambda each: (-_pool_accuracy(each.runs), each.label))


def _pool_accuracy(runs: Sequence[Run]) -> float:
    return estimate_share([count_accuracy(run, "test") for run in runs]).value


def _describe_configuration(configuration: Configuration) -> dict[str, Any]:
    label, runs = configuration
    counts = [count_accuracy(run, "test") for run in runs]
    folds = cells.format_folds(counts, str(runs[0].result["config"]["split"].get("folds", "")))
    kept = find_complete(counts)
    runs, counts = [runs[i] for i in kept], [counts[i] for i in kept]
    tests = [run.result["test"] for run in runs]
    accuracy = estimate_accuracy(runs, "test")
    return {
        "label": label,
        "tested_on": runs[0].result["tested_on"],
        "accuracy": accuracy,
        "interval": cells.format_bounds(accuracy),
        "by_fold": cells.format_fold_range(counts),
        "f1_macro": average_runs(runs, lambda result: result["test"]["f1_macro"]),
        "top3": cells.format_percent(cells.average([t.get("top3_accuracy") for t in tests])),
        "average_precision": cells.format_decimal(
            cells.average([test.get("mean_average_precision") for test in tests]), 3
        ),
        "seeds": len({count.seed for count in counts}),
        "folds": folds,
        "tracks": sum(count.tracks for count in counts) // len({count.seed for count in counts}),
    }


def _name_tracks(result: dict[str, Any]) -> str:
    """Name what decides which tracks are tested, apart from seeds and folds."""
    split = {k: v for k, v in result["config"]["split"].items() if k not in ("seed", "number")}
    table = result["data"].get("table", result["data"]["digest"])  # features do not matter
    fewer = result["config"].get("tracks_per_genre")
    return f"{table} {fewer} {result['choices']['split']} {split} {result['tested_on']}"


def _draw_impact(found: Sequence[Configuration]) -> str | None:
    """Draw the paper's Fig. 5 if the runs are a grid and do not just change one thing each."""
    runs = [run for each in found for run in each.runs]
    panels: dict[str, dict[str, list[float]]] = {}
    for key, values in groups.find_varying(runs).items():
        if key in groups.REPEATED or not 1 < len(set(values) - {""}) <= VALUES:
            continue
        panel: dict[str, list[float]] = {}
        for value, run in sorted(zip(values, runs, strict=True), key=lambda pair: _order(pair[0])):
            if value:
                panel.setdefault(value, []).append(run.result["val"]["accuracy"])
        panels[key] = panel
    one_at_a_time = 1 + sum(len(panel) - 1 for panel in panels.values())
    if len(panels) < 2 or len(found) <= one_at_a_time:
        return None
    return curves.draw_impact(dict(list(panels.items())[:PANELS]))


def _order(value: str) -> tuple[float, str]:
    """Sort numbers by size, before texts."""
    try:
        return float(value), ""
    except ValueError:
        return float("inf"), value


def _find_page(run: Run, page: Path) -> str:
    """Return the relative link to a run's own page; empty without one."""
    own = run.folder / PAGE
    return os.path.relpath(own, page.parent) if own.exists() else ""


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
