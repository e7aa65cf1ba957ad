"""Finished runs: reused, logged where they have not been logged yet, or tested.

Imports no PyTorch unless a run is logged.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from genreclf import files
from genreclf.commands import distributed
from genreclf.commands.identity import check_defaults, join_hydra
from genreclf.commands.stores import choose_folder
from genreclf.data.store import Store
from genreclf.evaluation import runs
from genreclf.evaluation.metrics import format_headline
from genreclf.evaluation.provenance import shorten_commit

log = logging.getLogger(__name__)


def reuse(config: DictConfig, store: Store, folder: Path, agreement: distributed.Agreement) -> None:
    """Reuse a finished run: log its result where that has yet to be done, and write its report.

    Raises:
        InputError: a default has changed since the run was made.
    """
    result = files.read_json(folder / runs.RESULT)
    check_defaults(folder, result["config"], config)
    agreement.reach(distributed.REUSE)
    commit = shorten_commit(result)
    made_by = f"commit {commit}" if commit else f"genreclf {result['versions']['genreclf']}"
    log.info("this run is finished (%s): its result is reused; delete %s to rerun", made_by, folder)
    log.info("%s", summarise(result))
    if _is_to_log(config, result):
        _log_again(config, store, runs.Run.read(folder))
    if config.report and not (folder / runs.PAGE).exists() and os.access(folder, os.W_OK):
        write_report(runs.Run.read(folder))


def find_trained(config: DictConfig, store: Store) -> runs.Run | None:
    """Find a finished run that differs only in `test`, whose model can be tested as it is.

    Raises:
        InputError: a default has changed since that run was made.
    """
    if HydraConfig.get().runtime.choices.get("debug"):  # which is about training
        return None
    other: Any = OmegaConf.merge(join_hydra(config), {"test": not config.test})
    folder = choose_folder(other, store)
    if not ((folder / runs.RESULT).exists() and (folder / files.BEST).exists()):
        return None
    run = runs.Run.read(folder)
    check_defaults(folder, run.result["config"], other)
    log.info("the model of %s is tested: that run differs only in test=%s", folder, other.test)
    return run


def _is_to_log(config: DictConfig, result: dict[str, Any]) -> bool:
    """Whether a finished run has yet to be logged where the user, or its own training, wanted."""
    destination = find_destination(config)
    if not destination or destination in result.get("logged", [_get_own_destination(result)]):
        return False
    chosen = any(text.startswith("logger") for text in HydraConfig.get().overrides.task)
    return chosen or destination == _get_own_destination(result)


def find_destination(config: DictConfig) -> dict[str, Any]:
    """Say where a run is logged: the settings of its loggers, except its name; empty if nowhere."""
    destination: Any = OmegaConf.to_container(config.logger, resolve=True)
    destination.pop("name", None)
    if destination and "WANDB_RUN_ID" in os.environ:  # an agent of W&B waits for this run
        destination["run"] = os.environ["WANDB_RUN_ID"]
    return destination


def _get_own_destination(result: dict[str, Any]) -> dict[str, Any]:
    """Return where training logged the run, or tried to."""
    return {key: value for key, value in result["config"]["logger"].items() if key != "name"}


def _log_again(config: DictConfig, store: Store, run: runs.Run) -> None:
    """Log a finished run where it has not been logged yet."""
    from genreclf.commands.parts import make_parts
    from genreclf.training.run import log_finished_run

    logger = HydraConfig.get().runtime.choices["logger"]
    log.info("it is now logged, from its result, by logger=%s", logger)
    if log_finished_run(make_parts(config), store, run):
        note_destination(config, run)


def note_destination(config: DictConfig, run: runs.Run) -> None:
    """Record in a run's result that it has been logged where the config says."""
    logged = run.result.get("logged", [_get_own_destination(run.result)])  # since this version
    run.result["logged"] = [*logged, find_destination(config)]
    with suppress(OSError):  # read-only, or full: it is logged again next time
        files.write_json(run.folder / runs.RESULT, run.result)


def write_report(run: runs.Run) -> None:
    """Write the page of a run."""
    from genreclf.report.page import write_report  # imports Matplotlib

    write_report([run], run.folder / runs.PAGE)


def summarise(result: dict[str, Any]) -> str:
    """Summarise a result in one line."""
    epochs = len(result["history"])
    kept = f"epoch {result['best_epoch'] + 1} of {epochs}, " if epochs else ""
    return (
        f"{result['tested_on']} {format_headline(result['test'])}; {kept}{result['seconds']:.0f} s"
    )
