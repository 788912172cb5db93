"""The layers that act on rows, beyond LayerNorm and RMSNorm, beside their definitions: value and every gradient in
every dtype, every layout, every edge."""

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import normlab
from normlab import NormSpec, norms

SHAPES = [
    ((4, 8), 8),
    ((1, 8), 8),
    ((8,), 8),
    ((2, 3, 5), (3, 5)),
    ((5, 1), 1),
    ((6, 33), 33),
    ((0, 8), 8),
    ((2, 0, 3), 3),
]
PAIRS = [
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.float16),
    (torch.bfloat16, torch.float32),
    (torch.float16, torch.float32),
    (torch.float64, torch.float32),
    (torch.float32, torch.float64),
]
FORMULA = {"eps_place": "outside", "offset": 1.0, "eps": 0.1}
# (layer, what it is made with, what its spec says otherwise)
CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "scalenorm": (normlab.ScaleNorm, {}, {}),
    "scalenorm, fixed": (normlab.ScaleNorm, {"elementwise_affine": False}, {}),
    "scalenorm, floor and offset": (normlab.ScaleNorm, {}, {"eps": 8.0, "offset": 1.0}),
    "l2norm": (normlab.L2Norm, {}, {}),
    "l2norm, weight": (normlab.L2Norm, {"elementwise_affine": True, "eps": None}, {}),
    "l2norm, floor and offset": (normlab.L2Norm, {}, {"eps": 8.0, "offset": 1.0}),
    "crmsnorm": (normlab.CRMSNorm, {}, {}),
    "crmsnorm, no weight": (normlab.CRMSNorm, {"elementwise_affine": False, "eps": 0.1}, {}),
    "crmsnorm, formula": (normlab.CRMSNorm, {}, FORMULA),
    "prmsnorm": (normlab.PRMSNorm, {}, {}),
    "prmsnorm, some": (normlab.PRMSNorm, {"fraction": 0.4, "elementwise_affine": False}, {}),
    "prmsnorm, formula": (normlab.PRMSNorm, {}, {**FORMULA, "fraction": 1.0}),
    "dyt": (normlab.DyT, {}, {}),
    "dyt, no weight": (normlab.DyT, {"alpha": -1.5, "elementwise_affine": False}, {}),
    "dyt, offset": (normlab.DyT, {"bias": False}, {"offset": 1.0, "alpha": 2.0}),
}


def make(name: str, shape: Any, dtype: torch.dtype = torch.float32) -> Any:
    layer, options, fields = CASES[name]
    return layer(shape, **options, dtype=dtype, spec=NormSpec(layer.KIND, **fields) if fields else None)


class Want(NamedTuple):
    """As conftest's Expected."""

    value: Any
    terms: float
    length: int
    kappa: float = 1.0


def top(a: Any) -> float:
    return float(np.max(np.abs(a), initial=0.0))


def row_sums(a: Any) -> Any:
    return np.sum(a, axis=-1, keepdims=True)


def wanted(layer: Any, x: torch.Tensor, dy: torch.Tensor) -> dict[str, Want]:
    """What the definition says, and the size of what it adds up."""
    spec, shape = layer.spec, layer.normalized_shape
    xs, ds = x.detach().double().numpy(), dy.double().numpy()
    p = {name: p.detach().double().numpy() for name, p in layer.named_parameters()}
    weight = p.get("weight")
    g = 1.0 if weight is None else spec.offset + weight
    n, rows = math.prod(shape), x.numel() // max(math.prod(shape), 1)
    sums = float(np.sum(np.abs(ds)))
    options: dict[str, Any] = {"offset": spec.offset, "normalized_shape": shape}
    if spec.kind == "dyt":
        alpha = float(p["alpha"][0])
        gradients = norms.dyt.backward(ds, xs, alpha, weight, **options)
        value = norms.dyt.forward(xs, alpha, weight, p.get("bias"), **options)
        return {
            "y": Want(value, top(g) + top(p.get("bias", 0.0)), 1),
            "dx": Want(gradients.dx, top(alpha * ds * g), 1),
            "dalpha": Want(gradients.dalpha.reshape(1), float(np.sum(np.abs(ds * g * xs))), x.numel()),
            "dweight": Want(gradients.dweight, sums, rows),
            "dbias": Want(gradients.dbias, sums, rows),
        }

    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    eps = options["eps"] = torch.finfo(wide).eps if spec.eps is None else spec.eps
    flat, kappa, module = xs.reshape(rows, n), np.ones(1), getattr(norms, spec.kind)
    if spec.kind in ("scalenorm", "l2norm"):
        s, count, beside = 1 / np.maximum(np.sqrt(row_sums(flat**2)), eps), 1, 0.0
    else:
        options["eps_place"] = spec.eps_place
        if spec.kind == "prmsnorm":
            count, beside = max(norms.prmsnorm.count(n, spec.fraction), 1), 0.0
            options["fraction"] = spec.fraction
            v = row_sums(flat[:, :count] ** 2) / count
        else:
            count, total = n + 1, row_sums(flat)
            v = (row_sums(flat**2) + total**2) / count
            # The sum of a row is off relative to its entries' sizes, not to itself.
            kappa, beside = 1 + 2 * row_sums(np.abs(flat)) / (np.sqrt(count * v) + 1e-300), total
        s = 1 / np.sqrt(v + eps) if spec.eps_place == "inside" else 1 / (np.sqrt(v) + eps)
    if spec.kind == "scalenorm":
        a = float(p["g"][0]) if "g" in p else None
        g = math.sqrt(n) if a is None else spec.offset + a
        parameters: tuple[Any, ...] = (a,)
    else:
        parameters = (weight,)
    value, gradients = module.forward(xs, *parameters, **options), module.backward(ds, xs, *parameters, **options)
    h = flat * s
    shared = top(h + beside * s) * top(row_sums(np.abs(h))) / count
    bound = top(kappa)
    of_weight = Want(np.reshape(gradients[1], -1), (top(h) + 1) * sums, x.numel(), bound)
    return {
        "y": Want(value, top(h) * top(g) + 1, n, bound),
        "dx": Want(gradients.dx, top(s) * top(g) * top(ds) * (1 + shared), n, bound),
        "dg": of_weight,
        "dweight": of_weight._replace(value=gradients[1]),
    }


def draw(shape: Any, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return (torch.randn(shape) * 2 + 0.5).to(dtype), torch.randn(shape).to(dtype)


@pytest.mark.parametrize(("shape", "normalized"), SHAPES)
@pytest.mark.parametrize("name", CASES)
def test_definition(name, shape, normalized, dtype, run, fill, rng, check):
    layer = fill(make(name, normalized, dtype), rng)
    x, dy = draw(shape, dtype)
    want = wanted(layer, x, dy)
    got = run(layer, x, dy)
    assert set(got) == {"y", "dx", *(f"d{name}" for name, _ in layer.named_parameters())}
    for part, value in got.items():
        assert value.dtype == dtype
        check(value, want[part])


@pytest.mark.parametrize(("x_dtype", "weight_dtype"), PAIRS)
@pytest.mark.parametrize("name", CASES)
def test_parameters_of_another_dtype(name, x_dtype, weight_dtype, run, fill, rng, check):
    layer = fill(make(name, 9, weight_dtype), rng)
    x, dy = draw((6, 9), x_dtype)
    want = wanted(layer, x, dy)
    computed_in = torch.float64 if x_dtype == torch.float64 else torch.float32
    for part, value in run(layer, x, dy).items():
        assert value.dtype == (x_dtype if part in ("y", "dx") else weight_dtype)
        check(value, want[part], computed_in=computed_in)


LAYOUTS = {
    "transposed": lambda: torch.randn(8, 6).T,
    "every other column": lambda: torch.randn(6, 16)[:, ::2],
    "one row, expanded": lambda: torch.randn(1, 8).expand(6, 8),
    "one column, expanded": lambda: torch.randn(6, 1).expand(6, 8),
    "one number, expanded": lambda: torch.randn(()).expand(6, 8),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CASES)
def test_the_layout_does_not_matter(name, layout, fill, rng, check):
    layer = fill(make(name, 8), rng)
    x, dy = LAYOUTS[layout](), torch.randn(8, 6).T
    want = wanted(layer, x, dy)
    leaf = x.detach().requires_grad_()
    y = layer(leaf)
    y.backward(dy)
    check(y, want["y"])
    check(leaf.grad, want["dx"])


@pytest.mark.parametrize("name", CASES)
def test_nothing_given_is_changed_and_nothing_returned_is_shared(name, dtype, fill, rng):
    layer = fill(make(name, 8, dtype), rng)
    x, dy = torch.randn(6, 8).to(dtype).requires_grad_(), torch.randn(6, 8).to(dtype)
    given = [x, dy, *layer.parameters()]
    kept = [t.detach().clone() for t in given]
    y = layer(x)
    grads = torch.autograd.grad(y, [x, *layer.parameters()], dy)
    for result in (y, *grads):
        assert result.untyped_storage().data_ptr() not in {t.untyped_storage().data_ptr() for t in given}
    for before, after in zip(kept, given, strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", [(0, 8), (3, 0), (0, 0)])
def test_sizes_of_zero(name, shape, dtype):
    layer = make(name, shape[1], dtype)
    x = torch.empty(shape, dtype=dtype, requires_grad=True)
    y = layer(x)
    y.backward(torch.empty(shape, dtype=dtype))
    assert y.shape == shape
    assert y.dtype == dtype
    for p in layer.parameters():
        assert p.grad is not None
        assert not p.grad.any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", CASES)
def test_what_is_not_finite_stays_in_its_row(name, value, dtype, run):
    x, dy = torch.randn(4, 8).to(dtype), torch.randn(4, 8).to(dtype)
    layer = make(name, 8, dtype)
    clean = run(layer, x, dy)
    x[1, 0] = value
    got = run(layer, x, dy)
    for part in ("y", "dx"):
        assert torch.equal(got[part][[0, 2, 3]], clean[part][[0, 2, 3]])
    if math.isnan(value):
        assert got["y"][1, 0].isnan()


@pytest.mark.parametrize("width", [8, 33, 1024])
@pytest.mark.parametrize("name", CASES)
def test_a_row_does_not_depend_on_its_batch(name, width, dtype):
    layer = make(name, width, dtype)
    x = torch.randn(5, width).to(dtype)
    y = layer(x)
    for i in range(5):
        assert torch.equal(layer(x[i : i + 1]), y[i : i + 1])


@pytest.mark.parametrize(
    "name",
    [
        "scalenorm",
        "l2norm, floor and offset",
        "crmsnorm",
        "crmsnorm, formula",
        "prmsnorm",
        "prmsnorm, formula",
    ],
)
def test_a_row_of_zeros_has_a_finite_gradient(name):
    layer = make(name, 8, torch.float64)
    x = torch.zeros(2, 8, dtype=torch.float64, requires_grad=True)
    dy = torch.randn(2, 8, dtype=torch.float64)
    (dx,) = torch.autograd.grad(layer(x), x, dy)
    np.testing.assert_allclose(dx, wanted(layer, x, dy)["dx"].value, rtol=1e-12)
