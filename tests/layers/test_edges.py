"""Inputs of every layout, sizes of zero, non-finite numbers, the ends of the range, autocast."""

import pytest
import torch
from torch import nn

import normlab
from normlab import NormSpec, functional

pytestmark = pytest.mark.usefixtures("kernels")

# eps outside the square root sends a layer through the kernel's formula.
LAYERS = [
    (normlab.LayerNorm, nn.LayerNorm, {}),
    (normlab.RMSNorm, nn.RMSNorm, {}),
    (normlab.BatchNorm1d, nn.BatchNorm1d, {}),
    (normlab.LayerNorm, None, {"spec": NormSpec("layernorm", eps_place="outside")}),
    (normlab.RMSNorm, None, {"spec": NormSpec("rmsnorm", eps_place="outside")}),
    (normlab.BatchNorm1d, None, {"spec": NormSpec("batchnorm", eps_place="outside")}),
]
WITH_REFERENCE = [(layer, reference) for layer, reference, _ in LAYERS if reference is not None]

# (6, 8), each another way to lie in memory. Of an expanded one several entries are one number.
LAYOUTS = {
    "transposed": lambda: torch.randn(8, 6).T,
    "every other column": lambda: torch.randn(6, 16)[:, ::2],
    "every other row": lambda: torch.randn(12, 8)[::2],
    "offset": lambda: torch.randn(50)[2:].view(6, 8),
    "one row, expanded": lambda: torch.randn(1, 8).expand(6, 8),
    "one column, expanded": lambda: torch.randn(6, 1).expand(6, 8),
    "one number, expanded": lambda: torch.randn(()).expand(6, 8),
    "permuted": lambda: torch.randn(4, 6, 2).permute(1, 0, 2).reshape(6, 8),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("layer", "reference", "options"), LAYERS)
def test_the_layout_does_not_matter(layer, reference, options, layout, fill, rng, run, definition, check):
    norm = fill(layer(8, **options), rng)
    x, dy = LAYOUTS[layout](), torch.randn(8, 6).T
    kind, eps_place = norm.spec.kind, norm.spec.eps_place
    stats = {n: b.clone() for n, b in norm.named_buffers() if n in ("running_mean", "running_var")}
    expected = definition(kind, dy, x, norm.weight, getattr(norm, "bias", None), eps_place=eps_place, **stats)
    leaf = x.detach().requires_grad_()  # run() would make it contiguous
    y = norm(leaf)
    y.backward(dy)
    check(y, expected["y"])
    check(leaf.grad, expected["dx"])
    check(norm.weight.grad, expected["dweight"])


@pytest.mark.parametrize(("layer", "reference", "options"), LAYERS)
@pytest.mark.parametrize("expand", ["input", "gradient"])
def test_through_an_expanded_tensor(layer, reference, options, expand, fill, rng):
    """A broadcast input collects the gradients of all its copies; sum() sends a gradient of stride 0."""
    norm = fill(layer(8, **options), rng).eval()
    x = torch.randn((1, 8) if expand == "input" else (6, 8), requires_grad=True)
    y = norm(x.expand(6, 8))
    upstream = torch.randn(6, 8) if expand == "input" else torch.tensor(2.0).expand(6, 8)
    (dx,) = torch.autograd.grad(y, x, upstream)
    copies = x.detach().expand(6, 8).clone().requires_grad_()
    (each,) = torch.autograd.grad(norm(copies), copies, upstream.clone())
    # In torch's float32 tolerance, 1e-5 of numbers around 10: only the order of six additions differs.
    torch.testing.assert_close(dx, each.sum(0, keepdim=True) if expand == "input" else each)


@pytest.mark.parametrize(("layer", "reference", "options"), LAYERS)
def test_nothing_given_is_changed_and_nothing_returned_is_shared(layer, reference, options, dtype, fill, rng):
    norm = fill(layer(8, dtype=dtype, **options), rng)
    x, dy = torch.randn(6, 8).to(dtype).requires_grad_(), torch.randn(6, 8).to(dtype)
    given = [x, dy, *norm.parameters()]
    kept, versions = [t.detach().clone() for t in given], [t._version for t in given]
    for mode in (True, False):
        y = norm.train(mode)(x)
        grads = torch.autograd.grad(y, [x, *norm.parameters()], dy)
        for result in (y, *grads):
            assert result.untyped_storage().data_ptr() not in {t.untyped_storage().data_ptr() for t in given}
    for before, after in zip(kept, given, strict=True):
        assert torch.equal(before, after)
    assert [t._version for t in given] == versions


@pytest.mark.parametrize(("layer", "reference", "options"), LAYERS)
@pytest.mark.parametrize("shape", [(0, 8), (3, 0), (0, 0)])
def test_sizes_of_zero(layer, reference, options, shape, dtype):
    if reference is nn.BatchNorm1d and shape[1] == 0:
        options = {"affine": False}  # torch refuses a weight without entries
    norm = layer(shape[1], dtype=dtype, **options)
    x = torch.empty(shape, dtype=dtype, requires_grad=True)
    for mode in (True, False):
        y = norm.train(mode)(x)
        y.backward(torch.empty(shape, dtype=dtype))
        assert y.shape == shape
        assert y.dtype == dtype
        assert x.grad is not None
        assert x.grad.shape == shape
    for p in norm.parameters():
        assert p.grad is not None
        assert torch.equal(p.grad, torch.zeros_like(p))
    if norm.spec.kind == "batchnorm":
        assert torch.equal(norm.running_mean, torch.zeros(shape[1], dtype=dtype))
        assert torch.equal(norm.running_var, torch.ones(shape[1], dtype=dtype))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("layer", "reference"), WITH_REFERENCE)
def test_what_is_not_finite_spreads_as_in_torch(layer, reference, value, dtype, run):
    x, dy = torch.randn(4, 8).to(dtype), torch.randn(4, 8).to(dtype)
    x[1, 3] = value
    ours, theirs = run(layer(8, eps=1e-5, dtype=dtype), x, dy), run(reference(8, eps=1e-5, dtype=dtype), x, dy)
    assert not ours["y"].isfinite().all()
    for name, got in ours.items():
        for ask in (torch.isnan, torch.isposinf, torch.isneginf):
            assert torch.equal(ask(got), ask(theirs[name])), name


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("layer", "reference", "options"), LAYERS)
def test_what_is_not_finite_stays_in_its_row(layer, reference, options, value, dtype, run):
    x, dy = torch.randn(4, 8).to(dtype), torch.randn(4, 8).to(dtype)
    norm = layer(8, dtype=dtype, **options)
    clean = run(norm, x, dy)
    spoiled = x.clone()
    spoiled[1, 3] = value
    got = run(norm, spoiled, dy)
    others = [0, 2, 3] if norm.spec.kind != "batchnorm" else [0, 1, 2, 4, 5, 6, 7]
    axis = 0 if norm.spec.kind != "batchnorm" else 1
    for name in ("y", "dx"):
        pick = torch.tensor(others)
        assert torch.equal(got[name].index_select(axis, pick), clean[name].index_select(axis, pick))


@pytest.mark.parametrize(("layer", "reference", "options"), LAYERS)
def test_a_row_does_not_depend_on_its_batch(layer, reference, options, dtype):
    norm = layer(8, dtype=dtype, **options).eval()
    x = torch.randn(5, 8).to(dtype)
    y = norm(x)
    for i in range(5):
        assert torch.equal(norm(x[i : i + 1]), y[i : i + 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layer", [normlab.LayerNorm, normlab.RMSNorm])
def test_subnormal_input(layer, dtype, check, definition):
    """Numbers below the smallest normal one pass through, scaled by 1 / sqrt(eps): they are not flushed."""
    tiny = torch.finfo(dtype).tiny
    x = (torch.linspace(-1, 1, 8) * tiny / 4).to(dtype)[None]
    assert (x != 0).any()
    kind = "layernorm" if layer is normlab.LayerNorm else "rmsnorm"
    y = layer(8, dtype=dtype)(x)
    expected = definition(kind, x, x, None, None)["y"].value
    # Centring rounds to the grid of subnormal numbers; the factor is 316.
    grid = torch.finfo(torch.float32).smallest_normal * torch.finfo(torch.float32).eps
    limit = 316 * 2 * grid + torch.finfo(dtype).eps * float(abs(expected).max())
    assert float((y.detach().double() - torch.tensor(expected)).abs().max()) <= limit
    assert (y != 0).any()


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm", "batchnorm"])
def test_float16_squares_overflow_only_in_float16_statistics(kind):
    """1000^2 is beyond float16's 65504."""
    layer = {"layernorm": normlab.LayerNorm, "rmsnorm": normlab.RMSNorm, "batchnorm": normlab.BatchNorm1d}[kind]
    x = torch.tensor([[1000.0, -1000.0], [-1000.0, 1000.0]], dtype=torch.float16)
    wide = layer(2, dtype=torch.float16)
    assert torch.equal(wide(x), x / 1000)
    narrow = layer(2, spec=NormSpec(kind, stats_dtype="input"), dtype=torch.float16)
    assert torch.equal(narrow(x), torch.zeros_like(x))  # 1000 / inf


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm", "batchnorm"])
def test_in_bfloat16_the_statistics_dtype_shows_in_the_digits(kind):
    layer = {"layernorm": normlab.LayerNorm, "rmsnorm": normlab.RMSNorm, "batchnorm": normlab.BatchNorm1d}[kind]
    x = torch.randn(16, 16).to(torch.bfloat16)
    results = [
        layer(16, spec=NormSpec(kind, stats_dtype=stats), dtype=torch.bfloat16)(x) for stats in ("float32", "input")
    ]
    assert not torch.equal(*results)
    torch.testing.assert_close(*results, rtol=0, atol=0.1)  # numbers up to 4, a few roundings of 2^-8


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm", "batchnorm"])
def test_eps_none_is_the_epsilon_of_the_statistics(kind, dtype):
    norm = {"layernorm": functional.layer_norm, "rmsnorm": functional.rms_norm}.get(kind)
    x = (torch.randn(4, 8) * 1e-3).to(dtype)
    outputs = []
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for eps in (None, torch.finfo(wide).eps):
        spec = NormSpec(kind, eps=eps)
        outputs.append(norm(x, [8], spec=spec) if norm else functional.batch_norm(x, None, None, spec=spec))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("x_dtype", [torch.float32, None])
@pytest.mark.parametrize(("layer", "reference"), WITH_REFERENCE)
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch's RMSNorm says it is slower
def test_autocast_as_torch(layer, reference, x_dtype, autocast, run):
    x, dy = torch.randn(6, 8).to(x_dtype or autocast), torch.randn(6, 8)
    ours, theirs = layer(8, eps=1e-5), reference(8, eps=1e-5)
    with torch.autocast("cpu", autocast):
        mine, want = run(ours, x, dy), run(theirs, x, dy)
    for name, value in mine.items():
        assert value.dtype == want[name].dtype
        # Two correct roundings, in the dtype of x, of numbers up to 16 may be neighbours.
        torch.testing.assert_close(value, want[name], rtol=0, atol=16 * torch.finfo(x.dtype).eps)


def test_a_model_under_autocast_trains():
    model = nn.Sequential(nn.Linear(8, 16), normlab.RMSNorm(16, spec="llama"), nn.Linear(16, 1), normlab.LayerNorm(1))
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(4, 8)).sum().backward()
    for p in model.parameters():
        assert p.grad is not None
        assert p.grad.dtype == torch.float32
        assert p.grad.isfinite().all()
