"""Running out of memory: how to detect it, and how to recover."""

import gc

import torch

# Messages of PyTorch's allocator of main memory; GPU memory has its own exception class.
REFUSED = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


def is_exhausted(error: BaseException) -> bool:
    """Whether an exception, or one of its causes, means that memory ran out."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(cause, RuntimeError) and any(text in str(cause) for text in REFUSED):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def name_device(device: torch.device | None = None) -> str:
    """Return a readable name of a device; by default, of the one that training would use."""
    if device is None:
        return torch.cuda.get_device_name() if torch.cuda.is_available() else "this machine"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def release_memory() -> None:
    """Free memory that is no longer in use."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
