"""How far a study is: while it runs, and asked from outside."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from genreclf.errors import InputError
from genreclf.studies.study import STUDY, Phase, Study

LOCK = ".lock"


@contextlib.contextmanager
def show_progress(phase: Phase) -> Iterator[Callable[[], None]]:
    """A bar of the runs that are finished; the function that is given counts them anew."""
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
    """All studies below `outputs`, a line for each phase.

    Raises:
        InputError: there is none.
    """
    files = sorted((outputs / "study").glob(f"*/{STUDY}"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise InputError(f"no study in {outputs / 'study'}; begin one: genreclf study study=demo")
    return "\n\n".join(_describe_study(file.parent) for file in files)


def _describe_study(folder: Path) -> str:
    study = Study.read(folder)
    done = sum(phase.count_finished() for phase in study.phases)
    total = sum(phase.count_runs() for phase in study.phases)
    running = _is_locked(folder)
    over = all(phase.is_over() for phase in study.phases)
    state = "running" if running else "finished" if over else "stopped; the same command goes on"
    lines = [f"{folder}: {state}, {done} of {total} runs"]
    return "\n".join(
        lines + [f"  {describe_outcome(phase, study.metric)}" for phase in study.phases]
    )


def describe_outcome(phase: Phase, metric: str | None) -> str:
    """What a phase chose, or why it did not, in one line."""
    count = f"{phase.count_finished()}/{phase.count_runs()}"
    text = phase.error
    if phase.chosen and metric:
        text = f"{metric} {phase.chosen.compute_mean(metric):.4f}  {phase.chosen.name}"
    elif phase.left_out and not phase.points:
        count, text = "-", "left out: " + "; ".join(sorted(set(phase.left_out.values())))
    return f"{phase.name:<14}{count:>6}  {text}".rstrip()


def _is_locked(folder: Path) -> bool:
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
