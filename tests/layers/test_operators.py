"""The fused norms where PyTorch does more than call them: in-place, compiled, transformed, in batches."""

import subprocess
import sys

import pytest
import torch
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

import normlab
from normlab import NormSpec, functional
from normlab.layers import operators

# torch's own, in the decompositions that forward-mode differentiation and Inductor load.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")


def norms(dtype=torch.float32):
    """All four functions, as functions of one tensor, that give one tensor."""
    residual = torch.randn(2, 3, 8, dtype=dtype)
    weight, bias = torch.randn(8, dtype=dtype), torch.randn(8, dtype=dtype)

    def part(name, index):
        return lambda x: getattr(functional, name)(x, residual.expand_as(x), [8], weight)[index]

    return {
        "rms_norm": lambda x: functional.rms_norm(x, [8], weight),
        "layer_norm": lambda x: functional.layer_norm(x, [8], weight, bias),
        "add_rms_norm, total": part("add_rms_norm", 0),
        "add_rms_norm, normed": part("add_rms_norm", 1),
        "add_layer_norm, normed": part("add_layer_norm", 1),
    }


@pytest.mark.parametrize("name", [name for name in norms() if "total" not in name])
def test_a_result_can_be_modified_in_place(name):
    """As in `y += position` or ReLU(inplace=True) after a norm."""
    norm, dy = norms()[name], torch.randn(2, 3, 8)
    x = torch.randn(2, 3, 8, requires_grad=True)
    (expected,) = torch.autograd.grad(norm(x) * 3, x, dy)
    y = norm(x)
    assert not y._is_view()
    y.mul_(3)
    (got,) = torch.autograd.grad(y, x, dy)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", norms())
def test_gradients_in_batches(name):
    norm = norms(torch.float64)[name]
    x, dy = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True), torch.randn(5, 2, 3, 8, dtype=torch.float64)
    (got,) = torch.autograd.grad(norm(x), x, dy, is_grads_batched=True)
    each = [torch.autograd.grad(norm(x), x, one)[0] for one in dy]
    torch.testing.assert_close(got, torch.stack(each))
    jacobian = torch.autograd.functional.jacobian
    torch.testing.assert_close(jacobian(norm, x.detach(), vectorize=True), jacobian(norm, x.detach()))


def test_a_gradient_that_is_itself_a_dual_number():
    x, dy, tangent = (torch.randn(3, 8) for _ in range(3))
    x.requires_grad_()
    y = functional.rms_norm(x, [8])
    with torch.autograd.forward_ad.dual_level():
        (dx,) = torch.autograd.grad(y, x, torch.autograd.forward_ad.make_dual(dy, tangent), retain_graph=True)
        got = torch.autograd.forward_ad.unpack_dual(dx).tangent
    assert got is not None
    torch.testing.assert_close(got, torch.autograd.grad(y, x, tangent)[0])


def test_numbers_that_wait_to_be_negated():
    """The imaginary part of a conjugate is one of torch's: its memory holds the opposite numbers."""
    one = torch.ones(1, 1, dtype=torch.complex64) * 2j
    assert functional.rms_norm(one.conj().imag, [1]).item() == -1.0
    x, weight = torch.randn(3, 8), torch.randn(8)
    opposite = [torch._neg_view(t) for t in (x, weight)]  # pyright: ignore[reportPrivateImportUsage]
    assert torch.equal(functional.layer_norm(opposite[0], [8]), functional.layer_norm(-x, [8]))
    assert torch.equal(functional.rms_norm(x, [8], opposite[1]), functional.rms_norm(x, [8], -weight))
    leaf = x.clone().requires_grad_()
    (got,) = torch.autograd.grad(functional.rms_norm(leaf, [8]), leaf, opposite[0])
    assert torch.equal(got, torch.autograd.grad(functional.rms_norm(leaf, [8]), leaf, -x)[0])


def in_a_process(code):
    """What would end the process must end another."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_a_gradient_that_is_zero_without_memory():
    in_a_process("""
import torch, normlab
x = torch.randn(3, 8, requires_grad=True)
y = normlab.functional.rms_norm(x, [8])
(got,) = torch.autograd.grad(y, x, torch._efficientzerotensor((3, 8)))
assert torch.equal(got + 0, torch.zeros(3, 8))
""")


@pytest.mark.parametrize("kind", ["rms_norm", "layer_norm"])
@pytest.mark.parametrize("how", ["compiled", "under a mode"])
def test_a_class_that_knows_pytorchs_operations_alone(how, kind):
    """A jagged tensor stands for those: DTensor, which needs processes, is another."""
    rows = torch.randn(3, 8), torch.randn(5, 8)
    x = torch.nested.nested_tensor(list(rows), layout=torch.jagged, requires_grad=True)
    norm = getattr(functional, kind)
    if how == "compiled":
        y = torch.compile(lambda x: norm(x, (8,)), backend="aot_eager")(x)
    else:
        with FlopCounterMode(display=False):
            y = norm(x, (8,))
    for found, row in zip(y.unbind(), rows, strict=True):
        torch.testing.assert_close(found, norm(row, (8,)))


@pytest.mark.parametrize("which", ["input", "residual", "weight", "bias"])
def test_a_subclass_keeps_its_class(which):
    class Marked(torch.Tensor):
        pass

    given = {"input": torch.randn(3, 8), "residual": torch.randn(3, 8)}
    given |= {"weight": torch.randn(8), "bias": torch.randn(8)}
    given[which] = given[which].as_subclass(Marked)
    total, y = functional.add_layer_norm(given["input"], given["residual"], [8], given["weight"], given["bias"])
    assert type(y) is Marked
    assert type(total) is (Marked if which in ("input", "residual") else torch.Tensor)


BACKENDS = ["aot_eager", "inductor"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("compiled_with", ["fused", "torch"])
def test_compiled_with_other_kernels_than_it_runs_on(compiled_with, backend):
    """What the way back needs of the way forth must be there, whichever of the two each of them takes. Inductor also
    keeps what it compiled for later processes, which may have made another choice."""
    in_a_process(f"""
import torch, normlab
x, weight = torch.randn(64, 8, requires_grad=True), torch.randn(8, requires_grad=True)
expected = torch.autograd.grad(normlab.functional.rms_norm(x, [8], weight).sin().sum(), [x, weight])
norm = torch.compile(lambda x, w: normlab.functional.rms_norm(x, [8], w).sin().sum(), backend="{backend}")
with normlab.use_kernels("{compiled_with}"):
    torch.autograd.grad(norm(x, weight), [x, weight])
for forth in ("fused", "torch"):
    for back in ("fused", "torch"):
        with normlab.use_kernels(forth):
            y = norm(x, weight)
        with normlab.use_kernels(back):
            got = torch.autograd.grad(y, [x, weight])
        torch.testing.assert_close(got, expected)
""")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("spec", "dtype"),
    [
        (NormSpec("rmsnorm", eps_place="outside"), torch.float32),
        (NormSpec("layernorm", stats_dtype="input"), torch.bfloat16),
    ],
)
def test_compiled_training_of_a_spec_without_a_fused_kernel(spec, dtype, backend):
    torch._dynamo.reset()
    layer = {"rmsnorm": normlab.RMSNorm, "layernorm": normlab.LayerNorm}[spec.kind](8, spec=spec, dtype=dtype)
    x, dy = torch.randn(3, 8).to(dtype).requires_grad_(), torch.randn(3, 8).to(dtype)
    expected = torch.autograd.grad(layer(x), [x, *layer.parameters()], dy)
    got = torch.autograd.grad(torch.compile(layer, backend=backend, fullgraph=True)(x), [x, *layer.parameters()], dy)
    # The same operations; in bfloat16 Inductor keeps float32 between them, where eager rounds about four times.
    rounding = 8 * torch.finfo(dtype).eps if dtype.itemsize == 2 else 1e-5
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=rounding * other.abs().max().item())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale_dtype", ["stats", "input", "weight"])
def test_compiled_with_a_bias_of_another_dtype(scale_dtype, backend):
    torch._dynamo.reset()
    spec = NormSpec("layernorm", scale_dtype=scale_dtype)
    x, weight, bias = torch.randn(4, 8).bfloat16(), torch.randn(8).bfloat16(), torch.randn(8)

    def norm(x, weight, bias):
        return functional.layer_norm(x, [8], weight, bias, spec=spec) * 2

    expected, got = norm(x, weight, bias), torch.compile(norm, backend=backend, fullgraph=True)(x, weight, bias)
    assert got.dtype == expected.dtype
    # Inductor keeps float32 where eager rounds the normalized value, and its product, to bfloat16.
    torch.testing.assert_close(
        got, expected, rtol=0, atol=4 * torch.finfo(torch.bfloat16).eps * expected.abs().max().item()
    )


TRANSFORMS = {
    "vmap": lambda f, x: torch.vmap(f)(x),
    "grad": lambda f, x: torch.func.grad(lambda x: f(x).sin().sum())(x),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x.cos(),))[1],
    "jacrev": lambda f, x: torch.func.jacrev(f)(x),
    "vmap of grad": lambda f, x: torch.vmap(torch.func.grad(lambda x: f(x).sin().sum()))(x),
}


# What torch 2.13 cannot do with its own layer_norm is not asked of ours.
PAIRS = [(name, t) for name in ("rms_norm", "layer_norm") for t in TRANSFORMS if (name, t) != ("layer_norm", "jvp")]


@pytest.mark.parametrize(("name", "transform"), PAIRS)
def test_transforms_inside_a_compiled_function(name, transform):
    torch._dynamo.reset()
    x, weight = torch.randn(3, 2, 8), torch.randn(8)

    def function(x):
        return TRANSFORMS[transform](lambda x: getattr(functional, name)(x, [8], weight), x)

    torch.testing.assert_close(torch.compile(function, backend="aot_eager", fullgraph=True)(x), function(x))


# What is given beside the input, by the first letters of residual, weight and bias.
GIVEN = [(given, torch.float32) for given in ("", "r", "w", "b", "rwb")] + [("rwb", torch.bfloat16)]


@pytest.mark.parametrize(("given", "dtype"), GIVEN)
def test_the_operators_are_what_they_say_they_are(given, dtype):
    """torch's own check: schema, fake results, autograd, and all of it under AOTAutograd with symbolic shapes."""

    def tensor(letter, *shape):
        return torch.randn(*shape).to(dtype).requires_grad_() if letter in given else None

    x = torch.randn(2, 3, 8).to(dtype).requires_grad_()
    residual, weight, bias = tensor("r", 2, 3, 8), tensor("w", 8), tensor("b", 8)
    fields = operators.fields(NormSpec("layernorm"))
    arguments = (x, residual, weight, bias, [8], *fields)
    opcheck(torch.ops.normlab.norm.default, arguments)

    _, total, stats = (t.detach() for t in torch.ops.normlab.norm(*arguments))
    total = x.detach() if residual is None else total
    weight, bias = (None if p is None else p.detach() for p in (weight, bias))
    dy, dtotal = torch.randn(2, 2, 3, 8).to(dtype)
    # A gradient of the sum comes in only where there is one, and then it may be the only one, or there is none.
    for gradients in ((dy, dtotal), (None, dtotal), (None, None)) if residual is not None else ((dy, None),):
        opcheck(torch.ops.normlab.norm_backward.default, (*gradients, total, weight, bias, stats, [8], *fields))
