"""The picture of experiment 3: a panel a depth, loss against rate; and the gradient at initialization."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from normlab.experiments.evidence import Evidence
from normlab.experiments.figures.style import POST, PRE_LAYERNORM, caption, figure, loss_axis, plain, rate_axis
from normlab.experiments.stats import exponent

if TYPE_CHECKING:
    from normlab.experiments.prenorm_vs_postnorm import Cell

COLORS = {"Post-LN": POST, "Pre-LN + LayerNorm": PRE_LAYERNORM}


def _depth(ax: Axes, evidence: Evidence, cells: Sequence["Cell"], top: float) -> None:
    for i, c in enumerate(cells):
        color = COLORS[c.config.label]
        label = c.config.label + (f", warm-up {c.warmup} steps" if c.warmup else "")
        means = [c.finals[lr].mean for lr in c.finals]
        ax.plot(list(c.finals), means, color=color, linestyle="--" if c.warmup else "-", linewidth=1.5, label=label)
        for lr in c.finals:
            losses = np.array(evidence.losses(c.config.placement, c.config.kind, c.layers, lr, c.warmup))
            x = lr * 1.03 ** (i - len(cells) / 2 + 0.5)
            inside = losses < top
            face = "white" if c.warmup else color
            ax.plot([x] * inside.sum(), losses[inside], "o", color=color, markerfacecolor=face, markersize=4.5)
            if not inside.all():
                ax.plot(x, top, "^", color=color, markerfacecolor=face, markersize=8, clip_on=False, zorder=5)


def _gradients(
    ax: Axes, depths: Sequence[int], gradients: Mapping[str, list[list[float]]], theory: Mapping[str, float]
) -> None:
    x = np.array(depths, dtype=float)
    for label, by_seed in gradients.items():
        values = np.array(by_seed)
        middle = np.exp(np.log(values).mean(axis=0))
        power = exponent(depths, list(middle))
        color = COLORS[label]
        for seed in values:
            ax.plot(x, seed, "o", color=color, markersize=4.5, alpha=0.7)
        center = np.exp(np.log(middle).mean())
        reach = x / np.exp(np.log(x).mean())
        ax.plot(x, center * reach**power, color=color, linewidth=1.5, label=f"{label}: depth^{power:.2f}")
        ax.plot(x, center * reach ** theory[label], color=color, linewidth=1, linestyle=":",
                label=f"theory: depth^{theory[label]:g}")  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(x, [str(d) for d in depths])
    low, high = ax.get_ylim()
    ax.set_ylim(low / 1.8, high * 1.3)
    ticks = [t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if low / 1.8 < t < high * 1.3]
    ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    plain(ax, "Last block's gradient at initialization", "layers", "gradient norm (feed-forward output weight)")
    ax.legend(loc="lower left", fontsize=8.5)


def draw(
    evidence: Evidence,
    cells: Sequence["Cell"],
    gradients: Mapping[str, list[list[float]]],
    theory: Mapping[str, float],
) -> Figure:
    """A panel a depth, and one for the gradients."""
    size, baselines = evidence.setting.size, evidence.setting.baselines
    panels = len(size.depths) + 1
    columns = min(3, panels)
    lines = ceil(panels / columns)
    fig = figure(4.7 * columns, 4.2 * lines + 0.5)
    axes = list(fig.subplots(lines, columns, squeeze=False).flat)
    finite = [i.mean for c in cells for i in c.finals.values() if np.isfinite(i.mean)]
    for ax, layers in zip(axes, size.depths, strict=False):
        plain(ax, f"{layers} layers", "learning rate", "final validation loss (nats per character)")
        top = loss_axis(ax, baselines, min([2.2, *(f - 0.1 for f in finite)]), name_lines=layers == size.depths[0])
        _depth(ax, evidence, [c for c in cells if c.layers == layers], top)
        rate_axis(ax, size.rates)
        ax.legend(loc="upper left", bbox_to_anchor=(0, 0.78), fontsize=8.5)
    _gradients(axes[len(size.depths)], size.init_layers, gradients, theory)
    for ax in axes[panels:]:
        ax.set_axis_off()
    caption(
        fig,
        f"{evidence.setting.training[0].upper()}{evidence.setting.training[1:]}: a dot each; ▲ above the axis or NaN.",
    )
    return fig
