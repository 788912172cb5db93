"""The forward kernel of the CPU: RMSNorm or LayerNorm over rows, by the formulas of `fused`.

`forward` makes the body of a kernel for one combination of element types and options. A body gets the address of its
arguments (`cpu_args` names the words) and works until no rows are left: every thread that runs it takes the next few
rows by adding to the word `next`, so that one thread or twenty can share the work, and nobody waits for a slow one.
Rows go several at a time, which hides the latency of the sums and shares the loads of the weight.

A row is computed by the same operations whoever takes it, alone or as one of several.
"""

from collections.abc import Callable
from typing import Any

from normlab.kernels.cpu_args import FORWARD
from normlab.kernels.cpu_memory import (
    SIZE,
    address_of,
    fence,
    prefetch,
    real,
    rounded,
    store_column,
    stream_copy,
    take,
    word,
)
from normlab.kernels.cpu_sweeps import inlined, sweeps, types_of
from normlab.kernels.cpu_vector import across, column, down, fma, root, tile

(
    NEXT, ROWS, N, CHUNK, STREAMING, WORKERS, X, RESIDUAL, WEIGHT, BIAS, Y, TOTAL, SCRATCH, STATS, EPS, OFFSET,
) = range(len(FORWARD))  # fmt: skip


def forward(E: Any, W: Any, B: Any, *, layer: bool, add: bool, shifted: bool, cast: bool, together: int) -> Callable:
    """The body of a forward kernel, a function of the address of its arguments.

    Args:
        E, W, B: element types of x, weight and bias; None where there is none.
        layer: LayerNorm; else RMSNorm.
        add: a residual is added first.
        shifted: the scale is offset + weight.
        cast: the normalized value, the scale and their product are rounded to x's type (scale_dtype "input").
        together: how many rows go together.
    """
    kernel = types_of(E, together)
    _, A, MANY, ONE, LANES = kernel
    fetch, put, centred, scale, squares, moments = sweeps(kernel, layer, shifted, cast)
    weighted, biased = W is not None, B is not None
    W, B = W or E, B or E
    COUNT, SIZE_E, SIZE_STATS = MANY.rows, SIZE[E], 16 if layer else 8

    @inlined
    def columns(R, x, w, b, y, stride, j, count, streaming, hi, lo, s, offset):
        """Write y of a tile."""
        h = centred(fetch(R, E, x, stride, j, count), hi, lo) * s
        if cast:
            h = rounded(E, h)
        if weighted:
            g = scale(R, W, w, j, count, offset)
            h = fma(h, g, down(R, fetch(ONE, B, b, 0, j, count))) if biased and not cast else h * g
        if biased and (cast or not weighted):
            if cast:
                h = rounded(E, h)
            h = h + down(R, fetch(ONE, B, b, 0, j, count))
        put(E, y, stride, j, h, count, streaming)

    @inlined
    def rows_from(R, p, row, streaming, scratch):
        """As many rows as a tile of shape R has."""
        n = word(p, N)
        stride, at = n * SIZE_E, row * n * SIZE_E
        x, w, b, y = word(p, X) + at, word(p, WEIGHT), word(p, BIAS), word(p, Y) + at
        t = word(p, TOTAL) + at
        if add:
            # The sum is read again at once. What goes past the caches at the end waits in memory that stays in them.
            near = scratch if streaming else t
            given = x, word(p, RESIDUAL) + at, near
            x = near
        else:
            given = x
        stats = word(p, STATS) + row * SIZE_STATS
        hi = lo = tile(R, A, 0.0)
        if layer:
            mean, v = moments(R, given, x, stride, n)
            hi, lo = across(R, A, mean), across(R, A, mean - rounded(A, mean))
            store_column(stats, SIZE_STATS, mean)
        else:
            v = squares(R, given, stride, n)
        rstd = column(R, 1.0) / root(v + column(R, real(p, EPS)))
        store_column(stats + SIZE_STATS - 8, SIZE_STATS, rstd)
        s, offset = across(R, A, rstd), tile(ONE, A, real(p, OFFSET))
        ahead = word(p, X) + at + COUNT * stride
        main = n - n % LANES
        for j in range(0, main, LANES):
            columns(R, x, w, b, y, stride, j, None, streaming, hi, lo, s, offset)
            if add and streaming:
                stream_copy(R, E, x, t, stride, j)
            # The next rows, which the processor would look for only when these are done.
            prefetch(R, E, ahead, stride, j)
            if add:
                prefetch(R, E, word(p, RESIDUAL) + at + COUNT * stride, stride, j)
        if main < n:
            columns(R, x, w, b, y, stride, main, n - main, streaming, hi, lo, s, offset)

    def body(arguments):
        p = address_of(arguments)
        rows, chunk, streaming = word(p, ROWS), word(p, CHUNK), word(p, STREAMING) != 0
        scratch = word(p, SCRATCH) + take(p, WORKERS, 1) * COUNT * word(p, N) * SIZE_E
        while True:
            row = take(p, NEXT, chunk)
            if row >= rows:
                break
            end = min(row + chunk, rows)
            while row + COUNT <= end:
                rows_from(MANY, p, row, streaming, scratch)
                row += COUNT
            while row < end:
                rows_from(ONE, p, row, streaming, scratch)
                row += 1
        fence()

    return body
