"""`genreclf report`: one self-contained HTML page for a run or a set of runs."""

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from genreclf.report.page import render
from genreclf.results import Run, find_runs, write_text

__all__ = ["run", "write"]


def run(config: DictConfig) -> None:
    """The command: read the finished runs, write the page, print its path."""
    places = config.runs if isinstance(config.runs, ListConfig) else [config.runs]
    page = Path(config.page)
    write(find_runs(places), page)
    print(page)


def write(runs: list[Run], page: Path) -> None:
    """Write the page of these runs."""
    write_text(page, render(runs))
