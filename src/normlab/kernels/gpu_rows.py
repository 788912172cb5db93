"""What the Triton kernels share: the few lines of arithmetic on rows that each of them needs.

Kernels work on tiles of ROWS rows by BLOCK columns, with the columns from N on masked, in the dtype ACC.
"""

# Triton's language looks like Python, and a type checker that takes it for Python finds errors in it.
# pyright: reportMissingImports=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportCallIssue=false

import triton
import triton.language as tl


@triton.jit
def rounded(v, DTYPE: tl.constexpr):
    """`v` rounded to DTYPE, to nearest even."""
    # The interpreter cuts bfloat16 off where a GPU rounds. Once rounded there is nothing left to cut off.
    if INTERPRETED and tl.bfloat16 == DTYPE:
        bits = v.to(tl.float32).to(tl.uint32, bitcast=True)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        v = tl.where(v == v, nearest, 0x7FC00000).to(tl.uint32).to(tl.float32, bitcast=True)
    return v.to(DTYPE)


# Whether kernels run in Triton's interpreter, on CPU tensors: TRITON_INTERPRET at the time they are defined.
INTERPRETED = tl.constexpr(not isinstance(rounded, triton.JITFunction))


@triton.jit
def load_parameter(
    ptr,
    cols,
    OFFSET: tl.constexpr,
    STEPWISE: tl.constexpr,
    ACC: tl.constexpr,
    N: tl.constexpr,
    ROWS: tl.constexpr,
):
    """OFFSET + the parameter at `cols`, (ROWS, block) in ACC; if STEPWISE rounded to its own dtype on the way.

    The same for every row, and yet loaded for every row: so each thread loads the columns that it holds of the rows,
    instead of having them handed over by others through shared memory.
    """
    at = cols[None, :] + tl.zeros([ROWS, 1], tl.int32)
    parameter = tl.load(ptr + at, mask=at < N, other=0.0, eviction_policy="evict_last")
    value = parameter.to(ACC)
    if OFFSET != 0:
        value += OFFSET
        if STEPWISE:
            value = rounded(value, parameter.dtype).to(ACC)
    return value


@triton.jit
def load_rows(ptr, at, mask, ACC: tl.constexpr):
    """A tile in ACC, 0 where masked. It is read once, so it need not stay in the cache."""
    return tl.load(ptr + at, mask=mask, other=0.0, eviction_policy="evict_first").to(ACC)
