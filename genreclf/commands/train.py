"""`genreclf train`: from a config to a finished run.

PyTorch is imported where a run is trained, not before: a finished run is recognised without it.
"""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from genreclf import files
from genreclf.commands import distributed
from genreclf.data.build_store import build_store, describe_source
from genreclf.data.store import Store
from genreclf.errors import InputError, format_error
from genreclf.evaluation import runs
from genreclf.evaluation.metrics import format_headline
from genreclf.report.study import PAGE
from genreclf.training import launch, sources

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """The command: train and test, or reuse the finished run; print the path of result.json."""
    folder = find_folder()
    help_rank_0 = partial(distributed.help_rank_0, config, folder, open_store)
    if launch.is_child():  # of a `genreclf train` that holds the lock and prints
        train = partial(_run_and_note_failure, config, folder)
        sys.exit(distributed.run_child(train, folder, help_rank_0))
    if launch.read_rank()[0]:
        help_rank_0()
        return
    with FileLock(folder / ".lock"):  # the same command, started twice, trains once
        (folder / runs.FAILURE).unlink(missing_ok=True)
        refused = _run_and_note_failure(config, folder)
    if refused:
        raise InputError(refused)
    print(folder / runs.RESULT)


def find_folder() -> Path:
    """The folder of the run."""
    return Path(HydraConfig.get().runtime.output_dir)


def is_finished(folder: Path) -> bool:
    """Whether the run in this folder has a result."""
    return (folder / runs.RESULT).exists()


def open_store(config: DictConfig) -> Store:
    """The store of the run; what it lacks is decoded first.

    Raises:
        InputError: the data have fewer than two genres, or no features can be made from them.
    """
    from genreclf.training.build import check_genres

    dataset = instantiate(config.data)
    check_genres(dataset.genres(), "data")
    store = build_store(
        dataset,
        instantiate(config.features),
        outputs=config.outputs,
        path=config.store,
        workers=config.workers,
    )
    check_genres(store.classes, "usable tracks")
    return store


def _run_and_note_failure(config: DictConfig, folder: Path) -> str:
    """Train or reuse; note in the folder what fails. Returns a line where memory ran out.

    That line is not raised in here: an exception keeps the frames in which it arose, and they keep
    the tensors, which the next run of a sweep would lack.
    """
    refused = ""
    try:
        if is_finished(folder):
            _reuse(config, folder)
        else:
            _train(config, folder)
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
    """Say what a finished run came to, and write its report if there is none."""
    distributed.decide_together(config, train=False)
    file = folder / runs.RESULT
    result = files.read_json(file)
    source = describe_source(instantiate(config.data), instantiate(config.features))
    sources.check_data(file, result["data"]["digest"], source)
    distillation = instantiate(config.get("distillation"))
    init = config.init.checkpoint if "init" in config else None
    current = sources.digest_sources(distillation, init)
    sources.check_sources(file, result.get("sources", {}), current)
    log.info("this run is finished: its result is reused; delete its folder to rerun it")
    log.info("%s", _summarise(result))
    if config.report and not (folder / PAGE).exists():
        _write_report(runs.Run.read(folder))


def _train(config: DictConfig, folder: Path) -> None:
    """Train and test, in this process or in those that trainer=ddp asks for."""
    from genreclf.commands.parts import make_parts
    from genreclf.training import process_group
    from genreclf.training.build import check_settings
    from genreclf.training.run import train_and_test

    parts = make_parts(config)
    check_settings(parts, folder)
    store = open_store(config)
    count = process_group.count_processes(process_group.make_probe(parts.make_trainer))
    if count > 1 and launch.read_rank()[1] == 1:
        distributed.start_processes(count, folder)
        return
    distributed.decide_together(config, train=True)
    run = train_and_test(parts, store, folder)
    run.result.update(choices=_list_choices(), overrides=_list_overrides())
    if config.report:
        _write_report(run)
    files.write_json(folder / runs.RESULT, run.result)
    (folder / runs.LAST).unlink(missing_ok=True)
    log.info("%s", _summarise(run.result))


def _write_report(run: runs.Run) -> None:
    from genreclf.report.page import write  # imports what draws

    write([run], run.folder / PAGE)


def _list_choices() -> dict[str, str]:
    """The option of each config group that was chosen."""
    choices = HydraConfig.get().runtime.choices
    return {
        group: str(option) for group, option in choices.items() if option and "hydra" not in group
    }


def _list_overrides() -> list[str]:
    """What the user changed, without what changes no number."""
    given: list[str] = list(HydraConfig.get().overrides.task)
    return [text for text in given if not _changes_nothing(text.partition("=")[0].lstrip("+~"))]


def _changes_nothing(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in runs.NOT_IDENTITY)


def _summarise(result: dict[str, Any]) -> str:
    epochs = len(result["history"])
    kept = f"epoch {result['best_epoch'] + 1} of {epochs}, " if epochs else ""
    return (
        f"{result['tested_on']} {format_headline(result['test'])}; {kept}{result['seconds']:.0f} s"
    )
