"""Checkpoint files of training: written atomically, and only if they can be read again."""

import io
import logging
import re
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from genreclf.errors import InputError, format_error
from genreclf.files import BEST, LAST, write_atomically
from genreclf.paths import refuse_special

TENSORS = (
    "state_dict",
    "current_model_state",
    "optimizer_states",
)  # large; tried by `try_parts`
log = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint next to the old one and then replaces it.

    Lightning writes into the folder for temporary files; if that is on another file system, the
    old checkpoint is overwritten step by step, and is lost if the process is killed or the disk is
    full.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None):
        """Write a checkpoint to a local file.

        Raises:
            InputError: a part of the user keeps something that could not be read back.
        """
        for name, state in checkpoint.get("callbacks", {}).items():
            check_plain(f"callback {name}", state)
        others = checkpoint.keys() - {*TENSORS, "callbacks"}
        check_plain("a callback or scheduler", {key: checkpoint[key] for key in others})
        with write_atomically(Path(path), "wb") as file:
            torch.save(checkpoint, file)


def check_plain(owner: str, state: Any) -> None:
    """Check that a checkpoint gives this state back, since reading one runs no pickled code.

    Args:
        owner: whose state it is, for the message.
        state: what a checkpoint is to hold.

    Raises:
        InputError: it does not.
    """
    file = io.BytesIO()
    try:
        torch.save(state, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise InputError(
            f"{owner} keeps {named[1] if named else format_error(error)[:100]} in the checkpoint, "
            "which could not be read again; keep tensors, numbers, text, lists and dicts"
        ) from None


def find_resumable(folder: Path) -> Path | None:
    """Return the checkpoint from which a run continues, or None if it starts from the beginning.

    It also needs the best checkpoint: a later epoch may not be better. If one of them is damaged,
    one line says so, and both count as absent.
    """
    if not (folder / LAST).exists():
        return None
    for path in (folder / LAST, folder / BEST):
        try:
            refuse_special(path)
            AtomicCheckpointIO().load_checkpoint(path)
        except Exception as error:  # a damaged file can make the unpickler fail in any way
            reason = format_error(error)[:100]
            log.warning("%s cannot be read (%s): training starts again", path, reason)
            return None
    log.info("this run was interrupted: it continues after its last finished epoch")
    return folder / LAST
