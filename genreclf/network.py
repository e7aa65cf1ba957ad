"""`genreclf network`: what a net consists of, as a drawing and as a table.

Nothing is known of a net beforehand: hooks on its modules and PyTorch's function mode watch one
pass, so that the steps, their order and what each of them reads are those of the pass itself.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from genreclf.errors import InputError
from genreclf.models import parameter_count
from genreclf.report import figures

log = logging.getLogger(__name__)

Shape = tuple[int, ...]  # without the batch
AXES = ("batch", "channels", "frequency", "time")  # of what a convolution takes and gives
REDUCTIONS = {"mean", "amax", "amin", "sum"}
ACTIVATIONS = {"relu", "gelu", "silu", "tanh", "sigmoid", "softmax"}
COPIES = {"contiguous", "reshape", "flatten", "clone", "to", "float"}  # not worth a step
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass
class Step:
    """What a net does to a tensor, or to several."""

    names: list[str]  # of the modules that do it; none for an operation outside modules
    kind: str  # one of figures.KINDS, or another
    layers: list[str]  # what it does, in lines
    parameters: int = 0  # trainable ones, counted where they are used first
    shape: Shape | None = None  # of the output; None: the pass left it out
    reads: dict[int, Shape] = field(default_factory=dict)  # which steps' outputs, in which shape

    @property
    def name(self) -> str:
        """Such as trunk.pool1, or classifier.1-2 for several modules."""
        first, *others = self.names or [""]
        return f"{first}-{others[-1].rpartition('.')[2]}" if others else first


def run(config: DictConfig) -> None:
    """The command: log the table, write the drawing, print its path."""
    model = HydraConfig.get().runtime.choices["model"]
    default = Path(config.outputs, "figures", f"network-{model}.svg")
    path = figures.picture_path(config.file, default)
    if config.classes < 1:
        raise InputError(f"classes={config.classes}: at least 1 is needed")
    net = instantiate(config.model, classes=config.classes)
    steps = trace(net, config.bins, config.frames)
    total = f"{parameter_count(net):,} parameters"
    log.info("%s\n%s", table(steps), total)
    if unused := sum(step.parameters for step in steps if step.shape is None):
        total += f", {unused:,} of them unused"
    figures.save(figures.flow([_box(step) for step in steps if step.shape], total), path)
    print(path)


def table(steps: list[Step]) -> str:
    """Name, layers, output shape and parameters of each step, as text."""
    rows = [("name", "layers", "output", "parameters")]
    for step in steps:
        shape = "unused" if step.shape is None else _by(step.shape)
        rows.append((step.name, step.layers[0], shape, f"{step.parameters:,}"))
        rows += [("", line, "", "") for line in step.layers[1:]]
    name, layers, shape, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = (f"{a:<{name}}  {b:<{layers}}  {c:<{shape}}  {d:>10}" for a, b, c, d in rows)
    return "\n".join(map(str.rstrip, lines))


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _box(step: Step) -> figures.Box:
    detail = f"{step.name}, {step.parameters:,} params" if step.parameters else ""
    inputs = {number: _by(shape) for number, shape in step.reads.items()}
    if step.kind == "dropout":  # at work in training alone
        return figures.Box(step.kind, [], step.layers[0], inputs)
    return figures.Box(step.kind, step.layers, detail, inputs)


def trace(net: nn.Module, bins: int, frames: int) -> list[Step]:
    """The steps of one pass, from the features to the scores; then the modules that it left out.

    Args:
        net: features (batch, bins, frames) -> logits (batch, classes); left in evaluation mode.
        bins: of the features.
        frames: of the features.

    Raises:
        InputError: the net needs more bins or frames.
    """
    least = getattr(net, "min_size", 1)
    if min(bins, frames) < least:
        raise InputError(f"bins={bins} frames={frames}: this model needs {least} x {least}")
    features = torch.zeros(1, bins, frames)
    watched = _Pass(net, features)
    hooks = [hook for name, module in _parts(net) for hook in watched.hooks(name, module)]
    try:
        with torch.no_grad(), watched:
            scores = net.eval()(features)
    finally:
        for hook in hooks:
            hook.remove()
    watched.add(Step([], "output", [f"scores of {scores.shape[1]} classes"]), [scores], [scores])
    return [*watched.steps, *watched.left_out()]


def _parts(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Names and modules that are told as one: layers, and modules of a class of their own.

    So an attention of several layers is one step. A module with convolutions inside is opened.
    """
    parts = list(module.modules())
    opened = isinstance(module, nn.Sequential) or any(isinstance(p, CONVOLUTIONS) for p in parts)
    if name and (len(parts) == 1 or not opened):
        yield name, module
        return
    for child, part in module.named_children():
        if not isinstance(part, nn.Flatten | nn.Unflatten | nn.Identity):
            yield from _parts(part, f"{name}.{child}".lstrip("."))


class _Pass(TorchFunctionMode):
    """Notes down what happens to the features between entering and leaving the context."""

    def __init__(self, net: nn.Module, features: Tensor) -> None:
        super().__init__()
        self.net, self.counted = net, set[nn.Parameter]()
        self.steps = [Step([], "input", ["features"], shape=tuple(features.shape[1:]))]
        self.sources = {id(features): 0}  # for each tensor the step that made it
        self.kept = [features]  # a tensor that is freed would leave its id to another
        self.inside = False  # a module whose operations are its own affair

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function, and note it down if it belongs to no module that is told as one."""
        result = func(*args, **(kwargs or {}))
        given, made = list(_tensors((args, kwargs))), list(_tensors(result))
        if not self.inside and made and any(id(tensor) in self.sources for tensor in given):
            name = func.__name__.strip("_")
            if name in COPIES or _is_view(made[0], given):
                self._pass_on(given, made)
            else:
                dims = args[1] if len(args) > 1 else (kwargs or {}).get("dim")
                self._operation(name, dims, given, made)
        return result

    def hooks(self, name: str, module: nn.Module) -> tuple[Any, Any]:
        """Hooks that note down the module; to be removed afterwards."""

        def enter(*_: Any) -> None:
            self.inside = True

        def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            given = list(_tensors((args, kwargs)))
            if any(output is tensor for tensor in given):
                output = output.clone()  # tells what a dropout gives from what it takes
            self.inside = False
            new = {p for p in module.parameters() if p.requires_grad} - self.counted
            self.counted |= new
            step = Step([name], *describe(module), sum(p.numel() for p in new))
            self.add(step, given, list(_tensors(output)))
            return output

        after = module.register_forward_hook(leave, with_kwargs=True)
        return module.register_forward_pre_hook(enter), after

    def _operation(self, name: str, dims: Any, given: list[Tensor], made: list[Tensor]) -> None:
        """Note down what is done outside modules."""
        kind, text = "activation" if name in ACTIVATIONS else "operation", name
        if name in REDUCTIONS:
            dims = [dims] if isinstance(dims, int) else dims or range(1, given[0].dim())
            names = AXES if given[0].dim() == len(AXES) else [f"axis {n}" for n in range(9)]
            kind, text = "pooling", f"{name} over {' and '.join(names[dim] for dim in dims)}"
        elif name in ("add", "iadd"):
            kind, text = "sum", "+"
        self.add(Step([], kind, [text]), given, made)

    def _pass_on(self, given: list[Tensor], made: list[Tensor]) -> None:
        """The same values in another shape."""
        number = next(self.sources[id(tensor)] for tensor in given if id(tensor) in self.sources)
        self.sources |= {id(tensor): number for tensor in made}
        self.kept += made

    def add(self, step: Step, given: list[Tensor], made: list[Tensor]) -> None:
        """A new step, or a further part of the last one."""
        found = [tensor for tensor in given if id(tensor) in self.sources]
        step.reads = {self.sources[id(tensor)]: tuple(tensor.shape[1:]) for tensor in found}
        step.shape = tuple(made[0].shape[1:])
        last, number = self.steps[-1], len(self.steps)
        if list(step.reads) == [number - 1] and self._continues(last, step):
            joined = [] if step.kind == last.kind else [f"{last.layers.pop()} + {step.layers[0]}"]
            last.layers += joined or step.layers
            last.names, last.shape = self._whole(last.names + step.names), step.shape
            last.parameters += step.parameters
        else:
            self.steps.append(step)
        self.sources |= {id(tensor): len(self.steps) - 1 for tensor in made}
        self.kept += made

    def _continues(self, last: Step, step: Step) -> bool:
        """A norm or an activation goes with its layer, and so do layers of one kind in a row."""
        parents = {name.rpartition(".")[0] for name in last.names + step.names}
        if last.kind not in ("convolution", "linear") or len(parents) > 1:
            return False
        in_a_row = isinstance(self.net.get_submodule(parents.pop()), nn.Sequential)
        return step.kind in ("norm", "activation") or (step.kind == last.kind and in_a_row)

    def _whole(self, names: list[str]) -> list[str]:
        """The module that consists of these, if there is one."""
        parent = names[0].rpartition(".")[0]
        children = [
            f"{parent}.{name}" for name, _ in self.net.get_submodule(parent).named_children()
        ]
        return [parent] if children == names else names

    def left_out(self) -> Iterator[Step]:
        """Modules with parameters that no step has counted."""
        for name, module in self.net.named_modules():
            own = {p for p in module.parameters(recurse=False) if p.requires_grad} - self.counted
            layers, shape = describe(module)[1], None
            if any(module.children()):  # a net's own parameters may be of use
                layers, shape = ["parameters of its own"], ()
            if own:
                yield Step([name], "other", layers, sum(p.numel() for p in own), shape)


def _is_view(tensor: Tensor, given: list[Tensor]) -> bool:
    """The values of one of these in another shape."""
    places = [each.untyped_storage().data_ptr() for each in given if each is not tensor]
    return tensor.untyped_storage().data_ptr() in places


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of floating-point numbers in nested arguments or results."""
    if isinstance(value, Tensor) and value.is_floating_point():
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def describe(module: nn.Module) -> tuple[str, list[str]]:
    """Kind of a module, and what it is in a line or two."""
    name = type(module).__name__
    plain = re.sub(r"\dd$", "", name)  # BatchNorm2d: the shapes tell how many dimensions
    match module:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            size = "x".join(map(str, module.kernel_size))
            if module.groups == module.in_channels > 1:
                return "convolution", [f"depthwise {size}, {module.out_channels}"]
            return "convolution", [f"{name} {size}, {module.in_channels} to {module.out_channels}"]
        case nn.Linear():
            return "linear", [f"Linear {module.in_features} to {module.out_features}"]
        case nn.RNNBase():
            sizes = f"{module.input_size} to {module.hidden_size}"
            both = ", both directions" * module.bidirectional
            return "recurrent", [f"{module.mode}, {module.num_layers} layers, {sizes}{both}"]
        case nn.Dropout() | nn.Dropout1d() | nn.Dropout2d():
            channels = "" if name == plain else " of channels"
            return "dropout", [f"dropout {module.p:g}{channels}"]
    if "Pool" in name:
        size = getattr(module, "kernel_size", None) or getattr(module, "output_size", "")
        pair = size if isinstance(size, tuple) else (size,) * (2 if "2d" in name else 1)
        return "pooling", [f"{plain} {'to ' * ('Adaptive' in name)}{'x'.join(map(str, pair))}"]
    marks = {"Attention": "attention", "Transformer": "attention", "Norm": "norm"}
    activates = type(module).__module__ == nn.ReLU.__module__
    kinds = [kind for mark, kind in marks.items() if mark in name]
    kind = [*kinds, "activation" if activates else "other"][0]
    parts = [part for part in module.modules() if part is not module and not any(part.children())]
    within = " + ".join(describe(part)[1][0] for part in parts)
    return kind, [plain, within] if 0 < len(parts) < 5 else [plain]
