"""How the Triton kernels are launched: into which tiles and programs a tensor is cut.

How a row is cut depends on its length and dtype alone, and over how many programs the sums for the weight and the bias
are spread on the number of rows too. So the order of every sum, and with it its bits, depends neither on the rows
around a row nor on the GPU's number of processors. The numbers below are meant for an H100.
"""

from contextlib import nullcontext
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from normlab.kernels import gpu_backward, gpu_forward
from normlab.kernels.fused import Backward, Forward
from normlab.kernels.gpu_rows import tl
from normlab.spec import NormSpec

# A row of 64 KB is 32 half-precision items for each of 1024 threads; of the 64 registers that a thread then has, these
# take 32 in float32. Longer rows are looped over.
RESIDENT_BYTES = 64 * 1024
# An H100 has 132 processors; each runs 16 warps of 128 registers a thread, and gives them 227 KB of shared memory.
PROCESSORS = 132
WARPS = 16
SHARED_BYTES = 227 * 1024
# In a program at most. A warp is 32 of them, or 64 on some GPUs.
THREADS = 1024
# How many of the programs' sums a program of the second kernel adds at a time.
SUMMED = 4096


class Tile(NamedTuple):
    """What a program holds: `rows` rows by `block` columns (a power of 2), computed by `warps` warps."""

    rows: int
    block: int
    warps: int


class Plan(NamedTuple):
    """How a backward pass is cut, in the words of `normlab.kernels.gpu_backward`.

    Attributes:
        tile: what a program holds at a time.
        splits: the number of chunks of columns.
        in_chunks: whether the rows' sums are computed by a kernel of their own.
        programs: P, how many programs share the rows of a chunk.
    """

    tile: Tile
    splits: int
    in_chunks: bool
    programs: int

    @property
    def keep_scale(self) -> bool:
        """Whether a program loads the weight once; in 1024 threads there are no registers to keep it in."""
        return self.tile.warps < 32


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _power_of_2(n: int) -> int:
    """The least power of 2 that is at least n."""
    return 1 << (n - 1).bit_length()


def looped_tile(itemsize: int) -> Tile:
    """A chunk of 32 KB of a row that a program loops over.

    Two such programs fit on a processor at a time, few enough that a row is mostly still in the GPU's cache when it
    is read for the second time.
    """
    return Tile(1, 32768 // itemsize, 32)


def forward_tile(n: int, itemsize: int) -> Tile:
    """Whole rows of n items.

    A thread has 32 bytes of a row, two loads: few registers, so that a processor holds many programs, and some wait
    for memory while others compute. Short rows share a program, so that it has 4 KB to load.
    """
    block = _power_of_2(n)
    rows = max(4096 // (block * itemsize), 1)
    return Tile(rows, block, min(max(rows * block * itemsize // 1024, 1), 32))


@lru_cache(maxsize=4096)
def backward_plan(rows: int, n: int, itemsize: int, center: bool) -> Plan:
    """The plan for `rows` rows of n items; `center` for LayerNorm.

    A thread has 16 items of each tensor (8 in float64), beside as many sums for the weight and, with `center`, for
    the bias. With 1024 threads that makes rows of 16384 items for RMSNorm; for LayerNorm 8192, before registers spill.
    """
    wide = 2 if itemsize == 8 else 1
    columns = (8192 if center else 16384) // wide
    block = _power_of_2(n)
    in_chunks = False
    if block > columns:
        # Halves of wider items would leave no shared memory to fetch the next row into.
        in_chunks = not (center and itemsize == 2 and block == 2 * columns)
        block = 1024 // wide if in_chunks else columns
    height = max((4096 if in_chunks else 2048) // wide // block, 1)
    tile = Tile(height, block, min(max(height * block * wide // 512, 1), 32))
    splits = _ceil_div(n, block)
    at_a_time = max(PROCESSORS * max(WARPS // tile.warps, 1) // splits, 1)
    tiles = _ceil_div(rows, height)
    return Plan(tile, splits, in_chunks, _ceil_div(tiles, _ceil_div(tiles, at_a_time)))


class Limits(NamedTuple):
    """What a program may have at most: bytes of shared memory, and warps."""

    shared: int
    warps: int


@cache
def limits(device: torch.device) -> Limits:
    """Of a GPU; in the interpreter, an H100's."""
    if device.type != "cuda":
        return Limits(SHARED_BYTES, 32)
    properties = torch.cuda.get_device_properties(device)
    # ROCm does not say; all of its GPUs have 64 KB.
    shared = getattr(properties, "shared_memory_per_block_optin", 64 * 1024)
    return Limits(shared, THREADS // properties.warp_size)


def stages(plan: Plan, x: Tensor, dtotal: Tensor | None, weight: Tensor | None, center: bool) -> int:
    """How many tiles of all that a backward pass reads are to be held or on their way at a time: 3, so that one is
    always on its way, or as many as fit.

    One of them is in registers. Triton keeps the others in shared memory, with all that is loaded in the loop over
    rows: the rows, the statistics, and a weight that is not loaded before the loop.
    """
    tile, items = plan.tile, plan.tile.rows * plan.tile.block
    other_half = 0 if plan.in_chunks else plan.splits - 1
    statistics = 8 * (1 + center) + (2 * max(x.itemsize, 4) if plan.in_chunks else 0)
    size = items * x.itemsize * ((2 if dtotal is None else 3) + 2 * other_half) + tile.rows * statistics
    # For the sums over a row.
    others = 4096
    if weight is not None:
        size += items * weight.itemsize * (other_half + (not plan.keep_scale))
        if weight.itemsize < x.itemsize:
            # Threads load more items of it at a time than of x, and hand them to those that hold x's.
            others += items * weight.itemsize
    return max(min(1 + (limits(x.device).shared - others) // size, 3), 1)


class _Arithmetic(NamedTuple):
    """What a spec says on the arithmetic on x: in which dtype, and whether it is rounded to x's after every step."""

    acc: Any
    torch_dtype: torch.dtype
    stepwise: bool
    center: bool


def _arithmetic(x: Tensor, weight: Tensor | None, spec: NormSpec) -> _Arithmetic:
    double = x.dtype == torch.float64
    early = spec.scale_dtype == "input" or (spec.scale_dtype == "weight" and weight is not None)
    return _Arithmetic(
        acc=tl.float64 if double else tl.float32,
        torch_dtype=torch.float64 if double else torch.float32,
        stepwise=early and x.itemsize == 2,
        center=spec.kind == "layernorm",
    )


def epsilon(x: Tensor, spec: NormSpec) -> float:
    """The spec's eps; None stands for that of the dtype of the statistics."""
    if spec.eps is not None:
        return float(spec.eps)
    return torch.finfo(torch.float64 if x.dtype == torch.float64 else torch.float32).eps


def _launch(device: torch.device, kernel: Any, grid: tuple[int, ...], *args: Any, warps: int, **constants: Any) -> None:
    # Triton 3.10 turns fused multiply-adds off unless asked.
    kernel[grid](*args, num_warps=min(warps, limits(device).warps), enable_fp_fusion=True, **constants)


def aligned(t: Tensor | None) -> Tensor | None:
    """The tensor, or a copy of it, at an address that is a multiple of 16 bytes.

    Triton compiles another kernel for one that is not, slower and with its sums in another order: a weight's bits would
    depend on where in memory it lies.
    """
    return t if t is None or t.data_ptr() % 16 == 0 else t.clone()


def _on_device(x: Tensor) -> Any:
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def forward(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    rows: int,
    n: int,
    spec: NormSpec,
) -> Forward:
    """As `normlab.kernels.gpu.forward`."""
    how = _arithmetic(x, weight, spec)
    y = torch.empty_like(x)
    total = None if residual is None else torch.empty_like(x)
    stats = x.new_empty((rows, 2 if how.center else 1), dtype=torch.float64)
    if x.numel() == 0:
        return Forward(y, total, stats.zero_())
    looped = n * x.itemsize > RESIDENT_BYTES
    tile = looped_tile(x.itemsize) if looped else forward_tile(n, x.itemsize)
    given = [aligned(t) for t in (x, residual, weight, bias)]
    with _on_device(x):
        _launch(
            x.device,
            gpu_forward.forward_looped if looped else gpu_forward.forward_rows,
            (_ceil_div(rows, tile.rows),),
            *(*given, y, total, stats, rows),
            warps=tile.warps,
            N=n,
            EPS=epsilon(x, spec),
            OFFSET=float(spec.offset),
            CENTER=how.center,
            STEPWISE=how.stepwise,
            ACC=how.acc,
            ROWS=tile.rows,
            BLOCK=tile.block,
        )
    return Forward(y, total, stats)


def backward(
    dy: Tensor,
    dtotal: Tensor | None,
    x: Tensor,
    weight: Tensor | None,
    stats: Tensor,
    bias_dtype: torch.dtype | None,
    rows: int,
    n: int,
    spec: NormSpec,
) -> Backward:
    """As `normlab.kernels.gpu.backward`."""
    dx = torch.empty_like(x)
    dweight = None if weight is None else torch.empty_like(weight)
    dbias = None if bias_dtype is None else x.new_empty(n, dtype=bias_dtype)
    if x.numel() == 0:
        return Backward(dx, *(d if d is None else d.zero_() for d in (dweight, dbias)))

    dy, dtotal, x, weight, stats = (aligned(t) for t in (dy, dtotal, x, weight, stats))  # pyright: ignore[reportAssignmentType]
    how = _arithmetic(x, weight, spec)
    plan = backward_plan(rows, n, x.itemsize, how.center)
    tile, splits, in_chunks, programs = plan
    sums = [None if d is None else d.new_empty((programs, n), dtype=how.torch_dtype) for d in (dweight, dbias)]
    means = x.new_empty((rows, 2), dtype=how.torch_dtype) if in_chunks else None
    options: dict[str, Any] = {
        "N": n,
        "OFFSET": float(spec.offset),
        "CENTER": how.center,
        "STEPWISE": how.stepwise,
        "ACC": how.acc,
    }
    with _on_device(x):
        if means is not None:
            # Triton unrolls the loop over chunks; of half the size they fit in the registers all the same.
            chunk = looped_tile(x.itemsize)
            args = (dy, x, weight, stats, means)
            cut = {"warps": chunk.warps, "ROWS": 1, "BLOCK": chunk.block // 2}
            _launch(x.device, gpu_backward.row_means, (rows,), *args, **cut, **options)
        _launch(
            x.device,
            gpu_backward.backward_rows,
            (splits, programs),
            *(dy, dtotal, x, weight, stats, means, dx, *sums, rows),
            warps=tile.warps,
            ROWS=tile.rows,
            BLOCK=tile.block,
            SPLITS=splits,
            KEEP_SCALE=plan.keep_scale,
            STAGES=stages(plan, x, dtotal, weight, how.center),
            **({} if torch.version.hip else {"maxnreg": 65536 // (32 * max(tile.warps, WARPS))}),
            **options,
        )
        if dweight is not None or dbias is not None:
            # High for short rows, so that programs enough read all of the sums at once.
            height = min(_power_of_2(programs), SUMMED // (32 if n > 512 else 8))
            width = SUMMED // height
            args = (*sums, dweight, dbias, programs)
            cut = {"warps": 8, "ROWS": height, "BLOCK": width}
            grid = (_ceil_div(n, width),)
            _launch(x.device, gpu_backward.sum_programs, grid, *args, **cut, N=n, ACC=how.acc)
    return Backward(dx, dweight, dbias)
