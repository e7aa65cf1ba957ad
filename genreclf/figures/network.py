"""The structure of a network, as a drawing and as a table.

torch.fx traces `forward`, which yields the steps, their order, and which outputs each step reads.
"""

import re
from dataclasses import dataclass, field
from inspect import Parameter, signature
from itertools import groupby
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata
from torch.fx.proxy import TraceError

from genreclf.errors import InputError
from genreclf.figures import flow
from genreclf.models import get_min_size, initialise_lazy

Shape = tuple[int, ...]  # without the batch
AXES = ("batch", "channels", "frequency", "time")  # of a convolution's input and output
OPERATIONS = {  # function calls by kind; views are not shown as steps
    "view": "getitem unsqueeze squeeze transpose permute view reshape flatten expand contiguous",
    "activation": "relu gelu silu tanh sigmoid softmax",
    "pooling": "mean amax amin sum",
    "sum": "add iadd",
}
LAYERS: dict[Any, tuple[str, str]] = {  # kind, and a text that the module's attributes fill in
    nn.Conv1d | nn.Conv2d: ("convolution", "{name} {size}, {in_channels} to {out_channels}"),
    nn.Linear: ("linear", "Linear {in_features} to {out_features}"),
    nn.RNNBase: ("recurrent", "{mode}, {num_layers} layers, {input_size} to {hidden_size}"),
    nn.Dropout: ("dropout", "dropout {p:g}"),
    nn.Dropout2d: ("dropout", "dropout {p:g} of channels"),
    nn.MaxPool2d | nn.AvgPool2d: ("pooling", "{plain} {size}"),
    nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d: ("pooling", "{plain} to {size}"),
    nn.Flatten | nn.Unflatten | nn.Identity: ("view", "{name}"),
}
MARKS = {
    "Attention": "attention",
    "Norm": "norm",
    "Statistics": "pooling",
    "nn.modules.activation": "activation",
}


@dataclass
class Step:
    """One operation of a network: a module, several in a row, or a function call.

    Args:
        names: names of the modules; empty for a function call.
        kind: one of `flow.KINDS`, or another.
        layers: lines that describe what it does.
        parameters: number of trainable parameters that no earlier step uses.
        shape: shape of the output; None for a module that `forward` does not use.
        reads: shapes of the outputs that it reads, by the number of the step they come from.
    """

    names: list[str]
    kind: str
    layers: list[str]
    parameters: int = 0
    shape: Shape | None = None
    reads: dict[int, Shape] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name, such as trunk.pool1, or classifier.1-2 for several modules."""
        first, *others = self.names or [""]
        return f"{first}-{others[-1].rpartition('.')[2]}" if others else first


def draw_network(steps: list[Step]) -> Figure:
    """Draw the steps as boxes and arrows, with the number of parameters below."""
    total = f"{sum(step.parameters for step in steps):,} parameters"
    if unused := sum(step.parameters for step in steps if step.shape is None):
        total += f", {unused:,} of them unused"
    return flow.draw_flow([_make_box(step) for step in steps if step.shape is not None], total)


def format_table(steps: list[Step]) -> str:
    """Format name, layers, output shape and parameters of each step as a text table."""
    rows = [("name", "layers", "output", "parameters")]
    for step in steps:
        shape = "unused" if step.shape is None else _join_sizes(step.shape)
        rows.append((step.name, step.layers[0], shape, f"{step.parameters:,}"))
        rows += [("", line, "", "") for line in step.layers[1:]]
    name, layers, shape, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = (f"{a:<{name}}  {b:<{layers}}  {c:<{shape}}  {d:>10}" for a, b, c, d in rows)
    return "\n".join(map(str.rstrip, lines))


def _join_sizes(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _make_box(step: Step) -> flow.Box:
    detail = f"{step.name}, {step.parameters:,} params" if step.parameters else ""
    inputs = {number: _join_sizes(shape) for number, shape in step.reads.items()}
    if step.kind == "dropout":  # active only in training
        return flow.Box(step.kind, [], step.layers[0], inputs)
    return flow.Box(step.kind, step.layers, detail, inputs)


def trace_network(net: nn.Module, bins: int, frames: int) -> list[Step]:
    """List the steps from the features to the scores, then the modules that are never used.

    Args:
        net: (batch, bins, frames) -> (batch, classes); it is left in evaluation mode.
        bins: number of bins of the features.
        frames: number of frames of the features.

    Raises:
        InputError: the network needs more bins or frames, or torch.fx cannot trace it.
    """
    least = get_min_size(net)
    if min(bins, frames) < least:
        raise InputError(f"bins={bins} frames={frames}: this model needs {least} x {least}")
    initialise_lazy(net, (bins, frames))
    steps = list[Step]()
    sources: dict[fx.Node, int] = {}  # the step that each node is the output of
    for node in _trace_nodes(net.eval(), torch.zeros(1, bins, frames)):
        given = [each for each in node.all_input_nodes if each in sources]
        step = _make_step(net, node)
        step.shape = _get_shape(node)
        step.reads = {sources[each]: _get_shape(each) for each in given}
        sole_reader = list(step.reads) == [len(steps) - 1] and len(given[0].users) == 1
        if sole_reader and _can_merge(steps[-1], step):
            _merge_steps(net, steps[-1], step)
        elif step.kind != "view":
            steps.append(step)
        sources[node] = sources[given[0]] if step.kind == "view" else len(steps) - 1
    _count_parameters(net, steps)
    return steps


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Show PyTorch's own layers, and any module of attention or statistics, as one step."""
        return describe_module(m)[0] in ("attention", "pooling") or super().is_leaf_module(
            m, module_qualified_name
        )


def _trace_nodes(net: nn.Module, features: torch.Tensor) -> list[fx.Node]:
    """Trace `forward`, and return the nodes that return tensors, with their shapes."""
    given = signature(net.forward).parameters.values()
    settings = {each.name: each.default for each in given if each.default is not Parameter.empty}
    try:
        graph = _Tracer().trace(net, settings)
    except (TraceError, TypeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{type(net).__name__}: torch.fx cannot trace it: {reason}") from error
    with torch.no_grad():
        ShapeProp(fx.GraphModule(net, graph)).propagate(features)
    return [node for node in graph.nodes if "tensor_meta" in node.meta]


def _get_shape(node: fx.Node) -> Shape:
    """Return the shape of a node's output, or of the first of several outputs."""
    given = node.meta["tensor_meta"]
    return tuple((given if isinstance(given, TensorMetadata) else given[0]).shape[1:])


def _make_step(net: nn.Module, node: fx.Node) -> Step:
    """Describe a node; kind "view" means that it is not shown as a step."""
    name = getattr(node.target, "__name__", str(node.target))
    match node.op:
        case "placeholder":
            return Step([], "input", ["features"])
        case "output":
            return Step([], "output", [f"scores of {_get_shape(node)[0]} classes"])
        case "get_attr":
            return Step([name], "other", ["parameters"])
        case "call_module":
            return Step([name], *describe_module(net.get_submodule(name)))
    name = name.strip("_")  # of a function or method, such as add_
    kind = next((kind for kind, names in OPERATIONS.items() if name in names.split()), "operation")
    if kind == "pooling":
        dims: Any = node.kwargs.get("dim", [*node.args, None][1])
        count = 1 + len(_get_shape(node.all_input_nodes[0]))
        dims = [dims] if isinstance(dims, int) else dims or range(1, count)
        axes = [AXES[dim] if count == len(AXES) else f"axis {dim}" for dim in dims]
        name = f"{name} over {' and '.join(axes)}"
    return Step([], kind, ["+" if kind == "sum" else name])


def _can_merge(last: Step, step: Step) -> bool:
    """Whether a step belongs to the last one, as its norm or activation or a layer of its kind."""
    parents = {name.rpartition(".")[0] for name in last.names + step.names}
    goes = step.kind in ("norm", "activation", last.kind)
    return last.kind in ("convolution", "linear") and goes and len(parents) == 1


def _merge_steps(net: nn.Module, last: Step, step: Step) -> None:
    """Merge a step into the last one; if together they are a module, use the module's name."""
    if step.kind != last.kind:
        step.layers = [f"{last.layers.pop()} + {step.layers[0]}"]
    last.layers += step.layers
    last.names += step.names
    last.shape = step.shape
    parent = last.names[0].rpartition(".")[0]
    if last.names == [f"{parent}.{name}" for name, _ in net.get_submodule(parent).named_children()]:
        last.names = [parent]


def _count_parameters(net: nn.Module, steps: list[Step]) -> None:
    """Assign each parameter to the first step that uses it; append the unused modules."""
    left = {name: p.numel() for name, p in net.named_parameters() if p.requires_grad}
    for step in steps:
        owners = tuple(f"{name}." for name in step.names)
        for name in [name for name in left if f"{name}.".startswith(owners)]:
            step.parameters += left.pop(name)
    for name, owned in groupby(left, lambda name: name.rpartition(".")[0]):
        unused = sum(left[parameter] for parameter in owned)
        steps.append(Step([name], "other", describe_module(net.get_submodule(name))[1], unused))


def describe_module(module: nn.Module) -> tuple[str, list[str]]:
    """Return the kind of a module, and a line or two that describe it."""
    name, fields = type(module).__name__, vars(module)
    plain = re.sub(r"\dd$", "", name)  # BatchNorm2d: the shapes show how many dimensions
    size = fields.get("kernel_size") or fields.get("output_size")
    size = "x".join(map(str, size if isinstance(size, tuple) else (size, size)))
    if 1 < fields.get("groups", 1) == fields.get("in_channels"):
        return "convolution", [f"depthwise {size}, {fields['out_channels']}"]
    for layer, (kind, text) in LAYERS.items():
        if isinstance(module, layer):
            return kind, [text.format_map(fields | {"name": name, "plain": plain, "size": size})]
    place = f"{type(module).__module__}.{name}"
    kind = next((kind for mark, kind in MARKS.items() if mark in place), "other")
    parts = [part for part in module.modules() if part is not module and not any(part.children())]
    within = " + ".join(describe_module(part)[1][0] for part in parts)
    return kind, [plain, within] if 0 < len(parts) < 5 else [plain]
