"""How numbers, arrays, times and sizes are written: in four digits, and never wider than a terminal."""

import html
import math
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.measure import Measurement

from normlab.tensor.core import Array

WIDTH = 80
# Arrays of more numbers, or of wider rows, are shown by their first row alone.
FEW, ROW = 48, 68


def number(value: Any) -> str:
    """In four significant digits; integers and booleans as they are."""
    if isinstance(value, bool | int | np.bool_ | np.integer):
        return str(value)
    # +: no minus before a zero.
    return f"{float(value) + 0.0:.4g}"


def rms(value: float | None, non_finite: int = 0) -> str:
    """A root mean square in three digits; "!" where it leaves out numbers that are not finite, "" if not known."""
    if value is None:
        return ""
    if math.isnan(value):
        return "none!" if non_finite else "-"
    mark = "!" if non_finite else ""
    if value == 0 or 1e-3 <= value < 1e4:
        return f"{value:.3g}" + mark if value < 1000 else f"{value:.0f}" + mark
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e") + mark


def shape(sizes: tuple[int, ...]) -> str:
    """2×3; a single number is a scalar."""
    return "×".join(map(str, sizes)) if sizes else "scalar"


def seconds(value: float | None) -> str:
    """With a unit, in two digits."""
    if value is None:
        return ""
    for scale, unit in ((1e6, "us"), (1e3, "ms")):
        if value * scale < 999.5:
            return f"{value * scale:.{1 if value * scale < 9.95 else 0}f} {unit}"
    return f"{value:.2f} s"


def size(count: float) -> str:
    """Bytes, with a unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{count:.{0 if unit == 'B' or count >= 9.95 else 1}f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def row(values: Array, width: int = ROW) -> str:
    """One row: as many of its first numbers as fit, and how many there are in all if there are more."""
    flat = np.asarray(values).reshape(-1)
    # A number and what sets it apart take three letters at least.
    cells = [number(v) for v in flat[: width // 3]]
    if len(cells) == flat.size and sum(map(len, cells)) + 2 * len(cells) <= width:
        return f"[{'  '.join(cells)}]"
    more = f"... {flat.size} in all"
    ends = np.cumsum([len(c) + 2 for c in cells])
    return f"[{'  '.join([*cells[: max(np.searchsorted(ends, width - len(more)), 1)], more])}]"


def named_row(values: Array) -> str:
    """A row that stands behind the name of a quantity."""
    return row(values, ROW - 14)


def array(values: Array) -> list[str]:
    """The numbers of a small array, a line a row; of a larger one the first row."""
    values = np.asarray(values)
    if not values.size:
        return ["no numbers"]
    if values.ndim == 0:
        return [number(values.item())]
    if values.ndim == 1:
        return [row(values)]
    first = [f"first row {row(values.reshape(-1, values.shape[-1])[0], ROW - 10)}"]
    if values.size > FEW:
        return first
    cells = np.array([number(v) for v in values.reshape(-1)])
    widest = max(map(len, cells))
    if values.shape[-1] * (widest + 2) > ROW:
        return first
    lines = ["[" + "  ".join(c.rjust(widest) for c in line) + "]" for line in cells.reshape(-1, values.shape[-1])]
    # A matrix is a block of its own, as NumPy sets them.
    block = values.shape[-2] if values.ndim > 2 else len(lines)
    return [line for i, line in enumerate(lines) for line in ([""] if i and i % block == 0 else []) + [line]]


def counted(operations: int, leaves: int) -> str:
    """How large a graph is, in words."""
    return f"{operations} operation{'s' * (operations != 1)}, {leaves} {'leaf' if leaves == 1 else 'leaves'}"


def clauses(formula: str) -> Iterator[str]:
    """The parts of a formula, which are set apart by two blanks."""
    yield from (part.strip().rstrip(",") for part in formula.split(",  "))


def aligned(parts: Iterable[tuple[str, str]]) -> list[str]:
    """name = value, the equals signs below each other."""
    parts = list(parts)
    widest = max((len(name) for name, _ in parts), default=0)
    return [f"{name.ljust(widest)} = {value}" for name, value in parts]


def wrapped(line: str, width: int = WIDTH - 2) -> list[str]:
    """A line as several if it is too long, further ones indented."""
    if len(line) <= width:
        return [line]
    return textwrap.wrap(line, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def plain(renderable: RenderableType, width: int = WIDTH) -> str:
    """What rich would show, as text without colours; wider where it would be cut off."""
    console = Console(width=width, color_system=None, force_terminal=False, legacy_windows=False)
    console.width = max(width, Measurement.get(console, console.options.update(width=1000), renderable).minimum)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get().rstrip("\n")


def preformatted(text: str) -> str:
    """Text for a notebook, letter by letter."""
    return f'<pre style="line-height: 1.35">{html.escape(text)}</pre>'
