"""Experiments 2 and 3 in the notes: their setting, final losses against learning rate, gradients at initialization."""

import statistics
from collections import Counter
from itertools import groupby
from typing import Any

from claims import claim_of, digits, results
from figures import figure_of
from marks import Place, maker
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from measured import one, rows, where
from tables import table

from normlab.experiments.figures.style import NONE, POST, PRE_LAYERNORM, figure, plain
from normlab.experiments.text import rate

INITIAL = "docs/results/initial_gradients.csv"
DEPTH = "docs/results/prenorm_vs_postnorm.csv"
NAMES = {
    ("none", "none"): "NoNorm",
    ("post", "layernorm"): "Post-LN",
    ("pre", "layernorm"): "Pre-LN + LayerNorm",
    ("pre", "rmsnorm"): "Pre-LN + RMSNorm",
}
# The power of depth that Xiong et al. 2020 derive, by configuration, and the claim that measures it.
POWERS = {
    "Post-LN": ("0", "post-gradient-order-1"),
    "Pre-LN + LayerNorm": ("-1/2", "pre-gradient-order-root"),
}


@maker
def setting_value(_: Place, *path: str, form: str = "") -> str:
    """A number of the setting of all claims: `setting-value text baselines bigram form=.2f`, a list's last by -1."""
    value: Any = results()
    for key in path:
        value = value[int(key) if isinstance(value, list) else key]
    return format(value, form)


def _cell(runs: list[dict[str, str]]) -> str:
    """The mean final loss; where not every seed trains, how many do."""
    outcomes = Counter(run["outcome"] for run in runs)
    trained, n = outcomes["trains"], len(runs)
    if outcomes["nan"]:
        return f"diverged, {outcomes['nan']} of {n} NaN"
    if outcomes["diverged"] == n:
        return "diverged"
    mean = f"{statistics.fmean(float(run['final_loss']) for run in runs):.2f}"
    return mean if trained == n else f"{mean} ({trained} of {n} train)"


@maker
def final_loss(_: Place, path: str, *, form: str = ".2f", **keys: str) -> str:
    """Mean final loss over the runs with these values, and how many of them train: "2.96 (5 of 5 train)"."""
    runs = where(path, **keys)
    trained = sum(run["outcome"] == "trains" for run in runs)
    mean = statistics.fmean(float(run["final_loss"]) for run in runs)
    return f"{format(mean, form)} ({trained} of {len(runs)} train)"


@maker
def losses(_: Place, path: str) -> str:
    """Mean final validation losses of an experiment's runs: a row a depth, warm-up and configuration."""
    size = results()["size"]
    runs = [run for run in rows(path) if int(run["steps"]) == size["steps"]]

    def row_of(run: dict[str, str]) -> tuple[int, int, int]:
        return int(run["layers"]), int(run["warmup"]), list(NAMES).index((run["placement"], run["norm"]))

    lines = []
    for (layers, warmup, which), group in groupby(sorted(runs, key=row_of), key=row_of):
        alike = list(group)
        cells = [_cell([run for run in alike if float(run["lr"]) == lr]) for lr in size["rates"]]
        name = list(NAMES.values())[which] + (f", warm-up of {warmup} steps" if warmup else "")
        lines.append((layers, name, *cells))
    return table(["layers", "configuration", *(f"rate {rate(lr)}" for lr in size["rates"])], lines)


@maker
def initial_gradients(_: Place) -> str:
    """Norm of the last block's gradient at initialization against depth, and its power of depth."""
    depths = results()["size"]["init_layers"]
    lines = []
    for config, (theory, claim) in POWERS.items():
        norms = [float(one(INITIAL, config=config, layers=str(n))["gradient_norm"]) for n in depths]
        power = claim_of(claim)["words"].split(" (")[0]
        lines.append((config, *map(digits, norms), power, theory))
    return table(["configuration", *(f"{n} layers" for n in depths), "power of depth", "theory"], lines)


@figure_of("A panel a depth: final loss against learning rate for Post-LN and Pre-LN, with the level of a trained run.")
def loss_against_rate() -> Figure:
    """Final losses of experiment 3: a dot a seed, lines through the means."""
    size, text = results()["size"], results()["text"]
    fig = figure(7.2, 3.2)
    for ax, layers in zip(fig.subplots(1, len(size["depths"]), sharey=True), size["depths"], strict=True):
        ax.axhline(text["trained_below"], color=NONE, linewidth=1, linestyle=":", label="trained at or below")
        for placement, color, name in (("post", POST, "Post-LN"), ("pre", PRE_LAYERNORM, "Pre-LN + LayerNorm")):
            for warmup in (0, size["warmup"]):
                runs = where(
                    DEPTH, placement=placement, layers=str(layers), warmup=str(warmup), steps=str(size["steps"])
                )
                if not runs:
                    continue
                found = [[float(r["final_loss"]) for r in runs if float(r["lr"]) == lr] for lr in size["rates"]]
                label = name + (f", warm-up of {warmup} steps" if warmup else "")
                style = {"color": color, "linestyle": "--" if warmup else "-", "linewidth": 1.2}
                ax.plot(size["rates"], [statistics.fmean(values) for values in found], label=label, **style)
                for lr, values in zip(size["rates"], found, strict=True):
                    face = "white" if warmup else color
                    ax.plot([lr] * len(values), values, "o", color=color, markerfacecolor=face, markersize=2.5)
        plain(ax, f"{layers} layers", "learning rate", "")
        ax.set_xscale("log")
        ticks = size["rates"][::2]
        ax.set_xticks(ticks, [rate(lr) for lr in ticks])
        ax.minorticks_off()
    fig.axes[0].set_ylabel("final loss (nats per character)")
    named = {label: handle for ax in fig.axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(named.values(), named.keys(), loc="outside lower center", ncols=3, fontsize=8)
    return fig


@figure_of("Gradient norm of the last block against depth: flat for Post-LN, falling for Pre-LN.")
def gradients_at_initialization() -> Figure:
    """Gradient norms at initialization, and the slopes that theory gives through their means."""
    depths = results()["size"]["init_layers"]
    fig = figure(5.0, 3.1)
    ax = fig.subplots()
    for config, color, marker, power in (("Post-LN", POST, "o", 0.0), ("Pre-LN + LayerNorm", PRE_LAYERNORM, "s", -0.5)):
        norms = [float(one(INITIAL, config=config, layers=str(n))["gradient_norm"]) for n in depths]
        height = statistics.geometric_mean(norms) / statistics.geometric_mean(depths) ** power
        ax.plot(depths, norms, marker, color=color, markersize=5, label=config)
        ax.plot(depths, [height * n**power for n in depths], "--", color=color, linewidth=1)
    plain(ax, "", "layers", "gradient norm")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(depths, [str(n) for n in depths])
    ticks = [0.1, 0.2, 0.5, 1.0, 2.0]
    ax.set_ylim(0.1, 2.0)
    ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_locator(NullLocator())
    ax.legend(fontsize=8)
    return fig
