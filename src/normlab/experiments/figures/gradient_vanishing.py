"""The picture of experiment 1: six panels, activations above, gradients below; dots measured, lines predicted."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from normlab.experiments.figures.style import PALETTE, figure, plain
from normlab.experiments.stacks import Overflow, StackCase, StackResults

NO_NORM = ("exploding", "critical", "vanishing")
NORMED = ("LayerNorm after", "RMSNorm after", "LayerNorm before", "RMSNorm before")
GAINS = {"exploding": "gain 2", "critical": "gain √2 (He)", "vanishing": "gain 1"}


def _plot(ax: Axes, case: StackCase, quantity: str, color: str, label: str, marker: str) -> None:
    layers = np.arange(1, case.config.depth + 1)
    seeds = np.array([getattr(s, quantity) for s in case.seeds])
    ax.plot(layers, getattr(case.prediction, quantity), color=color, linewidth=1.2)
    low, high = seeds.min(axis=0), seeds.max(axis=0)
    middle = np.exp(np.log(seeds).mean(axis=0))
    ax.errorbar(
        layers, middle, yerr=(middle - low, high - middle), fmt=marker, color=color, markersize=4.5, linewidth=1,
        markerfacecolor="white" if marker in "sD" else color, label=label,
    )  # fmt: skip


def _published(
    ax: Axes, results: StackResults, published: Mapping[int, float], fitted: Sequence[Sequence[float]]
) -> None:
    c = results.fit.config
    layers = np.arange(1, c.depth + 1)
    seeds = np.array(fitted)
    prediction = results.fitted.prediction
    line = prediction.entering_std if results.fit.quantity == "entering" else prediction.std
    ax.plot(list(published), list(published.values()), "x", color="black", markersize=7, label="printed in the notes")
    ax.plot(layers, line, color=PALETTE[2], linewidth=1.2)
    ax.plot(
        layers,
        seeds.mean(axis=0),
        "o",
        color=PALETTE[2],
        markersize=4.5,
        label=f"measured: {c.activation.upper()}, gain {c.gain:g}",
    )
    ax.set_yscale("log")
    plain(ax, "The published sequence, its nearest net", "layer", "std")
    ax.legend(loc="lower left")


def _overflow(ax: Axes, overflows: Sequence[Overflow]) -> None:
    # The dtypes agree until one of them overflows: the wider line shows under the narrower.
    styles = ((PALETTE[0], 4.0, "-"), (PALETTE[1], 1.4, "-"), (PALETTE[2], 4.0, "-"), (PALETTE[5], 1.4, "-"))
    for o, (color, width, style) in zip(overflows, styles, strict=True):
        values = np.array(o.rms[0])
        layers = np.arange(1, len(values) + 1)
        finite = np.isfinite(values)
        ax.plot(layers[finite], values[finite], color=color, linewidth=width, linestyle=style, label=o.label)
        first_inf, first_nan = o.first_inf[0], o.first_nan[0]
        if first_inf is not None:
            ax.annotate(
                f"{o.dtype}: inf at layer {first_inf}" + ("" if first_nan is None else f", NaN at {first_nan}"),
                (layers[finite][-1], values[finite][-1]), xytext=(8, 2) if first_inf < 30 else (-8, 4),
                textcoords="offset points", fontsize=8.5, va="center", ha="left" if first_inf < 30 else "right",
            )  # fmt: skip
    ax.set_yscale("log")
    plain(ax, "Until it overflows: 4 times larger a layer", "layer", "activation RMS")
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.08))


def draw(results: StackResults, published: Mapping[int, float], fitted: Sequence[Sequence[float]]) -> Figure:
    """Six panels."""
    fig = figure(14.5, 8.4)
    axes = fig.subplots(2, 3)
    n = len(results.fitted.seeds)
    for row, (quantity, name) in enumerate((("std", "activation std"), ("gradient", "gradient RMS"))):
        for label, color, marker in zip(NO_NORM, (PALETTE[0], PALETTE[2], PALETTE[3]), "ooo", strict=True):
            _plot(axes[row, 0], results.case(f"no norm, {label} weights"), quantity, color, GAINS[label], marker)
        for label, color, marker in zip(NORMED, (PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[3]), "osoD", strict=True):
            _plot(
                axes[row, 1], results.case(f"{label}, vanishing weights"), quantity, color, f"{label} the ReLU", marker
            )
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
    _published(axes[0, 2], results, published, fitted)
    _overflow(axes[1, 2], results.overflows)
    fig.suptitle(
        f"Plain stacks (ReLU unless said), width {results.cases[0].config.width}, weights N(0, gain²/width). "
        f"Dots: measured, with the range over {n} seeds. Lines: mean-field theory.",
        fontsize=11.5, x=0.01, ha="left",
    )  # fmt: skip
    return fig
