"""Who is measured: this library, PyTorch, the plain formula, torch.compile of it; on a GPU Liger and quack."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

import normlab
from normlab.bench.cases import Case
from normlab.bench.timing import Call
from normlab.layers import functional

EPS = 1e-5

OURS = "normlab"
TWO_STEPS = "normlab, two steps"
TORCH = "torch.nn"
FORMULA = "formula"
COMPILED = "torch.compile"
LIGER = "Liger"
QUACK = "quack"
EMPTY = "empty call"
COPY = "copy_"
# In the order of tables and legends.
NAMES = (OURS, TWO_STEPS, TORCH, FORMULA, COMPILED, LIGER, QUACK, EMPTY, COPY)

# What a contender computes: y, or with a residual the sum and y.
Forward = Callable[[], tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True)
class Inputs:
    """The tensors of a case, the same for all contenders.

    Attributes:
        given: x, and the residual where one is added.
        parameters: weight, and for LayerNorm bias.
        gradients: upstream, of y or of the sum and y.
    """

    given: tuple[Tensor, ...]
    parameters: tuple[nn.Parameter, ...]
    gradients: tuple[Tensor, ...]

    @property
    def wanted(self) -> tuple[Tensor, ...]:
        """By what the backward pass differentiates."""
        return (*self.given, *self.parameters)


def inputs(case: Case, device: str = "cpu") -> Inputs:
    """Normal numbers; the weight is near 1 and the bias near 0."""
    dtype = getattr(torch, case.dtype)
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device).to(dtype)

    rows, dim = case.rows, case.dim
    n = 1 + case.adds
    parameters = [nn.Parameter(1 + 0.1 * normal(dim))]
    if case.layer:
        parameters.append(nn.Parameter(0.1 * normal(dim)))
    return Inputs(
        tuple(normal(rows, dim).requires_grad_() for _ in range(n)),
        tuple(parameters),
        tuple(normal(rows, dim) for _ in range(n)),
    )


def rms_formula(x: Tensor, weight: Tensor) -> Tensor:
    """RMSNorm as it is written in model files: statistics and product in float32 (float64 for float64)."""
    h = x if x.dtype == torch.float64 else x.float()
    return (weight * (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + EPS))).type_as(x)


def layer_formula(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """LayerNorm in the same way."""
    h = x if x.dtype == torch.float64 else x.float()
    c = h - h.mean(-1, keepdim=True)
    return (weight * (c * torch.rsqrt(c.pow(2).mean(-1, keepdim=True) + EPS)) + bias).type_as(x)


def _with(layer: Any, data: Inputs) -> Any:
    """A layer with the parameters that all contenders share."""
    layer.weight = data.parameters[0]
    if len(data.parameters) > 1:
        layer.bias = data.parameters[1]
    return layer


def _normed(norm: Callable[[Tensor], Tensor], data: Inputs) -> Forward:
    """A norm, after adding the residual where there is one."""
    if len(data.given) == 1:
        (x,) = data.given
        return lambda: (norm(x),)
    x, residual = data.given

    def forward() -> tuple[Tensor, ...]:
        total = x + residual
        return total, norm(total)

    return forward


def _fused(case: Case, data: Inputs) -> Forward:
    """Ours with the residual, in one pass."""
    x, residual = data.given
    shape = (case.dim,)
    if case.layer:
        weight, bias = data.parameters
        return lambda: functional.add_layer_norm(x, residual, shape, weight, bias, EPS)
    (weight,) = data.parameters
    return lambda: functional.add_rms_norm(x, residual, shape, weight, EPS)


def _torch_layer(case: Case, library: Any) -> Any:
    return (library.LayerNorm if case.layer else library.RMSNorm)(case.dim, eps=EPS)


def _formula(case: Case, data: Inputs) -> Callable[[Tensor], Tensor]:
    formula: Any = layer_formula if case.layer else rms_formula
    return lambda x: formula(x, *data.parameters)


def _compiled(case: Case, data: Inputs) -> Callable[[Tensor], Tensor]:
    # A function keeps its compiled forms, and only so many of them.
    torch._dynamo.reset()
    formula: Any = torch.compile(layer_formula if case.layer else rms_formula, dynamic=False)
    return lambda x: formula(x, *data.parameters)


def _liger(case: Case, data: Inputs) -> Forward:
    from liger_kernel.transformers.layer_norm import LigerLayerNorm  # pyright: ignore[reportMissingImports]
    from liger_kernel.transformers.rms_norm import LigerRMSNorm  # pyright: ignore[reportMissingImports]

    if case.layer:
        return _normed(_with(LigerLayerNorm(case.dim, eps=EPS, bias=True), data), data)
    # In place it would write dx over the upstream gradient, which the others leave as it is.
    if not case.adds:
        return _normed(_with(LigerRMSNorm(case.dim, eps=EPS, in_place=False), data), data)
    from liger_kernel.transformers.fused_add_rms_norm import (  # pyright: ignore[reportMissingImports]
        LigerFusedAddRMSNorm,
    )

    x, residual = data.given
    fused = _with(LigerFusedAddRMSNorm(case.dim, eps=EPS, in_place=False), data)

    def forward() -> tuple[Tensor, ...]:
        y, total = fused(x, residual)
        return total, y

    return forward


def _quack(case: Case, data: Inputs) -> Forward:
    import quack  # pyright: ignore[reportMissingImports]

    if case.layer:
        raise NotImplementedError("quack's layernorm has no backward")
    (weight,) = data.parameters
    if not case.adds:
        (x,) = data.given
        return lambda: (quack.rmsnorm(x, weight, eps=EPS),)
    x, residual = data.given

    def forward() -> tuple[Tensor, ...]:
        y, total = quack.rmsnorm(x, weight, residual=residual, eps=EPS, prenorm=True)
        return total, y

    return forward


def forwards(
    case: Case, data: Inputs, *, formula: bool = True, compiled: bool = False
) -> tuple[dict[str, Forward], list[str]]:
    """The contenders of a case by name, and sentences on those that cannot take part.

    Args:
        formula: whether the plain formula takes part. Where a residual is added it never does.
        compiled: whether torch.compile of the formula does; it is compiled here.
    """
    ours, torchs = _with(_torch_layer(case, normlab), data), _with(_torch_layer(case, nn), data)
    found = {OURS: _fused(case, data) if case.adds else _normed(ours, data)}
    if case.adds:
        found[TWO_STEPS] = _normed(ours, data)
    found[TORCH] = _normed(torchs, data)
    if formula and not case.adds:
        found[FORMULA] = _normed(_formula(case, data), data)

    # Others' code may be missing, or refuse a shape: that is said, and the rest goes on.
    guests: dict[str, Callable[[], Forward]] = {}
    if compiled:
        guests[COMPILED] = lambda: _normed(_compiled(case, data), data)
    if data.given[0].is_cuda:
        libraries = {LIGER: ("liger_kernel", _liger), QUACK: ("quack", _quack)}
        for name, (package, build) in libraries.items():
            if find_spec(package) is not None:
                guests[name] = lambda build=build: build(case, data)
    notes = []
    for name, build in guests.items():
        try:
            guest = build()
            step(case, guest, data)()
            found[name] = guest
        except Exception as error:
            words = str(error).strip().splitlines() or [type(error).__name__]
            notes.append(f"{name} does not take part in {case}: {words[0][:120]}")
    return found, notes


def step(case: Case, forward: Forward, data: Inputs) -> Forward:
    """What is timed: the forward pass, or it and the backward pass.

    Gradients are handed out, not accumulated: within a model the input of a norm is no leaf.
    """
    if case.mode == "forward":

        def infer() -> Any:
            with torch.no_grad():
                return forward()

        return infer
    wanted, gradients = data.wanted, data.gradients
    return lambda: torch.autograd.grad(forward(), wanted, gradients)


# From so many bytes on, a copy goes to several places in turn.
LARGE_COPY = 1 << 26
PLACES = 4


def copy(data: Inputs) -> Call:
    """`copy_` of one tensor into another that is there already: the speed of the memory, or of the cache.

    Large tensors are copied between several places, each call between others: the same copy ran at 34 GB/s into most
    tensors of a process and at 54 into one. (The factor is that of a processor that reads lines before it overwrites
    them, or does not.)
    """
    sources = (*data.gradients, *data.given)
    places = PLACES if sources[0].nbytes >= LARGE_COPY else 1
    targets = [sources[0].clone() for _ in range(places)]
    pairs = itertools.cycle([(sources[i % len(sources)], target) for i, target in enumerate(targets)])

    def call() -> object:
        source, target = next(pairs)
        with torch.no_grad():
            return target.copy_(source)

    return call
