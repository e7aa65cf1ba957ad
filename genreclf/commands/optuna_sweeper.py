"""`hydra/sweeper=optuna`: a sweep in which Optuna chooses the values.

The published plugin, hydra-optuna-sweeper, needs Optuna 2. Results are kept in a database, so the
same command continues a search that was interrupted or that is to be longer.
"""

import copy
import importlib
import logging
import math
import os
import shlex
import warnings
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from genreclf.commands.compose import find_config_folders
from genreclf.commands.instantiation import instantiate
from genreclf.commands.own_parts import make_targets_importable
from genreclf.commands.user_errors import USER_ERRORS
from genreclf.errors import InputError, format_error
from genreclf.files import digest_values
from genreclf.locks import hold_lock

log = logging.getLogger(__name__)

DATA_KEYS = ["data", "features", "store", "outputs", "workers", "trust"]  # that find the store
TARGET = "hydra_plugins.genreclf.OptunaSweeper"  # Hydra takes plugins only from hydra_plugins


def register_sweeper() -> None:
    """Let Hydra find the sweeper under its `_target_`."""
    Plugins.instance().class_name_to_class[TARGET] = OptunaSweeper


class OptunaSweeper(Sweeper):
    """Runs trials one after the other, or several at a time, and tells Optuna their results.

    Args:
        n_trials: number of runs in all, those of earlier searches included.
        n_jobs: number of runs that the launcher starts together.
        seed: seed of the sampler.
        storage: URL of Optuna's database; None for a file in `outputs/optuna`.
        params: what is searched, in Hydra's syntax, by key.
    """

    config: Any
    hydra_context: Any
    launcher: Any

    def __init__(
        self, n_trials: int, n_jobs: int, seed: int, storage: str | None, params: dict[str, Any]
    ) -> None:
        if n_trials < 1 or n_jobs < 1:
            raise InputError("hydra.sweeper.n_trials and n_jobs: at least 1 is needed")
        self.n_trials, self.n_jobs, self.seed = n_trials, n_jobs, seed
        self.storage, self.params = storage, dict(params or {})

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra hands over."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search, and print the best value and the command that gives it.

        Raises:
            InputError: Optuna is not installed, there is nothing to search, or every run failed.
        """
        if self.config.hydra.job.name != "train":
            raise InputError("hydra/sweeper=optuna is for genreclf train")
        fixed, space = self._read_space(arguments)
        from genreclf.evaluation.metrics import (  # imports NumPy
            find_direction,
            name_selected_metric,
        )

        self.metric = name_selected_metric(str(self.config.monitor))
        self.minimize = find_direction(self.metric) == "min"
        self.error = ""
        name = self._name_study(space)
        folder = Path(str(self.config.outputs), "optuna")
        folder.mkdir(parents=True, exist_ok=True)
        with hold_lock(folder / f"{name}.lock", "the same sweep"):
            self.storage = self.storage or f"sqlite:///{(folder / name).absolute()}.db"
            study = self._open_study(name)
            self._run_trials(study, fixed, space)
        best = study.best_trial
        if not math.isfinite(best.values[0]):
            # They are tried again once that is corrected.
            _import_optuna().delete_study(study_name=name, storage=self.storage)
            raise InputError(f"every run failed or diverged; {self.error}".rstrip("; "))
        folders = [
            text
            for folder in find_config_folders(self.config.hydra)
            for text in ("--config-dir", os.path.relpath(folder))
        ]
        command = ["genreclf", "train", *folders, *fixed, *_list_overrides(best.params, space)]
        print(f"best {self.metric}: {best.values[0]:.4f}, run {best.number + 1} of {self.n_trials}")
        print(shlex.join(command))

    def _read_space(self, arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
        """Read the overrides that all runs share, and the distributions of the others, by key."""
        texts = [*(f"{key}={values}" for key, values in self.params.items()), *arguments]
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = {each.get_key_element(): each for each in parser.parse_overrides(texts)}
        space = {
            key: make_distribution(each)
            for key, each in overrides.items()
            if each.is_sweep_override()
        }
        if not space:
            raise InputError(
                "hydra/sweeper=optuna: say what to search, such as "
                "'optimizer.lr=tag(log, interval(1e-4, 1e-2))' or model=cnn_gru,efficient_cnn"
            )
        fixed = [
            f"{key}={each.get_value_element_as_str()}"
            for key, each in overrides.items()
            if key not in space
        ]
        return fixed, space

    def _name_study(self, space: dict[str, Any]) -> str:
        """Name the search after what it searches, and what its runs share, as a run is named.

        So changed data, code or pretrained weights make another search, whose runs are new. If the
        data cannot be read, they do not count, and each run says why.
        """
        from genreclf.commands.identity import digest_run  # imports NumPy
        from genreclf.commands.stores import find_store
        from genreclf.training.sources import digest_sources

        config = copy.deepcopy(self.config)
        HydraConfig.instance().set_config(config)
        make_targets_importable(config, config.hydra)
        try:
            source = find_store(OmegaConf.masked_copy(config, DATA_KEYS)).source
            data = digest_values([source.audio, source.table])
            init = config.init.checkpoint if "init" in config else None
            files = digest_sources(instantiate(config.get("distillation")), init)
        except USER_ERRORS:
            data, files = "", {}
        what = {key: repr(each) for key, each in space.items()}
        shared = digest_run(config, data, files)
        return digest_values([shared, what, self.metric, self.seed])[:8]

    def _open_study(self, name: str) -> Any:
        optuna = _import_optuna()
        study = optuna.create_study(
            study_name=name,
            storage=self.storage,
            direction="minimize" if self.minimize else "maximize",
            load_if_exists=True,
        )
        for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)  # it was interrupted, and continues first
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant_liar is experimental
            study.sampler = optuna.samplers.TPESampler(
                seed=self.seed + len(study.trials), constant_liar=self.n_jobs > 1
            )
        return study

    def _run_trials(self, study: Any, fixed: list[str], space: dict[str, Any]) -> None:
        worst = math.inf if self.minimize else -math.inf
        while (done := _count_finished(study)) < self.n_trials:
            count = min(self.n_jobs, self.n_trials - done)
            trials = [study.ask(space) for _ in range(count)]
            for trial in trials:
                trial.set_user_attr("overrides", _list_overrides(trial.params, space))
            batch = [[*fixed, *trial.user_attrs["overrides"]] for trial in trials]
            self.validate_batch_is_legal(batch)
            for trial, job in zip(trials, self.launcher.launch(batch, done), strict=True):
                value = self._read_value(job)
                study.tell(trial, worst if value is None else value)
                log.info(
                    "run %d of %d: %s %s",
                    *(trial.number + 1, self.n_trials, self.metric),
                    "failed" if value is None else f"{value:.4f}",
                )

    def _read_value(self, job: JobReturn) -> float | None:
        """Return the value of a run; None if it failed or diverged."""
        value = job._return_value
        if job.status != JobStatus.COMPLETED:
            self.error = format_error(value)
            return None
        return value if isinstance(value, float) and math.isfinite(value) else None


def make_distribution(override: Override) -> Any:
    """Turn an override with several values into a distribution of Optuna.

    Intervals and ranges become numbers, on a logarithmic scale if they have the tag `log`; anything
    else becomes a choice between texts.
    """
    distributions = _import_optuna().distributions
    values = override.value()
    if isinstance(values, IntervalSweep):
        whole = isinstance(values.start, int) and isinstance(values.end, int)
        kind = distributions.IntDistribution if whole else distributions.FloatDistribution
        return kind(values.start, values.end, log="log" in values.tags)
    if isinstance(values, RangeSweep) and not values.shuffle:
        listed = [*values.range()]
        whole = all(isinstance(value, int) for value in listed)
        kind = distributions.IntDistribution if whole else distributions.FloatDistribution
        return kind(min(listed), max(listed), step=abs(values.step))
    return distributions.CategoricalDistribution([*override.sweep_string_iterator()])


def _list_overrides(params: dict[str, Any], space: dict[str, Any]) -> list[str]:
    """List the overrides of a trial; other keys in the database, a file, are not for Hydra."""
    return [f"{key}={value}" for key, value in params.items() if key in space]


def _count_finished(study: Any) -> int:
    return sum(trial.values is not None for trial in study.trials)


def _import_optuna() -> Any:
    """Import Optuna without its log lines.

    Raises:
        InputError: it is not installed.
    """
    try:
        optuna = importlib.import_module("optuna")
    except ImportError:
        raise InputError(
            "hydra/sweeper=optuna is not installed: pip install 'genreclf[optuna]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
