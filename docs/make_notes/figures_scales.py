"""Experiment 1 in the notes: scales of plain stacks by layer beside their prediction, as tables and as a figure."""

from claims import claim_of, digits
from figures import figure_of
from marks import Place, maker
from matplotlib.figure import Figure
from measured import one, where
from tables import table

from normlab.experiments.figures.style import NONE, PALETTE, figure, plain
from normlab.experiments.stack_cases import PUBLISHED

SCALES = "docs/results/gradient_vanishing.csv"
NEAREST = "nearest to the published sequence"
LAYERS = (1, 2, 4, 8, 16)

# Label in the file, words in the legend, colour, marker.
DRAWN = (
    ("no norm, gain 1", "no norm, gain 1", PALETTE[0], "o"),
    ("no norm, gain √2 (He)", "no norm, gain √2", NONE, "s"),
    ("no norm, gain 2", "no norm, gain 2", PALETTE[2], "^"),
    ("LayerNorm after the ReLU, gain 1", "LayerNorm after the ReLU", PALETTE[4], "D"),
    ("RMSNorm before the ReLU, gain 1", "RMSNorm before the ReLU", PALETTE[3], "v"),
)


@maker
def scales(_: Place, column: str, *stacks: str) -> str:
    """A column of experiment 1 at some layers, "measured (predicted)": a row a stack."""
    header = ["stack", *(f"layer {layer}" for layer in LAYERS)]
    rows = []
    for stack in stacks:
        lines = [one(SCALES, stack=stack, layer=str(layer)) for layer in LAYERS]
        cells = (f"{digits(float(line[column]))} ({digits(float(line[f'predicted_{column}']))})" for line in lines)
        rows.append((stack, *cells))
    return table(header, rows)


@maker
def published_sequence(_: Place) -> str:
    """The published standard deviations beside those of the nearest plain stack."""
    compared = "entering_std" if "enters" in claim_of("published-sequence")["condition"] else "std"
    lines = where(SCALES, stack=NEAREST)
    measured = [digits(float(line[compared])) for line in lines]
    given = [f"{PUBLISHED[int(line['layer'])]:g}" if int(line["layer"]) in PUBLISHED else "..." for line in lines]
    layers = (line["layer"] for line in lines)
    return table(["layer", *layers], [("published std", *given), ("nearest stack, measured", *measured)])


@maker
def published_nearest(_: Place) -> str:
    """Which plain stack is nearest to the published sequence, and what is measured on it."""
    return claim_of("published-sequence")["condition"].removeprefix("nearest net: ")


@figure_of("Two panels over 16 layers: the RMS of the activations, and the RMS of the gradient, on logarithmic axes.")
def stack_scales() -> Figure:
    """Activations and gradients against layer; the prediction dashed."""
    fig = figure(6.8, 3.5)
    for ax, column, title in zip(
        fig.subplots(1, 2), ("rms", "gradient_rms"), ("Activations", "Gradients"), strict=True
    ):
        for label, words, color, marker in DRAWN:
            lines = where(SCALES, stack=label)
            x = [int(line["layer"]) for line in lines]
            # The grey squares lie under other marks: open and larger, they are still seen.
            shape = {"markersize": 6, "markerfacecolor": "none"} if marker == "s" else {"markersize": 3.5}
            ax.plot(x, [float(line[column]) for line in lines], marker, color=color, label=words, **shape)
            ax.plot(x, [float(line[f"predicted_{column}"]) for line in lines], "--", color=color, linewidth=1)
        plain(ax, title, "layer", "RMS of the output" if column == "rms" else "RMS of the gradient")
        ax.set_yscale("log")
        ax.set_xticks(LAYERS)
        ax.minorticks_off()
    fig.legend(*fig.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return fig
