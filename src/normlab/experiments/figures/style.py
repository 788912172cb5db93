"""What the pictures share: colours that colour-blind readers can tell apart, plain axes, ticks for rates."""

import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from normlab.experiments.text import rate
from normlab.lab.text import Baselines

# Okabe & Ito's palette.
NONE, POST, PRE_LAYERNORM, PRE_RMSNORM = "#666666", "#D55E00", "#0072B2", "#009E73"
PALETTE = ("#D55E00", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#666666")


# A loss axis ends so many nats above ln V.
ABOVE = 0.5


def caption(fig: Figure, text: str) -> None:
    """A line or two over all panels. Dollar signs of a file's name would be read as mathematics."""
    lines = textwrap.fill(text, width=int(fig.get_figwidth() * 11.5))
    fig.suptitle(lines.replace("$", r"\$"), fontsize=10.5, x=0.01, ha="left")


def figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that lays itself out."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def plain(ax: Axes, title: str, xlabel: str, ylabel: str) -> None:
    """Title, labels, a light grid, no box."""
    ax.set_title(title, loc="left", fontsize=11)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(True, which="major", color="#e5e5e5", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def rate_axis(ax: Axes, rates: tuple[float, ...]) -> None:
    """A logarithmic axis with a tick at each learning rate."""
    ax.set_xscale("log")
    ax.set_xticks(rates, [rate(lr) for lr in rates])
    ax.minorticks_off()


def loss_axis(ax: Axes, baselines: Baselines, floor: float, *, name_lines: bool = True) -> float:
    """A loss axis that ends a little above ln V, with two baselines drawn in; returns its top."""
    top = baselines.uniform + ABOVE
    ax.set_ylim(floor, top)
    for value, name in (
        (baselines.uniform, "ln V: all characters alike"),
        (baselines.unigram, "character frequencies"),
    ):
        ax.axhline(value, color="#999999", linewidth=0.9, linestyle=":")
        if name_lines:
            ax.annotate(name, (1, value), xycoords=("axes fraction", "data"), xytext=(-2, 2), fontsize=8,
                        textcoords="offset points", ha="right", color="#777777")  # fmt: skip
    return top
