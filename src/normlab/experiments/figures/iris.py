"""The picture of experiment 6: loss curves, steps to a loss, and held-out accuracy by rate."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from normlab.experiments.figures.style import NONE, PRE_LAYERNORM, PRE_RMSNORM, caption, figure, plain, rate_axis
from normlab.experiments.iris_train import KINDS, RATE, RATES, IrisResults, Kind
from normlab.experiments.stats import mean_interval
from normlab.experiments.text import rate

COLORS: dict[Kind, str] = {
    "none": NONE,
    "layernorm": PRE_LAYERNORM,
    "rmsnorm": PRE_RMSNORM,
    "batchnorm": "#CC79A7",
}
MARKERS: dict[Kind, str] = {"none": "o", "layernorm": "s", "rmsnorm": "D", "batchnorm": "^"}
STYLES: dict[Kind, str] = {"none": "-", "layernorm": "-", "rmsnorm": "--", "batchnorm": "-."}


def _losses(ax: Axes, results: IrisResults, target: float) -> None:
    for kind, words in KINDS.items():
        curves = np.array([r.losses for r in results.select(kind, RATE)])
        low, middle, high = np.quantile(curves, (0.25, 0.5, 0.75), axis=0)
        steps = np.arange(len(middle))
        ax.fill_between(steps, low, high, color=COLORS[kind], alpha=0.12, linewidth=0)
        ax.plot(steps, middle, STYLES[kind], color=COLORS[kind], linewidth=1.8, label=words)
    ax.axhline(target, color="#999999", linewidth=0.9, linestyle=":")
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ticks = [t for t in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if low <= t <= high]
    ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.legend(fontsize=9, loc="upper right")
    plain(ax, f"Training loss, rate {rate(RATE)}", "step", "mean cross-entropy (nats)")


def _steps(ax: Axes, results: IrisResults, target: float) -> None:
    for i, kind in enumerate(KINDS):
        steps = np.array([r.steps_to(target) for r in results.select(kind, RATE)])
        reached = steps[np.isfinite(steps)]
        # Runs of the same number of steps would hide each other.
        apart = np.linspace(-0.2, 0.2, len(reached)) if len(reached) > 1 else np.zeros(len(reached))
        ax.plot(reached, i + apart, "o", color=COLORS[kind], markersize=4.5, alpha=0.6, markeredgewidth=0)
        if len(reached) == len(steps):
            ax.plot([steps.mean()] * 2, [i - 0.34, i + 0.34], color=COLORS[kind], linewidth=2.5)
        else:
            ax.annotate(f"{len(steps) - len(reached)} runs never", (1, i), xycoords=("axes fraction", "data"),
                        ha="right", va="center", fontsize=8.5, color=COLORS[kind])  # fmt: skip
    ax.set_xlim(left=0)
    ax.set_ylim(len(KINDS) - 0.5, -0.5)
    ax.set_yticks(range(len(KINDS)), list(KINDS.values()))
    plain(ax, f"Steps to a training loss of {target:g}, rate {rate(RATE)}", "steps (left: faster)", "")


def _accuracy(ax: Axes, results: IrisResults) -> None:
    for i, (kind, words) in enumerate(KINDS.items()):
        # A little apart, so that the norms' intervals do not hide each other.
        x = [lr * 1.16 ** (i - 1.5) for lr in RATES]
        found = [mean_interval([r.accuracy for r in results.select(kind, lr)]) for lr in RATES]
        means = [f.mean for f in found]
        below = [f.mean - (f.mean if f.low is None else f.low) for f in found]
        above = [(f.mean if f.high is None else f.high) - f.mean for f in found]
        ax.errorbar(x, means, [below, above], color=COLORS[kind], marker=MARKERS[kind], markersize=6, linewidth=1.5,
                    linestyle="none", capsize=3, label=words)  # fmt: skip
    logistic = mean_interval(results.logistic).mean
    ax.axhline(logistic, color="black", linewidth=1, linestyle=":", label="logistic regression")
    ax.set_ylim(top=100)
    rate_axis(ax, RATES)
    ax.set_xlim(RATES[0] / 2, RATES[-1] * 2)
    ax.legend(fontsize=9, loc="lower right")
    plain(ax, "Held-out accuracy", "learning rate", "flowers named right (%)")


def draw(results: IrisResults, target: float) -> Figure:
    """Three panels."""
    fig = figure(15, 5)
    losses, steps, accuracy = fig.subplots(1, 3)
    _losses(losses, results, target)
    _steps(steps, results, target)
    _accuracy(accuracy, results)
    seeds = len(results.logistic)
    caption(
        fig,
        f"Iris, 120 flowers to train on and 30 held out, {seeds} seed{'s' * (seeds > 1)}. Left: the median run, shaded "
        f"the middle half of the runs; dotted: {target:g}. Middle: a dot a seed, a bar their mean. Right: mean and "
        "95% interval over seeds; dotted: scikit-learn's logistic regression.",
    )
    return fig
