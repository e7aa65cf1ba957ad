"""Hydra's launcher: groups the runs of a sweep, and runs each group as a pack, or has it run."""

import contextlib
import copy
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import (
    JobReturn,
    configure_log,
    env_override,
    filter_overrides,
    run_job,
    setup_globals,
)
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from genreclf.commands.own_parts import make_targets_importable
from genreclf.commands.packed.distribution import distribute
from genreclf.commands.packed.groups import Job, group_jobs
from genreclf.errors import InputError

log = logging.getLogger(__name__)

TARGET = "hydra_plugins.genreclf.PackedLauncher"  # Hydra takes plugins only from hydra_plugins


def register_launcher() -> None:
    """Let Hydra find the launcher under its `_target_`."""
    Plugins.instance().class_name_to_class[TARGET] = PackedLauncher


class PackedLauncher(Launcher):
    """Trains the runs of a sweep that share their batches in one process, where they take turns.

    Args:
        max_runs: maximum number of runs at a time in a process; None for as many as fit in memory.
        inner: another launcher, whose jobs are packs; None for this process.
        settings: settings of the other launcher.
    """

    config: Any
    hydra_context: Any
    task_function: Any

    def __init__(
        self,
        max_runs: int | None = None,
        inner: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        if max_runs is not None and max_runs < 1:
            raise InputError(f"hydra.launcher.max_runs={max_runs}: at least 1 is needed")
        if settings and not inner:
            raise InputError("hydra.launcher.settings are those of hydra.launcher.inner: set it")
        if inner in ("basic", "packed"):
            raise InputError(f"hydra.launcher.inner={inner}: choose another launcher, or null")
        self.max_runs, self.inner, self.settings = max_runs, inner, settings or {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra hands over."""
        self.config, self.hydra_context = config, hydra_context
        self.task_function = task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run jobs; return what each returned, in order."""
        numbered = list(enumerate(map(list, job_overrides), start=initial_job_idx))
        if not self.inner:
            return self.run_jobs(numbered)
        done = distribute(self, group_jobs(self._compose(numbered)))
        return [done[number] for number, _ in numbered]

    def run_jobs(self, numbered: Sequence[tuple[int, list[str]]]) -> list[JobReturn]:
        """Run jobs, given as numbers and overrides, in this process."""
        self._start_log()
        done: dict[int, JobReturn] = {}
        for jobs, reason in group_jobs(self._compose(numbered)):
            for job in jobs:
                log.info("\t#%d : %s", job.number, " ".join(filter_overrides(job.overrides)))
            if reason:
                log.info("not packed: %s", reason)
                done |= {job.number: self._run_alone(job) for job in jobs}
            else:
                log.info("these %d runs share a process", len(jobs))
                done |= self._run_pack(jobs)
        return [done[number] for number, _ in numbered]

    def _start_log(self) -> None:
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)

    def _compose(self, numbered: Sequence[tuple[int, list[str]]]) -> list[Job]:
        jobs = []
        for number, overrides in numbered:
            config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
            with read_write(config), open_dict(config):
                config.hydra.job.id = config.hydra.job.num = number
                config.hydra.runtime.output_dir = str(Path(config.hydra.sweep.dir).absolute())
            own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
            with contextlib.suppress(InputError):  # which the run reports
                make_targets_importable(own, config.hydra)
            jobs.append(Job(number, overrides, config))
        return jobs

    def _run_alone(self, job: Job) -> JobReturn:
        result = self._run_job(job.config)
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return result

    def _run_job(self, config: Any, configure_logging: bool = True) -> JobReturn:
        return run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            configure_logging=configure_logging,
        )

    def _run_pack(self, jobs: Sequence[Job]) -> dict[int, JobReturn]:
        """Run jobs as a pack; those that did not fit in memory next to others again, alone."""
        from genreclf.training.pack import Pack  # imports PyTorch

        first = jobs[0].config
        environment: Any = OmegaConf.to_container(first.hydra.job.env_set)
        with env_override({name: str(value) for name, value in environment.items()}):
            self._build_store(first)
            configure_log(first.hydra.job_logging, first.hydra.verbose)
            work = [partial(self._run_member, job) for job in jobs]
            members = Pack(work, self.max_runs, [HYDRA_CONFIG, LOG_HANDLERS]).run()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        done = {job.number: member.result for job, member in zip(jobs, members, strict=True)}
        again = [job for job, member in zip(jobs, members, strict=True) if member.exhausted]
        del members, work
        for job in again:
            log.info("#%d did not fit in memory next to other runs, and is run again", job.number)
            done[job.number] = self._run_alone(job)
        return done

    def _build_store(self, config: Any) -> None:
        """Build the store of a pack before its runs start, where Ctrl-C has an effect at once."""
        from genreclf.commands import hydra_app, run_parts, user_errors

        task: Any = copy.deepcopy(config)
        with read_write(task), open_dict(task):
            del task["hydra"]
        before = HydraConfig.instance().cfg
        HydraConfig.instance().set_config(copy.deepcopy(config))  # which becomes read-only
        try:
            hydra_app.prepare_job("train", task)
            run_parts.open_store(task, run_parts.RunParts(task))
        except user_errors.USER_ERRORS:
            pass  # each run reports it
        finally:
            HydraConfig.instance().cfg = before

    def _run_member(self, job: Job) -> JobReturn:
        config = copy.deepcopy(job.config)
        with read_write(config), open_dict(config):
            config.hydra.job.env_set = {}  # a member that ends would unset it for the others
        with _number_log_lines(job.number):
            return self._run_job(config, configure_logging=False)


@contextlib.contextmanager
def _number_log_lines(number: int) -> Iterator[None]:
    """Begin each line of a member on the console with the number of its run."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, list(root.handlers)
    for place, handler in enumerate(before):
        if type(handler) is logging.StreamHandler:
            root.handlers[place] = numbered = copy.copy(handler)
            numbered.setFormatter(logging.Formatter(f"#{number} %(message)s"))
    try:
        yield
    finally:
        root.handlers = before


def _set_hydra_config(config: Any) -> None:
    HydraConfig.instance().cfg = config


def _set_handlers(handlers: list[logging.Handler]) -> None:
    logging.getLogger().handlers = list(handlers)


# States of the process that are exchanged when another member runs.
HYDRA_CONFIG = (lambda: HydraConfig.instance().cfg, _set_hydra_config)
LOG_HANDLERS = (lambda: list(logging.getLogger().handlers), _set_handlers)
