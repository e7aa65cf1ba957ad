"""Checks that what the user chose has an effect on this run."""

import logging
from functools import cache

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from torch import nn

from genreclf.errors import InputError
from genreclf.evaluation.runs import get_key
from genreclf.models import has_no_epochs

log = logging.getLogger(__name__)

USED_WITHOUT_EPOCHS = (  # keys and groups that a model without epochs makes use of
    *("data", "features", "split", "split_seed", "normalise", "model", "tracks_per_genre", "seed"),
    *("allow_identical", "store", "outputs", "workers", "num_workers", "batch_size", "cache"),
    *("fast", "trainer", "logger", "metric", "report", "test", "trust"),
    *("experiment", "phase", "debug", "hydra"),
)


def check_used(model: nn.Module) -> None:
    """Refuse choices of the user that a model without epochs, such as the SVM, does not use.

    In a sweep, which may have other models as well, this is only said.

    Args:
        model: the model of the run.

    Raises:
        InputError: names the overrides.
    """
    hydra_config = HydraConfig.get()
    if not has_no_epochs(model):
        return
    unused = [
        text
        for text in hydra_config.overrides.task
        if get_key(text).partition(".")[0].partition("@")[0] not in USED_WITHOUT_EPOCHS
    ]
    if not unused:
        return
    line = f"model={hydra_config.runtime.choices['model']} does not use {' '.join(unused)}"
    if hydra_config.mode == RunMode.MULTIRUN:
        _warn_once(line)
    else:
        raise InputError(f"{line}; leave that out")


@cache
def _warn_once(line: str) -> None:
    log.warning("%s", line)
