"""Half precision: the formats, the errors of norms at scale 1, and the picture of errors against the input's scale."""

import math

from figures import figure_of
from marks import Place, maker
from matplotlib.figure import Figure
from measured import one, where
from tables import table

ERRORS = "docs/results/half_precision.csv"
HALVES = ("float16", "bfloat16")
NORMS = {"rmsnorm": "RMSNorm", "layernorm": "LayerNorm"}
# Of errors against scale: eps, where the weight is multiplied, and the input's mean.
PLAIN = {"eps": "1e-05", "product": "stats", "mean": "0.0"}
ARMS = {
    "float32 statistics, product, then cast": {"statistics": "float32"},
    "float32 statistics, cast, then product": {"statistics": "float32", "product": "input"},
    "every operation rounded to half precision": {"statistics": "input"},
    "PyTorch's own function": {"statistics": "torch"},
    "normlab's layer": {"statistics": "normlab"},
}
TOP = 3.0


def short(number: float) -> str:
    """Two significant digits, as a power of ten where it is far from 1."""
    if 0.1 <= number < 1e5:
        return f"{number:g}"
    mantissa, power = f"{number:.1e}".split("e")
    return f"{mantissa} · 10<sup>{int(power)}</sup>"


@maker
def formats(_: Place) -> str:
    """A table of the formats, from torch.finfo."""
    import torch

    heads = "format", "bits", "bits of the fraction", "largest", "smallest normal", "smallest above 0"
    lines = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        info = torch.finfo(dtype)
        fraction = round(-math.log2(info.eps))
        least = info.smallest_normal * info.eps
        cells = (info.bits, fraction, *map(short, (info.max, info.smallest_normal, least)))
        roundoff = f"2<sup>-{fraction + 1}</sup> = {short(info.eps / 2)}"
        lines.append((str(dtype).removeprefix("torch."), *cells, roundoff))
    return table([*heads, "unit roundoff $u$"], lines)


@maker
def half_errors(_: Place) -> str:
    """A table: errors of y, dx and dweight at scale 1, over the least that the format allows."""
    columns = [(dtype, norm) for dtype in HALVES for norm in NORMS]
    lines = []
    for words, arm in ARMS.items():
        cells = []
        for dtype, norm in columns:
            line = one(ERRORS, **{"dtype": dtype, "norm": norm, "scale": "1.0", **PLAIN, **arm})
            factors = (float(line[q]) / float(line[f"least_{q}"]) for q in ("y", "dx", "dweight"))
            cells.append(", ".join(f"{factor:.1f}" for factor in factors))
        lines.append((words, *cells))
    return table(["how", *(f"{dtype}, {NORMS[norm]}" for dtype, norm in columns)], lines)


def curve(dtype: str, statistics: str, quantity: str) -> tuple[list[float], list[float]]:
    """RMSNorm's errors by scale, where the format can hold the input and the result."""
    lines = where(ERRORS, dtype=dtype, norm="rmsnorm", statistics=statistics, **PLAIN)
    held = [line for line in lines if math.isfinite(float(line[f"least_{quantity}"]))]
    return [float(line["scale"]) for line in held], [float(line[quantity]) for line in held]


@figure_of(
    "Relative error of RMSNorm against the scale of its input, from 1e-8 to 1e5, in float16 and bfloat16: flat with "
    "float32 statistics; without them the float16 gradient is not finite at small scales and all is lost at large ones"
)
def half_precision_error() -> Figure:
    """A panel a format; triangles at the top stand for errors that are not finite."""
    fig = Figure(figsize=(6.5, 3.4), layout="constrained", facecolor="white")
    panels = fig.subplots(1, 2, sharey=True)
    colors = {"float32": "#0072B2", "input": "#D55E00"}
    words = {"float32": "float32 statistics", "input": "half statistics"}
    styles = {"y": "-", "dx": "--"}
    for ax, dtype in zip(panels, HALVES, strict=True):
        for statistics, color in colors.items():
            for quantity, style in styles.items():
                scales, errors = curve(dtype, statistics, quantity)
                finite = [e if math.isfinite(e) else math.nan for e in errors]
                label = f"{quantity}, {words[statistics]}"
                ax.plot(scales, finite, style, color=color, linewidth=1.5, label=label)
                lost = [s for s, e in zip(scales, errors, strict=True) if not math.isfinite(e)]
                ax.plot(lost, [TOP] * len(lost), "^", color=color, markersize=4)
        if dtype == "float16":
            for scale, name in ((65504 ** (-1 / 3), "0.025"), (256, "256")):
                ax.axvline(scale, color="#999999", linewidth=0.8, linestyle=":")
                ax.annotate(name, (scale, 0.03), xytext=(3, 0), textcoords="offset points", color="#666666", fontsize=8)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(5e-9, 2e5)
        ax.set_xticks([10.0**k for k in range(-8, 6, 4)])
        ax.set_ylim(1e-4, 6)
        ax.minorticks_off()
        ax.set_title(dtype, fontsize=9)
        ax.set_xlabel("standard deviation of the input")
    panels[0].set_ylabel("relative error of RMSNorm")
    handles, labels = panels[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return fig
