"""What the library must reach, as a table of rules, and whether it does on what was measured.

A rule is judged on the times with the heap kept, where the arithmetic and the memory decide; with the default
allocator large tensors are bound by page faults, whoever computes. A GPU has no such setting.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from normlab.bench.accuracy import MEANS
from normlab.bench.cases import BAR, GPU, LARGEST, MODES, SMALL, Case, Dtype, Mode, Op, Size
from normlab.bench.contenders import COMPILED, COPY, EMPTY, LIGER, OURS, TORCH, TWO_STEPS
from normlab.bench.results import Heap, Measured, Row

Verdict = Literal["met", "missed", "not measured"]
BOTH: Mode = "forward+backward"
NORMS: dict[Op, str] = {"rms_norm": "RMSNorm", "layer_norm": "LayerNorm"}
HALF_AND_SINGLE: tuple[Dtype, ...] = ("float32", "bfloat16")


class Found(NamedTuple):
    """A measured value, where it is the worst, if in several places, and in which case, if it is about one."""

    value: float
    where: str = ""
    case: Case | None = None


class Floor(NamedTuple):
    """What our time in a case consists of before any arithmetic, as shares of it.

    Attributes:
        call: a call from Python that computes nothing.
        bytes: the bytes that must move, at the speed at which `copy_` moves them.
    """

    call: float
    bytes: float

    def __str__(self) -> str:
        return f"{100 * self.call:.0f}% + {100 * self.bytes:.0f}%"


Measure = Callable[[Measured, Heap], Found | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """What must be reached.

    Attributes:
        what: in words.
        required: the value.
        at_least: whether the measured value must be at least it; at most, otherwise.
        unit: "x" (times), "%", "s".
        measure: the value with an allocator, or None where it was not measured.
        of_heap: whether the allocator matters.
    """

    what: str
    required: float
    at_least: bool
    unit: str
    measure: Measure
    of_heap: bool = True

    @property
    def requirement(self) -> str:
        """>= 8x."""
        return f"{'≥' if self.at_least else '≤'} {self.required:g}{_space(self.unit)}"

    def judge(self, found: Found | None) -> Verdict:
        """Whether a value will do."""
        if found is None or found.value != found.value:
            return "not measured"
        reached = found.value >= self.required if self.at_least else found.value <= self.required
        return "met" if reached else "missed"

    def words(self, found: Found | None) -> str:
        """A value with its unit, with a digit more where it would round to what is required."""
        if found is None:
            return ""
        digits = 1 if self.unit == "%" else 2
        value = f"{found.value:.{digits}f}"
        if float(value) == self.required != found.value:
            value = f"{found.value:.{digits + 2}f}"
        return f"{value}{_space(self.unit)}" + (f" ({found.where})" if found.where else "")


def _space(unit: str) -> str:
    return unit if unit in "x%" else f" {unit}"


class Ruling(NamedTuple):
    """A rule, what was found (with the heap kept, and with the default allocator), and the verdict; and the floor under
    our time there, with the heap kept, where that time was compared with somebody's."""

    rule: Rule
    kept: Found | None
    default: Found | None
    verdict: Verdict
    floor: Floor | None = None


def _where(case: Case) -> str:
    return f"{case.rows} x {case.dim}"


def _least(values: Iterable[tuple[float, Case]], named: Callable[[Case], str] = _where) -> Found | None:
    """The smallest value, and where; the place is left out if there is only one."""
    known = list(values)
    if not known:
        return None
    value, case = min(known, key=lambda pair: pair[0])
    return Found(value, named(case) if len(known) > 1 else "", case)


def _ratios(measured: Measured, heap: Heap, rival: str, rows: list[Row]) -> list[tuple[float, Case]]:
    """A rival's time over ours, for each of our rows in which the rival took part."""
    theirs = {r.case: r.median for r in measured.select(heap, rival)}
    return [(theirs[r.case] / r.median, r.case) for r in rows if r.case in theirs]


def against(
    measured: Measured, heap: Heap, *, rival: str, op: Op, dtype: Dtype, sizes: tuple[Size, ...],
    mode: Mode = BOTH,
) -> Found | None:  # fmt: skip
    """The rival's time over ours, at the size where it is smallest. None where one is missing."""
    rows = [r for r in measured.select(heap, OURS, op=op, mode=mode, dtype=dtype) if (r.case.rows, r.case.dim) in sizes]
    ratios = _ratios(measured, heap, rival, rows)
    return _least(ratios) if len(ratios) == len(sizes) else None


def of_copy(measured: Measured, heap: Heap, *, op: Op, dtype: Dtype, size: Size, mode: Mode = BOTH) -> Found | None:
    """Percent of the copy's bandwidth."""
    rows = measured.select(heap, OURS, op=op, mode=mode, dtype=dtype, size=size)
    return _least((100 * r.of_copy, r.case) for r in rows)


def _first_call(measured: Measured, heap: Heap) -> Found | None:
    return None if measured.start is None else Found(measured.start.first - measured.start.torchs)


def _import(measured: Measured, heap: Heap) -> Found | None:
    return None if measured.start is None else Found(measured.start.importing)


def error(measured: Measured, heap: Heap, *, op: Op, dtype: Dtype, given: str) -> Found | None:
    """Our error over torch's, of the gradient where that is largest."""
    errors = [a for a in measured.accuracy if (a.op, a.dtype, a.given) == (op, dtype, given)]
    if not errors:
        return None
    worst = max(errors, key=lambda a: a.ratio)
    return Found(worst.ratio, worst.gradient)


def _fastest_on_gpu(measured: Measured, heap: Heap, *, rival: str) -> Found | None:
    """The rival's time over ours where it is smallest, of all directions, dtypes and sizes that keep a GPU busy."""
    rows = [r for op in NORMS for r in measured.select(heap, OURS, op=op) if (r.case.rows, r.case.dim) in GPU]
    return _least(_ratios(measured, heap, rival, rows), named=str)


def _times(what: str, required: float, **case: object) -> Rule:
    return Rule(what, required, True, "x", partial(against, **case))  # pyright: ignore[reportArgumentType]


def _named(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


def cpu_rules() -> list[Rule]:
    """On a CPU."""
    first, *rest = BAR
    rules = [
        _times(f"RMSNorm against torch.nn, {dtype}, {_named(size)}", required,
               rival=TORCH, op="rms_norm", dtype=dtype, sizes=(size,))
        for dtype, required_by_size in (
            ("float32", {first: 8.0, **dict.fromkeys(rest, 6.0)}),
            ("bfloat16", dict.fromkeys(BAR, 12.0)),
        )
        for size, required in required_by_size.items()
    ]  # fmt: skip
    layer = {"rival": TORCH, "op": "layer_norm"}
    rules += [
        _times(f"LayerNorm against torch.nn, float32, {_named(first)}", 1.4, **layer, dtype="float32", sizes=(first,)),
        _times("LayerNorm against torch.nn, float32, every size", 1.0, **layer, dtype="float32",
               sizes=(*SMALL, *BAR)),
        *(
            _times(f"LayerNorm against torch.nn, bfloat16, {_named(size)}", 2.0, **layer, dtype="bfloat16",
                   sizes=(size,))
            for size in BAR
        ),
    ]  # fmt: skip
    rules += [
        _times(f"{words} against torch.compile, {dtype}, {_named(BAR[0])} and larger", 1.3,
               rival=COMPILED, op=op, dtype=dtype, sizes=BAR)
        for op, words in NORMS.items()
        for dtype in HALF_AND_SINGLE
    ]  # fmt: skip
    rules += [
        Rule(f"{words}, of the copy's bandwidth, {dtype}, {_named(BAR[-1])}", 80.0, True, "%",
             partial(of_copy, op=op, dtype=dtype, size=BAR[-1]))
        for op, words in NORMS.items()
        for dtype in HALF_AND_SINGLE
    ]  # fmt: skip
    rules += [
        _times(f"add_rms_norm against add, then rms_norm, {mode}, {dtype}, {_named(BAR[0])} and larger", 1.3,
               rival=TWO_STEPS, op="add_rms_norm", dtype=dtype, sizes=BAR, mode=mode)
        for mode in MODES
        for dtype in HALF_AND_SINGLE
    ]  # fmt: skip
    rules += [
        _times(f"RMSNorm against torch.nn, {dtype}, {_named(size)}", 1.0,
               rival=TORCH, op="rms_norm", dtype=dtype, sizes=(size,))
        for dtype in HALF_AND_SINGLE
        for size in SMALL
    ]  # fmt: skip
    rules += [
        Rule("first call in a new process, over torch.nn's", 0.3, False, "s", _first_call, of_heap=False),
        Rule("import normlab, after import torch", 0.1, False, "s", _import, of_heap=False),
    ]
    rules += [
        Rule(f"{words}: error of the gradients over torch.nn's, {dtype}, {given}", 1.1, False, "x",
             partial(error, op=op, dtype=dtype, given=given), of_heap=False)
        for op, words in NORMS.items()
        for dtype in HALF_AND_SINGLE
        for given in MEANS
    ]  # fmt: skip
    return rules


def gpu_rules() -> list[Rule]:
    """On a GPU."""
    low, high = min(dim for _, dim in GPU), max(dim for _, dim in GPU)
    return [
        *(
            Rule(f"{words}, forward, of the copy's bandwidth, bfloat16, {_named(LARGEST)}", 90.0, True, "%",
                 partial(of_copy, op=op, dtype="bfloat16", size=LARGEST, mode="forward"))
            for op, words in NORMS.items()
        ),
        *(
            Rule(f"against {rival}, dims {low} to {high}", 1.0, True, "x", partial(_fastest_on_gpu, rival=rival))
            for rival in (TORCH, LIGER)
        ),
    ]  # fmt: skip


def floor(measured: Measured, heap: Heap, case: Case | None) -> Floor | None:
    """What our time in the case consists of, or None where that was not measured."""
    if case is None:
        return None
    times = {name: [r.median for r in measured.select(heap, name) if r.case == case] for name in (OURS, EMPTY, COPY)}
    if not all(times.values()):
        return None
    ours, call, copied = (found[0] for found in times.values())
    return Floor(call / ours, case.bytes_moved / case.bytes_copied * copied / ours)


def rulings(measured: Measured) -> list[Ruling]:
    """All rules of the device, judged."""
    if measured.device == "cuda":
        return [Ruling(r, found := r.measure(measured, "default"), None, r.judge(found)) for r in gpu_rules()]
    return [
        Ruling(
            r,
            found := r.measure(measured, "kept"),
            r.measure(measured, "default") if r.of_heap else None,
            r.judge(found),
            None if found is None else floor(measured, "kept", found.case),
        )
        for r in cpu_rules()
    ]
