"""Errors of norms in half precision, against the float64 definitions.

The error of a result is the root mean square of its difference from the definition's, over that of the definition's;
infinite when anything in it is not finite. The definition sees the same rounded input, weight and upstream gradient,
so nothing that the rounding of these costs is counted. The smallest error that a dtype allows, that of the exact
result rounded once, is kept beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from normlab.experiments.half_cases import CASES, ROWS, WIDTH, Arm, Kind
from normlab.lab.reproducible import reproducible
from normlab.layers import functional
from normlab.norms import layernorm, rmsnorm

DEFINITIONS: dict[Kind, Any] = {"rmsnorm": rmsnorm, "layernorm": layernorm}
LIBRARIES: dict[str, Any] = {
    "torch": (F.rms_norm, F.layer_norm),
    "normlab": (functional.rms_norm, functional.layer_norm),
}


@dataclass(frozen=True, slots=True)
class Errors:
    """Of the output, and of the gradients by input and weight."""

    y: float
    dx: float
    dweight: float


@dataclass(frozen=True, slots=True)
class Point:
    """An arm at a scale.

    Attributes:
        errors: a seed each.
        least: a seed each, those of the exact results rounded once; infinite where the dtype cannot hold the input
            or a result.
    """

    errors: tuple[Errors, ...]
    least: tuple[Errors, ...]

    @property
    def exists(self) -> bool:
        """Whether the dtype holds the input and the exact results, in every seed."""
        return all(math.isfinite(e) for least in self.least for e in (least.y, least.dx, least.dweight))

    def of(self, quantity: str) -> list[float]:
        """The errors of "y", "dx" or "dweight", a seed each."""
        return [getattr(e, quantity) for e in self.errors]


def dtype_of(name: str) -> torch.dtype:
    """torch's dtype of this name."""
    return getattr(torch, name)


def relative_error(got: Tensor, exact: Tensor) -> float:
    """RMS of the difference over that of `exact`, in float64; infinite if not finite or nothing to compare with."""
    size = torch.linalg.vector_norm(exact).item()
    error = torch.linalg.vector_norm(got.double() - exact).item()
    return error / size if size > 0 and math.isfinite(error) else math.inf


def _written_out(arm: Arm, x: Tensor, weight: Tensor) -> Tensor:
    """The norm, an operation after the other, each rounded to the dtype it is in.

    Not left to a layer: a kernel may keep between forward and backward whatever it likes, in whichever dtype.
    """
    h = x.float() if arm.stats == "float32" else x
    if arm.kind == "layernorm":
        h = h - h.mean(-1, keepdim=True)
    v = h.pow(2).mean(-1, keepdim=True)
    h = h * torch.rsqrt(v + arm.eps)
    if arm.product == "input":
        return h.to(x.dtype) * weight
    return (h * weight.to(h.dtype)).to(x.dtype)


def _norm(arm: Arm, x: Tensor, weight: Tensor) -> Tensor:
    if arm.stats in LIBRARIES:
        rms_norm, layer_norm = LIBRARIES[arm.stats]
        shape = [x.shape[-1]]
        if arm.kind == "rmsnorm":
            return rms_norm(x, shape, weight, arm.eps)
        return layer_norm(x, shape, weight, None, arm.eps)
    return _written_out(arm, x, weight)


def compute(arm: Arm, x: Tensor, weight: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(y, dx, dweight) in the arm's arithmetic, by autograd."""
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = _norm(arm, x, weight)
    dx, dweight = torch.autograd.grad(y, (x, weight), dy)
    return y.detach(), dx, dweight


def define(kind: Kind, eps: float, x: Tensor, weight: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(y, dx, dweight) by the definition, in float64."""
    arrays = [t.double().numpy() for t in (x, weight, dy)]
    y = DEFINITIONS[kind].forward(*arrays[:2], eps=eps)
    back = DEFINITIONS[kind].backward(arrays[2], *arrays[:2], eps=eps)
    return torch.from_numpy(y), torch.from_numpy(back.dx), torch.from_numpy(back.dweight)


def _errors(got: Sequence[Tensor], exact: Sequence[Tensor]) -> Errors:
    return Errors(*(relative_error(g, e) for g, e in zip(got, exact, strict=True)))


NOTHING = Errors(math.inf, math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Problem:
    """What an arm is given, and what it should give: the same for all arms that differ in their arithmetic alone."""

    given: tuple[Tensor, Tensor, Tensor]
    exact: tuple[Tensor, Tensor, Tensor]
    least: Errors


def pose(arm: Arm, scale: float, z: Tensor, weight: Tensor, dy: Tensor) -> Problem | None:
    """The problem of the input scale * (z + mean), all rounded to the arm's dtype; None where the input overflows."""
    dtype = dtype_of(arm.dtype)
    given = ((scale * (z.double() + arm.mean)).to(dtype), weight.to(dtype), dy.to(dtype))
    if not given[0].isfinite().all():
        return None
    exact = define(arm.kind, arm.eps, *given)
    return Problem(given, exact, _errors([e.to(dtype) for e in exact], exact))


def measure_lines(seeds: Sequence[int]) -> dict[Arm, dict[float, Point]]:
    """Every arm at its scales. The seeds' draws are the same for all arms and scales."""
    wanted = [(arm, scale) for arm, scales in CASES.items() for scale in scales]
    found: dict[tuple[Arm, float], list[tuple[Errors, Errors]]] = {case: [] for case in wanted}
    for seed in seeds:
        with reproducible(seed):
            z, dy = torch.randn(ROWS, WIDTH), torch.randn(ROWS, WIDTH)
            weight = 1 + 0.1 * torch.randn(WIDTH)
            problems: dict[tuple[Arm, float], Problem | None] = {}
            for arm, scale in wanted:
                alike = replace(arm, stats="float32", product="stats"), scale
                if alike not in problems:
                    problems[alike] = pose(arm, scale, z, weight, dy)
                problem = problems[alike]
                if problem is None:
                    found[arm, scale].append((NOTHING, NOTHING))
                else:
                    errors = _errors(compute(arm, *problem.given), problem.exact)
                    found[arm, scale].append((errors, problem.least))
    lines: dict[Arm, dict[float, Point]] = {}
    for (arm, scale), pairs in found.items():
        errors, least = zip(*pairs, strict=True)
        lines.setdefault(arm, {})[scale] = Point(errors, least)
    return lines
