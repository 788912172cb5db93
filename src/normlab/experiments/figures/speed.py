"""The picture of experiment 4: ratios of times, a dot a round."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from normlab.experiments import speed_effects as effects
from normlab.experiments.claims.speed import FASTER, saving
from normlab.experiments.evidence import Evidence
from normlab.experiments.figures.style import PALETTE, caption, figure, plain
from normlab.experiments.judge import Range, Sample
from normlab.experiments.speed_results import speed_of

ORANGE, YELLOW, BLUE, GREEN, PINK, SKY, GREY = PALETTE
# A band without an end goes on to here.
BEYOND = 1e3
# Percent of a copy's bandwidth at which the axis ends.
TOP = 150.0
TICKS = (0.1, 0.2, 0.5, 0.8, 1, 1.25, 1.5, 2, 3, 5, 10, 20)


def _color(condition: str) -> str:
    """By whose norms are timed; grey where both are, or none."""
    words = condition.rpartition(": ")[2]
    return ORANGE if words.startswith("torch.nn,") else BLUE if words.startswith("normlab,") else GREY


def _dots(ax: Axes, samples: Sequence[Sample], claimed: Sequence[tuple[Range, str]]) -> None:
    """A line a condition: a dot a round, a bar their mean; bands where claims say that it lies."""
    for i, sample in enumerate(samples):
        values, color = np.array(sample.values), _color(sample.condition)
        ax.plot(values, np.full(len(values), i), "o", color=color, markersize=4, alpha=0.55, markeredgewidth=0)
        if len(values):
            ax.plot([values.mean()] * 2, [i - 0.32, i + 0.32], color=color, linewidth=2)
    for (band, words), shade in zip(claimed, ("#dddddd", "#bbbbbb"), strict=False):
        ax.axvspan(max(band.low, 1e-3), min(band.high, BEYOND), color=shade, zorder=0, linewidth=0, label=words)
    ax.axvline(1, color="#999999", linewidth=0.9, linestyle=":")
    shown = [v for s in samples for v in s.values]
    ends = [e for band, _ in claimed for e in (band.low, band.high) if e < BEYOND and math.isfinite(e)]
    low, high = min(0.85, *shown, *ends) / 1.08, max(1.2, *shown, *ends) * 1.08
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ticks = [t for t in TICKS if low <= t <= high]
    if high / low > 8:
        ticks = [t for t in ticks if t not in (0.8, 1.25, 1.5)]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.set_yticks(range(len(samples)), [s.condition for s in samples], fontsize=8.5)
    ax.set_ylim(len(samples) - 0.5, -0.5)
    if claimed:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=len(claimed), fontsize=8.5, frameon=False)


def _copy(ax: Axes, samples: Sequence[Sample]) -> None:
    for i, sample in enumerate(samples):
        values = np.array(sample.values)
        inside = values < TOP
        ax.plot(values[inside], [i] * inside.sum(), "o", color=BLUE, markersize=4, alpha=0.55, markeredgewidth=0)
        if not inside.all():
            ax.plot(TOP, i, ">", color=BLUE, markersize=6, clip_on=False)
        ax.plot([min(values.mean(), TOP)] * 2, [i - 0.32, i + 0.32], color=BLUE, linewidth=2)
    ax.axvline(100, color="#999999", linewidth=0.9, linestyle=":")
    ax.set_xlim(0, TOP)
    ax.set_yticks(range(len(samples)), [s.condition for s in samples], fontsize=8.5)
    ax.set_ylim(len(samples) - 0.5, -0.5)
    plain(ax, "normlab's norms and the memory, forward + backward", "bandwidth, in percent of copy_'s", "")


def _named(words: str, samples: Sequence[Sample]) -> list[Sample]:
    """Samples whose conditions say which measurement they are."""
    return [Sample(f"{words}: {s.condition}", s.values) for s in samples]


def draw(evidence: Evidence) -> Figure:
    """Four panels."""
    fig = figure(15, 9.5)
    (norms, copies), (roots, models) = fig.subplots(2, 2)
    published, ten = (saving(0.07, 0.64), "claimed: 7% to 64% saved"), (saving(0.05, 0.15), "about 10% saved")
    _dots(norms, effects.layernorm_over_rmsnorm(evidence), (published, ten))
    plain(norms, "Is RMSNorm faster? Forward + backward", "LayerNorm's time over RMSNorm's (right: RMSNorm faster)", "")
    _copy(copies, effects.bandwidths(evidence))
    _dots(
        roots,
        [*effects.roots(evidence), *_named("in a norm", effects.roots_in_a_norm(evidence))],
        ((FASTER, "claimed: rsqrt faster"),),
    )
    plain(roots, "Is rsqrt faster?", "time with sqrt over time with rsqrt (right: rsqrt faster)", "")
    steps = [
        *_named("LayerNorm / RMSNorm", effects.training_with_layernorm(evidence)),
        *_named("LayerNorm / RMSNorm", effects.decoding_with_layernorm(evidence)),
        *_named("torch.nn / normlab, training", effects.fused_in_training(evidence)),
        *_named("torch.nn / normlab, decoding", effects.fused_in_decoding(evidence)),
    ]
    _dots(models, steps, (published,))
    results = speed_of(evidence)
    plain(
        models,
        f"In a MiniMind of {results.parameters / 1e6:.0f} million parameters",
        "ratio of times of a step (right: the second is faster)",
        "",
    )
    threads = f"{results.threads} thread{'s' * (results.threads > 1)}"
    caption(
        fig,
        f"Ratios of times on a CPU, {threads}: a dot a round, a bar their mean; on the dotted line both take as long. "
        "Orange: PyTorch's own norms; blue: normlab's. ▶ beyond the axis.",
    )
    return fig
