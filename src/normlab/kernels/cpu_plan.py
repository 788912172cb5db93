"""How a call on the CPU is carried out: which machine code, on how many threads, over which blocks of rows.

Nothing here knows tensors: buffers are addresses of row-major memory, so that NumPy arrays and torch tensors are
served alike.
"""

import os
import struct
from ctypes import create_string_buffer
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from normlab.kernels import cpu_threads
from normlab.kernels.cpu_args import BACKWARD, FORWARD
from normlab.kernels.cpu_build import Variant, address, wide
from normlab.spec import NormSpec

SIZES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23}

# Below this many numbers one thread is done before a second has begun.
PARALLEL_FROM = 1 << 14
# A thread takes at most about so many numbers at a time, in the forward pass not much fewer than the least.
LEAST_CHUNK, MOST_CHUNK = 1 << 14, 1 << 20
MOST_BLOCKS = 128

_pack_forward = struct.Struct(f"={len(FORWARD) - 2}q2d").pack
_pack_backward = struct.Struct(f"={len(BACKWARD) - 1}qd").pack
FORWARD_SIZE, BACKWARD_SIZE = 8 * len(FORWARD), 8 * len(BACKWARD)


def _cache_size() -> int:
    """Of the last level that one core sees, in bytes."""
    try:
        # Some versions of glibc give the sum over all groups of cores.
        return 1024 * int(Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().strip().removesuffix("K"))
    except (OSError, ValueError):
        pass
    try:
        found = os.sysconf("SC_LEVEL3_CACHE_SIZE")
    except (AttributeError, OSError, ValueError):
        found = 0
    return found if found > 0 else 1 << 25


CACHE_SIZE = _cache_size()


def block_of(rows: int, n: int) -> int:
    """Rows in a block of dweight's sum: by the shape alone, because it decides the bits of the result."""
    if rows < 128:
        # Few rows are shared out only where they are long.
        return max(1, -(-rows // 8)) if n >= 4096 else 16
    return -(-max(16, -(-rows // MOST_BLOCKS)) // 4) * 4


def partial_length(rows: int, n: int, parameters: int) -> int:
    """Numbers in the buffer of partial sums; each block's are padded to whole tiles, of at most 32 columns."""
    return parameters * -(-rows // block_of(rows, n)) * (-(-n // 32) * 32)


def _streams(rows: int, n: int, size: int) -> bool:
    """Whether to write past the caches: x, y, dy and dx, which one step of training goes over, do not fit there.

    That takes rows, and so a tensor, that begin at multiples of 64 bytes.
    """
    return 4 * rows * n * size >= CACHE_SIZE and n * size % 64 == 0


def _team(numbers: int, workers: int) -> int:
    """How many of at most `workers` threads share the work."""
    return 1 if numbers < PARALLEL_FROM else workers


def _chunk(numbers: int, team: int, least: int = 1) -> int:
    """How many numbers a thread takes at a time: a second turn for each, so that the slowest is not waited for long.

    No more turns than that where they can be large: the rows that a thread fetches ahead are then its own, and those
    that lie in its cache since the last operation on the tensor are more likely to be those that it takes.
    """
    return min(max(numbers // (2 * team), least), MOST_CHUNK)


class ForwardPlan(NamedTuple):
    """All that is known of a forward pass before there are buffers.

    Attributes:
        code: address of the machine code.
        rows, n: of x.
        chunk: rows that a thread takes at a time.
        streams: whether results are written past the caches, where their addresses allow it.
        team: on how many threads.
        eps, offset: of the spec.
        columns: of the statistics.
        scratch: bytes of room that a pass with a residual needs beside its results; 0 without one.
    """

    code: int
    rows: int
    n: int
    chunk: int
    streams: bool
    team: int
    eps: float
    offset: float
    columns: int
    scratch: int


class BackwardPlan(NamedTuple):
    """All that is known of a backward pass before there are buffers.

    Attributes:
        code, rows, n, streams, team, offset: as in ForwardPlan.
        block: rows of a block of dweight's sum.
        chunk: blocks that a thread takes at a time.
        partial: bytes of room for the sums of the blocks.
    """

    code: int
    rows: int
    n: int
    block: int
    chunk: int
    streams: bool
    team: int
    offset: float
    partial: int


def _together(direction: str, layer: bool, x: str, add: bool, n: int) -> int:
    """How many rows a thread takes together: more of them wait together for their sums, fewer stay in the registers.

    Half precision, which is widened, takes two registers of 64 bytes a row. Where it is read from memory, long rows in
    the forward pass are faster in pairs. Short rows, as of queries and keys, are little but their sums.
    """
    if direction == "forward":
        if wide() and n <= 256 and n * SIZES[x] <= 1024 and not add and not (layer and SIZES[x] == 2):
            return 8
        return 2 if SIZES[x] == 2 and (n > 2048 or not wide()) else 4
    return 4 if SIZES[x] > 2 and wide() else 2


def _code(direction: str, x: str, weight: str, bias: str, add: bool, spec: NormSpec, n: int) -> int:
    layer, cast = spec.kind == "layernorm", SIZES[x] == 2 and spec.scale_dtype != "stats"
    rows = _together(direction, layer, x, add, n)
    return address(Variant(direction, layer, x, weight, bias, add, spec.offset != 0, cast, rows))


@lru_cache(maxsize=4096)
def forward_plan(
    x: str, weight: str, bias: str, add: bool, spec: NormSpec, rows: int, n: int, workers: int
) -> ForwardPlan:
    """The plan of a forward pass; compiles its code where needed.

    Args:
        x, weight, bias: element types, by torch's names ("" where there is none).
        add: a residual is added before the norm.
        spec: of kind "layernorm" or "rmsnorm".
        rows, n: of x, at least one number.
        workers: threads there are for it.

    Raises:
        BuildError: for code that cannot be compiled.
    """
    size, team = SIZES[x], _team(rows * n, workers)
    chunk = max(1, _chunk(rows * n, team, LEAST_CHUNK) // n)
    # A whole number of those that go together.
    chunk -= chunk % 8 if chunk > 8 else 0
    team = min(team, -(-rows // chunk))
    eps = EPSILON["float64" if x == "float64" else "float32"] if spec.eps is None else spec.eps
    return ForwardPlan(
        _code("forward", x, weight, bias, add, spec, n),
        *(rows, n, chunk, _streams(rows, n, size), team, eps, spec.offset, 1 + (spec.kind == "layernorm")),
        # Up to four rows for each thread.
        4 * n * team * size if add else 0,
    )


@lru_cache(maxsize=4096)
def backward_plan(
    x: str, weight: str, bias: str, add: bool, spec: NormSpec, rows: int, n: int, workers: int
) -> BackwardPlan:
    """The plan of a backward pass; as `forward_plan`, but `add` says that a gradient of the sum comes in."""
    block, team = block_of(rows, n), _team(rows * n, workers)
    blocks = -(-rows // block)
    chunk = max(1, _chunk(rows * n, team) // (block * n))
    sums = partial_length(rows, n, (weight != "") + (bias != ""))
    return BackwardPlan(
        _code("backward", x, weight, bias, add, spec, n),
        *(rows, n, block, chunk, _streams(rows, n, SIZES[x]), min(team, -(-blocks // chunk)), spec.offset),
        sums * max(SIZES[x], 4),
    )


def run_forward(
    plan: ForwardPlan, x: int, residual: int, weight: int, bias: int, y: int, total: int, stats: int, scratch: int = 0
) -> None:
    """Fill y, total (with a residual) and stats, all (rows, n) but stats: see `fused`. Addresses, 0 for none.

    With a residual `scratch` is room for `plan.scratch` bytes.
    """
    # A sum that goes past the caches needs a place to wait in.
    streaming = plan.streams and (y | total) % 64 == 0 and (scratch != 0 or not residual)
    arguments = _pack_forward(
        0, plan.rows, plan.n, plan.chunk, streaming, 0,
        x, residual, weight, bias, y, total, scratch, stats, plan.eps, plan.offset,
    )  # fmt: skip
    # The buffer is written to: threads count in it. It must be this call's own.
    cpu_threads.run(plan.code, create_string_buffer(arguments, FORWARD_SIZE), plan.team)


def run_backward(
    plan: BackwardPlan, dy: int, dtotal: int, x: int, weight: int, stats: int, dx: int, partial: int, dweight: int,
    dbias: int,
) -> None:  # fmt: skip
    """Fill dx, dweight and dbias. `partial` is room for `plan.partial` bytes."""
    arguments = _pack_backward(
        0, 0, plan.rows, plan.n, plan.block, plan.chunk, plan.streams and dx % 64 == 0,
        dy, dtotal, x, weight, stats, dx, partial, dweight, dbias, plan.offset,
    )  # fmt: skip
    cpu_threads.run(plan.code, create_string_buffer(arguments, BACKWARD_SIZE), plan.team)
