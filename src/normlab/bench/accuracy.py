"""How exact the gradients are: against the definition in float64, beside torch's own."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import normlab
from normlab.bench.cases import Case, Dtype, Op
from normlab.bench.contenders import EPS, Inputs, inputs
from normlab.norms import layernorm, rmsnorm

# Of the inputs: name, mean; the standard deviation is 1.
MEANS = {"mean 0, std 1": 0.0, "mean 1e4, std 1": 1e4}
OPS: tuple[Op, ...] = ("rms_norm", "layer_norm")
SHAPE = (8192, 4096)
CHUNK = 256


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The error of a gradient: the norm of its difference from float64's, over the norm of that unless it is 0.

    (In bfloat16 numbers near 1e4 with a spread of 1 are all one number: LayerNorm makes 0 of them.)

    Attributes:
        op, dtype, rows, dim: what was computed.
        given: what the input is like.
        gradient: "dx", "dw" or "db".
        ours, torchs: the errors.
    """

    op: Op
    dtype: Dtype
    rows: int
    dim: int
    given: str
    gradient: str
    ours: float
    torchs: float

    @property
    def ratio(self) -> float:
        """Our error over torch's."""
        if self.ours == self.torchs:
            return 1.0
        return self.ours / self.torchs if self.torchs else float("inf")


def _double(t: torch.Tensor) -> np.ndarray:
    return t.detach().double().numpy()


def _gradients(library: Any, case: Case, data: Inputs) -> tuple[torch.Tensor, ...]:
    layer = (library.LayerNorm if case.layer else library.RMSNorm)(case.dim, eps=EPS)
    layer.weight = data.parameters[0]
    if case.layer:
        layer.bias = data.parameters[1]
    return torch.autograd.grad(layer(data.given[0]), data.wanted, data.gradients[0])


def _relative(off: float, size: float) -> float:
    return float(off / size if size else off)


def _errors(case: Case, data: Inputs, found: Sequence[Sequence[torch.Tensor]]) -> list[list[float]]:
    """Relative errors of each contender's gradients; the definition takes some rows at a time."""
    norm: Any = layernorm if case.layer else rmsnorm
    (x,), (dy,), weight = data.given, data.gradients, _double(data.parameters[0])

    def part(start: int) -> Any:
        rows = slice(start, start + CHUNK)
        dx, *parameters = norm.backward(_double(dy[rows]), _double(x[rows]), weight, eps=EPS)
        off = [np.sum((_double(gradients[0][rows]) - dx) ** 2) for gradients in found]
        return np.array(off), np.sum(dx**2), *parameters

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        parts = list(pool.map(part, range(0, case.rows, CHUNK)))
    totals: list[Any] = [sum(same) for same in zip(*parts, strict=True)]
    off, size, *sums = totals
    errors = [[_relative(np.sqrt(o), np.sqrt(size))] for o in off]
    for mine, gradients in zip(errors, found, strict=True):
        for exact, gradient in zip(sums, gradients[1:], strict=True):
            difference = np.linalg.norm(_double(gradient) - exact)
            mine.append(_relative(float(difference), float(np.linalg.norm(exact))))
    return errors


def measure(dtypes: Sequence[Dtype], shape: tuple[int, int] = SHAPE) -> list[Accuracy]:
    """Errors of dx, dw and db of both norms, on inputs without and with a large mean."""
    results = []
    for op in OPS:
        for dtype in dtypes:
            case = Case(op, "forward+backward", dtype, *shape)
            for given, mean in MEANS.items():
                data = inputs(case)
                with torch.no_grad():
                    data.given[0].add_(mean)
                ours, torchs = _errors(case, data, [_gradients(normlab, case, data), _gradients(nn, case, data)])
                results += [
                    Accuracy(op, dtype, *shape, given, gradient, a, b)
                    for gradient, a, b in zip(("dx", "dw", "db"), ours, torchs, strict=False)
                ]
    return results
