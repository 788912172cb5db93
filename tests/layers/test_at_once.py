"""The short way of a usual call (`fused.at_once`): it computes what the long way computes, to the last bit, and leaves
alone what is not usual."""

import pytest
import torch
from torch import nn

from normlab import NormSpec
from normlab.kernels import choice
from normlab.layers import functional, fused

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SHAPES = [(7,), (3, 5), (2, 3, 64), (600, 33)]
SPECS = {"rmsnorm": NormSpec("rmsnorm"), "layernorm": NormSpec("layernorm")}


@pytest.fixture
def ways(monkeypatch):
    """True for each call of `at_once` that computed, False for each that did not."""
    found, at_once = [], fused.at_once

    def watched(*arguments):
        result = at_once(*arguments)
        found.append(result is not None)
        return result

    monkeypatch.setattr(functional, "at_once", watched)
    return found


def norm(kind, x, residual, shape, weight, bias):
    parameters = (weight, bias) if kind == "layernorm" else (weight,)
    given = (x,) if residual is None else (x, residual)
    name = ("" if residual is None else "add_") + ("layer_norm" if kind == "layernorm" else "rms_norm")
    return getattr(functional, name)(*given, shape, *parameters, spec=SPECS[kind])


def both_passes(kind, x, residual, shape, weight, bias, dys):
    """Results and all gradients; a gradient of the sum comes in where there are two dys."""
    leaves = [None if t is None else t.detach().requires_grad_() for t in (x, residual, weight, bias)]
    found = norm(kind, leaves[0], leaves[1], shape, leaves[2], leaves[3])
    outputs = list(found) if residual is not None else [found]
    wanted = [t for t in leaves if t is not None]
    through = list(zip(outputs, dys, strict=True))[-len(dys) :]
    gradients = torch.autograd.grad([y for y, _ in through], wanted, [dy for _, dy in through], allow_unused=True)
    return [*outputs, *gradients]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", SPECS)
def test_the_same_bits(kind, dtype, shape, ways):
    """A list of sizes goes the long way, a tuple, as layers have it, the short one."""
    for affine, added in ((True, False), (True, True), (False, False)):
        x, residual, *dys = (torch.randn(shape).to(dtype) for _ in range(4))
        weight, bias = torch.randn(2, shape[-1]).to(dtype)
        case = kind, x, residual if added else None
        rest = weight if affine else None, bias if affine and kind == "layernorm" else None, dys[: 1 + added]
        ways.clear()
        short = both_passes(*case, (shape[-1],), *rest)
        long = both_passes(*case, [shape[-1]], *rest)
        assert ways == [True, False]
        for a, b in zip(short, long, strict=True):
            assert (a is None) == (b is None)
            assert a is None or (a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b))


def test_without_gradients(ways):
    x, weight = torch.randn(4, 16), nn.Parameter(torch.randn(16))
    y = norm("rmsnorm", x, None, (16,), weight, None)
    with torch.no_grad():
        z = norm("rmsnorm", x, None, (16,), weight, None)
    assert y.requires_grad
    assert not z.requires_grad
    assert torch.equal(y, z)
    assert ways == [True, True]


X = torch.arange(24.0).view(4, 6) / 7
UNUSUAL = {
    "transposed": X.T.contiguous().T,
    "broadcast": X[:1].expand(4, 6),
    "imaginary part of a conjugate": torch.complex(X, -X).conj().imag[:, :1].expand(4, 6),
    "no rows": X[:0],
    "no columns": X[:, :0],
    "zeros that are not written down": torch.ops.aten._efficientzerotensor([4, 6]),
    "subclass": X.as_subclass(type("Mine", (torch.Tensor,), {})),
}


def written_down(t):
    """The same numbers in memory of their own."""
    return torch.tensor((t + torch.ones(t.shape)).tolist()).reshape(t.shape) - 1


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_not_usual_goes_the_long_way(name, ways):
    x = UNUSUAL[name]
    y = functional.rms_norm(x, (x.shape[-1],))
    assert ways == [False]
    want = functional.rms_norm(written_down(x), (x.shape[-1],))
    torch.testing.assert_close(written_down(y), want)


def test_a_number_with_the_sign_of_its_conjugate_is_read_with_it():
    """A single one is contiguous, so that only its bit says it."""
    x = torch.tensor([[1 + 2j]]).conj().imag
    assert x.is_contiguous()
    assert x.is_neg()
    assert functional.rms_norm(x, (1,)).item() < 0


def test_the_gradient_may_lie_anywhere():
    """Broadcast, transposed, or the sign to be turned."""
    x, weight = torch.randn(4, 6, requires_grad=True), torch.randn(6, requires_grad=True)
    odd = torch.randn(6, 4).T, torch.randn(1, 6).expand(4, 6), torch.randn(4, 6, dtype=torch.cfloat).conj().imag
    for dy in odd:
        y = functional.rms_norm(x, (6,), weight)
        got = torch.autograd.grad(y, [x, weight], dy, retain_graph=True)
        want = torch.autograd.grad(y, [x, weight], torch.tensor(dy.tolist()))
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_what_was_saved_may_come_back_lying_otherwise():
    """Hooks on saved tensors give back equal ones, and not the same."""
    x, weight = torch.randn(4, 6, requires_grad=True), torch.randn(6, requires_grad=True)
    want = torch.autograd.grad(functional.rms_norm(x, (6,), weight).sum(), [x, weight])
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: torch.stack([t.detach(), t.detach()], -1), lambda t: t[..., 0]
    ):
        y = functional.rms_norm(x, (6,), weight)
    got = torch.autograd.grad(y.sum(), [x, weight])
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("shape", [(6.0,), ("6",)])
def test_a_wrong_size_is_refused_after_a_right_one_too(shape):
    """Equal keys of a cache are not equal types."""
    functional.rms_norm(X, (6,))
    with pytest.raises(TypeError, match="normalized_shape must be"):
        functional.rms_norm(X, shape)


@pytest.mark.parametrize(
    ("x", "weight", "sentence"),
    [
        (None, None, "input must be a torch.Tensor, got NoneType"),
        (X.long(), None, "input must have dtype float16, bfloat16, float32 or float64, got torch.int64"),
        (X, torch.ones(6, dtype=torch.long), "weight must have dtype .* got torch.int64"),
        (X, torch.ones(6, dtype=torch.cfloat), "weight must have dtype .* got torch.complex64"),
        (X, [1.0] * 6, "weight must be a torch.Tensor, got list"),
    ],
)
def test_what_is_no_such_tensor_is_named(x, weight, sentence):
    """With the sizes in a tuple, as they come the short way; `test_bad_input` has the other ones."""
    with pytest.raises(TypeError, match=sentence):
        functional.rms_norm(x, (6,), weight)
    with pytest.raises(TypeError, match=sentence):
        functional.layer_norm(x, (6,), weight)


def test_other_kernels_are_asked_for(ways):
    with choice.use_kernels("torch"):
        y = functional.rms_norm(X, (6,))
    assert ways == [False]
    torch.testing.assert_close(y, functional.rms_norm(X, (6,)))
    assert ways == [False, True]


def test_a_default_device_is_for_new_tensors_of_the_users_own():
    x, weight = torch.randn(300, 100, requires_grad=True), torch.randn(100, requires_grad=True)
    want = torch.autograd.grad(functional.add_rms_norm(x, x, (100,), weight).normed.sum(), [x, weight])
    torch.set_default_device("meta")
    try:
        y = functional.add_rms_norm(x, x, (100,), weight).normed
        got = torch.autograd.grad(y.sum(), [x, weight])
    finally:
        torch.set_default_device(None)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_parameters_elsewhere_are_not_read_as_memory():
    with pytest.raises((RuntimeError, ValueError)):
        functional.rms_norm(X, (6,), torch.ones(6, device="meta")).sum().item()
