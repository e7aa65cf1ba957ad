"""Captures a step as a CUDA graph, and prepares an optimizer for it."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

# Hooks that would see a step before its end; a captured step runs as a whole.
HOOKS = (
    *("on_before_zero_grad", "on_before_backward", "on_after_backward"),
    "on_before_optimizer_step",
)


def find_obstacle(trainer: pl.Trainer) -> str:
    """Say why steps cannot run as a whole; empty if they can."""
    if trainer.world_size > 1:
        return "several processes train together"
    if trainer.accumulate_grad_batches > 1:
        return "trainer.accumulate_grad_batches is above 1"
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        return "trainer.precision=16-mixed scales the loss; bf16-mixed does not"
    if not math.isfinite(trainer.num_training_batches):
        return "the number of batches is not known"
    step = inspect.signature(type(trainer.optimizers[0]).step)
    if step.parameters["closure"].default is inspect.Parameter.empty:
        return f"{type(trainer.optimizers[0]).__name__} computes each step several times"
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if any(getattr(type(callback), hook) is not getattr(Callback, hook) for hook in HOOKS):
            return f"the callback {type(callback).__name__} reads gradients"
    return ""


def can_capture(device: torch.device) -> bool:
    """Whether steps on this device can be captured."""
    return device.type == "cuda"


def make_pool() -> Any:
    """Make a pool of memory for the captured steps of one run: their batches differ in size."""
    return torch.cuda.graph_pool_handle()


class CapturedStep:
    """A captured step, with the memory from which it reads its inputs.

    Args:
        function: the step; capturing it runs its Python code but none of its kernels.
        batch: the inputs, on the GPU, of the shapes of all later batches.
        pool: memory that it shares with other steps, of which one runs at a time; the output of a
            step is valid until the next step of that pool.
    """

    def __init__(
        self, function: Callable[..., Tensor], batch: Sequence[Tensor], pool: Any = None
    ) -> None:
        with torch.inference_mode(False):
            self.inputs = [each.clone() for each in batch]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool, capture_error_mode="thread_local"):
            self.output = function(*self.inputs)

    def replay(self, batch: Sequence[Tensor]) -> Tensor:
        """Run the step on a batch of the same shape."""
        for mine, given in zip(self.inputs, batch, strict=True):
            mine.copy_(given, non_blocking=True)
        self.graph.replay()
        return self.output


def run_aside(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Call a function on another stream than the current one, as a capture does."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        output = function(*arguments)
    torch.cuda.current_stream().wait_stream(stream)
    return output


def make_capturable(optimizer: Optimizer) -> None:
    """Let an optimizer count its steps on the GPU, and make its learning rate a tensor there.

    Optimizers without the setting `capturable` stay as they are.
    """
    for group in optimizer.param_groups:
        if "capturable" not in group:
            continue
        device = group["params"][0].device
        group["capturable"] = True
        group["lr"] = torch.tensor(float(group["lr"]), device=device)
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            if isinstance(state.get("step"), Tensor):
                state["step"] = state["step"].to(device)


def list_numbers(optimizer: Optimizer) -> list[Any]:
    """List the optimizer's settings that are numbers, which a graph would contain."""
    return [
        [value for value in group.values() if isinstance(value, int | float | tuple)]
        for group in optimizer.param_groups
    ]


class HostState:
    """The state that an optimizer keeps outside the GPU, which a graph could not update."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._saved = [
            (state, name, value.clone() if isinstance(value, Tensor) else value)
            for state in optimizer.state.values()
            for name, value in state.items()
            if not (isinstance(value, Tensor) and value.is_cuda)
        ]

    def has_changed(self) -> bool:
        """Whether it differs from what it was."""
        return any(not _are_equal(state[name], value) for state, name, value in self._saved)

    def restore(self) -> None:
        """Make it again what it was."""
        for state, name, value in self._saved:
            state[name] = value


def _are_equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other
