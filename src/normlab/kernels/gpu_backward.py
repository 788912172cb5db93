"""The backward pass in Triton. With g = offset + weight, for a row of n numbers with the statistics m and rstd:

    h  = (x - m) * rstd,    u = dy * g
    dx = rstd * (u - c1 - h * c2) + dtotal,    c1 = mean(u) (0 for RMSNorm),    c2 = mean(u * h)
    dweight = sum over rows of dy * h,    dbias = sum over rows of dy

A program takes a chunk of columns (the whole row, if it fits) of every P-th tile of rows, and keeps the sums over
its rows in registers; a second kernel adds the sums of the P programs, in their order. P depends on the shape alone,
so the bits are the same for every GPU and every run. The two sums of a row, c1 and c2, come from

    whole     the program itself, which holds the row: x and dy are read once;
    halves    the program itself, which reads the other half of the row too. The program of that half runs beside it,
              so what one fetches from memory the other finds in the GPU's cache;
    chunks    a kernel that has gone over the rows before.
"""

# Triton's language looks like Python, and a type checker that takes it for Python finds errors in it.
# pyright: reportMissingImports=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportCallIssue=false

import triton
import triton.language as tl

from normlab.kernels.gpu_rows import load_parameter, load_rows, rounded


@triton.jit
def _load_stats(stats_ptr, row, valid, CENTER: tl.constexpr, ACC: tl.constexpr):
    """The mean as the sum of two numbers in ACC, and rstd. 0 for rows that do not exist."""
    if CENTER:
        mean = tl.load(stats_ptr + 2 * row, mask=valid, other=0.0)
        rstd = tl.load(stats_ptr + 2 * row + 1, mask=valid, other=0.0)
    else:
        mean = tl.zeros_like(row).to(tl.float64)
        rstd = tl.load(stats_ptr + row, mask=valid, other=0.0)
    high = mean.to(ACC)
    low = (mean - high.to(tl.float64)).to(ACC)
    return high, low, rstd.to(ACC)


@triton.jit
def _normalized(x, high, low, rstd, CENTER: tl.constexpr):
    """h = (x - mean) * rstd."""
    if CENTER:
        x = (x - high[:, None]) - low[:, None]
    return x * rstd[:, None]


@triton.jit
def _row_sums(u, h, CENTER: tl.constexpr):
    """(sum of u, sum of u * h) for every row; the first is 0 for RMSNorm."""
    both = tl.sum(u * h, 1)
    return tl.sum(u, 1) if CENTER else tl.zeros_like(both), both


@triton.jit(do_not_specialize=["rows"])
def backward_rows(
    dy_ptr,
    dtotal_ptr,
    x_ptr,
    weight_ptr,
    stats_ptr,
    means_ptr,
    dx_ptr,
    dweights_ptr,
    dbiases_ptr,
    rows,
    N: tl.constexpr,
    OFFSET: tl.constexpr,
    CENTER: tl.constexpr,
    STEPWISE: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
    KEEP_SCALE: tl.constexpr,
    STAGES: tl.constexpr,
):
    """dx, and this program's sums for dweight and dbias, for one of SPLITS chunks of columns."""
    chunk = tl.program_id(0)
    program = tl.program_id(1).to(tl.int64)
    cols = chunk * BLOCK + tl.arange(0, BLOCK)
    inside = (cols < N)[None, :]
    dweight = tl.zeros([ROWS, BLOCK], ACC)
    dbias = tl.zeros([ROWS, BLOCK], ACC)
    if weight_ptr is not None and KEEP_SCALE:
        scale = load_parameter(weight_ptr, cols, OFFSET, STEPWISE, ACC, N, ROWS)
    # In 64 bits, because cdiv adds to its argument.
    tiles = tl.cdiv(rows.to(tl.int64), ROWS)
    for tile in tl.range(program, tiles, tl.num_programs(1), num_stages=STAGES):
        row = tile * ROWS + tl.arange(0, ROWS)
        valid = row < rows
        mask = valid[:, None] & inside
        at = row[:, None] * N + cols[None, :]
        x = load_rows(x_ptr, at, mask, ACC)
        dy = load_rows(dy_ptr, at, mask, ACC)
        high, low, rstd = _load_stats(stats_ptr, row, valid, CENTER, ACC)
        h = _normalized(x, high, low, rstd, CENTER)
        if dweights_ptr is not None:
            dweight += dy * h
        if dbiases_ptr is not None:
            dbias += dy
        u = dy
        if weight_ptr is not None:
            if not KEEP_SCALE:
                scale = load_parameter(weight_ptr, cols, OFFSET, STEPWISE, ACC, N, ROWS)
            u = dy * scale

        if means_ptr is not None:
            c1 = tl.load(means_ptr + 2 * row, mask=valid, other=0.0)
            c2 = tl.load(means_ptr + 2 * row + 1, mask=valid, other=0.0)
        else:
            c1, c2 = _row_sums(u, h, CENTER)
            for k in tl.static_range(1, SPLITS):
                others = ((chunk + k) % SPLITS) * BLOCK + tl.arange(0, BLOCK)
                other_mask = valid[:, None] & (others < N)[None, :]
                other_at = row[:, None] * N + others[None, :]
                other_h = _normalized(load_rows(x_ptr, other_at, other_mask, ACC), high, low, rstd, CENTER)
                other_u = load_rows(dy_ptr, other_at, other_mask, ACC)
                if weight_ptr is not None:
                    other_u *= load_parameter(weight_ptr, others, OFFSET, STEPWISE, ACC, N, ROWS)
                more1, more2 = _row_sums(other_u, other_h, CENTER)
                c1 += more1
                c2 += more2
            c1 *= 1.0 / N
            c2 *= 1.0 / N

        dx = u - h * c2[:, None]
        if CENTER:
            dx -= c1[:, None]
        dx *= rstd[:, None]
        if dtotal_ptr is not None:
            dx += load_rows(dtotal_ptr, at, mask, ACC)
        tl.store(dx_ptr + at, rounded(dx, dx_ptr.dtype.element_ty), mask=mask)

    to = program * N + cols
    if dweights_ptr is not None:
        tl.store(dweights_ptr + to, tl.sum(dweight, 0), mask=cols < N)
    if dbiases_ptr is not None:
        tl.store(dbiases_ptr + to, tl.sum(dbias, 0), mask=cols < N)


@triton.jit
def row_means(
    dy_ptr,
    x_ptr,
    weight_ptr,
    stats_ptr,
    means_ptr,
    N: tl.constexpr,
    OFFSET: tl.constexpr,
    CENTER: tl.constexpr,
    STEPWISE: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """c1 and c2 of one row a program, ROWS = 1, in chunks of BLOCK columns: means is (rows, 2)."""
    row = tl.program_id(0).to(tl.int64) + tl.arange(0, ROWS)
    high, low, rstd = _load_stats(stats_ptr, row, row >= 0, CENTER, ACC)
    sums1 = tl.zeros([ROWS, BLOCK], ACC)
    sums2 = tl.zeros([ROWS, BLOCK], ACC)
    for start in range(0, N, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        inside = (cols < N)[None, :]
        at = row[:, None] * N + cols[None, :]
        h = _normalized(load_rows(x_ptr, at, inside, ACC), high, low, rstd, CENTER)
        u = load_rows(dy_ptr, at, inside, ACC)
        if weight_ptr is not None:
            u *= load_parameter(weight_ptr, cols, OFFSET, STEPWISE, ACC, N, ROWS)
        sums1 += u
        sums2 += u * h
    tl.store(means_ptr + 2 * row, tl.sum(sums1, 1) * (1.0 / N))
    tl.store(means_ptr + 2 * row + 1, tl.sum(sums2, 1) * (1.0 / N))


@triton.jit
def _sum_columns(parts_ptr, out_ptr, programs, cols, N: tl.constexpr, ROWS: tl.constexpr, ACC: tl.constexpr):
    """out = the sum over the rows of parts, (programs, N), at `cols`."""
    total = tl.zeros([ROWS, cols.shape[0]], ACC)
    for start in range(0, programs, ROWS):
        row = start + tl.arange(0, ROWS)
        mask = (row < programs)[:, None] & (cols < N)[None, :]
        total += tl.load(parts_ptr + row.to(tl.int64)[:, None] * N + cols[None, :], mask=mask, other=0.0)
    tl.store(out_ptr + cols, rounded(tl.sum(total, 0), out_ptr.dtype.element_ty), mask=cols < N)


@triton.jit(do_not_specialize=["programs"])
def sum_programs(
    dweights_ptr,
    dbiases_ptr,
    dweight_ptr,
    dbias_ptr,
    programs,
    N: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """dweight and dbias, each the sum of the programs' sums, for BLOCK columns a program."""
    cols = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if dweights_ptr is not None:
        _sum_columns(dweights_ptr, dweight_ptr, programs, cols, N, ROWS, ACC)
    if dbiases_ptr is not None:
        _sum_columns(dbiases_ptr, dbias_ptr, programs, cols, N, ROWS, ACC)
