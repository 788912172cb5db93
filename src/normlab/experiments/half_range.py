"""Where the squares of float16 leave its range, and what a running sum in half precision costs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from normlab.experiments.half_cases import (
    HALVES,
    KINDS,
    ROWS,
    STATS,
    SUM_WIDTHS,
    TINY_EPS,
    WIDTH,
    Arm,
    Half,
    Kind,
)
from normlab.experiments.halves import DEFINITIONS, compute, dtype_of, relative_error
from normlab.lab.reproducible import reproducible
from normlab.norms import rmsnorm
from normlab.spec import StatsDtype

# A row whose error is larger is not normalized: rounding alone costs less than a hundredth.
WRONG = 0.1
# The ends of float16's range are found among so many points, between two that differ by a factor of at most √2.
FINE = 257


@dataclass(frozen=True, slots=True)
class Ends:
    """Between which inputs a norm works in float16.

    Attributes:
        largest: a seed each, the largest entry (for LayerNorm: distance from the mean) of a row that is still
            normalized right; infinite where all rows are that float16 can hold.
        smallest: a seed each, the smallest RMS (for LayerNorm: std) of a row whose output is finite, with TINY_EPS;
            0 where all are.
        beyond: what comes out just above `largest`: "0", "inf or NaN", "wrong numbers", or "".
    """

    kind: Kind
    stats: StatsDtype
    largest: tuple[float, ...]
    smallest: tuple[float, ...]
    beyond: str


@dataclass(frozen=True, slots=True)
class Sums:
    """RMSNorm of so many entries, whose squares are summed one after another.

    Attributes:
        half: error of y, a seed each, when the sum is rounded to the input's dtype after every addition.
        single: the same with float32 statistics.
    """

    dtype: Half
    width: int
    half: tuple[float, ...]
    single: tuple[float, ...]


def _rows(direction: Tensor, sizes: np.ndarray) -> Tensor:
    """A row for each size: the direction times it, in float16."""
    return (torch.from_numpy(sizes)[:, None] * direction).half()


def _output(arm: Arm, x: Tensor) -> Tensor:
    ones = torch.ones(x.shape[-1], dtype=x.dtype)
    return compute(arm, x, ones, torch.zeros_like(x))[0].double()


def _size(kind: Kind, x: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """Of each row what `reduce` takes from it, for LayerNorm from its distances from the mean."""
    x = x.double()
    return reduce(x - x.mean(-1, keepdim=True) if kind == "layernorm" else x)


def _edge(direction: Tensor, sizes: np.ndarray, right: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor] | None:
    """(the last right row, the first wrong one), from the first of the sizes on; None where all are right."""
    x = _rows(direction, sizes)
    if right(x).all():
        return None
    first = right(x).tolist().index(False)
    if first == 0:
        raise ValueError(f"sizes must begin where the norm works, got {sizes[0]}")
    x = _rows(direction, np.geomspace(sizes[first - 1], sizes[first], FINE))
    first = right(x).tolist().index(False)
    return x[first - 1], x[first]


def _largest(kind: Kind, stats: StatsDtype, direction: Tensor) -> tuple[float, str]:
    """(Ends.largest, Ends.beyond) along a direction whose largest entry is 1."""
    arm = Arm(kind, "float16", stats)

    def right(x: Tensor) -> Tensor:
        exact = torch.from_numpy(DEFINITIONS[kind].forward(x.double().numpy(), eps=arm.eps))
        size = exact.square().mean(-1).sqrt()
        return (_output(arm, x) - exact).square().mean(-1).sqrt() < WRONG * size

    edge = _edge(direction, np.geomspace(16, 65504, 25), right)
    if edge is None:
        return math.inf, ""
    last, wrong = edge
    y = _output(arm, wrong[None])
    words = "inf or NaN" if not y.isfinite().all() else "wrong numbers" if y.any() else "0"
    return _size(kind, last, lambda c: c.abs().amax(-1)).item(), words


def _smallest(kind: Kind, stats: StatsDtype, direction: Tensor) -> float:
    """Ends.smallest along a direction of RMS 1."""
    arm = Arm(kind, "float16", stats, eps=TINY_EPS)
    edge = _edge(direction, np.geomspace(2**-6, 2**-20, 29), lambda x: _output(arm, x).isfinite().all(-1))
    return 0.0 if edge is None else _size(kind, edge[0], lambda c: c.square().mean(-1).sqrt()).item()


def measure_ends(seeds: Sequence[int]) -> tuple[Ends, ...]:
    """For both norms, without and with the upcast."""
    directions = []
    for seed in seeds:
        with reproducible(seed):
            directions.append(torch.randn(WIDTH, dtype=torch.float64))
    ends = []
    for kind in KINDS:
        for stats in STATS:
            top = [_largest(kind, stats, d / d.abs().max()) for d in directions]
            low = [_smallest(kind, stats, d / d.square().mean().sqrt()) for d in directions]
            beyond = ", ".join(sorted({words for _, words in top if words}))
            ends.append(Ends(kind, stats, tuple(size for size, _ in top), tuple(low), beyond))
    return tuple(ends)


def running_rms_norm(x: Tensor, eps: float) -> Tensor:
    """RMSNorm in x's dtype whose sum of squares is rounded to it after every addition.

    PyTorch's own sums of half-precision numbers are kept in float32 inside; those of a kernel need not be.
    """
    total = torch.zeros(x.shape[0], dtype=x.dtype)
    for column in x.T.contiguous():
        total = total + column * column
    return x * torch.rsqrt(total / x.shape[-1] + eps)[:, None]


def measure_sums(seeds: Sequence[int]) -> tuple[Sums, ...]:
    """At scale 1, in both half precisions and several widths."""
    draws = []
    for seed in seeds:
        with reproducible(seed):
            draws.append(torch.randn(ROWS, max(SUM_WIDTHS)))
    sums = []
    for dtype in HALVES:
        for width in SUM_WIDTHS:
            x = torch.cat([z[:, :width] for z in draws]).to(dtype_of(dtype))
            arm = Arm("rmsnorm", dtype)
            exact = torch.from_numpy(rmsnorm.forward(x.double().numpy(), eps=arm.eps))
            errors = (
                tuple(relative_error(g, e) for g, e in zip(got.split(ROWS), exact.split(ROWS), strict=True))
                for got in (running_rms_norm(x, arm.eps), _output(arm, x))
            )
            sums.append(Sums(dtype, width, *errors))
    return tuple(sums)
