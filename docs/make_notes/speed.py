"""Makers of the speed of LayerNorm and RMSNorm: tables of times, ratios in a sentence, and a picture of the ratios."""

from claims import finding
from figures import figure_of
from marks import Place, maker
from matplotlib.figure import Figure
from measured import one, where
from tables import table

SPEED = "docs/results/speed.csv"
KEPT, DEFAULT = "bench/cpu-heap-kept.csv", "bench/cpu-heap-default.csv"
LIBRARIES, NORMS = ("torch.nn", "normlab"), ("LayerNorm", "RMSNorm")
# Larger than the caches: what the allocator does counts most there.
LARGEST = {"rows": "8192", "dim": "4096"}


def cases() -> list[str]:
    """The cases of single norms, forward and backward together."""
    names = dict.fromkeys(line["case"] for line in where(SPEED, group="norms"))
    return [case for case in names if "forward alone" not in case]


def microseconds(group: str, case: str, contender: str) -> float:
    """The median that was committed."""
    return float(one(SPEED, group=group, case=case, contender=contender)["median_us"])


def ratio_interval(claim: str, condition: str) -> str:
    """A ratio of times with its 95% interval."""
    i = finding(claim, condition)["interval"]
    return f"{float(i['mean']):.2f} [{float(i['low']):.2f}, {float(i['high']):.2f}]"


def compared(group: str, claim: str, names: list[str], first: str) -> str:
    """Times of both norms in both libraries, and LayerNorm's over RMSNorm's."""
    columns = [f"{library} {norm}" for library in LIBRARIES for norm in (*NORMS, "ratio")]
    lines = []
    for case in names:
        cells = []
        for library in LIBRARIES:
            cells += [f"{microseconds(group, case, f'{library} {norm}') / 1e3:.3g} ms" for norm in NORMS]
            cells.append(ratio_interval(claim, f"{library}, {case}"))
        lines.append((case, *cells))
    return table([first, *columns], lines)


@maker
def norm_times(_: Place) -> str:
    """A table: forward and backward of single norms."""
    return compared("norms", "rmsnorm-7-64-faster", cases(), "dtype, rows x features")


@maker
def step_times(_: Place) -> str:
    """A table: a training step and a decoding step of MiniMind."""
    rows = [
        compared(group, claim, [one(SPEED, group=group, contender="torch.nn RMSNorm")["case"]], "step of MiniMind")
        for group, claim in (("training", "rmsnorm-trains-6.9-faster"), ("decoding", "rmsnorm-decodes-faster"))
    ]
    return "\n".join([rows[0], *rows[1].splitlines()[2:]])


@maker
def time_ratio(_: Place, over: str, under: str, *, case: str, group: str = "norms", form: str = ".1f") -> str:
    """How many times as long one contender takes as another."""
    return format(microseconds(group, case, over) / microseconds(group, case, under), form)


def benched(path: str, **keys: str) -> dict[str, str]:
    """The line of a case on all threads, forward and backward."""
    found = [line for line in where(path, mode="forward+backward", **keys) if line["threads"] != "1"]
    if len(found) != 1:
        raise ValueError(f"{len(found)} lines of {path} have {keys}")
    return found[0]


@maker
def heap_cost(_: Place, op: str, contender: str) -> str:
    """How many times as long the largest case takes with glibc's default allocator as with the heap kept."""
    keys = {"op": op, "contender": contender, "dtype": "float32", **LARGEST}
    default, kept = (float(benched(path, **keys)["median_us"]) for path in (DEFAULT, KEPT))
    return f"{default / kept:.1f}"


@maker
def against_torch(_: Place) -> str:
    """A table: PyTorch's time over this library's, by size, norm and dtype."""
    ops = {"LayerNorm": "layer_norm", "RMSNorm": "rms_norm"}
    dtypes = ("float32", "bfloat16")
    head = [f"{norm}, {dtype}" for norm in ops for dtype in dtypes]
    lines = []
    sizes = dict.fromkeys((line["rows"], line["dim"]) for line in where(KEPT, op="rms_norm", contender="torch.nn"))
    for rows, dim in sizes:
        cells = [
            benched(KEPT, op=op, dtype=dtype, rows=rows, dim=dim, contender="torch.nn")["ratio_to_normlab"]
            for op in ops.values()
            for dtype in dtypes
        ]
        lines.append((f"{rows} x {dim}", *(f"{float(cell):.1f}" for cell in cells)))
    return table(["rows x features", *head], lines)


@figure_of(
    "LayerNorm's time over RMSNorm's, with 95% intervals: far below 1 for torch.nn's single norms, a little above 1 "
    "for normlab's, near 1 for whole steps of MiniMind"
)
def layernorm_over_rmsnorm() -> Figure:
    """A dot a case and library; the band is what is said in circulation."""
    rows = [(case, "rmsnorm-7-64-faster", case) for case in cases()]
    for group, claim in (("training", "rmsnorm-trains-6.9-faster"), ("decoding", "rmsnorm-decodes-faster")):
        case = one(SPEED, group=group, contender="torch.nn RMSNorm")["case"]
        rows.append((f"MiniMind, {case}", claim, case))
    fig = Figure(figsize=(6.5, 3.2), layout="constrained", facecolor="white")
    ax = fig.subplots()
    ax.axvspan(1 / (1 - 0.07), 1 / (1 - 0.64), color="#DDDDDD", zorder=0, label="said: 7% to 64% less time")
    ax.axvline(1, color="#777777", linewidth=0.8)
    styles = {"torch.nn": ("#D55E00", "s", -0.13), "normlab": ("#0072B2", "o", 0.13)}
    for library, (color, mark, shift) in styles.items():
        found = [finding(claim, f"{library}, {case}")["interval"] for _, claim, case in rows]
        mean, low, high = ([float(i[key]) for i in found] for key in ("mean", "low", "high"))
        errors = ([m - a for m, a in zip(mean, low, strict=True)], [b - m for m, b in zip(mean, high, strict=True)])
        heights = [i + shift for i in range(len(rows))]
        ax.errorbar(mean, heights, xerr=errors, fmt=mark, color=color, markersize=4.5, linewidth=1.2, label=library)
    ax.set_xscale("log")
    ticks = [0.2, 0.5, 1, 2]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    # Under the whole figure: under the axes alone it would not fit.
    fig.supxlabel("LayerNorm's time / RMSNorm's time (above 1: RMSNorm is faster)", fontsize="medium")
    ax.legend(loc="lower left", frameon=False, fontsize=8)
    return fig
