"""What was measured, for the terminal: times by contender, and the bar."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from normlab.bench.bar import Ruling
from normlab.bench.cases import MODES, OPS, Case, Mode, Op
from normlab.bench.contenders import COMPILED, COPY, EMPTY, NAMES, OURS, TWO_STEPS
from normlab.bench.results import Heap, Measured, Row

STYLES = {"met": "green", "missed": "red", "not measured": "dim"}
# Headers of two lines.
HEADERS = {COMPILED: "torch.\ncompile", TWO_STEPS: "normlab,\ntwo steps", EMPTY: "empty\ncall"}
ALLOCATOR: dict[Heap, str] = {"kept": "heap kept", "default": "default allocator"}


def threads(measured: Measured) -> str:
    """On how many threads, of which the largest number is shown and judged."""
    return f"{measured.threads} thread{'s' * (measured.threads > 1)}"


def where(measured: Measured, heap: Heap) -> str:
    """The setting, in words."""
    return f"{ALLOCATOR[heap]}, {threads(measured)}" if measured.device == "cpu" else "GPU"


def _time(seconds: float) -> str:
    """With a unit, in three digits."""
    for scale, unit in ((1e6, "us"), (1e3, "ms")):
        value = seconds * scale
        if value < 1000:
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return f"{seconds:.2f} s"


def _cell(row: Row | None) -> Text:
    """Ours: the time. Others: how many times ours; red where that is less than one."""
    if row is None:
        return Text("")
    if row.contender == OURS:
        return Text(_time(row.median), style="bold")
    words = f"{row.ratio:.2f}x" if row.ratio < 10 else f"{row.ratio:.0f}x"
    return Text(words, style="dim" if row.contender in (EMPTY, COPY) else "red" if row.ratio < 1 else "green")


def _times(measured: Measured, heap: Heap, op: Op, mode: Mode) -> Table | None:
    """A line a dtype and size, a column a contender."""
    by_case: dict[Case, dict[str, Row]] = {}
    for row in measured.rows:
        c = row.case
        if (row.heap, row.threads, c.op, c.mode) == (heap, measured.threads, op, mode):
            by_case.setdefault(c, {})[row.contender] = row
    if not by_case:
        return None
    present = [name for name in NAMES if any(name in found for found in by_case.values())]
    words = op + ("" if mode == "forward" else " + backward")
    table = Table(title=words, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("dtype", no_wrap=True)
    table.add_column("rows x dim", no_wrap=True)
    for name in present:
        table.add_column(HEADERS.get(name, name), justify="right", no_wrap=name == OURS)
    table.add_column("of copy_", justify="right")
    dtype = ""
    for case in sorted(by_case, key=lambda c: (c.dtype, c.rows * c.dim)):
        found = by_case[case]
        table.add_row(
            case.dtype if case.dtype != dtype else "",
            f"{case.rows} x {case.dim}",
            *(_cell(found.get(name)) for name in present),
            f"{100 * found[OURS].of_copy:.0f}%",
        )
        dtype = case.dtype
    return table


def times(measured: Measured, heap: Heap) -> list[Table]:
    """A table an operation and direction, on all threads."""
    tables = (_times(measured, heap, op, mode) for op in OPS for mode in MODES)
    return [table for table in tables if table is not None]


def bar(rulings: Sequence[Ruling], measured: Measured) -> Table:
    """The rules that could be judged, and their verdicts."""
    cpu = measured.device == "cpu"
    title = f"The bar: forward + backward{', ' + threads(measured) if cpu else ''}, unless said"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("rule", overflow="fold")
    for column in ("required", "heap kept" if cpu else "measured", *(["default allocator"] if cpu else [])):
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for rule, kept, default, verdict, _ in rulings:
        if verdict != "not measured":
            # The place where a rule is worst goes on a line of its own: columns stay narrow.
            cells = [rule.words(f).replace(" (", "\n(") for f in ((kept, default) if cpu else (kept,))]
            table.add_row(rule.what, rule.requirement, *cells, Text(verdict, style=STYLES[verdict]))
    return table


def floors(rulings: Sequence[Ruling]) -> list[str]:
    """What the time consists of where a bar was missed, a line each under a heading; no line where none was."""
    lines = [
        f"  {rule.what}{f' ({kept.where})' if kept and kept.where else ''}: {floor}"
        for rule, kept, _, verdict, floor in rulings
        if verdict == "missed" and floor is not None
    ]
    heading = (
        "Of the time where a bar was missed, an empty call takes + the bytes that must move take at copy_'s speed:"
    )
    return [heading, *lines] if lines else []


def counts(rulings: Sequence[Ruling]) -> str:
    """How many rules came to what."""
    verdicts = [r.verdict for r in rulings]
    return f"Of {len(verdicts)} rules " + ", ".join(f"{verdicts.count(v)} {v}" for v in STYLES) + "."  # pyright: ignore[reportArgumentType]
