"""Which cases a benchmark runs, on how many threads, and for how long."""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from normlab import _check
from normlab.bench.cases import BAR, DTYPES, GPU, LARGEST, MODES, OPS, SMALL, Case, Dtype, Mode, Op, Size

Amount = Literal["quick", "default", "full"]
HeapChoice = Literal["kept", "default", "both"]


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asks for; None: what the amount says.

    Attributes:
        amount: "quick" leaves out the plain formula, torch.compile, add_layer_norm, the forward pass alone and one
            thread; "full" has the largest size, and one thread in all sizes and with both settings of the allocator.
        device: "cpu" or "cuda".
        heap: settings of the allocator.
        sizes: (rows, dim).
        compiled: whether torch.compile takes part; None: where it can, in the sizes of the bar.
    """

    amount: Amount = "default"
    device: str = "cpu"
    heap: HeapChoice = "both"
    sizes: tuple[Size, ...] | None = None
    dtypes: tuple[Dtype, ...] = ("float32", "bfloat16")
    ops: tuple[Op, ...] | None = None
    threads: tuple[int, ...] | None = None
    compiled: bool | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A case, on so many threads (0: as many as torch takes), with torch.compile or without."""

    case: Case
    threads: int
    compiled: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What one process measures.

    Attributes:
        heap: its allocator: "kept" or "default".
        device: "cpu" or "cuda".
        items: in this order.
        formula: whether the plain formula takes part.
        budget: seconds a case, beyond its warm-up and its least number of rounds.
        least: rounds.
        accuracy: the dtypes in which gradients are compared with float64.
    """

    heap: Literal["kept", "default"]
    device: str
    items: tuple[Item, ...]
    formula: bool
    budget: float
    least: int
    accuracy: tuple[Dtype, ...] = ()


def _parts(name: str, value: str) -> list[str]:
    parts = [part.strip() for part in value.split(",")]
    if not all(parts):
        raise ValueError(f"{name} must be a list with commas, got {value!r}")
    return list(dict.fromkeys(parts))


def sizes(value: str) -> tuple[Size, ...]:
    """ "1024x512,1x64" as sizes."""
    found = []
    for part in _parts("--sizes", value):
        match = re.fullmatch(r"([1-9]\d{0,8})x([1-9]\d{0,8})", part)
        if match is None:
            raise ValueError(f"--sizes must be ROWSxDIM such as 1024x512, separated by commas, got {part!r}")
        found.append((int(match[1]), int(match[2])))
    return tuple(found)


def names(name: str, value: str, allowed: Sequence[str]) -> tuple[str, ...]:
    """A list with commas of some of the allowed names."""
    parts = _parts(name, value)
    for part in parts:
        _check.one_of(name, part, allowed)
    return tuple(parts)


def threads(value: str) -> tuple[int, ...]:
    """ "1,all" as numbers; 0 stands for all."""
    found = []
    for part in _parts("--threads", value):
        if part != "all" and not re.fullmatch(r"[1-9]\d{0,3}", part):
            raise ValueError(f"--threads must be numbers from 1 to 9999 or 'all', separated by commas, got {part!r}")
        found.append(0 if part == "all" else int(part))
    return tuple(found)


def compiler() -> str | None:
    """The C++ compiler that torch.compile would call on a CPU, or None."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX") or "g++", "g++", "clang++"))), None)


def _sizes(options: Options) -> tuple[Size, ...]:
    if options.sizes is not None:
        return options.sizes
    if options.device == "cuda":
        return (*SMALL, *GPU)
    return (*SMALL, *BAR, *((LARGEST,) if options.amount == "full" else ()))


def _threads(options: Options, heap: str, size: Size) -> tuple[int, ...]:
    if options.threads is not None:
        return options.threads
    if options.device == "cuda" or options.amount == "quick":
        return (0,)
    # One thread takes long where tensors are large, and tells nothing new beside the allocator's faults.
    few = options.amount == "default" and (heap == "default" or size[0] * size[1] > 1 << 22)
    return (0,) if few else (0, 1)


def _compiles(options: Options, case: Case, threads: int) -> bool:
    """Compiling takes seconds a case, so only where it decides something, unless all is asked for."""
    if options.compiled is False or (options.amount == "quick" and options.compiled is None):
        return False
    if case.adds or case.mode == "forward" or threads != 0:
        return False
    decides = BAR if options.device == "cpu" else GPU
    return options.compiled is True or (case.rows, case.dim) in decides


def plan(options: Options, heap: Literal["kept", "default"], memory: int) -> tuple[Plan, list[str]]:
    """What the process with this allocator measures, and sentences on what it leaves out.

    Args:
        memory: bytes that are free.
    """
    notes = []
    compiles = options.device == "cuda" or compiler() is not None
    if not compiles and options.compiled is not False:
        notes.append("torch.compile does not take part: it needs a C++ compiler, and there is no g++ or clang++")
    modes: tuple[Mode, ...] = ("forward+backward",) if options.amount == "quick" else MODES
    ops = options.ops or (OPS[:3] if options.amount == "quick" else OPS)
    items = []
    for size in _sizes(options):
        cases = [Case(op, mode, dtype, *size) for op in ops for mode in modes for dtype in options.dtypes]
        fitting = [case for case in cases if case.memory <= memory]
        if len(fitting) < len(cases):
            need, free = max(c.memory for c in cases) / 2**30, memory / 2**30
            notes.append(f"{size[0]} x {size[1]} needs about {need:.1f} GiB of memory; {free:.1f} GiB are free")
        items += [
            Item(case, n, compiles and _compiles(options, case, n))
            for case in fitting
            for n in _threads(options, heap, size)
        ]
    quick = options.amount == "quick"
    exact: tuple[Dtype, ...] = tuple(d for d in options.dtypes if d in DTYPES[:2])
    first = heap == "kept" or options.heap == "default"
    return (
        Plan(
            heap,
            options.device,
            tuple(items),
            formula=not quick,
            budget=0.25 if quick else 0.8,
            least=2 if quick else 3,
            accuracy=exact if first and options.device == "cpu" and options.sizes is None else (),
        ),
        notes,
    )
