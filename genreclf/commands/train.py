"""`genreclf train`: train and test the run that a config describes.

PyTorch is imported only if a run has to be trained; a finished run is recognised without it.
"""

import logging
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from genreclf import files
from genreclf.commands import distributed
from genreclf.commands.identity import changes_nothing, check_defaults, join_hydra
from genreclf.commands.run_folder import set_output_folder
from genreclf.commands.stores import choose_folder, find_store
from genreclf.data.build_store import StorePlan, write_store
from genreclf.data.store import Store
from genreclf.errors import InputError, format_error
from genreclf.evaluation import runs
from genreclf.evaluation.metrics import format_headline
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
    store = open_store(config)
    folder = choose_folder(join_hydra(config), store)
    if debug := HydraConfig.get().runtime.choices.get("debug"):
        folder = Path(str(config.outputs), "debug", f"{debug}-{folder.name}")
        if not rank and not launch.is_child():
            shutil.rmtree(folder, ignore_errors=True)
    set_output_folder(folder)
    train = partial(_run_and_note_failure, config, store, folder)
    help_rank_0 = partial(distributed.help_rank_0, config, store, folder)
    if launch.is_child():  # the parent process holds the lock and prints
        sys.exit(distributed.run_child(help_rank_0 if rank else train, folder))
    if rank:
        help_rank_0()
        return None
    with FileLock(folder / ".lock"):  # the same command, started twice, trains once
        (folder / runs.FAILURE).unlink(missing_ok=True)
        refused = train()
    if refused:
        raise InputError(refused)
    if debug:
        print(folder)
        return None
    print(folder / runs.RESULT)
    monitor = "val/loss" if config.monitor == "last" else config.monitor
    return files.read_json(folder / runs.RESULT)["metrics"][monitor]


def open_store(config: DictConfig) -> Store:
    """Open the run's store; if it is missing, check all settings and then build it.

    Raises:
        InputError: a setting is wrong, or the store cannot be made.
    """
    store = find_store(config)
    if isinstance(store, StorePlan):
        from genreclf.commands.parts import make_parts
        from genreclf.training.check import check_genres, check_settings, try_parts

        parts, genres = make_parts(config), store.dataset.genres()
        check_settings(parts)
        check_genres(genres, "data")
        if callable(parts.features):  # others come with the dataset, and need no decoding
            try_parts(parts, genres, parts.features.shape)
        store = write_store(store, config.workers)
    return store


def _run_and_note_failure(config: DictConfig, store: Store, folder: Path) -> str:
    """Train the run or reuse it; record any failure in its folder.

    Returns:
        A line of text if memory ran out, else an empty text. It is not raised here: an exception
        keeps its stack frames alive, and with them the tensors whose memory the next run of a
        sweep needs.
    """
    refused = ""
    try:
        if (folder / runs.RESULT).exists():
            _reuse(config, folder)
        else:
            _train(config, store, folder)
    except Exception as error:
        from genreclf.training import memory

        exhausted = memory.is_exhausted(error)
        text = format_error(error)
        if exhausted:
            refused = text = (
                f"batch_size={config.batch_size} does not fit in the memory of "
                f"{memory.name_device()}; choose a smaller one"
            )
        files.write_json(folder / runs.FAILURE, {"error": text, "out_of_memory": exhausted})
        if not exhausted:
            raise
    if refused:
        from genreclf.training import memory

        memory.release_memory()
    return refused


def _reuse(config: DictConfig, folder: Path) -> None:
    """Log the result of a finished run; write its report if there is none."""
    distributed.decide_together(config, train=False)
    result = files.read_json(folder / runs.RESULT)
    check_defaults(folder, result["config"], config)
    made_by = runs.shorten_commit(result) or f"genreclf {result['versions']['genreclf']}"
    log.info("this run is finished (%s): its result is reused; delete %s to rerun", made_by, folder)
    log.info("%s", _summarise(result))
    if config.report and not (folder / runs.PAGE).exists():
        _write_report(runs.Run.read(folder))


def _train(config: DictConfig, store: Store, folder: Path) -> None:
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
        shape = parts.features.shape if callable(parts.features) else store.shape
        try_parts(parts, store.classes, shape)
    count = count_processes(make_probe(parts.make_trainer))
    if count > 1 and launch.read_rank()[1] == 1:
        distributed.start_processes(count, folder)
        return
    distributed.decide_together(config, train=True)
    run = train_and_test(parts, store, folder)
    run.result.update(choices=_list_choices(), overrides=_list_overrides())
    if config.report:
        _write_report(run)
    if debug := HydraConfig.get().runtime.choices.get("debug"):
        log.info("%s", describe_debugging(debug, run.result["history"], folder))
    else:
        files.write_json(folder / runs.RESULT, run.result)
    (folder / files.LAST).unlink(missing_ok=True)
    log.info("%s", _summarise(run.result))


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
    """List the user's overrides, except those that do not affect results."""
    given: list[str] = list(HydraConfig.get().overrides.task)
    return [text for text in given if not changes_nothing(text.partition("=")[0].lstrip("+~"))]


def _summarise(result: dict[str, Any]) -> str:
    epochs = len(result["history"])
    kept = f"epoch {result['best_epoch'] + 1} of {epochs}, " if epochs else ""
    return (
        f"{result['tested_on']} {format_headline(result['test'])}; {kept}{result['seconds']:.0f} s"
    )
