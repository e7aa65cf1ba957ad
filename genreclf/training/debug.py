"""Shortened runs for debugging: a few batches of each part, and what to look at afterwards."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from genreclf.data.preview import split_store
from genreclf.data.splits import NotedSplit, get_notes
from genreclf.data.store import Store
from genreclf.errors import InputError
from genreclf.training.parts import Parts

PROFILE = "fit-profile.txt"  # written by Lightning's SimpleProfiler
LEAST_SHARE = 1.0  # % of the time, of what is shown


def limit_parts(parts: Parts, batches: int) -> Parts:
    """Limit each part of the split to a few batches of tracks, spread over its rows.

    Raises:
        InputError: not even one batch.
    """
    if batches < 1:
        raise InputError(f"debug.batches={batches}: at least one is needed")
    most = batches * parts.batch_size

    def split(store: Store) -> dict[str, np.ndarray]:
        whole = split_store(parts.split, store)
        limited = {part: _spread(rows, most) for part, rows in whole.items()}
        return NotedSplit(limited, get_notes(whole))

    return replace(parts, split=split)


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    places = np.linspace(0, len(rows) - 1, min(most, len(rows)))
    return rows[places.round().astype(int)]


def describe_debugging(option: str, history: list[dict[str, float]], folder: Path) -> str:
    """Say what a run with `debug=...` has shown.

    Args:
        option: the option of `debug`.
        history: the metrics of each epoch.
        folder: the run's folder.
    """
    if option == "profile" and (folder / PROFILE).exists():
        return format_profile((folder / PROFILE).read_text(), folder / PROFILE)
    if option == "overfit" and history:
        return _compare_losses(history)
    return "everything ran: training, validation and test"


def format_profile(report: str, file: Path) -> str:
    """Format what takes at least 1 % of the time, from the table of Lightning's SimpleProfiler.

    Args:
        report: the table: action, mean duration in s, number of calls, total in s, percentage.
        file: where all of it is.
    """
    lines = [f"{'%':>6}  {'seconds':>8}  {'calls':>7}  action"]
    for row in report.splitlines():
        cells = [cell.strip() for cell in row.strip().strip("|").split("|")]
        try:
            action, _, calls, total, share = cells
            if float(share) < LEAST_SHARE:
                continue
            figures = f"{float(share):>6.1f}  {float(total):>8.3f}  {calls:>7}"
        except ValueError:  # a line, or a heading
            continue
        lines.append(f"{figures}  {action.partition('{')[0]}")
    return "\n".join([*lines, f"everything: {file}"])


def _compare_losses(history: list[dict[str, Any]]) -> str:
    first, last = history[0]["train/loss"], history[-1]["train/loss"]
    change = f"from {first:.3f} to {last:.3f} in {len(history)} epochs"
    if last < first / 2:
        return f"the training loss fell {change}: the model learns these tracks"
    return (
        f"the training loss went {change} and did not fall to half of its start: check the labels, "
        "raise optimizer.lr, or train longer by trainer.max_epochs"
    )
