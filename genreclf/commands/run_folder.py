"""Tells Hydra and the log the folder of a run, which is known only once its data is found."""

import contextlib
import logging
import logging.handlers
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from genreclf.paths import refuse_special

MANY = 100_000  # lines that may be logged before the folder is known
FORMAT = "[%(asctime)s] %(message)s"


@contextlib.contextmanager
def keep_log() -> Iterator[None]:
    """Hold back the log until `set_output_folder` says where to write it."""
    memory = logging.handlers.MemoryHandler(MANY, flushLevel=MANY, flushOnClose=False)
    root = logging.getLogger()
    root.addHandler(memory)
    try:
        yield
    finally:
        memory.flush()
        root.removeHandler(memory)
        if memory.target:
            memory.target.close()
        memory.close()


def set_output_folder(folder: Path) -> None:
    """Make the folder, set `${hydra:runtime.output_dir}` to it, and write the log there."""
    folder.mkdir(parents=True, exist_ok=True)
    runtime: Any = HydraConfig.get().runtime
    OmegaConf.set_readonly(runtime, False)
    with open_dict(runtime):
        runtime.output_dir = str(folder)
    name = f"{HydraConfig.get().job.name}.log"  # in which any name of a file can be written
    refuse_special(folder / name)
    file = logging.FileHandler(folder / name, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter(FORMAT))
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.handlers.MemoryHandler):
            handler.setTarget(file)
            handler.flush()
            handler.capacity = 1  # from now on, line by line
