"""The picture: for each operation and dtype, how near each contender comes to the bandwidth of a copy."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from normlab.bench.cases import DTYPES, OPS, Case, Dtype, Mode, Op, Size
from normlab.bench.contenders import COMPILED, COPY, EMPTY, FORMULA, LIGER, NAMES, OURS, QUACK, TORCH, TWO_STEPS
from normlab.bench.results import Heap, Measured
from normlab.bench.table import where
from normlab.experiments.figures.style import PALETTE, caption, figure, plain

RED, YELLOW, BLUE, GREEN, PINK, SKY, GREY = PALETTE
LOOKS = {
    OURS: (BLUE, "o", 2.2),
    TWO_STEPS: (SKY, "s", 1.4),
    TORCH: (RED, "^", 1.4),
    FORMULA: (GREY, "v", 1.4),
    COMPILED: (GREEN, "D", 1.4),
    LIGER: (PINK, "P", 1.4),
    QUACK: (YELLOW, "X", 1.4),
}
MODE: Mode = "forward+backward"


def _panel(ax: Axes, measured: Measured, heap: Heap, op: Op, dtype: Dtype, sizes: Sequence[Size]) -> None:
    place = {size: i for i, size in enumerate(sizes)}
    ax.axhline(100, color="#999999", linewidth=1, linestyle=":")
    ax.annotate("copy_", (-0.3, 100), xytext=(0, 3), textcoords="offset points", fontsize=8.5, color="#777777")
    for name in NAMES:
        if name in (EMPTY, COPY):
            continue
        rows = sorted(
            measured.select(heap, name, op=op, mode=MODE, dtype=dtype),
            key=lambda r: place[r.case.rows, r.case.dim],
        )
        if not rows:
            continue
        color, marker, width = LOOKS[name]
        middle = [100 * r.of_copy for r in rows]
        # Bandwidth is bytes over time: a short time is its upper end.
        low = [m * (1 - r.median / r.p80) for m, r in zip(middle, rows, strict=True)]
        high = [m * (r.median / r.p20 - 1) for m, r in zip(middle, rows, strict=True)]
        ax.errorbar(
            [place[r.case.rows, r.case.dim] for r in rows], middle, yerr=(low, high), label=name, color=color,
            marker=marker, linewidth=width, elinewidth=1, markersize=5, zorder=3 if name == OURS else 2,
        )  # fmt: skip
    ax.set_yscale("log")
    ax.set_xticks(range(len(sizes)), [f"{rows}\nx {dim}" for rows, dim in sizes], fontsize=8.5)
    plain(ax, f"{op}, {dtype}", "rows x dim", "")
    ax.set_xlim(-0.4, len(sizes) - 0.6)


def draw(measured: Measured, heap: Heap, processor: str) -> Figure:
    """A row a dtype, a column an operation."""
    cases: set[Case] = {
        r.case for r in measured.rows if r.heap == heap and r.case.mode == MODE and r.threads == measured.threads
    }
    ops: list[Op] = [op for op in OPS if any(c.op == op for c in cases)]
    dtypes: list[Dtype] = [dtype for dtype in DTYPES if any(c.dtype == dtype for c in cases)]
    sizes = sorted({(c.rows, c.dim) for c in cases}, key=lambda size: (size[0] * size[1], size))
    fig = figure(3.6 * len(ops) + 1.2, 3.3 * len(dtypes) + 1.5)
    axes = fig.subplots(len(dtypes), len(ops), squeeze=False, sharey=True)
    for line, dtype in zip(axes, dtypes, strict=True):
        for ax, op in zip(line, ops, strict=True):
            _panel(ax, measured, heap, op, dtype, sizes)
    ticks = [t for t in (0.01, 0.1, 1, 10, 100, 1000) if axes[0, 0].get_ylim()[0] <= t <= axes[0, 0].get_ylim()[1]]
    for line in axes:
        line[0].set_yticks(ticks, [f"{t:g}%" for t in ticks])
        line[0].set_ylabel("bandwidth, of copy_")
        for ax in line:
            ax.minorticks_off()
    handles = dict(pair for ax in axes.flat for pair in zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    shown = [name for name in NAMES if name in handles]
    fig.legend([handles[n] for n in shown], shown, loc="outside lower center", ncols=len(shown), frameon=False)
    caption(
        fig,
        "Forward + backward: the bytes that must move, over the time, as a share of what copy_ reaches on a tensor of "
        "that size in the same run. Higher is faster; medians, bars from the "
        f"20th to the 80th percentile. {processor}, {where(measured, heap)}.",
    )
    return fig
