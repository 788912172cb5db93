"""Makers of what follows from the code alone: worked examples line by line, and in what the presets differ."""

from dataclasses import dataclass

import numpy as np
from marks import Place, maker
from numpy.typing import NDArray
from tables import table

from normlab import norms
from normlab.spec import PRESETS, NormSpec

Array = NDArray[np.float64]
STATISTICS = {"float32": "float32", "input": "its own dtype"}
PRODUCTS = {
    "stats": "the statistics' dtype, then cast back",
    "input": "the input's dtype, after the cast back",
    "weight": "the weight's dtype if that is half, else the statistics'",
}


@maker
def presets(_: Place, kind: str) -> str:
    """In what the presets of a kind differ: a row each."""
    heads = ["preset", "eps", "place of eps", "scale", "statistics of half precision in", "scale multiplied in"]
    if kind == "batchnorm":
        heads.append("running variance takes")
    lines = []
    for name, its in PRESETS:
        if its != kind:
            continue
        spec = NormSpec.preset(name, its)
        eps = "machine epsilon" if spec.eps is None else f"{spec.eps:.0e}".replace("e-0", "e-")
        scale = f"{spec.offset:g} + weight" if spec.offset else "weight"
        products = PRODUCTS[spec.scale_dtype]
        cells = [name, eps, spec.eps_place, scale, STATISTICS[spec.stats_dtype], products]
        if kind == "batchnorm":
            cells.append("the n - 1 variance" if spec.unbiased_running_var else "the biased variance")
        lines.append(cells)
    return table(heads, lines)


@dataclass(frozen=True, slots=True)
class Example:
    """A norm's input, parameters and upstream gradient; rows are what has one statistic.

    Attributes:
        what: what a row is.
        x, dy: shape (2, 4), a row each.
        weight, bias: shape (4,), one number an entry; of BatchNorm (2,), one a channel.
    """

    what: str
    x: Array
    dy: Array
    weight: Array
    bias: Array | None

    @property
    def scale(self) -> Array:
        """The weight, as wide as a row or as a column of channels."""
        return self.weight if len(self.weight) == self.x.shape[1] else self.weight[:, None]


def _array(*numbers: object) -> Array:
    return np.array(numbers, dtype=np.float64)


DY = _array([1, 0, 0, 0], [0, 1, 0, 2])
ROWS = _array([11, -3, 5, 3], [5, 1, 1, 5])
EXAMPLES = {
    "layernorm": Example("row", ROWS, DY, _array(1, 2, 1, 0.5), _array(0, 0, 1, -1)),
    "rmsnorm": Example("row", _array([2, 4, -4, 8], [0, -4, 0, 0]), DY, _array(1, 2, 1, 0.5), None),
    "batchnorm": Example("channel", ROWS, DY, _array(2, 0.5), _array(0, 1)),
}


def numbers(row: Array) -> str:
    """Numbers of a row, four digits."""
    return ", ".join(f"{value + 0.0:.4g}" for value in np.atleast_1d(np.round(row, 12)))


def _normalized(example: Example, kind: str) -> tuple[list[tuple[str, Array]], Array, Array]:
    """The lines up to the normalized row, then s and h."""
    x = example.x
    lines = [("$x$", x)]
    if kind == "rmsnorm":
        c, name = x, "x"
    else:
        m = x.mean(1, keepdims=True)
        c, name = x - m, "c"
        lines += [("$m$", m), ("$c = x - m$", c)]
    v = np.mean(c**2, axis=1, keepdims=True)
    s = 1 / np.sqrt(v)
    lines += [(f"${name}^2$", c**2), ("$v$", v), (r"$s = 1/\sqrt{v}$", s), (f"$h = {name} s$", c * s)]
    return lines, s, c * s


def _forward(example: Example, kind: str) -> list[tuple[str, Array]]:
    """Every line up to y, which is the definition's."""
    lines, _, h = _normalized(example, kind)
    bias = 0 if example.bias is None else example.bias if kind == "layernorm" else example.bias[:, None]
    y = h * example.scale + bias
    if kind == "batchnorm":
        defined = norms.batchnorm.forward(example.x.T, example.weight, example.bias, eps=0).y.T
    elif kind == "layernorm":
        defined = norms.layernorm.forward(example.x, example.weight, example.bias, eps=0)
    else:
        defined = norms.rmsnorm.forward(example.x, example.weight, eps=0)
    np.testing.assert_allclose(y, defined, atol=1e-12)
    return [*lines, (r"$y = \gamma h$" if example.bias is None else r"$y = \gamma h + \beta$", y)]


def _backward(example: Example, kind: str) -> list[tuple[str, Array]]:
    """Every line from dy to dx, which is the definition's."""
    _, s, h = _normalized(example, kind)
    u = example.dy * example.scale
    of_u, of_uh = np.mean(u, axis=1, keepdims=True), np.mean(u * h, axis=1, keepdims=True)
    centers = kind != "rmsnorm"
    dx = s * (u - centers * of_u - h * of_uh)
    if kind == "batchnorm":
        defined = norms.batchnorm.backward(example.dy.T, example.x.T, example.weight, eps=0).dx.T
    else:
        defined = getattr(norms, kind).backward(example.dy, example.x, example.weight, eps=0).dx
    np.testing.assert_allclose(dx, defined, atol=1e-12)
    middle = [(r"$\overline{u}$", of_u)] if centers else []
    end = (r"$dx = s (u - \overline{u} - h \overline{uh})$", dx) if centers else (r"$dx = s (u - h \overline{uh})$", dx)
    return [("$dy$", example.dy), (r"$u = \gamma dy$", u), *middle, (r"$\overline{uh}$", of_uh), end]


@maker
def worked(_: Place, kind: str, part: str = "forward") -> str:
    """An example by hand, a line a step, for eps = 0. part: "forward" or "backward"."""
    example = EXAMPLES[kind]
    lines = {"forward": _forward, "backward": _backward}[part](example, kind)
    heads = ["line", f"{example.what} 1", f"{example.what} 2"]
    return table(heads, [[name, *map(numbers, rows)] for name, rows in lines])
