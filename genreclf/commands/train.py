"""`genreclf train`: train and test the run that a config describes.

PyTorch is imported only if a run has to be trained; a finished run is recognised without it.
"""

import logging
import os
import shutil
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from genreclf import files
from genreclf.commands import distributed
from genreclf.commands.identity import changes_nothing, check_defaults, join_hydra
from genreclf.commands.run_folder import set_output_folder
from genreclf.commands.stores import choose_folder, find_store
from genreclf.data.build_store import StorePlan, write_store
from genreclf.data.store import Store
from genreclf.errors import DivergedError, InputError, format_error
from genreclf.evaluation import runs
from genreclf.evaluation.metrics import format_headline, name_selected_metric
from genreclf.training import launch
from genreclf.trust import list_own_targets

log = logging.getLogger(__name__)


def run(config: DictConfig) -> float | None:
    """Run the command: train and test, or reuse the finished run; print the path of its result.

    Returns:
        The monitored metric of the epoch that is kept, or val/loss with monitor=last, for sweepers
        that search; None with debug=... and in processes whose rank is not 0.
    """
    rank, _ = launch.read_rank()
    if rank:
        logging.disable()  # the process of rank 0 logs
    with distributed.Agreement(config) as agreement:
        refused, folder = _run(config, agreement, rank)
    if refused:
        raise InputError(refused)
    if folder is None:
        return None
    metrics = files.read_json(folder / runs.RESULT)["metrics"]
    return metrics[name_selected_metric(config.monitor)]


def _run(
    config: DictConfig, agreement: distributed.Agreement, rank: int
) -> tuple[str, Path | None]:
    """Train the run or reuse it, with this process's share of the work.

    Returns:
        A line of text if memory ran out, else an empty text; and the folder with the result, None
        with debug=... and in processes whose rank is not 0.
    """
    _check_trainer(config)
    store = open_store(config)
    folder = choose_folder(join_hydra(config), store)
    if debug := HydraConfig.get().runtime.choices.get("debug"):
        folder = Path(str(config.outputs), "debug", f"{debug}-{folder.name}")
        if not rank and not launch.is_child():
            shutil.rmtree(folder, ignore_errors=True)
    elif (folder / runs.RESULT).exists() and not os.access(folder, os.W_OK):
        _reuse(config, store, folder, agreement)  # from a share, without a lock or a log
        print(folder / runs.RESULT)
        return "", folder
    set_output_folder(folder)
    train = partial(_run_and_note_failure, config, store, folder, agreement)
    help_rank_0 = partial(distributed.help_rank_0, config, store, folder, agreement)
    if launch.is_child():  # the parent process holds the lock and prints
        sys.exit(distributed.run_child(help_rank_0 if rank else train, folder))
    if rank:
        help_rank_0()
        return "", None
    with FileLock(folder / ".lock"):  # the same command, started twice, trains once
        (folder / runs.FAILURE).unlink(missing_ok=True)
        refused = train()
    if not refused:
        print(folder if debug else folder / runs.RESULT)
    return refused, None if debug else folder


def _check_trainer(config: DictConfig) -> None:
    """Check the Trainer's settings before any data is read, if there is no run to reuse.

    A finished run is reused without the GPU that it was trained on.
    """
    if not any(Path(str(config.outputs), "train").glob(f"*/{runs.RESULT}")):
        from genreclf.training.process_group import make_probe  # imports PyTorch

        make_probe(partial(instantiate, config.trainer))


def open_store(config: DictConfig) -> Store:
    """Open the run's store; if it is missing, check all settings and then build it.

    Raises:
        InputError: a setting is wrong, or the store cannot be made.
    """
    store = find_store(config)
    if isinstance(store, StorePlan):
        from genreclf.commands.parts import make_parts
        from genreclf.data.preview import check_split  # imports scikit-learn
        from genreclf.training.check import check_genres, check_settings, try_parts

        parts, genres = make_parts(config), sorted({track.genre for track in store.tracks})
        check_settings(parts)
        check_genres(genres, "data")
        if str(config.split["_target_"]).startswith("genreclf."):  # yours may read features
            check_split(parts.split, store.tracks)
        if callable(parts.features):  # others come with the dataset, and need no decoding
            try_parts(parts, genres, parts.features.shape)
        store = write_store(store, config.workers)
    return store


def _run_and_note_failure(
    config: DictConfig, store: Store, folder: Path, agreement: distributed.Agreement
) -> str:
    """Train the run or reuse it; record any failure in its folder.

    Returns:
        A line of text if memory ran out, else an empty text. It is not raised here: an exception
        keeps its stack frames alive, and with them the tensors whose memory the next run of a
        sweep needs.
    """
    refused = ""
    try:
        if (folder / runs.RESULT).exists():
            _reuse(config, store, folder, agreement)
        else:
            _train(config, store, folder, agreement)
    except Exception as error:
        from genreclf.training import memory

        diverged = isinstance(error, DivergedError)
        failure = {"error": format_error(error), "out_of_memory": False, "diverged": diverged}
        if isinstance(error, memory.OutOfMemoryError):
            failure, refused = error.describe(), str(error)
        with suppress(OSError):  # on a full disk, the first error is what counts
            files.write_json(folder / runs.FAILURE, failure)
        if not refused:
            if memory.is_exhausted(error):  # not by a batch
                raise MemoryError from None
            raise
    if refused:
        from genreclf.training import memory

        memory.release_memory()
    return refused


def _reuse(
    config: DictConfig, store: Store, folder: Path, agreement: distributed.Agreement
) -> None:
    """Log the result of a finished run; write its report if there is none."""
    result = files.read_json(folder / runs.RESULT)
    check_defaults(folder, result["config"], config)
    agreement.reach(distributed.REUSE)
    made_by = runs.shorten_commit(result) or f"genreclf {result['versions']['genreclf']}"
    log.info("this run is finished (%s): its result is reused; delete %s to rerun", made_by, folder)
    log.info("%s", _summarise(result))
    if _is_to_log(config, result):
        _log_again(config, store, runs.Run.read(folder))
    if config.report and not (folder / runs.PAGE).exists() and os.access(folder, os.W_OK):
        _write_report(runs.Run.read(folder))


def _is_to_log(config: DictConfig, result: dict[str, Any]) -> bool:
    """Whether a finished run has yet to be logged where the user, or its own training, wanted."""
    destination = _find_destination(config)
    if not destination or destination in result.get("logged", [_get_own_destination(result)]):
        return False
    chosen = any(text.startswith("logger") for text in HydraConfig.get().overrides.task)
    return chosen or destination == _get_own_destination(result)


def _find_destination(config: DictConfig) -> dict[str, Any]:
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

    log.info("it is now logged, from its result, by logger=%s", _list_choices()["logger"])
    if log_finished_run(make_parts(config), store, run):
        _note_destination(config, run)


def _note_destination(config: DictConfig, run: runs.Run) -> None:
    logged = run.result.get("logged", [_get_own_destination(run.result)])  # since this version
    run.result["logged"] = [*logged, _find_destination(config)]
    with suppress(OSError):  # read-only, or full: it is logged again next time
        files.write_json(run.folder / runs.RESULT, run.result)


def _train(
    config: DictConfig, store: Store, folder: Path, agreement: distributed.Agreement
) -> None:
    """Train and test, in this process or in those that trainer=ddp asks for."""
    from genreclf.commands.parts import make_parts
    from genreclf.training.check import check_genres, check_settings, try_parts
    from genreclf.training.debug import describe_debugging
    from genreclf.training.process_group import count_processes, make_probe
    from genreclf.training.run import train_and_test

    parts = make_parts(config)
    check_settings(parts)
    check_genres(store.classes, "usable tracks")
    if list_own_targets(parts.config):
        try_parts(parts, store.classes, getattr(parts.features, "shape", store.shape))
    finished = _find_trained(config, store)
    count = count_processes(make_probe(parts.make_trainer))
    if count > 1 and finished is None and launch.read_rank()[1] == 1:
        distributed.start_processes(count, folder, config.batch_size)
        return
    agreement.reach(distributed.TRAIN if finished is None else distributed.REUSE)
    debug = HydraConfig.get().runtime.choices.get("debug")

    def save(run: runs.Run) -> None:
        run.result.update(choices=_list_choices(), overrides=_list_overrides(), logged=[])
        if not debug:
            files.write_json(folder / runs.RESULT, run.result)
        (folder / files.LAST).unlink(missing_ok=True)
        if config.report:  # after the result, which a page that fails must not cost
            _write_report(run)

    run, logged = train_and_test(parts, store, folder, save, finished)
    if debug:
        log.info("%s", describe_debugging(debug, run.result["history"], folder))
    elif logged and _find_destination(config):
        _note_destination(config, run)
    log.info("%s", _summarise(run.result))


def _find_trained(config: DictConfig, store: Store) -> runs.Run | None:
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


def _write_report(run: runs.Run) -> None:
    from genreclf.report.page import write_report  # imports Matplotlib

    write_report([run], run.folder / runs.PAGE)


def _list_choices() -> dict[str, str]:
    """List the chosen option of each config group."""
    choices = HydraConfig.get().runtime.choices
    return {
        group: str(option) for group, option in choices.items() if option and "hydra" not in group
    }


def _list_overrides() -> list[str]:
    """List the user's overrides, except those that do not affect results.

    References are resolved, except to the seed: `split_seed=${seed}` is the same for all seeds.
    """
    given = HydraConfig.get().overrides.task
    written: Any = OmegaConf.to_container(given)
    texts = (w if "${seed}" in w else text for w, text in zip(written, given, strict=True))
    return [text for text in texts if not changes_nothing(runs.get_key(text))]


def _summarise(result: dict[str, Any]) -> str:
    epochs = len(result["history"])
    kept = f"epoch {result['best_epoch'] + 1} of {epochs}, " if epochs else ""
    return (
        f"{result['tested_on']} {format_headline(result['test'])}; {kept}{result['seconds']:.0f} s"
    )
