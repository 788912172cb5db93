"""The forward pass in Triton. For a row of n numbers, total = round(x + residual):

    m    = mean(total)                           0 for RMSNorm
    rstd = 1 / sqrt(mean((total - m)^2) + eps)
    y    = round((total - m) * rstd * (offset + weight) + bias)

A mean in float32 is off by rounding errors of the size of the row, not of its deviations, which for a row of mean
10,000 and deviation 1 is too much. So a row is shifted by a number s near its mean, and

    delta = mean(total - s),    m = s + delta,    mean((total - m)^2) = mean((total - s)^2) - delta^2

s is the rounded mean where a program holds the whole row, and the mean of its first chunk where it loops over k
chunks: the mean of a k-th of a row is within sqrt(k - 1) standard deviations of the row's, so the last difference
loses a factor of k at most, whatever the data.
"""

# Triton's language looks like Python, and a type checker that takes it for Python finds errors in it.
# pyright: reportMissingImports=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportCallIssue=false

import triton
import triton.language as tl

from normlab.kernels.gpu_rows import load_parameter, rounded


@triton.jit
def _load_total(x_ptr, residual_ptr, at, mask, POLICY: tl.constexpr, ACC: tl.constexpr):
    """round(x + residual), in x's dtype."""
    x = tl.load(x_ptr + at, mask=mask, other=0.0, eviction_policy=POLICY)
    if residual_ptr is not None:
        residual = tl.load(residual_ptr + at, mask=mask, other=0.0, eviction_policy=POLICY)
        x = rounded(x.to(ACC) + residual.to(ACC), x.dtype)
    return x


@triton.jit
def _rstd(v, EPS: tl.constexpr):
    """1 / sqrt(v + EPS), correctly rounded; in float32 Triton's own operators would flush subnormal numbers to 0."""
    if v.dtype == tl.float32:
        return tl.div_rn(1.0, tl.sqrt_rn(v + EPS))
    return 1.0 / tl.sqrt(v + EPS)


@triton.jit
def _affine(
    h, weight_ptr, bias_ptr, cols, OFFSET: tl.constexpr, STEPWISE: tl.constexpr, DTYPE: tl.constexpr, N: tl.constexpr
):
    """h * (OFFSET + weight) + bias in DTYPE: rounded once, or if STEPWISE after every step."""
    if STEPWISE:
        h = rounded(h, DTYPE).to(h.dtype)
    if weight_ptr is not None:
        h = h * load_parameter(weight_ptr, cols, OFFSET, STEPWISE, h.dtype, N, h.shape[0])
        if STEPWISE:
            h = rounded(h, DTYPE).to(h.dtype)
    if bias_ptr is not None:
        h += load_parameter(bias_ptr, cols, 0.0, False, h.dtype, N, h.shape[0])
    return rounded(h, DTYPE)


@triton.jit
def _store_stats(stats_ptr, row, rows, shift, delta, rstd, CENTER: tl.constexpr):
    """rstd, or mean and rstd; the mean as a sum in float64, so that the backward pass can undo the shift."""
    if CENTER:
        tl.store(stats_ptr + 2 * row, shift.to(tl.float64) + delta.to(tl.float64), mask=row < rows)
        tl.store(stats_ptr + 2 * row + 1, rstd.to(tl.float64), mask=row < rows)
    else:
        tl.store(stats_ptr + row, rstd.to(tl.float64), mask=row < rows)


@triton.jit(do_not_specialize=["rows"])
def forward_rows(
    x_ptr,
    residual_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    total_ptr,
    stats_ptr,
    rows,
    N: tl.constexpr,
    EPS: tl.constexpr,
    OFFSET: tl.constexpr,
    CENTER: tl.constexpr,
    STEPWISE: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """ROWS whole rows a program, each read once."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    cols = tl.arange(0, BLOCK)
    inside = (cols < N)[None, :]
    mask = (row < rows)[:, None] & inside
    at = row[:, None] * N + cols[None, :]
    x = _load_total(x_ptr, residual_ptr, at, mask, "evict_first", ACC)
    if residual_ptr is not None:
        tl.store(total_ptr + at, x, mask=mask)
    c = x.to(ACC)
    shift = tl.zeros([ROWS], ACC)
    delta = tl.zeros([ROWS], ACC)
    if CENTER:
        shift = tl.sum(c, 1) * (1.0 / N)
        c = tl.where(inside, c - shift[:, None], 0.0)
        delta = tl.sum(c, 1) * (1.0 / N)
    v = tl.sum(c * c, 1) * (1.0 / N)
    if CENTER:
        c -= delta[:, None]
        v -= delta * delta
        v = tl.where(v < 0, 0.0, v)
    rstd = _rstd(v, EPS)
    y = _affine(c * rstd[:, None], weight_ptr, bias_ptr, cols, OFFSET, STEPWISE, y_ptr.dtype.element_ty, N)
    tl.store(y_ptr + at, y, mask=mask)
    _store_stats(stats_ptr, row, rows, shift, delta, rstd, CENTER)


@triton.jit(do_not_specialize=["rows"])
def forward_looped(
    x_ptr,
    residual_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    total_ptr,
    stats_ptr,
    rows,
    N: tl.constexpr,
    EPS: tl.constexpr,
    OFFSET: tl.constexpr,
    CENTER: tl.constexpr,
    STEPWISE: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One row a program, ROWS = 1, in chunks of BLOCK: read for its statistics, and again to be normalized."""
    row = tl.program_id(0).to(tl.int64) + tl.arange(0, ROWS)
    start_of_row = row[:, None] * N
    shift = tl.zeros([ROWS], ACC)
    if CENTER:
        # A looped row is longer than a chunk, so the first one is full.
        at = start_of_row + tl.arange(0, BLOCK)[None, :]
        x = _load_total(x_ptr, residual_ptr, at, at >= 0, "evict_last", ACC)
        shift = tl.sum(x.to(ACC), 1) * (1.0 / BLOCK)

    sums = tl.zeros([ROWS, BLOCK], ACC)
    squares = tl.zeros([ROWS, BLOCK], ACC)
    for start in range(0, N, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        inside = (cols < N)[None, :]
        at = start_of_row + cols[None, :]
        x = _load_total(x_ptr, residual_ptr, at, inside, "evict_last", ACC)
        if residual_ptr is not None:
            tl.store(total_ptr + at, x, mask=inside)
        c = x.to(ACC)
        if CENTER:
            c = tl.where(inside, c - shift[:, None], 0.0)
            sums += c
        squares += c * c
    delta = tl.sum(sums, 1) * (1.0 / N)
    v = tl.sum(squares, 1) * (1.0 / N) - delta * delta
    v = tl.where(v < 0, 0.0, v)
    rstd = _rstd(v, EPS)
    _store_stats(stats_ptr, row, rows, shift, delta, rstd, CENTER)

    for start in range(0, N, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        inside = (cols < N)[None, :]
        at = start_of_row + cols[None, :]
        # Added anew rather than read back: what other threads have stored need not be visible yet.
        c = _load_total(x_ptr, residual_ptr, at, inside, "evict_first", ACC).to(ACC)
        if CENTER:
            c = (c - shift[:, None]) - delta[:, None]
        y = _affine(c * rstd[:, None], weight_ptr, bias_ptr, cols, OFFSET, STEPWISE, y_ptr.dtype.element_ty, N)
        tl.store(y_ptr + at, y, mask=inside)
