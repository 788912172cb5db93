"""Between the two passes autograd keeps tensors, and hooks, `module.to` and sharding change what it kept. A kernel
takes addresses: the gradients are right all the same, or an error says what has changed."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from normlab.layers import LayerNorm, functional

saved_tensors_hooks = torch.autograd.graph.saved_tensors_hooks
ROWS, N = 33, 64
# The short way, the long way, and the operator.
WAYS = {"tuple": (N,), "list": [N], "compiled": (N,)}


def norm(way, x, weight, bias, added=False):
    def call(x, weight, bias):
        if added:
            return functional.add_layer_norm(x, x, WAYS[way], weight, bias).normed
        return functional.layer_norm(x, WAYS[way], weight, bias)

    return (torch.compile(call, backend="aot_eager") if way == "compiled" else call)(x, weight, bias)


def drawn(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    x, dy = torch.randn(2, ROWS, N, generator=generator).to(dtype)
    weight, bias = torch.randn(2, N, generator=generator).to(dtype)
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), dy


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_statistics_that_were_kept_in_another_dtype(way, added):
    """As a hook does that keeps all in half precision: those that need no digits lose none."""
    x, weight, bias, dy = drawn()
    exact = torch.autograd.grad(norm("tuple", x, weight, bias, added), (x, weight, bias), dy)
    with saved_tensors_hooks(lambda t: t.float() if t.dtype == torch.float64 else t, lambda t: t):
        y = norm(way, x, weight, bias, added)
    for found, wanted in zip(torch.autograd.grad(y, (x, weight, bias), dy), exact, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", ["tuple", "list"])
def test_a_hook_that_keeps_half_of_the_digits(way):
    x, weight, bias, dy = drawn()
    with saved_tensors_hooks(lambda t: t.bfloat16(), lambda t: t.float()):
        y, theirs = norm(way, x, weight, bias), nn.functional.layer_norm(x, (N,), weight, bias)
    for found, wanted in zip(*(torch.autograd.grad(t, (x, weight, bias), dy) for t in (y, theirs)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "cut", [lambda t: t[:, :1], lambda t: t[:-1], lambda t: t[0, 0]], ids=["columns", "rows", "one"]
)
def test_statistics_of_another_shape(way, cut):
    x, weight, bias, dy = drawn()
    exact = torch.autograd.grad(norm("tuple", x, weight, bias), (x, weight, bias), dy)
    with saved_tensors_hooks(lambda t: cut(t).clone() if t.dtype == torch.float64 else t, lambda t: t):
        y = norm(way, x, weight, bias)
    for found, wanted in zip(torch.autograd.grad(y, (x, weight, bias), dy), exact, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


CHANGES = {
    "half precision": lambda t: t.to(torch.bfloat16) if t.dtype == torch.float32 else t,
    "fewer rows": lambda t: t[:-1] if t.dim() == 2 and t.dtype == torch.float32 else t,
    "a shorter weight": lambda t: t[:-1] if t.dim() == 1 else t,
    "on no device": lambda t: t.to("meta"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", ["tuple", "list"])
def test_what_a_hook_changed_raises(way, change):
    x, weight, bias, dy = drawn()
    with saved_tensors_hooks(lambda t: t, CHANGES[change]):
        y = norm(way, x, weight, bias)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(y, (x, weight, bias), dy)


@pytest.mark.parametrize("way", WAYS)
def test_a_parameter_that_was_cast_meanwhile(way):
    x, weight, bias, dy = drawn()
    y = norm(way, x, weight, bias)
    weight.data = weight.data.bfloat16()
    # The operator computes with what there is now, and autograd refuses a gradient of another dtype, or casts it.
    with pytest.raises(RuntimeError, match="weight was") if way != "compiled" else nullcontext():
        torch.autograd.grad(y, (x,), dy)


def test_a_module_that_was_cast_meanwhile():
    layer = LayerNorm(N)
    y = layer(torch.randn(ROWS, N, requires_grad=True))
    layer.bfloat16()
    with pytest.raises(RuntimeError, match=r"weight was torch.float32 .* is torch.bfloat16 in the backward pass"):
        y.sum().backward()


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("way", ["tuple", "list"])
def test_memory_that_was_given_back(way, which):
    tensors = drawn()[:3]
    tensors[which].untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="has no memory"):
        norm(way, *tensors)


@pytest.mark.parametrize("way", ["tuple", "list"])
def test_memory_that_was_given_back_between_the_passes(way):
    x, weight, bias, dy = drawn()
    y = norm(way, x, weight, bias)
    weight.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="has no memory"):
        torch.autograd.grad(y, (x, weight, bias), dy)


@pytest.mark.parametrize("way", ["tuple", "list"])
def test_a_backward_pass_under_a_mode_that_makes_other_tensors(way):
    x, weight, bias, dy = drawn()
    y = norm(way, x, weight, bias)
    with FakeTensorMode(allow_non_fake_inputs=True):
        found = torch.autograd.grad(y, (x, weight, bias), dy)
    assert [g.shape for g in found] == [x.shape, weight.shape, bias.shape]
