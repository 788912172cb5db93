"""The picture of experiment 2: a row a depth; left the loss curves at each best rate, right loss against rate."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from normlab.experiments.configurations import CONFIGURATIONS
from normlab.experiments.evidence import Evidence
from normlab.experiments.figures.style import (
    ABOVE,
    NONE,
    POST,
    PRE_LAYERNORM,
    PRE_RMSNORM,
    caption,
    figure,
    loss_axis,
    plain,
    rate_axis,
)  # fmt: skip
from normlab.experiments.text import rate

if TYPE_CHECKING:
    from normlab.experiments.norm_comparison import Row

COLORS = dict(zip((c.label for c in CONFIGURATIONS), (NONE, POST, PRE_LAYERNORM, PRE_RMSNORM), strict=True))
# RMSNorm and LayerNorm nearly coincide: dashes let both be seen.
DASHED = "Pre-LN + RMSNorm"
SMOOTH = 10


def _smoothed(curve: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(steps, running mean over SMOOTH steps)."""
    kernel = np.ones(min(SMOOTH, len(curve))) / min(SMOOTH, len(curve))
    mean = np.convolve(np.asarray(curve, dtype=float), kernel, mode="valid")
    return np.arange(len(mean)) + (len(kernel) - 1) / 2, mean


def _curves(ax: Axes, evidence: Evidence, rows: Sequence["Row"]) -> None:
    for r in rows:
        color, style = COLORS[r.config.label], "--" if r.config.label == DASHED else "-"
        for i, run in enumerate(evidence.select(r.config.placement, r.config.kind, r.layers, lr=r.best_rate)):
            steps, mean = _smoothed(run.train_loss)
            label = f"{r.config.label}, rate {rate(r.best_rate)}" if i == 0 else None
            ax.plot(steps, mean, color=color, linestyle=style, linewidth=1.5, alpha=0.8, label=label)


def _rates(ax: Axes, evidence: Evidence, rows: Sequence["Row"], top: float) -> None:
    for i, r in enumerate(rows):
        color, style = COLORS[r.config.label], "--" if r.config.label == DASHED else "-"
        rates = evidence.rates(r.config.placement, r.config.kind, r.layers)
        means = []
        for lr in rates:
            losses = np.array(evidence.losses(r.config.placement, r.config.kind, r.layers, lr))
            # A little apart, so that the configurations' dots do not hide each other.
            x = lr * 1.03 ** (i - 1.5)
            inside = losses < top
            ax.plot([x] * inside.sum(), losses[inside], "o", color=color, markersize=4, alpha=0.7)
            if not inside.all():
                ax.plot(x, top, "^", color=color, markersize=8, clip_on=False, zorder=5)
            means.append(losses.mean())
        ax.plot(rates, means, color=color, linestyle=style, linewidth=1.5, label=r.config.label)


def _lowest(evidence: Evidence, row: "Row") -> float:
    """The lowest point of a row's curves."""
    c = row.config
    runs = evidence.select(c.placement, c.kind, row.layers, lr=row.best_rate)
    points = np.concatenate([_smoothed(r.train_loss)[1] for r in runs])
    return float(np.min(points[np.isfinite(points)], initial=np.inf))


def draw(evidence: Evidence, rows: Sequence["Row"]) -> Figure:
    """Two panels a depth."""
    size, baselines = evidence.setting.size, evidence.setting.baselines
    depths = size.comparison_layers
    fig = figure(12, 4.1 * len(depths) + 0.4)
    axes = fig.subplots(len(depths), 2, squeeze=False)
    for (left, right), layers in zip(axes, depths, strict=True):
        here = [r for r in rows if r.layers == layers]
        floor = min([2.2, *(r.final.mean - 0.15 for r in here)])
        plain(left, f"{layers} layers: training loss at each one's best rate", "step", "loss (nats per character)")
        loss_axis(left, baselines, floor)
        _curves(left, evidence, here)
        if hidden := [r.config.label for r in here if _lowest(evidence, r) > baselines.uniform + ABOVE]:
            left.annotate(f"{', '.join(hidden)}: above", (0.5, 1), xycoords="axes fraction", xytext=(0, -12),
                          textcoords="offset points", ha="center", fontsize=8.5, color=NONE)  # fmt: skip
        left.legend(loc="upper right", bbox_to_anchor=(1, 0.82), fontsize=8.5)
        plain(right, f"{layers} layers: final validation loss", "learning rate", "loss (nats per character)")
        top = loss_axis(right, baselines, floor, name_lines=False)
        _rates(right, evidence, here, top)
        rate_axis(right, size.rates)
    caption(
        fig,
        f"{evidence.setting.training[0].upper()}{evidence.setting.training[1:]}. "
        "Right: a dot a seed, a line their mean; ▲ above the axis or NaN.",
    )
    return fig
