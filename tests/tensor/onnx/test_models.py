"""Whole models: an MLP with each norm, the Transformer in every placement, and a batch of any size."""

from typing import Any

import numpy as np
import onnx
import pytest

from normlab.tensor import Tensor, nn, ops
from normlab.tensor.layers import BLOCKS, Transformer
from normlab.tensor.onnx import export
from normlab.tensor.random import manual_seed

# The same number in float32, which ONNX keeps it in.
EPS = 2.0**-17
NORMS = {
    "layernorm": (nn.LayerNorm, "LayerNormalization"),
    "rmsnorm": (nn.RMSNorm, "RMSNormalization"),
    "batchnorm": (nn.BatchNorm, "BatchNormalization"),
    "groupnorm": (lambda dim, **o: nn.GroupNorm(2, dim, **o), "GroupNormalization"),
}


@pytest.fixture(autouse=True)
def seed():
    manual_seed(0)


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def sizes(value: onnx.ValueInfoProto) -> list[Any]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def mlp(kind: str, dtype: Any = np.float32) -> nn.Sequential:
    make, _ = NORMS[kind]
    parts = [nn.Linear(6, 8, dtype=dtype), make(8, eps=EPS, dtype=dtype), nn.SiLU(), nn.Dropout(0.1)]
    return nn.Sequential(*parts, nn.Linear(8, 3, dtype=dtype))


def moved(module: nn.Module) -> nn.Module:
    """With other parameters than ones and zeros, which would hide where they are left out."""
    rng = np.random.default_rng(1)
    for p in module.parameters():
        p.data += 0.1 * rng.standard_normal(p.shape)
    return module


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", NORMS)
def test_mlp(kind, dtype, rng, runtimes):
    module = mlp(kind, dtype)
    for _ in range(3):
        module(ops.add(rng.standard_normal((5, 6)).astype(dtype), np.ones(6, dtype)))
    moved(module).eval()
    model = runtimes.agree(module, rng.standard_normal((5, 6)).astype(dtype), dynamic_batch=True)
    assert kinds(model).count(NORMS[kind][1]) == 1
    for batch in (1, 7):
        x = rng.standard_normal((batch, 6)).astype(dtype)
        runtimes.close(runtimes.by_onnxruntime(model, [x]), runtimes.results(module, [x]))
    # Of a buffer too, if the norm has some.
    names = {constant.name for constant in model.graph.initializer}
    assert names >= module.state_dict().keys()
    for constant in model.graph.initializer:
        if constant.name in module.state_dict():
            assert np.array_equal(onnx.numpy_helper.to_array(constant), module.state_dict()[constant.name])


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
@pytest.mark.parametrize("placement", BLOCKS)
def test_transformer(placement, norm, rng, runtimes):
    module = moved(Transformer(11, 2, 16, 2, 8, norm=norm, placement=placement))
    ids = rng.integers(0, 11, (3, 7))
    model = runtimes.agree(module, ids, dynamic_batch=True)
    assert sizes(model.graph.input[0]) == ["batch", 7]
    assert sizes(model.graph.output[0]) == ["batch", 7, 11]
    norms = {"none": 0, "pre": 5, "post": 4, "sandwich": 9, "respost": 5, "deepnorm": 4}
    assert kinds(model).count(NORMS[norm][1]) == norms[placement]
    assert {c.name for c in model.graph.initializer} >= {name for name, _ in module.named_parameters()}
    for batch in (1, 2, 5):
        ids = rng.integers(0, 11, (batch, 7))
        runtimes.close(runtimes.by_onnxruntime(model, [ids]), runtimes.results(module, [ids]))


def test_transformer_in_float64(rng, runtimes):
    # Its eps of 1e-5 is rounded to float32; where variances are about 1 that moves nothing by as much as 1e-12.
    module = moved(Transformer(11, 2, 16, 2, 8, norm="rmsnorm", dtype=np.float64))
    runtimes.agree(module, rng.integers(0, 11, (3, 7)))


def test_transformer_by_the_reference(rng, runtimes):
    module = moved(Transformer(11, 2, 16, 2, 8, norm="rmsnorm"))
    runtimes.agree(module, rng.integers(0, 11, (3, 7)), by=runtimes.by_reference)


def test_a_loss_of_a_model(rng, runtimes):
    module = moved(Transformer(11, 1, 16, 2, 8))

    def loss(ids, target):
        return ops.cross_entropy(module(ids).reshape(-1, 11), target.reshape(-1))

    ids, target = rng.integers(0, 11, (2, 3, 7))
    model = runtimes.agree(loss, ids, target, dynamic_batch=True)
    assert [sizes(i) for i in model.graph.input] == [["batch", 7], ["batch", 7]]
    assert sizes(model.graph.output[0]) == []
    ids, target = rng.integers(0, 11, (2, 5, 7))
    runtimes.close(runtimes.by_onnxruntime(model, [ids, target]), runtimes.results(loss, [ids, target]))


def test_a_mask_as_an_input(rng, runtimes):
    attention = moved(nn.MultiHeadAttention(8, 2, dtype=np.float32))
    x = rng.standard_normal((2, 5, 8)).astype(np.float32)
    # Each position may look at itself: softmax of nothing is not a number.
    mask = (rng.random((5, 5)) < 0.3) & ~np.eye(5, dtype=np.bool_)
    model = runtimes.agree(attention, x, mask, dynamic_batch=["x"])
    assert [sizes(i) for i in model.graph.input] == [["batch", 5, 8], [5, 5]]
    x = rng.standard_normal((4, 5, 8)).astype(np.float32)
    runtimes.close(runtimes.by_onnxruntime(model, [x, mask.T]), runtimes.results(attention, [x, mask.T]))


@pytest.mark.parametrize("opset", [23, 24])
def test_opsets(opset, rng, runtimes):
    module = mlp("rmsnorm").eval()
    model = runtimes.agree(module, rng.standard_normal((5, 6)).astype(np.float32), opset=opset)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]


def test_several_outputs_and_unused_steps(rng, runtimes):
    def function(a, b):
        a.exp()
        return a + b, (a * b).sum(0)

    a, b = rng.standard_normal((2, 3, 4))
    model = runtimes.agree(function, a, b, dynamic_batch=True)
    assert [o.name for o in model.graph.output] == ["output_0", "output_1"]
    assert [i.name for i in model.graph.input] == ["a", "b"]
    assert "Exp" not in kinds(model)
    assert [sizes(o) for o in model.graph.output] == [["batch", 4], [4]]


def test_a_batch_that_is_made_inside(rng, runtimes):
    start = nn.Embedding(1, 4)

    def function(x):
        first = ops.broadcast_to(start.weight, (x.shape[0], 1, 4))
        return ops.cat([first, x], 1).reshape(x.shape[0] * 4, 4)

    model = runtimes.agree(function, rng.standard_normal((2, 3, 4)), dynamic_batch=True)
    x = rng.standard_normal((5, 3, 4))
    runtimes.close(runtimes.by_onnxruntime(model, [x]), runtimes.results(function, [x]))


def test_integers_beside_floating_point_numbers(rng, runtimes):
    def function(x, n):
        return x * n + (n + 1)[0] / x

    n = Tensor(rng.integers(1, 5, (2, 3)))
    runtimes.agree(function, rng.standard_normal((2, 3)).astype(np.float32), n)


def test_a_tied_weight_is_one_constant(rng, runtimes):
    table = nn.Embedding(5, 4, dtype=np.float32)
    model = runtimes.agree(lambda ids: ops.linear(table(ids), table.weight), rng.integers(0, 5, (2, 3)))
    assert len(model.graph.initializer) == 1


def test_a_file(rng, tmp_path):
    path = tmp_path / "mlp.onnx"
    module = mlp("layernorm").eval()
    model = export(module, rng.standard_normal((5, 6)).astype(np.float32), path=path, input_names=["pixels"])
    assert onnx.load(path) == model
    assert [i.name for i in model.graph.input] == ["pixels"]
    assert [p.name for p in tmp_path.iterdir()] == ["mlp.onnx"]
