"""The progress of studies: shown while one runs, and listed by `genreclf study --status`."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from genreclf.errors import InputError
from genreclf.studies.settings import TEST
from genreclf.studies.study import STUDY, Phase, Study

LOCK = ".lock"


@contextlib.contextmanager
def show_progress(phase: Phase) -> Iterator[Callable[[], None]]:
    """Show a progress bar of finished runs; yields a function that updates it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(phase.name, total=phase.count_runs(), completed=phase.count_finished())
        yield lambda: bar.update(task, completed=phase.count_finished())


def describe_studies(outputs: Path) -> str:
    """Describe all studies in `outputs/study`, oldest first: a headline, then a line per phase.

    Raises:
        InputError: there are none.
    """
    files = sorted((outputs / "study").glob(f"*/{STUDY}"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise InputError(f"no study in {outputs / 'study'}; start one: genreclf study study=demo")
    return "\n\n".join(_describe_study(file.parent) for file in files)


def _describe_study(folder: Path) -> str:
    study = Study.read(folder)
    finished = sum(phase.count_finished() for phase in study.phases)
    total = sum(phase.count_runs() for phase in study.phases)
    if _is_locked(folder):
        state = "running"
    elif all(phase.is_over() for phase in study.phases):
        state = "finished"
    else:
        state = "stopped; run the same command again to resume"
    outcomes = [f"  {describe_outcome(phase, study.metric)}" for phase in study.phases]
    return "\n".join([f"{folder}: {state}, {finished} of {total} runs", *outcomes])


def describe_outcome(phase: Phase, metric: str | None) -> str:
    """Describe in a line how many runs are finished, and the phase's choice or why it has none."""
    count = f"{phase.count_finished()}/{phase.count_runs()}"
    text = phase.error
    if phase.chosen and phase.name == TEST:
        runs = phase.chosen.runs
        part = "test" if runs[0].result["tested_on"] == "test" else "validation"
        accuracy = sum(run.result["test"]["accuracy"] for run in runs) / len(runs)
        text = f"accuracy {accuracy:.4f} on the {part} part  {phase.chosen.name}"
    elif phase.chosen and metric:
        text = f"{metric} {phase.chosen.compute_mean(metric):.4f}  {phase.chosen.name}"
    elif phase.left_out and not phase.points:
        count, text = "-", "left out: " + "; ".join(sorted(set(phase.left_out.values())))
    return f"{phase.name:<14}{count:>6}  {text}".rstrip()


def _is_locked(folder: Path) -> bool:
    """Whether a process holds the study's lock, that is, is running it."""
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
