"""What was measured: a row for each contender of each case, and its CSV form."""

import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from normlab.bench.accuracy import Accuracy
from normlab.bench.cases import Case, Dtype, Mode, Op, Size
from normlab.bench.contenders import COPY, EMPTY, OURS
from normlab.bench.start import Start
from normlab.bench.timing import Times
from normlab.experiments.outputs import write_bytes
from normlab.lab.machine import describe, processor

Heap = Literal["kept", "default"]
COLUMNS = (
    "heap", "device", "threads", "op", "mode", "dtype", "rows", "dim", "contender", "median_us", "p20_us", "p80_us",
    "calls", "ratio_to_normlab", "gb_per_s", "percent_of_copy",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """How long a contender took.

    Attributes:
        heap: the allocator's setting: "kept" after `normlab.keep_heap()`, or "default".
        device, threads: where it ran.
        case: what was computed.
        contender: who computed it; "copy_" is the copy of one tensor, "empty call" computes and moves nothing.
        median, p20, p80: seconds over `calls` calls.
        ratio: its median over normlab's: above 1, it is slower.
        bandwidth: bytes that must move over the median, in bytes a second.
        of_copy: that, as a share of the bandwidth of the copy beside it.
    """

    heap: Heap
    device: str
    threads: int
    case: Case
    contender: str
    median: float
    p20: float
    p80: float
    calls: int
    ratio: float
    bandwidth: float
    of_copy: float

    @property
    def cells(self) -> tuple[str, ...]:
        """As COLUMNS, in microseconds and GB/s, with the digits that are known."""
        c = self.case
        times = (f"{1e6 * t:.4g}" for t in (self.median, self.p20, self.p80))
        return (
            self.heap, self.device, str(self.threads), c.op, c.mode, c.dtype, str(c.rows), str(c.dim), self.contender,
            *times, str(self.calls), f"{self.ratio:.3g}", f"{self.bandwidth / 1e9:.3g}", f"{100 * self.of_copy:.3g}",
        )  # fmt: skip


def rows_of(case: Case, times: Mapping[str, Times], *, heap: Heap, device: str, threads: int) -> list[Row]:
    """The rows of a case, from the times of its contenders, of which two are OURS and COPY."""
    ours, copied = times[OURS].median, case.bytes_copied / times[COPY].median
    moved = {COPY: case.bytes_copied, EMPTY: 0}

    def row(name: str, t: Times) -> Row:
        bandwidth = moved.get(name, case.bytes_moved) / t.median
        return Row(
            heap, device, threads, case, name, t.median, t.percentile(20), t.percentile(80), len(t.calls),
            t.median / ours, bandwidth, bandwidth / copied,
        )  # fmt: skip

    return [row(name, t) for name, t in times.items()]


@dataclass(slots=True)
class Measured:
    """All that a benchmark found; it grows while processes report.

    Attributes:
        device: "cpu" or "cuda".
        rows: the times.
        accuracy: errors of the gradients; start: what a new process waits for. Empty and None where not measured.
        notes: sentences on what was left out, and why.
    """

    device: str
    rows: list[Row] = field(default_factory=list)
    accuracy: list[Accuracy] = field(default_factory=list)
    start: Start | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def heaps(self) -> list[Heap]:
        """The settings of the allocator that were measured."""
        return list(dict.fromkeys(r.heap for r in self.rows))

    @property
    def threads(self) -> int:
        """The largest number of threads."""
        return max((r.threads for r in self.rows), default=1)

    def select(
        self,
        heap: Heap,
        contender: str,
        *,
        op: Op | None = None,
        mode: Mode | None = None,
        dtype: Dtype | None = None,
        size: Size | None = None,
    ) -> list[Row]:
        """A contender's rows on all threads; None stands for every operation, direction, dtype, size."""
        return [
            r
            for r in self.rows
            if (r.heap, r.contender, r.threads) == (heap, contender, self.threads)
            and op in (None, r.case.op)
            and mode in (None, r.case.mode)
            and dtype in (None, r.case.dtype)
            and size in (None, (r.case.rows, r.case.dim))
        ]


def version_of(package: str) -> str:
    """Of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _system(path: str) -> str:
    """What Linux says in a file, on one line."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def facts(device: str) -> dict[str, str]:
    """The machine and the versions."""
    packages = ["numba", "triton", "liger-kernel", "quack-kernels"]
    if device == "cuda":
        # With it, and on some GPUs, torch.nn.RMSNorm is a kernel of quack's.
        packages.append("nvidia-cutlass-dsl")
    huge = _system("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        **describe(device),
        **({"processor": f"{processor()}, {os.cpu_count()} logical cores"} if device == "cpu" else {}),
        "last level cache": _system("/sys/devices/system/cpu/cpu0/cache/index3/size"),
        "transparent huge pages": huge.partition("[")[2].partition("]")[0] or huge,
        **{package: version_of(package) for package in packages},
    }


def write_csv(path: Path, header: Mapping[str, str], columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """A table under `# name: value` lines, which pandas skips with comment="#"."""
    text = io.StringIO()
    text.writelines(f"# {name}: {value}\n" for name, value in header.items())
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())
