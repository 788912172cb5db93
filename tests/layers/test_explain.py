"""Which kernel runs, why, and what happens where the fused ones cannot."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import normlab
from normlab import NormSpec, functional
from normlab.kernels import choice as kernels
from normlab.spec import KINDS

WITHOUT = """
import sys
from concurrent.futures import ThreadPoolExecutor
for name in NAMES:
    sys.modules[name] = None
import warnings
import torch
import normlab
spec = normlab.NormSpec("rmsnorm")
x = torch.randn(3, 8)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    y = normlab.functional.rms_norm(x, [8])
    normlab.functional.rms_norm(x, [8])
assert torch.equal(y, torch.nn.functional.rms_norm(x, [8]))
print(len(caught), caught[0].message)
print(normlab.explain(x, spec=spec))
"""


@pytest.mark.parametrize("names", [("numba",), ("numba", "llvmlite"), ("llvmlite",)])
def test_without_numba_everything_runs_and_one_warning_says_so(names):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.replace("NAMES", repr(names))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    why = "Numba is not installed (pip install numba)"
    assert done.stdout.splitlines() == [
        f"1 normlab runs on PyTorch's own operations, which are slower: {why}",
        f"torch: {why}",
    ]


@pytest.mark.parametrize("scale_dtype", ["stats", "input", "weight"])
@pytest.mark.parametrize("with_weight", [True, False])
def test_the_fused_kernels_round_where_the_formula_does(scale_dtype, with_weight):
    """Each rounding that only one of the two does shows in every third number of a bfloat16 result with a bias."""
    spec = NormSpec("layernorm", scale_dtype=scale_dtype)
    x, weight, bias = (torch.randn(*shape).bfloat16() for shape in ((64, 64), (64,), (64,)))
    given = (weight if with_weight else None, bias)
    fused = functional.layer_norm(x, [64], *given, spec=spec)
    with normlab.use_kernels("torch"):
        by_formula = functional.layer_norm(x, [64], *given, spec=spec)
    # The statistics differ in the last digit of float32, which moves a number in thousands over a tie.
    assert (fused != by_formula).double().mean() < 0.01


def explained(spec, dtype=torch.float32, weight=None, bias=None):
    parameters = {"weight": weight, "bias": bias}
    given = {name: torch.ones(8, dtype=p) for name, p in parameters.items() if p is not None}
    return normlab.explain(torch.ones(3, 8, dtype=dtype), spec=spec, **given)


BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
# (the spec's kind and fields, the dtypes of input, weight and bias, the reason)
REFUSED = [
    *((kind, {}, (F32, None, None), f"there is no fused kernel for kind {kind!r}") for kind in KINDS[2:]),
    ("rmsnorm", {"eps_place": "outside"}, (F32, F32, None), 'eps_place is "outside"'),
    ("layernorm", {"eps_place": "outside"}, (BF16, BF16, BF16), 'eps_place is "outside"'),
    ("rmsnorm", {"stats_dtype": "input"}, (BF16, BF16, None), "the statistics are taken in bfloat16"),
    ("layernorm", {"stats_dtype": "input"}, (F16, None, None), "the statistics are taken in float16"),
    (
        "rmsnorm",
        {"scale_dtype": "input"},
        (BF16, F32, None),
        'scale_dtype is "input" and the parameters are not of the input\'s dtype',
    ),
    (
        "layernorm",
        {"scale_dtype": "weight"},
        (F32, F32, BF16),
        'scale_dtype is "weight" and the parameters are not of the input\'s dtype',
    ),
    ("layernorm", {"scale_dtype": "weight"}, (F16, None, F16), 'scale_dtype is "weight" and there is a bias alone'),
]
TAKEN = [
    ("rmsnorm", {}, (F32, None, None)),
    ("layernorm", {"offset": 1.0, "eps": None}, (BF16, F32, F16)),
    # float32 is its own statistics' dtype, and a float32 bias is added in it.
    ("rmsnorm", {"stats_dtype": "input"}, (F32, F32, None)),
    ("layernorm", {"scale_dtype": "weight"}, (F32, None, F32)),
    ("layernorm", {"scale_dtype": "input"}, (BF16, None, BF16)),
]


@pytest.mark.parametrize(("kind", "fields", "dtypes", "reason"), REFUSED)
def test_every_refusal_has_a_name_and_a_reason(kind, fields, dtypes, reason):
    spec = NormSpec(kind, **fields)
    assert explained(spec, *dtypes) == ("torch", reason)
    assert str(explained(spec, *dtypes)) == f"torch: {reason}"
    x, weight, bias = dtypes
    assert kernels.unfusable(x, weight, bias, spec) == reason


@pytest.mark.parametrize(("kind", "fields", "dtypes"), TAKEN)
def test_what_is_not_refused_is_fused(kind, fields, dtypes):
    assert explained(NormSpec(kind, **fields), *dtypes) == ("numba", "fused")
    with normlab.use_kernels("torch"):
        assert explained(NormSpec(kind, **fields), *dtypes) == ("torch", "no fused kernel was asked for")


def test_the_choice_of_kernels_is_undone_in_order_and_after_an_exception():
    assert kernels.chosen() == "fused"
    with normlab.use_kernels("torch"):
        with normlab.use_kernels("fused"):
            assert kernels.chosen() == "fused"
        assert kernels.chosen() == "torch"
        with pytest.raises(ZeroDivisionError), normlab.use_kernels("fused"):
            _ = 1 / 0
        assert kernels.chosen() == "torch"
    assert kernels.chosen() == "fused"


def test_a_choice_holds_in_other_threads_and_for_the_next_call():
    x, spec = torch.ones(3, 8), NormSpec("rmsnorm")
    with normlab.use_kernels("torch"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(normlab.explain, x, spec=spec).result().kernel == "torch"
    assert normlab.explain(x, spec=spec).kernel == "numba"


def test_choices_that_overlap_are_left_in_any_order():
    """As two threads leave theirs: the newest that is still in force counts."""
    first, second, third = (normlab.use_kernels(which) for which in ("torch", "torch", "fused"))
    for context in (first, second, third):
        context.__enter__()
    assert kernels.chosen() == "fused"
    first.__exit__(None, None, None)
    assert kernels.chosen() == "fused"
    third.__exit__(None, None, None)
    assert kernels.chosen() == "torch"
    second.__exit__(None, None, None)
    assert kernels.chosen() == "fused"


def test_a_compiled_call_follows_the_choice():
    x = torch.randn(64, 512)

    def call(x):
        return functional.rms_norm(x, (512,), eps=1e-5)

    fused = call(x)
    compiled = torch.compile(call, backend="eager", fullgraph=True)
    with normlab.use_kernels("torch"):
        by_formula = call(x)
        assert torch.equal(compiled(x), by_formula)
    assert torch.equal(compiled(x), fused)
    assert not torch.equal(fused, by_formula)


def test_a_choice_inside_a_compiled_function():
    x = torch.randn(64, 512)

    def call(x):
        with normlab.use_kernels("torch"):
            return functional.rms_norm(x, (512,), eps=1e-5)

    assert torch.equal(torch.compile(call, backend="eager", fullgraph=True)(x), call(x))
    assert kernels.chosen() == "fused"


def test_an_unknown_choice_of_kernels():
    with (
        pytest.raises(ValueError, match=r"^which must be one of 'fused', 'torch', got 'cuda'$"),
        normlab.use_kernels("cuda"),
    ):
        pass
    assert kernels.chosen() == "fused"


CHOSEN_OUTSIDE = """
import torch, normlab
x = torch.randn(3, 8)
assert torch.equal(normlab.functional.rms_norm(x, [8]), torch.nn.functional.rms_norm(x, [8]))
print(normlab.explain(x, spec=normlab.NormSpec("rmsnorm")))
with normlab.use_kernels("fused"):
    print(normlab.explain(x, spec=normlab.NormSpec("rmsnorm")))
"""


def outside(value):
    """The process with NORMLAB_KERNELS set to a value."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", CHOSEN_OUTSIDE],
        env={**os.environ, "NORMLAB_KERNELS": value},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_environment_variable_chooses_for_a_process():
    done = outside("torch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["torch: no fused kernel was asked for", "numba: fused"]


def test_an_empty_environment_variable_is_none():
    command = [sys.executable, "-c", "from normlab.kernels import chosen; print(chosen())"]
    environment = {**os.environ, "NORMLAB_KERNELS": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "fused\n"), done.stderr


def test_a_wrong_environment_variable_is_one_sentence():
    done = outside("numba")
    assert done.returncode == 1
    sentence = "InputError: the variable NORMLAB_KERNELS must be one of 'fused', 'torch', got 'numba'"
    assert done.stderr.splitlines()[-1].endswith(sentence)


class Subclass(torch.Tensor):
    pass


def inside(wrap):
    """What is said within a function that `wrap` runs, and which operations ran there."""
    said, spec = [], NormSpec("rmsnorm", eps=1e-5)

    def function(x):
        said.append(normlab.explain(x, spec=spec))
        return functional.rms_norm(x, (8,), spec=spec).sum()

    wrap(function, torch.randn(3, 8))
    return said[0]


def dual(function, x):
    with torch.autograd.forward_ad.dual_level():
        function(torch.autograd.forward_ad.make_dual(x, x))


def export(function, x):
    class Model(torch.nn.Module):
        def forward(self, x):
            return function(x)

    torch.export.export(Model(), (x,), strict=False)


TRANSFORM = "a transform of torch.func, or forward-mode differentiation, is at work"
ELSEWHERE = {
    "vmap": (lambda function, x: torch.func.vmap(function)(x), TRANSFORM),
    "grad": (lambda function, x: torch.func.grad(function)(x), TRANSFORM),
    "jvp": (lambda function, x: torch.func.jvp(function, (x,), (x,)), TRANSFORM),
    "forward mode": (dual, TRANSFORM),
    "jit": (torch.jit.trace, "torch.jit.trace writes a program down that must run without normlab"),
    "export": (export, "torch.export writes a program down that must run without normlab"),
    "subclass": (
        lambda function, x: function(x.as_subclass(Subclass)),
        "Subclass is a subclass of torch.Tensor, which may change what an operation does",
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("place", ELSEWHERE)
def test_what_is_said_holds_where_it_is_asked(place, monkeypatch):
    """And it is what runs: PyTorch's operations."""
    wrap, reason = ELSEWHERE[place]
    ran, run_ = [], kernels.torch_ops.norm
    monkeypatch.setattr(kernels.torch_ops, "norm", lambda *given: ran.append(1) or run_(*given))
    args = (lambda function, x: wrap(function, (x,))) if place == "jit" else wrap
    assert inside(args) == ("torch", reason)
    assert ran
    assert normlab.explain(torch.randn(3, 8), spec=NormSpec("rmsnorm")) == ("numba", "fused")


X = torch.ones(3, 8)
TENSORS = {
    "sparse": ({"x": X.to_sparse()}, "the layout of a tensor is sparse_coo"),
    "devices": ({"weight": torch.ones(8, device="meta")}, "the tensors are on different devices, cpu and meta"),
}


@pytest.mark.parametrize("given", TENSORS)
def test_tensors_that_no_kernel_may_read(given):
    changed, reason = TENSORS[given]
    assert normlab.explain(**{"x": X, "spec": NormSpec("rmsnorm"), **changed}) == ("torch", reason)


FLOATS = "must have dtype float16, bfloat16, float32 or float64, got torch."
WRONG = {
    "no tensor": ({"x": [1.0]}, TypeError, "x must be a torch.Tensor, got list"),
    "int64": ({"x": X.long()}, TypeError, f"x {FLOATS}int64"),
    "float8": ({"x": X.to(torch.float8_e4m3fn)}, TypeError, f"x {FLOATS}float8_e4m3fn"),
    "an int weight": ({"weight": torch.ones(8).int()}, TypeError, f"weight {FLOATS}int32"),
    "a list of weights": ({"weight": [1.0]}, TypeError, "weight must be a torch.Tensor, got list"),
    "a residual's dtype": (
        {"residual": X.half()},
        TypeError,
        "residual must have the dtype of x, torch.float32, got torch.float16",
    ),
    "a residual's shape": ({"residual": X[:2]}, ValueError, "residual must have the shape of x, [3, 8], got [2, 8]"),
    "a weight's shape": (
        {"weight": torch.ones(7)},
        ValueError,
        "weight must have the shape of the axes of x that are normalized, the last of [3, 8], got [7]",
    ),
    "a bias's shape": (
        {"weight": torch.ones(8), "bias": torch.ones(3, 8), "spec": NormSpec("layernorm")},
        ValueError,
        "bias must have the shape of the axes of x that are normalized, the last of [3, 8], got [3, 8]",
    ),
    "a bias": (
        {"bias": torch.ones(8)},
        ValueError,
        "bias must be None for kind 'rmsnorm', which has none, got a tensor",
    ),
    "a number": (
        {"x": torch.tensor(1.0)},
        ValueError,
        "x must have an axis to normalize over, got one number, of shape []",
    ),
    "a preset": ({"spec": "llama"}, TypeError, "spec must be a NormSpec (that of a layer is layer.spec), got str"),
    "a layer": (
        {"spec": normlab.RMSNorm(8)},
        TypeError,
        "spec must be a NormSpec (that of a layer is layer.spec), got RMSNorm",
    ),
}


@pytest.mark.parametrize("given", WRONG)
def test_what_a_call_refuses_is_refused(given):
    changed, error, sentence = WRONG[given]
    with pytest.raises(error) as raised:
        normlab.explain(**{"x": X, "spec": NormSpec("rmsnorm"), **changed})
    assert str(raised.value) == sentence


def test_two_normalized_axes():
    x, weight = torch.ones(2, 3, 8), torch.ones(3, 8)
    assert normlab.explain(x, spec=NormSpec("layernorm"), weight=weight, bias=weight) == ("numba", "fused")
    assert normlab.explain(x[:0], spec=NormSpec("layernorm")) == ("numba", "fused")


@pytest.mark.parametrize("trained", [False, True])
def test_a_tensor_made_in_inference_mode(trained):
    with torch.inference_mode():
        x = torch.randn(3, 8)
    weight = torch.ones(8, requires_grad=trained)
    said = normlab.explain(x, spec=NormSpec("rmsnorm"), weight=weight)
    y = normlab.functional.rms_norm(x, (8,), weight)
    if trained:
        assert said == ("torch", "autograd does not keep a tensor that was made in inference mode")
        assert "_Norm" not in type(y.grad_fn).__name__
    else:
        assert said == normlab.explain(torch.randn(3, 8), spec=NormSpec("rmsnorm"), weight=weight)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("parts", [0, 2])
def test_a_nested_tensor(parts):
    x = torch.nested.nested_tensor([torch.randn(3, 8) for _ in range(parts)])
    said = normlab.explain(x, spec=NormSpec("rmsnorm"))
    if parts:
        assert said == normlab.explain(torch.randn(3, 8), spec=NormSpec("rmsnorm"))
    else:
        assert said == ("torch", "a nested tensor without parts")
