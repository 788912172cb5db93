"""export(): a function of tensors as an ONNX model."""

import inspect
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from normlab.tensor.core import Array, Tensor
from normlab.tensor.layers.module import Module
from normlab.tensor.onnx.emit import EMITTERS, check
from normlab.tensor.onnx.graph import Batch, Graph
from normlab.tensor.onnx.trace import Trace, other_inputs, same, trace
from normlab.tensor.ops.shape import BroadcastTo, Reshape

# RMSNormalization came with it.
OLDEST = 23
# More does not go into one file of protocol buffers.
MOST_BYTES = 2**31 - 1


def export(
    function: Callable[..., Any],
    *example_inputs: Any,
    path: str | os.PathLike[str] | None = None,
    opset: int = OLDEST,
    input_names: Sequence[str] | None = None,
    dynamic_batch: bool | Sequence[str] = False,
) -> onnx.ModelProto:
    """Write down as an ONNX model what a function or a module computes.

    The function is run twice on inputs like the examples, and every operation on tensors becomes a node; parameters of
    a module keep their names. What a function decides in Python (by `if`, or by a loop) is decided once.

    Args:
        function: of tensors (for floating-point examples) and arrays (for others), to a tensor or a tuple of them.
        example_inputs: tensors or arrays; their numbers do not matter, their dtypes and, but for the batch, their
            shapes stay those of the model.
        path: a file to write the model to, whole or not at all.
        opset: version of ONNX's operators, at least 23.
        input_names: of the model's inputs; those of the function's arguments if not given.
        dynamic_batch: whether the first axis of the inputs may have any size; or the names of those inputs.

    Returns:
        The model, which has passed onnx's checker.

    Raises:
        NotImplementedError: for an operation that has no node: dropout or BatchNorm in training, indexing by a mask.
        ValueError: when the result depends on the inputs in a way that the model would not repeat, for an argument
            that does not fit, or a model of more than 2 GiB.
        TypeError: when the function does not give tensors.

    FAQ:
        Why does onnxruntime not run the exact GELU in float64? Its Erf is float32 alone; the form with
        approximate="tanh" runs.
    """
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise ValueError(f"opset must be from {OLDEST} to {newest}, which this onnx has, got {opset}")
    inputs = [x if isinstance(x, Tensor) else np.asarray(x) for x in example_inputs]
    names = _input_names(function, len(inputs), input_names)
    batched = _batched(dynamic_batch, names, inputs)
    first, second = _traces(function, inputs, batched)
    batch = None
    if True in batched:
        i = batched.index(True)
        batch = Batch(first.inputs[i].shape[0], second.inputs[i].shape[0], names[i])
    graph = Graph(first, second, names, dict(_parameters(function)), batch)
    outputs = _emit(graph)
    _check_use(graph, names)
    model = _model(graph, names, outputs, opset)
    onnx.checker.check_model(model, full_check=True)
    if path is not None:
        _write(model.SerializeToString(), Path(path))
    return model


def _input_names(function: Any, n: int, given: Sequence[str] | None) -> list[str]:
    if given is not None:
        names = list(given)
        if len(names) != n or len(set(names)) != n or not all(names):
            raise ValueError(f"input_names must be {n} different names, one for each example input, got {names}")
        return names
    signature = inspect.signature(function.forward if isinstance(function, Module) else function)
    arguments = [
        p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return [*arguments[:n], *(f"input_{i}" for i in range(len(arguments), n))]


def _batched(dynamic: bool | Sequence[str], names: Sequence[str], inputs: Sequence[Any]) -> list[bool]:
    """Which inputs have the batch as their first axis."""
    chosen = (names if dynamic else ()) if isinstance(dynamic, bool) else dynamic
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        raise ValueError(f"dynamic_batch must be names of inputs, {', '.join(names)}, got {', '.join(unknown)}")
    batched = [name in chosen for name in names]
    sizes = {x.shape[0] if x.ndim else None for x, b in zip(inputs, batched, strict=True) if b}
    if len(sizes) > 1 or sizes & {None, 0}:
        raise ValueError(
            "inputs with a dynamic batch must have first axes of one size, at least 1, "
            f"got shapes {', '.join(str(x.shape) for x in inputs)}: say which by dynamic_batch=[names]"
        )
    return batched


def _traces(function: Callable[..., Any], inputs: Sequence[Any], batched: Sequence[bool]) -> tuple[Trace, Trace]:
    first = trace(function, inputs, check)
    try:
        # Other numbers may lie outside of what a function is meant for; only its steps count.
        with np.errstate(all="ignore"):
            second = trace(function, other_inputs(inputs, batched), check)
    except (ValueError, IndexError) as error:
        what = "with a batch of another size" if True in batched else "with the example's numbers in another order"
        raise ValueError(f"the function cannot be exported, for it does not run {what}: {error}") from error
    kinds = [[type(step.operation) for step in t.steps] for t in (first, second)]
    if kinds[0] != kinds[1] or len(first.outputs) != len(second.outputs):
        raise ValueError("the function does other operations for other inputs: it cannot be exported")
    for a, b in zip(first.steps, second.steps, strict=True):
        # Of these, the results' shapes tell what they do.
        alike = isinstance(a.operation, Reshape | BroadcastTo) or same(
            tuple(sorted(a.settings.items())), tuple(sorted(b.settings.items()))
        )
        if not alike or a.result.ndim != b.result.ndim or a.result.dtype != b.result.dtype:
            raise ValueError(f"{a.operation.name} depends on the inputs otherwise than by tensors: not to be exported")
    return first, second


def _parameters(function: Any) -> Iterator[tuple[int, str]]:
    """The ids of the arrays of a module, parameters and buffers, with their paths."""
    module = function if isinstance(function, Module) else getattr(function, "__self__", None)
    for path, part in module.named_modules() if isinstance(module, Module) else ():
        for name, value in vars(part).items():
            array = value._data if isinstance(value, Tensor) else value if name in part.buffers else None
            if array is not None:
                yield id(array), f"{path}.{name}" if path else name


def _emit(graph: Graph) -> list[str]:
    """All nodes; the names of the outputs."""
    for i, step in enumerate(graph.first.steps):
        call = graph.call(i)
        graph.remember(i, EMITTERS[type(step.operation)](step.operation, call))
    graph.operation = "the result"
    outputs: list[str] = []
    for i, arrays in enumerate(zip(graph.first.outputs, graph.second.outputs, strict=True)):
        name = graph.unique("output" if len(graph.first.outputs) == 1 else f"output_{i}")
        graph.nodes.append(helper.make_node("Identity", [graph.value(*arrays)], [name], name=f"node_{name}"))
        outputs.append(name)
    graph.prune(outputs)
    return outputs


def _check_use(graph: Graph, names: Sequence[str]) -> None:
    used = {name for node in graph.nodes for name in node.input}
    for name in names:
        if name not in used:
            raise ValueError(
                f"no operation on tensors uses the input {name}: the model would not depend on it; "
                "leave it out of the example inputs, or hand it to the operations as it comes"
            )


def _info(graph: Graph, name: str, first: Array, second: Array) -> onnx.ValueInfoProto:
    batch = graph.batch
    sizes: list[int | str | None] = []
    for a, b in zip(first.shape, second.shape, strict=True):
        of_batch = batch is not None and (a, b) == (batch.first, batch.second)
        sizes.append("batch" if of_batch else a if a == b else None)
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(first.dtype), sizes)


def _model(graph: Graph, names: Sequence[str], outputs: Sequence[str], opset: int) -> onnx.ModelProto:
    def described(names: Sequence[str], first: Sequence[Array], second: Sequence[Array]) -> list[onnx.ValueInfoProto]:
        return [_info(graph, name, a, b) for name, a, b in zip(names, first, second, strict=True)]

    size = sum(len(constant.raw_data) for constant in graph.initializers)
    if size > MOST_BYTES:
        raise ValueError(f"the parameters take {size / 2**30:.1f} GiB, and an ONNX file holds less than 2")
    inside = helper.make_graph(
        graph.nodes,
        "normlab",
        described(names, graph.first.inputs, graph.second.inputs),
        described(outputs, graph.first.outputs, graph.second.outputs),
        graph.initializers,
    )
    opsets = [helper.make_opsetid("", opset)]
    # A newer format than the opset needs would shut out runtimes that know the opset.
    version = helper.find_min_ir_version_for(opsets)
    return helper.make_model(inside, opset_imports=opsets, ir_version=version, producer_name="normlab")


def _write(content: bytes, target: Path) -> None:
    handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # Models are for others to read, too; a temporary file is its owner's alone.
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
