"""What the layers' tests share: one error bound, and the definition's results in float64 to hold it against."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import normlab
from normlab.norms import batchnorm, layernorm, rmsnorm

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


class Expected(NamedTuple):
    """A result in float64, the size of the terms that it is made of, how many are summed, and kappa.

    kappa, the size of x over its standard deviation, is the condition number of centring: what a relative error of
    the mean or of x - mean comes to in the normalized value. 1 where nothing is centred.
    """

    value: Any
    terms: float
    length: int
    kappa: float = 1.0


def unit(dtype: torch.dtype) -> float:
    """The unit roundoff."""
    return torch.finfo(dtype).eps / 2


def _check(actual: Any, expected: Expected, *, computed_in: torch.dtype | None = None) -> None:
    """Raise unless a tensor is what rounding may make of the expected value.

    A sum of n numbers in any order is off by at most n * u times the size of its terms, u being the unit roundoff
    of the dtype of the sum: float32 for half precision. The formulas nest two such sums among about 16 elementwise
    operations. What is half precision is rounded thrice: the normalized value, its product, and the sum with the
    bias or of two terms of a gradient; kappa does not come in there, as the statistics are float32.
    """
    wide = computed_in or (torch.float32 if actual.element_size() == 2 else actual.dtype)
    sums = 2 * (expected.length + 16) * unit(wide) * expected.kappa
    bound = expected.terms * (3 * unit(actual.dtype) + sums)
    got = actual.detach().double().numpy()
    assert got.shape == np.shape(expected.value)
    np.testing.assert_allclose(got, expected.value, rtol=0, atol=bound)


def _top(a: Any) -> float:
    return float(np.max(np.abs(a), initial=0.0))


def _definition(kind: str, dy: Any, x: Any, weight: Any, bias: Any, **options: Any) -> dict[str, Expected]:
    """y and every gradient of the definition of `kind`, for tensors of any dtype.

    `options` go to the definition; for batchnorm `running_mean` and `running_var` among them.
    """
    dy, x, weight, bias = (None if t is None else t.detach().double().numpy() for t in (dy, x, weight, bias))
    stats = {k: options.pop(k).double().numpy() for k in ("running_mean", "running_var") if k in options}
    shape = options.get("normalized_shape", x.shape[-1:])
    eps, offset = options.get("eps", 1e-5), options.get("offset", 0.0)
    out: Any = None
    column = (-1,)
    gradients: Any
    if kind == "batchnorm":
        axes, column = (0, *range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)
        forward = {k: options[k] for k in ("momentum", "unbiased_running_var") if k in options}
        options = {k: v for k, v in options.items() if k not in forward}
        out = batchnorm.forward(x, weight, bias, **stats, **forward, **options)
        value, gradients = out.y, batchnorm.backward(dy, x, weight, **stats, **options)
        g = 1.0 if weight is None else (offset + weight).reshape(column)
    else:
        axes = tuple(range(-len(shape), 0))
        norm = layernorm if kind == "layernorm" else rmsnorm
        value = norm.forward(x, *((weight,) if kind == "rmsnorm" else (weight, bias)), **options)
        gradients = norm.backward(dy, x, weight, **options)
        g = 1.0 if weight is None else offset + weight

    # The sizes of the terms, to which rounding errors are relative: see the definitions' own tests.
    if kind == "batchnorm" and not options.get("training", True) and stats:
        m, v = (stats[k].reshape(column) for k in ("running_mean", "running_var"))
    else:
        m = np.mean(x, axis=axes, keepdims=True) if kind != "rmsnorm" and x.size else 0.0
        v = np.mean((x - m) ** 2, axis=axes, keepdims=True) if x.size else np.ones(1)
    s = 1 / np.sqrt(v + eps) if options.get("eps_place", "inside") == "inside" else 1 / (np.sqrt(v) + eps)
    kappa = max(_top(x * s), 1.0) if kind != "rmsnorm" else 1.0
    sums = float(np.sum(np.abs(dy)))
    n = x.size // max(np.size(v), 1)
    rows = x.size // max(int(np.prod(shape)) if kind != "batchnorm" else x.shape[1], 1)
    expected = {
        "y": Expected(value, _top((x - m) * s * g) + 1 + (0 if bias is None else _top(bias)), n, kappa),
        "dx": Expected(gradients.dx, _top(s * dy * g) * (1 + _top((x - m) * s)), n, kappa),
    }
    if weight is not None:
        expected["dweight"] = Expected(gradients.dweight, (_top((x - m) * s) + 1) * sums, n + rows, kappa)
    if bias is not None:
        expected["dbias"] = Expected(gradients.dbias, sums, rows)
    if out is not None and out.running_mean is not None:
        expected["running_mean"] = Expected(out.running_mean, _top(x) + 1, n)
        expected["running_var"] = Expected(out.running_var, _top(x) ** 2 + 1, n)
    return expected


def _run(layer: Any, x: Any, dy: Any) -> dict[str, Any]:
    """y, every gradient and the running statistics of one training step of a layer."""
    leaf = x.detach().clone().requires_grad_()
    layer.zero_grad()
    y = layer(leaf)
    y.backward(dy.to(y.dtype))
    out = {"y": y.detach(), "dx": leaf.grad}
    out |= {f"d{name}": p.grad for name, p in layer.named_parameters()}
    out |= {name: b.clone() for name, b in layer.named_buffers() if name != "num_batches_tracked"}
    return out


def _fill(layer: Any, generator: np.random.Generator) -> Any:
    """Random parameters, and running statistics that are none of a fresh layer's, in place."""
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.tensor(generator.normal(1.0, 0.5, p.shape)))
        for name, b in layer.named_buffers():
            if name == "running_mean":
                b.copy_(torch.tensor(generator.normal(size=b.shape)))
            elif name == "running_var":
                b.copy_(torch.tensor(generator.uniform(0.5, 2.0, b.shape)))
    return layer


@pytest.fixture(params=["fused", "torch"])
def kernels(request):
    """Which kernels run: the fused ones where they take a call, or PyTorch's own operations."""
    with normlab.use_kernels(request.param):
        yield request.param


def _agree(y: Any, reference: Any, kernels: str, length: int) -> None:
    """Raise unless y is the reference, to the bit where both are computed by PyTorch.

    The fused kernels add up in another order: a sum of n numbers is off by at most n units, which half precision,
    whose sums are float32, sees where it changes one of its own roundings (of the normalized value, the product,
    the sum with the bias).
    """
    if kernels == "torch":
        assert torch.equal(y, reference)
        return
    roundings = 3 if y.element_size() == 2 else length + 16
    atol = roundings * 2 * unit(y.dtype) * _top(reference.detach().double().numpy())
    torch.testing.assert_close(y, reference, rtol=0, atol=atol)


@pytest.fixture(scope="session")
def agree():
    return _agree


@pytest.fixture(scope="session")
def check():
    return _check


@pytest.fixture(scope="session")
def definition():
    return _definition


@pytest.fixture(scope="session")
def run():
    return _run


@pytest.fixture(scope="session")
def fill():
    return _fill


@pytest.fixture(params=DTYPES, ids=lambda d: str(d).removeprefix("torch."))
def dtype(request):
    return request.param
