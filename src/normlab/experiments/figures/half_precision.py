"""The picture of experiment 5: error against the scale of the input, a row a dtype; a tiny eps; training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from normlab.experiments.figures.style import NONE, PRE_LAYERNORM, PRE_RMSNORM, caption, figure, plain
from normlab.experiments.half_cases import (
    CUBE_OVERFLOW,
    EPS,
    KINDS,
    OVERFLOW,
    QUANTITIES,
    ROWS,
    STATS,
    TINY_EPS,
    UNDERFLOW,
    WIDTH,
    Arm,
    Half,
    Kind,
)
from normlab.experiments.judge import Sample
from normlab.experiments.setting import Setting
from normlab.experiments.text import rate

if TYPE_CHECKING:
    from normlab.experiments.half_results import HalfResults

COLORS: dict[Kind, str] = {"rmsnorm": PRE_RMSNORM, "layernorm": PRE_LAYERNORM}
SINGLE_COLORS: dict[Kind, str] = {"rmsnorm": NONE, "layernorm": "#AAAAAA"}
# Where both norms agree, as they often do, the wider line and the hollow mark show behind the other.
WIDTHS: dict[Kind, float] = {"rmsnorm": 1.3, "layernorm": 3.0}
MARKS: dict[Kind, dict[str, Any]] = {
    "rmsnorm": {"marker": "o", "markersize": 2.8},
    "layernorm": {"marker": "s", "markersize": 6, "markerfacecolor": "white"},
}
WORDS = {"y": "output y", "dx": "gradient dx", "dweight": "gradient dweight"}
SCALE = "scale of the input (standard deviation)"
TOP = 30.0


def _line(ax: Axes, results: "HalfResults", arm: Arm, quantity: str, color: str, **style: Any) -> None:
    """Geometric mean over seeds; where a seed is not finite, a triangle at the top, a height a norm."""
    points = {scale: p for scale, p in results.lines[arm].items() if p.exists}
    x = np.array(list(points))
    errors = np.array([p.of(quantity) for p in points.values()])
    finite = np.isfinite(errors).all(axis=1)
    middle = np.full(len(x), np.nan)
    # An error of exactly 0 has no place on a logarithmic axis: it stands at its foot.
    middle[finite] = np.exp(np.log(np.maximum(errors[finite], 1e-8)).mean(axis=1))
    ax.plot(x, middle, color=color, **style)
    height = TOP / (2 if arm.kind == "rmsnorm" else 6)
    ax.plot(x[~finite], np.full((~finite).sum(), height), "^", color=color, markersize=5)


def _least(ax: Axes, results: "HalfResults", arm: Arm, quantity: str) -> None:
    points = {scale: p for scale, p in results.lines[arm].items() if p.exists}
    least = [np.mean([getattr(e, quantity) for e in p.least]) for p in points.values()]
    ax.plot(list(points), least, color="black", linestyle=":", linewidth=1.2, label="exact result, rounded once")


def _theory(ax: Axes, dtype: Half, quantity: str, eps: float) -> None:
    """Lines where eps takes over and where powers of x leave float16; names to the left or right of their line."""
    marks = [(eps**0.5, f"√eps = {eps**0.5:.2g}", eps == EPS)]
    if dtype == "float16":
        marks.append((UNDERFLOW, f"√2⁻²⁴ = {UNDERFLOW:.1e}", eps != EPS))
        if eps == EPS:
            marks.append((OVERFLOW, f"√65504 = {OVERFLOW:.0f}", True))
        if quantity == "dx":
            marks.append((CUBE_OVERFLOW, f"1 / ∛65504 = {CUBE_OVERFLOW:.3f}", True))
    for x, name, right in marks:
        ax.axvline(x, color="#999999", linewidth=0.9, linestyle=":")
        ax.annotate(
            name, (x, 0.11 if eps == EPS else 0.24), xycoords=("data", "axes fraction"), xytext=(3 if right else -3, 0),
            textcoords="offset points", rotation=90, ha="left" if right else "right", va="bottom", fontsize=8,
            color="#777777",
        )  # fmt: skip


def _errors(ax: Axes, results: "HalfResults", dtype: Half, quantity: str, eps: float) -> None:
    # LayerNorm first: RMSNorm's thinner lines lie over it.
    for kind in reversed(COLORS):
        if eps == EPS:
            _line(ax, results, Arm(kind, "float32"), quantity, SINGLE_COLORS[kind], linewidth=WIDTHS[kind],
                  label=f"{KINDS[kind]}, all float32")  # fmt: skip
        for stats, words in STATS.items():
            style = {"linestyle": "--", **MARKS[kind]} if stats == "input" else {}
            _line(ax, results, Arm(kind, dtype, stats, eps=eps), quantity, COLORS[kind],
                  linewidth=1.3 if style else WIDTHS[kind], label=f"{KINDS[kind]}, {words}", **style)  # fmt: skip
    _least(ax, results, Arm("rmsnorm", dtype, eps=eps), quantity)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(1e-8 if eps == EPS else 1e-5, TOP)
    ax.set_xlim(5e-9, 2e5 if eps == EPS else 2)
    ax.set_xticks([10.0**k for k in range(-8, 6 if eps == EPS else 1, 2)])
    ax.minorticks_off()
    _theory(ax, dtype, quantity, eps)
    words = f"{dtype}: {WORDS[quantity]}" + ("" if eps == EPS else f", eps {rate(eps)}")
    plain(ax, words, SCALE, "relative error")


def _training(ax: Axes, samples: Sequence[Sample]) -> None:
    """A dot a seed, a bar their mean, a line a condition; an infinite or incomparable loss has no place."""
    for i, sample in enumerate(samples):
        values = np.array(sample.values, dtype=float)
        finite = np.isfinite(values)
        color = next(COLORS[kind] for kind, words in KINDS.items() if words in sample.condition)
        face = "white" if STATS["input"] in sample.condition else color
        ax.plot(values[finite], [i] * finite.sum(), "o", color=color, markerfacecolor=face, markersize=5.5)
        if finite.all() and len(values):
            ax.plot([values.mean()] * 2, [i - 0.3, i + 0.3], color=color, linewidth=1.5)
        elif len(values):
            ax.annotate(f"{(~finite).sum()} of {len(values)} NaN", (0.5, i), xycoords=("axes fraction", "data"))
    ax.axvline(0, color="#999999", linewidth=0.9, linestyle=":")
    ax.set_yticks(range(len(samples)), [s.condition.replace(", ", "\n", 1) for s in samples], fontsize=8.5)
    ax.set_ylim(len(samples) - 0.5, -0.5)
    plain(ax, "Training in bfloat16", "final loss minus that in float32 (nats)", "")


def draw(setting: Setting, results: "HalfResults", training: Sequence[Sample]) -> Figure:
    """Eight panels: three errors in two dtypes, a tiny eps, training."""
    fig = figure(18.5, 9.4)
    axes = fig.subplots(2, 4)
    dtypes: tuple[Half, Half] = ("float16", "bfloat16")
    for row, dtype in zip(axes, dtypes, strict=True):
        for ax, quantity in zip(row, QUANTITIES, strict=False):
            _errors(ax, results, dtype, quantity, EPS)
    _errors(axes[0, 3], results, "float16", "y", TINY_EPS)
    _training(axes[1, 3], training)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9, frameon=False)
    caption(
        fig,
        f"Error of a norm over {WIDTH} numbers against its float64 definition, {ROWS} rows, mean over "
        f"{len(setting.half_seeds)} seeds, eps {rate(EPS)} unless said. Float32 statistics: the upcast; half "
        "statistics: every operation rounded to the dtype. ▲ inf or NaN. Lines end where the dtype cannot hold the "
        "input or the result. The largest numbers are 3 to 4 times the scale. Training: Pre-LN, "
        f"{setting.size.half_layers} layers, a dot a seed, a bar their mean.",
    )
    return fig
