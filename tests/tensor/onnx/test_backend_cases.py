"""The norms of the ONNX standard: its backend's own test cases, by the definitions, by the engine, and exported again.

A case is a model of one node, inputs, the outputs that they must give, and a tolerance. ONNX's attributes are other
words for the definitions' arguments: `axis` is where normalized_shape begins; the share of the old running
statistics is `momentum` there, of the new ones here; and before opset 21 GroupNormalization had one scale a group.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper
from onnx.backend.test.case.test_case import TestCase as Case
from onnx.backend.test.loader import load_model_tests

from normlab import norms
from normlab.tensor import Tensor, ops
from normlab.tensor.onnx import export

Array = NDArray[Any]
Inputs = Sequence[Array]
Attributes = Mapping[str, Any]

# As of onnx 1.23; of LpNormalization those with p = 2.
COUNTS = {
    "LayerNormalization": 19,
    "RMSNormalization": 19,
    "BatchNormalization": 4,
    "GroupNormalization": 2,
    "InstanceNormalization": 2,
    "LpNormalization": 3,
}


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    # Cases of other nodes divide by zero; and all take their numbers from NumPy's shared generator.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = np.random.get_state()  # noqa: NPY002
        np.random.seed(0)  # noqa: NPY002
        try:
            return load_model_tests(kind="node")
        finally:
            np.random.set_state(before)  # noqa: NPY002


def single(case: Case, kind: str) -> bool:
    nodes = [] if case.model is None else case.model.graph.node
    return len(nodes) == 1 and nodes[0].op_type == kind and attributes(case).get("p", 2) == 2


def attributes(case: Case) -> dict[str, Any]:
    assert case.model is not None
    (node,) = case.model.graph.node
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return found | {"opset": case.model.opset_import[0].version}


def trailing(x: Array, attributes: Attributes) -> tuple[int, ...]:
    return x.shape[attributes.get("axis", -1) % x.ndim :]


def per_channel(values: Array, x: Array, attributes: Attributes) -> Array:
    return np.repeat(values, x.shape[1] // len(values)) if attributes["opset"] < 21 else values


# What the definitions give.


def layer_norm(inputs: Inputs, attributes: Attributes) -> list[Array]:
    x, w, b = inputs
    assert attributes.get("stash_type", 1) == 1
    shape = trailing(x, attributes)
    return [norms.layernorm.forward(x, w, b, eps=attributes.get("epsilon", 1e-5), normalized_shape=shape)]


def rms_norm(inputs: Inputs, attributes: Attributes) -> list[Array]:
    x, w = inputs
    assert attributes.get("stash_type", 1) == 1
    shape = trailing(x, attributes)
    return [norms.rmsnorm.forward(x, w, eps=attributes.get("epsilon", 1e-5), normalized_shape=shape)]


def batch_norm(inputs: Inputs, attributes: Attributes) -> list[Array]:
    training = bool(attributes.get("training_mode", 0))
    found = norms.batchnorm.forward(
        *inputs,
        training=training,
        eps=attributes.get("epsilon", 1e-5),
        momentum=1 - attributes.get("momentum", 0.9),
        unbiased_running_var=False,
    )
    assert found.running_mean is not None
    assert found.running_var is not None
    return [found.y, found.running_mean, found.running_var] if training else [found.y]


def group_norm(inputs: Inputs, attributes: Attributes) -> list[Array]:
    x, *affine = inputs
    w, b = (per_channel(p, x, attributes) for p in affine)
    return [norms.groupnorm.forward(x, attributes["num_groups"], w, b, eps=attributes.get("epsilon", 1e-5))]


def instance_norm(inputs: Inputs, attributes: Attributes) -> list[Array]:
    return [norms.instancenorm.forward(*inputs, eps=attributes.get("epsilon", 1e-5)).y]


def l2_norm(inputs: Inputs, attributes: Attributes) -> list[Array]:
    axis = attributes.get("axis", -1)
    return [np.moveaxis(norms.l2norm.forward(np.moveaxis(inputs[0], axis, -1)), -1, axis)]


DEFINITIONS: dict[str, Callable[[Inputs, Attributes], list[Array]]] = {
    "LayerNormalization": layer_norm,
    "RMSNormalization": rms_norm,
    "BatchNormalization": batch_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LpNormalization": l2_norm,
}


# What the engine gives, as a function of x and the parameters.


def engine(inputs: Inputs, attributes: Attributes, kind: str) -> Callable[..., Tensor]:
    x, eps = inputs[0], attributes.get("epsilon", 1e-5)
    if kind == "LayerNormalization":
        return lambda x, w, b: ops.layer_norm(x, trailing(x, attributes), w, b, eps)
    if kind == "RMSNormalization":
        return lambda x, w: ops.rms_norm(x, trailing(x, attributes), w, eps)
    if kind == "BatchNormalization":
        mean, var = inputs[3:]
        return lambda x, w, b, *_: ops.batch_norm(x, mean, var, w, b, eps=eps)
    # An instance is a group of one channel.
    groups = attributes.get("num_groups", x.shape[1])
    return lambda x, w, b: ops.group_norm(x, groups, w, b, eps)


def check(case: Case, found: Sequence[Array], expected: Sequence[Array]) -> None:
    # Definitions and engine give no statistics beside LayerNorm's result.
    for y, wanted in zip(found, expected, strict=False):
        np.testing.assert_allclose(y, wanted, rtol=case.rtol, atol=case.atol, err_msg=case.name)


@pytest.mark.parametrize("kind", COUNTS)
def test_the_definitions(kind, cases):
    chosen = [case for case in cases if single(case, kind)]
    assert len(chosen) == COUNTS[kind]
    for case in chosen:
        assert case.data_sets
        for inputs, outputs in case.data_sets:
            found = DEFINITIONS[kind](inputs, attributes(case))
            assert len(found) == (1 if kind == "LayerNormalization" else len(outputs))
            check(case, found, outputs)


@pytest.mark.parametrize("kind", [kind for kind in COUNTS if kind != "LpNormalization"])
def test_the_engine_and_what_it_exports(kind, cases, runtimes):
    for case in cases:
        if not single(case, kind) or attributes(case).get("training_mode"):
            continue
        for inputs, outputs in case.data_sets:
            function = engine(inputs, attributes(case), kind)
            parameters = 3 if kind == "BatchNormalization" else len(inputs)
            given = inputs[:parameters]
            check(case, runtimes.results(function, given), outputs)
            model = export(function, *given, input_names=["x", "weight", "bias"][:parameters])
            written = "GroupNormalization" if kind == "InstanceNormalization" else kind
            assert [node.op_type for node in model.graph.node] == [written, "Identity"]
            check(case, runtimes.by_onnxruntime(model, given), outputs)


def test_batch_norm_in_training_by_the_engine(cases):
    chosen = [c for c in cases if single(c, "BatchNormalization") and attributes(c).get("training_mode")]
    assert len(chosen) == 2
    for case in chosen:
        for (x, w, b, mean, var), outputs in case.data_sets:
            a, running = attributes(case), (mean.copy(), var.copy())
            y = ops.batch_norm(
                Tensor(x), *running, Tensor(w), Tensor(b), True, 1 - a.get("momentum", 0.9), a.get("epsilon", 1e-5),
                unbiased_running_var=False,
            )  # fmt: skip
            check(case, [y.data, *running], outputs)


def test_group_norm_before_opset_21(rng, runtimes):
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((2, 4, 3), 2, 2))
    node = helper.make_node("GroupNormalization", ["x", "w", "b"], ["y"], num_groups=2, epsilon=0.125)
    shapes = {"x": x.shape, "w": w.shape, "b": b.shape, "y": x.shape}
    *infos, result = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in shapes.items())
    graph = helper.make_graph([node], "old", infos, [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    (y,) = runtimes.by_reference(model, [x, w, b])
    (expected,) = group_norm([x, w, b], {"num_groups": 2, "epsilon": 0.125, "opset": 18})
    np.testing.assert_allclose(y, expected, 1e-5, 1e-6)
