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
from omegaconf import DictConfig, OmegaConf

from genreclf import files
from genreclf.commands import distributed
from genreclf.commands.finished_runs import (
    find_destination,
    find_trained,
    note_destination,
    reuse,
    summarise,
    write_report,
)
from genreclf.commands.identity import changes_nothing, join_hydra
from genreclf.commands.run_folder import set_output_folder
from genreclf.commands.run_parts import RunParts, check_trainer, has_others_parts, open_store
from genreclf.commands.stores import choose_folder
from genreclf.data.store import Store
from genreclf.errors import DivergedError, InputError, format_error
from genreclf.evaluation import runs
from genreclf.evaluation.metrics import name_selected_metric
from genreclf.training import launch, turns

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
    check_trainer(config)
    parts = RunParts(config)
    store = open_store(config, parts)
    folder = choose_folder(join_hydra(config), store)
    if debug := HydraConfig.get().runtime.choices.get("debug"):
        folder = Path(str(config.outputs), "debug", f"{debug}-{folder.name}")
        if not rank and not launch.is_child():
            shutil.rmtree(folder, ignore_errors=True)
    elif (folder / runs.RESULT).exists() and not os.access(folder, os.W_OK):
        reuse(config, store, folder, agreement)  # from a share, without a lock or a log
        print(folder / runs.RESULT)
        return "", folder
    set_output_folder(folder)
    train = partial(_run_and_note_failure, config, parts, store, folder, agreement)

    def help_rank_0() -> None:
        distributed.help_rank_0(parts.checked, store, folder, agreement)

    if launch.is_child():  # the parent process holds the lock and prints
        sys.exit(distributed.run_child(help_rank_0 if rank else train, folder))
    if rank:
        help_rank_0()
        return "", None
    with turns.hold(FileLock(folder / ".lock")):  # the same command, started twice, trains once
        (folder / runs.FAILURE).unlink(missing_ok=True)
        refused = train()
    if not refused:
        print(folder if debug else folder / runs.RESULT)
    return refused, None if debug else folder


def _run_and_note_failure(
    config: DictConfig,
    parts: RunParts,
    store: Store,
    folder: Path,
    agreement: distributed.Agreement,
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
            reuse(config, store, folder, agreement)
        else:
            _train(config, parts, store, folder, agreement)
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
                turns.note_exhaustion()
                raise MemoryError from None
            raise
    if refused:
        from genreclf.training import memory

        memory.release_memory()
    return refused


def _train(
    config: DictConfig,
    run_parts: RunParts,
    store: Store,
    folder: Path,
    agreement: distributed.Agreement,
) -> None:
    """Train and test, in this process or in those that trainer=ddp asks for."""
    parts = run_parts.checked
    from genreclf.models import has_no_epochs
    from genreclf.training.check import check_genres
    from genreclf.training.debug import describe_debugging
    from genreclf.training.process_group import count_processes, make_probe
    from genreclf.training.run import train_and_test

    check_genres(store.classes, "usable tracks")
    by_epochs = not has_no_epochs(parts.make_model(classes=2))
    if run_parts.dropped and by_epochs:
        log.info("features=%s are a single frame: they are not augmented", parts.features.name)
    if has_others_parts(parts.config):
        run_parts.try_out(store.classes, store)
    finished = find_trained(config, store)
    count = count_processes(make_probe(parts.make_trainer))
    if by_epochs and count > 1 and finished is None and launch.read_rank()[1] == 1:
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
            write_report(run)

    run, logged = train_and_test(parts, store, folder, save, finished)
    if debug:
        log.info("%s", describe_debugging(debug, run.result["history"], folder))
    elif logged and find_destination(config):
        note_destination(config, run)
    log.info("%s", summarise(run.result))


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
