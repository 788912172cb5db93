"""Makers of the pages on single norms: what eps does to small rows, which entries share a statistic, small batches."""

import numpy as np
from figures import figure_of
from marks import Place, maker
from matplotlib.figure import Figure
from tables import table
from worked import Array

from normlab import norms

# Okabe and Ito's colours, which the colour-blind tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"


def _row(rms: float) -> Array:
    """A row with this RMS and the mean 0."""
    return np.array([rms, -rms, rms, -rms])


def _rms(row: Array) -> float:
    return float(np.sqrt(np.mean(row**2)))


def _normalized(kind: str, rms: float, eps: float, place: str) -> float:
    """The RMS of what a norm without parameters makes of a row with that RMS."""
    return _rms(getattr(norms, kind).forward(_row(rms), eps=eps, eps_place=place))


@maker
def eps_table(_: Place, kind: str, *choices: str) -> str:
    """RMS of the normalized row by RMS of the row. A choice is an eps and its place: "1e-6", "1e-6:outside"."""
    asked = [(float(eps), place or "inside") for eps, _, place in (choice.partition(":") for choice in choices)]
    of_row = "RMS of the row" if kind == "rmsnorm" else "std of the row"
    names = [choice.partition(":")[0] for choice in choices]
    heads = [of_row, *(f"eps {name} {place}" for name, (_, place) in zip(names, asked, strict=True))]
    lines = [
        [f"1e-{power}", *(f"{_normalized(kind, 10.0**-power, eps, place):.3g}" for eps, place in asked)]
        for power in range(1, 6)
    ]
    return table(heads, lines)


def _shared(name: str) -> list[list[int]]:
    """A number for each (sample, channel): those with the same number act on each other through the norm."""
    samples, channels, space = 3, 4, 2
    x = np.random.default_rng(0).normal(size=(samples, channels, space))

    def norm(x: Array) -> Array:
        if name == "BatchNorm":
            return norms.batchnorm.forward(x).y
        if name == "LayerNorm":
            return norms.layernorm.forward(x, normalized_shape=(channels, space))
        if name == "InstanceNorm":
            return norms.instancenorm.forward(x).y
        return norms.groupnorm.forward(x, 2)

    numbers = np.full((samples, channels), -1)
    for cell in np.ndindex(samples, channels):
        if numbers[cell] < 0:
            moved = x.copy()
            moved[cell] += [1.0, 0.0]
            numbers[np.any(norm(moved) != norm(x), axis=2)] = numbers.max() + 1
    return numbers.tolist()


@maker
def shared_statistics(_: Place) -> str:
    """Which entries of (samples, channels, space) each norm takes one mean and one variance of, found by trying."""
    names = {"BatchNorm": "", "LayerNorm": "", "InstanceNorm": "", "GroupNorm": "2 groups"}
    grids = {name: _shared(name) for name in names}

    def line(head: str, parts: list[str]) -> str:
        return (f"{head:11}" + "".join(f"{part:15}" for part in parts)).rstrip()

    lines = [line("", list(names)), line("", list(names.values())), line("channel", ["0 1 2 3"] * len(names))]
    lines += [
        line(f"sample {i}", [" ".join("abcdefghijkl"[n] for n in grid[i]) for grid in grids.values()]) for i in range(3)
    ]
    return "\n".join(["```text", *lines, "```"])


@figure_of("RMS after RMSNorm against the RMS of the row, for four choices of eps: small rows stay small.")
def eps_of_small_rows() -> Figure:
    """How eps lets small rows stay small."""
    figure = Figure(figsize=(6.5, 3.2), layout="constrained", facecolor="white")
    axes = figure.subplots()
    rms = np.logspace(-9, 1, 201)
    for eps, place, colour, style in (
        ("1e-5", "inside", BLUE, "-"),
        ("1e-6", "inside", ORANGE, "--"),
        ("1.19e-7", "inside", GREEN, "-."),
        ("1e-6", "outside", GREY, ":"),
    ):
        after = [_normalized("rmsnorm", value, float(eps), place) for value in rms]
        axes.loglog(rms, after, style, color=colour, label=f"eps {eps} {place}")
    axes.set(xlabel="RMS of the row", ylabel="RMS after RMSNorm", ylim=(1e-6, 3))
    axes.legend(frameon=False, loc="lower right")
    return figure


@figure_of("The same sample normalized in random batches: the smaller the batch, the wider its output spreads.")
def batch_noise() -> Figure:
    """What a sample's neighbours do to it, by size of the batch."""
    figure = Figure(figsize=(6.5, 3.2), layout="constrained", facecolor="white")
    axes = figure.subplots()
    sizes = [2, 4, 8, 16, 32, 64, 128]
    random = np.random.default_rng(0)
    outputs = []
    for size in sizes:
        # A channel is a batch of its own: 4000 batches in one call, in all of which sample 0 is 1.
        x = random.normal(size=(size, 4000))
        x[0] = 1.0
        outputs.append(np.quantile(norms.batchnorm.forward(x).y[0], [0.05, 0.5, 0.95]))
    low, median, high = np.array(outputs).T
    axes.fill_between(sizes, low, high, color=BLUE, alpha=0.25, linewidth=0, label="5% to 95% of the batches")
    axes.plot(sizes, median, "o-", color=BLUE, label="median")
    axes.axhline(1, color=GREY, linestyle="--", label="with the true mean and variance")
    axes.set(xscale="log", xticks=sizes, xticklabels=list(map(str, sizes)), xlabel="samples in the batch")
    axes.minorticks_off()
    axes.set_ylabel("output for an input of 1 std")
    axes.legend(frameon=False)
    return figure
