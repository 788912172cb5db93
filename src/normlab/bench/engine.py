"""`normlab bench --engine`: a training step of the transparent engine beside PyTorch's and others', one thread each.

    python -m normlab.bench.engine

times everything in a process of its own and writes Rows as JSON.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich import box
from rich.table import Table

from normlab.bench.apart import run_apart
from normlab.bench.busy import busy
from normlab.bench.command import say
from normlab.bench.results import facts, version_of, write_csv
from normlab.terminal import out

# The libraries below NumPy and PyTorch read these when they are loaded.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
COLUMNS = ("case", "contender", "median_us", "p20_us", "p80_us", "calls", "ratio_to_normlab", "required", "verdict")
SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Row:
    """What a step took, in seconds.

    Attributes:
        case, contender: who did what.
        ratio: the median over this engine's.
        required: the ratio that is aimed at; None: none.
    """

    case: str
    contender: str
    median: float
    p20: float
    p80: float
    calls: int
    ratio: float
    required: float | None

    @property
    def verdict(self) -> str:
        """Whether the ratio is what is aimed at."""
        if self.required is None:
            return ""
        return "met" if self.ratio >= self.required else "missed"


def measure(seconds: float = SECONDS) -> list[Row]:
    """Time all, in turns, for about so many seconds a case."""
    from normlab.bench.engine_contenders import AUTOGRAD, OURS, TENSORWEAVER, TORCH, contenders
    from normlab.bench.timing import alternate

    # The Transformer may take 1.3 times as long as PyTorch's.
    required = {
        ("the example", TORCH): 1.3,
        ("the example", AUTOGRAD): 3.0,
        ("the example", TENSORWEAVER): 3.0,
        ("the Transformer", TORCH): 1 / 1.3,
    }
    rows = []
    for case, calls in contenders().items():
        times = alternate(calls, budget=seconds, most=2000)
        ours = times[OURS].median
        rows += [
            Row(case, name, t.median, t.percentile(20), t.percentile(80), len(t.calls), t.median / ours,
                required.get((case, name)))
            for name, t in times.items()
        ]  # fmt: skip
    return rows


def conduct(folder: Path, command: str) -> int:
    """Measure in a process of its own, show, write engine.csv; the exit code."""
    sentence = busy()
    try:
        found = run_apart("normlab.bench.engine", **ONE_THREAD)
    except RuntimeError as error:
        say(str(error))
        return 1
    rows = msgspec.json.decode(found, type=list[Row])
    out.print(_table(rows))
    if sentence:
        say(sentence)
    path = folder / "engine.csv"
    cells = (
        (r.case, r.contender, *(f"{1e6 * t:.4g}" for t in (r.median, r.p20, r.p80)), str(r.calls), f"{r.ratio:.3g}",
         "" if r.required is None else f"{r.required:.3g}", r.verdict)
        for r in rows
    )  # fmt: skip
    others = {name: version_of(name) for name in ("autograd", "tensorweaver")}
    write_csv(path, {"command": command, **facts("cpu"), **others}, COLUMNS, cells)
    say(f"Wrote {path}")
    return 0


def _table(rows: list[Row]) -> Table:
    table = Table(title="A training step, one thread", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in ("case", "", "median", "of ours", "aimed at", ""):
        table.add_column(name, justify="left" if name in ("case", "") else "right")
    before = ""
    for r in rows:
        time = f"{1e3 * r.median:.1f} ms" if r.median >= 1e-2 else f"{1e6 * r.median:.0f} us"
        aim = "" if r.required is None else f"≥ {r.required:.2g}x"
        table.add_row(r.case if r.case != before else "", r.contender, time, f"{r.ratio:.2f}x", aim, r.verdict)
        before = r.case
    return table


def main() -> None:
    """Time everything."""
    import torch

    torch.set_num_threads(1)
    sys.stdout.buffer.write(msgspec.json.encode(measure()))


if __name__ == "__main__":
    main()
