"""How a call on the CPU is carried out: which machine code, on how many threads, over which blocks of rows.

Nothing here knows tensors: buffers are addresses of row-major memory, so that NumPy arrays and torch tensors are
served alike.
"""

import ctypes
import os
import struct
from functools import lru_cache
from typing import NamedTuple

from normlab.kernels import cpu_threads
from normlab.kernels.cpu_args import BACKWARD, FORWARD
from normlab.kernels.cpu_build import Variant, address
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


def _cache_size() -> int:
    """Of the last level, in bytes."""
    try:
        found = os.sysconf("SC_LEVEL3_CACHE_SIZE")
    except (AttributeError, OSError, ValueError):
        found = 0
    return found if found > 0 else 1 << 25


CACHE_SIZE = _cache_size()


class Plan(NamedTuple):
    """What is known of a call before its shape: element sizes in bytes, and the numbers of the spec."""

    forward: Variant
    backward: Variant
    size: int
    wide: int
    eps: float
    offset: float


@lru_cache(maxsize=1024)
def plan(x: str, weight: str, bias: str, add: bool, add_gradient: bool, spec: NormSpec) -> Plan:
    """The plan for element types, by torch's names ("" where there is none).

    Args:
        add: a residual is added before the norm.
        add_gradient: a gradient of the sum comes in.
        spec: of kind "layernorm" or "rmsnorm".
    """
    wide = "float64" if x == "float64" else "float32"
    rest = (x, weight, bias)
    options = (spec.offset != 0, SIZES[x] == 2 and spec.scale_dtype != "stats")
    layer = spec.kind == "layernorm"
    return Plan(
        Variant("forward", layer, *rest, add, *options),
        Variant("backward", layer, *rest, add_gradient, *options),
        SIZES[x],
        SIZES[wide],
        EPSILON[wide] if spec.eps is None else spec.eps,
        spec.offset,
    )


def block_of(rows: int, n: int) -> int:
    """Rows in a block of dweight's sum: by the shape alone, because it decides the bits of the result."""
    if rows < 128:
        # Few rows are shared out only where they are long.
        return max(1, -(-rows // 8)) if n >= 4096 else 16
    return -(-max(16, -(-rows // MOST_BLOCKS)) // 4) * 4


def partial_length(rows: int, n: int, parameters: int) -> int:
    """Numbers in the buffer of partial sums; each block's are padded to whole tiles, of at most 32 columns."""
    return parameters * -(-rows // block_of(rows, n)) * (-(-n // 32) * 32)


def _streams(rows: int, n: int, size: int, written: int) -> bool:
    """Whether to write past the caches: x, y, dy and dx, which one step of training goes over, do not fit there."""
    return 4 * rows * n * size >= CACHE_SIZE and n * size % 64 == 0 and written % 64 == 0


def scratch_length(n: int, workers: int) -> int:
    """Elements that a forward pass with a residual needs beside its results: up to four rows for each thread."""
    return 4 * n * workers


def _team(numbers: int) -> int:
    """How many threads may share the work."""
    return 1 if numbers < PARALLEL_FROM else cpu_threads.threads()


def _chunk(numbers: int, team: int, least: int = 1) -> int:
    """How many numbers a thread takes at a time: a second turn for each, so that the slowest is not waited for long.

    No more turns than that where they can be large: the rows that a thread fetches ahead are then its own, and those
    that lie in its cache since the last operation on the tensor are more likely to be those that it takes.
    """
    return min(max(numbers // (2 * team), least), MOST_CHUNK)


def _run(variant: Variant, arguments: bytes, teammates: int) -> None:
    # The buffer is written to: threads count in it. It must be this call's own.
    cpu_threads.run(address(variant), ctypes.create_string_buffer(arguments, len(arguments)), teammates)


def run_forward(
    plan: Plan, rows: int, n: int, x: int, residual: int, weight: int, bias: int, y: int, total: int, stats: int,
    scratch: int = 0, workers: int = 1 << 16,
) -> None:  # fmt: skip
    """Fill y, total (with a residual) and stats, all (rows, n) but stats: see `fused`. Addresses, 0 for none.

    With a residual `scratch` is room for `scratch_length` elements, for at most `workers` threads.
    """
    team = _team(rows * n)
    chunk = max(1, _chunk(rows * n, team, LEAST_CHUNK) // n)
    chunk -= chunk % 4 if chunk > 4 else 0
    # A sum that goes past the caches needs a place to wait in.
    streaming = _streams(rows, n, plan.size, y | total) and bool(scratch or not residual)
    arguments = _pack_forward(
        0, rows, n, chunk, streaming, 0,
        x, residual, weight, bias, y, total, scratch, stats, plan.eps, plan.offset,
    )  # fmt: skip
    _run(plan.forward, arguments, min(team, -(-rows // chunk), workers))


def run_backward(
    plan: Plan, rows: int, n: int, dy: int, dtotal: int, x: int, weight: int, stats: int, dx: int, partial: int,
    dweight: int, dbias: int,
) -> None:  # fmt: skip
    """Fill dx, dweight and dbias. `partial` is room for `partial_length` numbers of the dtype one computes in."""
    block, team = block_of(rows, n), _team(rows * n)
    blocks = -(-rows // block)
    chunk = max(1, _chunk(rows * n, team) // (block * n))
    arguments = _pack_backward(
        0, 0, rows, n, block, chunk, _streams(rows, n, plan.size, dx),
        dy, dtotal, x, weight, stats, dx, partial, dweight, dbias, plan.offset,
    )  # fmt: skip
    _run(plan.backward, arguments, min(team, -(-blocks // chunk)))
