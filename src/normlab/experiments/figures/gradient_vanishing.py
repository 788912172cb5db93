"""The picture of experiment 1: activations above, gradients below; dots measured, lines predicted."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from normlab.experiments.figures.style import PALETTE, caption, figure, plain
from normlab.experiments.stack_cases import GAINS, NO_NORM, NORMED, PUBLISHED, label_of
from normlab.experiments.stacks import Overflow, StackCase, StackResults

ORANGE, YELLOW, BLUE, GREEN, _, SKY, _ = PALETTE


def _plot(ax: Axes, case: StackCase, quantity: str, color: str, label: str, marker: str) -> None:
    """Geometric means with the range over seeds, and the prediction."""
    layers = np.arange(1, case.config.depth + 1)
    seeds = np.array([getattr(s, quantity) for s in case.seeds])
    ax.plot(layers, getattr(case.prediction, quantity), color=color, linewidth=1.2)
    low, high = seeds.min(axis=0), seeds.max(axis=0)
    # Of one seed it would be off by a rounding.
    middle = np.clip(np.exp(np.log(seeds).mean(axis=0)), low, high)
    ax.errorbar(
        layers, middle, yerr=(middle - low, high - middle), fmt=marker, color=color, markersize=4.5, linewidth=1,
        markerfacecolor="white" if marker in "sD" else color, label=label,
    )  # fmt: skip


def _published(ax: Axes, results: StackResults, fitted: Sequence[Sequence[float]]) -> None:
    c = results.fit.config
    entering = results.fit.quantity == "entering"
    prediction = results.fitted.prediction
    layers = np.arange(1, c.depth + 1)
    ax.plot(list(PUBLISHED), list(PUBLISHED.values()), "x", color="black", markersize=7, label="printed in the notes")
    ax.plot(layers, prediction.entering_std if entering else prediction.std, color=BLUE, linewidth=1.2)
    words = f"measured: {c.activation.upper()}, gain {c.gain:g}"
    ax.plot(layers, np.mean(fitted, axis=0), "o", color=BLUE, markersize=4.5, label=words)
    ax.set_yscale("log")
    where = "before" if entering else "after"
    plain(ax, "The published sequence, its nearest net", "layer", f"std {where} the activation")
    ax.legend(loc="lower left")


def _overflow(ax: Axes, overflows: Sequence[Overflow]) -> None:
    # The dtypes agree until one of them overflows: the wider line shows under the narrower.
    for o, (color, width) in zip(overflows, ((ORANGE, 4.0), (YELLOW, 1.4), (BLUE, 4.0), (SKY, 1.4)), strict=True):
        values = np.array(o.rms[0])
        layers = np.arange(1, len(values) + 1)
        finite = np.isfinite(values)
        ax.plot(
            layers[finite],
            values[finite],
            color=color,
            linewidth=width,
            label=f"{o.dtype}, {'RMSNorm' if o.config.norm_place != 'none' else 'no norm'}",
        )
        first_inf, first_nan = o.first_inf[0], o.first_nan[0]
        if first_inf is not None:
            early = first_inf < len(values) / 2
            ax.annotate(
                f"{o.dtype}: inf at layer {first_inf}" + ("" if first_nan is None else f", NaN at {first_nan}"),
                (layers[finite][-1], values[finite][-1]), xytext=(8, 2) if early else (-8, 4),
                textcoords="offset points", fontsize=8.5, va="center", ha="left" if early else "right",
            )  # fmt: skip
    ax.set_yscale("log")
    plain(ax, "Until it overflows: each layer 4 times the last (seed 0)", "layer", "activation RMS")
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.18))


def draw(results: StackResults, fitted: Sequence[Sequence[float]]) -> Figure:
    """Six panels."""
    fig = figure(14.5, 8.4)
    axes = fig.subplots(2, 3)
    gains = list(reversed(GAINS))
    for row, (quantity, name) in enumerate((("std", "activation std"), ("gradient", "gradient RMS"))):
        for gain, color in zip(gains, (ORANGE, BLUE, GREEN), strict=True):
            _plot(axes[row, 0], results.case(label_of(NO_NORM, gain)), quantity, color, gain, "o")
        for norm, color, marker in zip(NORMED, (ORANGE, YELLOW, BLUE, GREEN), "osoD", strict=True):
            _plot(axes[row, 1], results.case(label_of(norm, "gain 1")), quantity, color, norm, marker)
        for ax in axes[row, :2]:
            ax.set_yscale("log")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        plain(axes[row, 0], f"No norm: {name}", "layer", name)
        plain(axes[row, 1], f"With a norm (gain 1): {name}", "layer", name)
        axes[row, 0].legend(loc="best")
    axes[0, 1].set_ylim(0.2, 1.5)
    axes[0, 1].set_yticks([0.2, 0.5, 1], ["0.2", "0.5", "1"])
    axes[0, 1].minorticks_off()
    axes[0, 1].legend(loc="lower left")
    _published(axes[0, 2], results, fitted)
    _overflow(axes[1, 2], results.overflows)
    caption(
        fig,
        f"Plain stacks (ReLU unless said), width {results.cases[0].config.width}, weights N(0, gain²/width). "
        f"Left and middle: dots measured, with the range over {len(results.fitted.seeds)} seeds; "
        "lines mean-field theory.",
    )
    return fig
