"""Writes the report of a sweep when its last run has ended: a Hydra callback.

Every command imports it, also `genreclf study --status`, so it must import nothing slow.
"""

import atexit
import shutil
import uuid
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from genreclf.evaluation.runs import RESULT, read_runs
from genreclf.files import digest_values


class SweepReport(Callback):
    """Writes one page about all runs of `genreclf train -m` and prints its path.

    A launcher copies the callback to the process of each job, which may be on another machine.
    Each job therefore leaves a file in a folder on the shared disk, which belongs to this start of
    the sweep alone: the same sweep may be running elsewhere.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None  # has a file for each finished run; None: no sweep

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Choose the folder; it is removed when this process ends, even by an interruption."""
        if config.report:
            name = f".sweep-{uuid.uuid4().hex[:12]}"
            self.folder = Path(str(config.outputs)).absolute() / "report" / name
            atexit.register(shutil.rmtree, self.folder, ignore_errors=True)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Note the folder of a run that has ended well; debugging leaves no result."""
        if self.folder is None or job_return.status is not JobStatus.COMPLETED:
            return
        run = Path(HydraConfig.get().runtime.output_dir)
        if (run / RESULT).exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / run.name).write_text(str(run.absolute()), encoding="utf-8")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Write the page, unless there is only one run, which has a page of its own."""
        if self.folder is None or not self.folder.exists():
            return
        names = sorted(self.folder.iterdir())
        runs = [Path(name.read_text(encoding="utf-8")) for name in names]
        shutil.rmtree(self.folder)
        if len(runs) > 1:
            from genreclf.report.page import write_report  # imports Matplotlib

            name = f"sweep-{digest_values([run.name for run in runs])[:8]}.html"
            page = Path(str(config.outputs)) / "report" / name
            write_report(read_runs(runs), page)
            print(page)
