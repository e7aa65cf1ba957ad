"""Captures a step as a CUDA graph, and prepares an optimizer for it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def can_capture(device: torch.device) -> bool:
    """Whether steps on this device can be captured."""
    return device.type == "cuda"


class CapturedStep:
    """A captured step, with the memory from which it reads its inputs.

    Args:
        function: the step; capturing it runs its Python code but none of its kernels.
        batch: the inputs, on the GPU, of the shapes of all later batches.
    """

    def __init__(self, function: Callable[..., Tensor], batch: Sequence[Tensor]) -> None:
        with torch.inference_mode(False):
            self.inputs = [each.clone() for each in batch]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
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
