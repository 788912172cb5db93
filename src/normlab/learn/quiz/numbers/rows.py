"""Numbers for questions on a row: its RMS and std, RMSNorm, LayerNorm, and RMSNorm's gradient. eps is 0 but where it is
what the question is about.

Rows are small whole numbers, chosen so that the statistic that is divided by is a whole number too.
"""

from collections.abc import Callable

import numpy as np

from normlab.learn.quiz.numbers.drawn import Drawn, Random, numbers, text
from normlab.norms import layernorm, rmsnorm

Array = np.ndarray


def _mean_square(row: Array) -> float:
    return float(np.mean(row**2))


def _whole_root(x: float) -> bool:
    return x > 0 and round(x**0.5) ** 2 == x


def _draw_row(rng: Random, n: int, wanted: Callable[[Array], bool]) -> list[int]:
    """n whole numbers from -9 to 9, not all of one size, as `wanted`."""
    while True:
        row = rng.integers(-9, 10, n)
        if len(np.unique(np.abs(row))) > 1 and wanted(row):
            return row.tolist()


def whole_rms(rng: Random, n: int) -> list[int]:
    """A row whose RMS is a whole number."""
    return _draw_row(rng, n, lambda row: _whole_root(_mean_square(row)))


def whole_std(rng: Random) -> list[int]:
    """Four numbers whose mean and (population) standard deviation are whole numbers; three have none that are."""
    return _draw_row(rng, 4, lambda row: np.sum(row) % 4 == 0 and _whole_root(_mean_square(row - np.mean(row))))


def _scales(rng: Random, n: int) -> list[float]:
    return rng.choice([0.5, 1.0, 2.0, 3.0], n).tolist()


def rms_of_a_row(rng: Random) -> Drawn:
    """{row}: √(mean(x²)). Slips: the standard deviation (std); √(sum(x²)) (sum-not-mean); mean(x²) (no-root)."""
    row = _draw_row(rng, 4, lambda _: True)
    square = _mean_square(np.array(row))
    wrong = {"std": np.std(row), "sum-not-mean": np.sqrt(4 * square), "no-root": square}
    return Drawn({"row": text(row)}, numbers(square**0.5), {name: numbers(x) for name, x in wrong.items()})


def std_of_a_row(rng: Random) -> Drawn:
    """{row}: √(mean((x - mean(x))²)). Slips: n - 1 in the place of n (sample-std); √(mean(x²)) (rms); no root
    (variance).
    """
    row = _draw_row(rng, 4, lambda row: np.sum(row) % 4 == 0)
    wrong = {"sample-std": np.std(row, ddof=1), "rms": _mean_square(np.array(row)) ** 0.5, "variance": np.var(row)}
    return Drawn({"row": text(row)}, numbers(np.std(row)), {name: numbers(x) for name, x in wrong.items()})


def rmsnorm_of_a_row(rng: Random) -> Drawn:
    """{row}, {gamma}: x / rms(x) · γ. Slips: LayerNorm with that γ (layernorm); x / rms(x) (no-gamma)."""
    row, gamma = whole_rms(rng, 4), _scales(rng, 4)
    wrong = {"layernorm": layernorm.forward(row, gamma, eps=0.0), "no-gamma": rmsnorm.forward(row, eps=0.0)}
    return Drawn(
        {"row": text(row), "gamma": text(gamma)},
        numbers(rmsnorm.forward(row, gamma, eps=0.0)),
        {name: numbers(y) for name, y in wrong.items()},
    )


def layernorm_of_a_row(rng: Random) -> Drawn:
    """{row}, {gamma}, {beta}: (x - mean(x)) / std(x) · γ + β. Slips: RMSNorm with that γ and β (rmsnorm); n - 1 in the
    std (sample-std); without β (no-beta).
    """
    row, gamma = whole_std(rng), _scales(rng, 4)
    beta = rng.choice([-1.0, 0.0, 0.5, 1.0], 4).tolist()
    y, no_beta = layernorm.forward(row, gamma, beta, eps=0.0), layernorm.forward(row, gamma, eps=0.0)
    wrong = {
        "rmsnorm": rmsnorm.forward(row, gamma, eps=0.0) + beta,
        "sample-std": no_beta * np.sqrt(3 / 4) + beta,
        "no-beta": no_beta,
    }
    values = {"row": text(row), "gamma": text(gamma), "beta": text(beta)}
    return Drawn(values, numbers(y), {name: numbers(y) for name, y in wrong.items()})


def gemma_of_a_row(rng: Random) -> Drawn:
    """{row}, {weight}: x / rms(x) · (1 + weight). Slip: x / rms(x) · weight (weight-alone)."""
    row, weight = whole_rms(rng, 4), rng.choice([-0.5, 0.0, 0.5, 1.0], 4).tolist()
    return Drawn(
        {"row": text(row), "weight": text(weight)},
        numbers(rmsnorm.forward(row, weight, eps=0.0, offset=1.0)),
        {"weight-alone": numbers(rmsnorm.forward(row, weight, eps=0.0))},
    )


def eps_of_a_small_row(rng: Random) -> Drawn:
    """{rms}, {eps}: the RMS r / √(r² + eps) of RMSNorm's output for a row of RMS r, without a weight. Slips: 1 (one);
    r / (r + eps), eps outside of the root (outside); r / (r² + eps) (no-root).
    """
    eps = float(rng.choice([1e-5, 1e-6]))
    # From a third to three times √eps: there eps matters, and does not drown everything.
    r = float(np.float64(f"{eps**0.5 * rng.uniform(1 / 3, 3):.1g}"))
    row = [r, -r]
    wrong = {"one": 1.0, "outside": rmsnorm.forward(row, eps=eps, eps_place="outside")[0], "no-root": r / (r * r + eps)}
    return Drawn(
        # Plain decimals for r: an exponent is for eps, as configurations write it.
        {"rms": f"{r:.4f}".rstrip("0"), "eps": f"{eps:.0e}".replace("e-0", "e-")},
        numbers(rmsnorm.forward(row, eps=eps)[0]),
        {name: numbers(x) for name, x in wrong.items()},
    )


def rmsnorm_gradient(rng: Random) -> Drawn:
    """{row}, {dy}: dx = s · (dy - h · mean(dy · h)), s = 1 / rms(x), h = x · s; γ is 1. Slips: s · dy (direct-only);
    the sum in the place of the mean (batch).
    """
    n = int(rng.integers(2, 4))
    row, dy = whole_rms(rng, n), (10 * rng.integers(-3, 4, n)).tolist()
    s = 1 / _mean_square(np.array(row)) ** 0.5
    u, h = np.array(dy, dtype=np.float64), np.array(row) * s
    wrong = {"direct-only": s * u, "batch": s * (u - h * np.sum(u * h))}
    return Drawn(
        {"row": text(row), "dy": text(dy)},
        numbers(rmsnorm.backward(dy, row, eps=0.0).dx),
        {name: numbers(dx) for name, dx in wrong.items()},
    )
