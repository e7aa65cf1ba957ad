"""`genreclf report`: a self-contained HTML page for a run or a set of runs, or of a study."""

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from genreclf.phase import STUDY, Study
from genreclf.report.page import render
from genreclf.report.study import PAGE, write_study
from genreclf.results import Run, find_runs, write_text

__all__ = ["PAGE", "run", "write", "write_study"]


def run(config: DictConfig) -> None:
    """The command: read what is finished, write the page, print its path."""
    places = config.runs if isinstance(config.runs, ListConfig) else [config.runs]
    if len(places) == 1 and (Path(places[0]) / STUDY).exists():
        print(write_study(Study.read(Path(places[0])), Path(places[0])))
        return
    page = Path(config.page)
    write(find_runs(places), page)
    print(page)


def write(runs: list[Run], page: Path) -> None:
    """Write the page of these runs."""
    write_text(page, render(runs))
