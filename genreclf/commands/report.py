"""`genreclf report`: one self-contained HTML page for a run, for several runs, or for a study."""

from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf

from genreclf.errors import InputError
from genreclf.evaluation.runs import read_runs
from genreclf.files import check_writable
from genreclf.report.groups import select_runs
from genreclf.report.page import write_report
from genreclf.report.study import write_study_report
from genreclf.studies.study import STUDY, Study


def run(config: DictConfig) -> None:
    """Run the command: read the finished runs, write the page and print its path."""
    places = config.runs if isinstance(config.runs, ListConfig) else [config.runs]
    if len(places) == 1 and (Path(places[0]) / STUDY).exists():
        if config.where is not None:
            raise InputError("where: a study's report has all its runs; use runs=outputs/train")
        print(write_study_report(Study.read(Path(places[0])), Path(places[0])))
        return
    page, where = Path(config.page), config.where
    if isinstance(where, DictConfig):
        where = OmegaConf.to_container(where)
    check_writable(page, "page")
    write_report(select_runs(read_runs(places), where), page)
    print(page)
