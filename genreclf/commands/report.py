"""`genreclf report`: one self-contained HTML page for a run, for many runs, or for a study."""

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from genreclf.evaluation.runs import find_runs
from genreclf.report.page import write
from genreclf.report.study import write_study
from genreclf.studies.study import STUDY, Study


def run(config: DictConfig) -> None:
    """The command: read what is finished, write the page, print its path."""
    places = config.runs if isinstance(config.runs, ListConfig) else [config.runs]
    if len(places) == 1 and (Path(places[0]) / STUDY).exists():
        print(write_study(Study.read(Path(places[0])), Path(places[0])))
        return
    page = Path(config.page)
    write(find_runs(places), page)
    print(page)
