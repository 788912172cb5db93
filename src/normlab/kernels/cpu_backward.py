"""The backward kernel of the CPU: dx, dweight and dbias in one pass over x and dy.

With c = x - mean and s = rstd, so that h = c * s, the formulas of `fused` become

    e  = dy * s
    dx = e * g - s * mean(dy * g) - s^3 * mean(dy * g * c) * c + dtotal,     g = offset + weight
    dweight = sum over rows of e * c

which takes a third fewer multiplications; s * mean(...) and s^3 * mean(...) are computed once a row, in float64.

dweight and dbias are summed over blocks of rows, whose size depends on the shape alone; a thread takes a block at a
time, and the one that finishes the last block adds the blocks up in their order, in float64. So their bits are the
same on any number of threads.
"""

from collections.abc import Callable
from typing import Any

from normlab.kernels.cpu_args import BACKWARD
from normlab.kernels.cpu_memory import (
    F64,
    SIZE,
    address_of,
    fence,
    load,
    load_column,
    load_first,
    prefetch,
    real,
    rounded,
    store,
    store_first,
    take,
    word,
)
from normlab.kernels.cpu_sweeps import DEPTH, inlined, sweeps, types_of
from normlab.kernels.cpu_vector import Shape, across, add_rows, column, fma, fma_rows, negative, retold, tile, total

(
    NEXT, DONE, ROWS, N, BLOCK, CHUNK, STREAMING, DY, DTOTAL, X, WEIGHT, STATS, DX, PARTIAL, DWEIGHT, DBIAS, OFFSET,
) = range(len(BACKWARD))  # fmt: skip


# Bytes of rows that go one at a time (least, most), by the size of an element, and how far ahead these are fetched.
# Several of them, with the sums for dweight, are more than the nearest cache holds. Where one row of float32 is more
# than that as well, several are better again: they share the loads of the weight and of the sums.
ALONE = {2: (1 << 13, 1 << 62), 4: (3 << 10, 1 << 13), 8: (1, 0)}
FAR = 5


def backward(E: Any, W: Any, B: Any, *, layer: bool, add: bool, shifted: bool, cast: bool, together: int) -> Callable:
    """The body of a backward kernel. `add`: a gradient of the sum is added to dx; the rest as in `cpu_forward`."""
    kernel = types_of(E, together)
    _, A, MANY, ONE, LANES = kernel
    fetch, put, centred, scale, _, _ = sweeps(kernel, layer, shifted, cast)
    weighted, biased = W is not None, B is not None
    W, B = W or E, B or E
    COUNT, SIZE_E, SIZE_A, SIZE_STATS = MANY.rows, SIZE[E], SIZE[A], 16 if layer else 8
    PIECE = DEPTH * LANES
    LEAST, MOST = ALONE[SIZE_E]
    # The partial sums keep the lanes in the order in which they come.
    PLAIN = Shape(1, LANES)

    @inlined
    def scaled(R, d, w, j, count, offset):
        """d * (offset + weight)."""
        if weighted:
            return d * scale(R, W, w, j, count, offset)
        return d

    @inlined
    def means(R, x, dy, w, stride, n, hi, lo, offset):
        """(mean(u), mean(u * c)) of each row, u = dy * g."""
        sum_u = sum_uc = column(R, 0.0)
        for start in range(0, n, PIECE):
            end = min(start + PIECE, n)
            main = end - (end - start) % LANES
            a = b = tile(R, A, 0.0)
            for j in range(start, main, LANES):
                u = scaled(R, load(R, E, A, dy, stride, j), w, j, None, offset)
                a, b = a + u, fma(u, centred(load(R, E, A, x, stride, j), hi, lo), b)
            if main < end:
                rest = end - main
                # u is 0 beyond the end.
                u = scaled(R, load_first(R, E, A, dy, stride, main, rest), w, main, rest, offset)
                a, b = a + u, fma(u, centred(load_first(R, E, A, x, stride, main, rest), hi, lo), b)
            sum_u, sum_uc = sum_u + total(a), sum_uc + total(b)
        length = column(R, float(n))
        return sum_u / length, sum_uc / length

    @inlined
    def partial_sum(partial, j, fresh):
        """What a block's rows have added up to so far, for a tile."""
        return tile(ONE, A, 0.0) if fresh else retold(ONE, load(PLAIN, A, A, partial, 0, j))

    @inlined
    def columns(R, at, stride, j, count, fresh, streaming, row):
        """Write dx of a tile, and add its rows to dweight and dbias."""
        x, dy, dt, dx, w, dw, db = at
        hi, lo, s, shift, slope, offset = row
        c = centred(fetch(R, E, x, stride, j, count), hi, lo)
        d = fetch(R, E, dy, stride, j, count)
        e = d * s
        u = scaled(R, e, w, j, count, offset)
        if layer:
            u = u - shift
        gradient = fma(negative(slope), c, u)
        if add:
            gradient = gradient + fetch(R, E, dt, stride, j, count)
        put(E, dx, stride, j, gradient, count, streaming)
        if weighted:
            store(A, dw, 0, j, retold(PLAIN, fma_rows(e, c, partial_sum(dw, j, fresh))))
        if biased:
            store(A, db, 0, j, retold(PLAIN, add_rows(d, partial_sum(db, j, fresh))))

    @inlined
    def rows_from(R, p, row, dw, db, fresh, streaming, ahead):
        """As many rows as a tile of shape R has; `fresh`: they are the first of their block. The rows that are `ahead`
        so many are fetched."""
        n = word(p, N)
        stride, at = n * SIZE_E, row * n * SIZE_E
        x, dy, w = word(p, X) + at, word(p, DY) + at, word(p, WEIGHT)
        offset = tile(ONE, A, real(p, OFFSET))
        stats = word(p, STATS) + row * SIZE_STATS
        hi = lo = tile(R, A, 0.0)
        if layer:
            mean = load_column(R, stats, SIZE_STATS)
            hi, lo = across(R, A, mean), across(R, A, mean - rounded(A, mean))
        rstd = load_column(R, stats + SIZE_STATS - 8, SIZE_STATS)
        mean_u, mean_uc = means(R, x, dy, w, stride, n, hi, lo, offset)
        shift, slope = across(R, A, rstd * mean_u), across(R, A, rstd * rstd * rstd * mean_uc)
        addresses = (x, dy, word(p, DTOTAL) + at, word(p, DX) + at, w, dw, db)
        numbers = (hi, lo, across(R, A, rstd), shift, slope, offset)
        main = n - n % LANES
        for j in range(0, main, LANES):
            columns(R, addresses, stride, j, None, fresh, streaming, numbers)
            # The next rows, which the processor would look for only when these are done.
            prefetch(R, E, x + ahead * stride, stride, j)
            prefetch(R, E, dy + ahead * stride, stride, j)
            if add:
                prefetch(R, E, word(p, DTOTAL) + at + ahead * stride, stride, j)
        if main < n:
            columns(R, addresses, stride, main, n - main, fresh, streaming, numbers)

    @inlined
    def add_blocks(P, partial, out, n, padded, blocks):
        """out, of element type P, = the sum over the blocks' partial sums, (blocks, padded)."""
        for j in range(0, n, LANES):
            acc = tile(PLAIN, F64, 0.0)
            for i in range(blocks):
                acc = acc + load(PLAIN, A, F64, partial, 0, i * padded + j)
            store_first(P, out, 0, j, retold(ONE, acc), min(LANES, n - j))

    def body(arguments):
        p = address_of(arguments)
        rows, n, block, streaming = word(p, ROWS), word(p, N), word(p, BLOCK), word(p, STREAMING) != 0
        chunk = word(p, CHUNK)
        blocks = (rows + block - 1) // block
        padded = (n + LANES - 1) // LANES * LANES
        # Blocks of dweight, then those of dbias.
        all_dw = word(p, PARTIAL)
        all_db = all_dw + blocks * padded * SIZE_A if weighted else all_dw
        several = not LEAST <= n * SIZE_E <= MOST
        while True:
            i = take(p, NEXT, chunk)
            if i >= blocks:
                break
            after = min(i + chunk, blocks)
            for block_i in range(i, after):
                at = block_i * padded * SIZE_A
                dw, db = all_dw + at, all_db + at
                start, end = block_i * block, min((block_i + 1) * block, rows)
                row = start
                while several and row + COUNT <= end:
                    rows_from(MANY, p, row, dw, db, row == start, streaming, COUNT)
                    row += COUNT
                while row < end:
                    rows_from(ONE, p, row, dw, db, row == start, streaming, FAR)
                    row += 1
            fence()
            if take(p, DONE, after - i) + after - i == blocks:
                if weighted:
                    add_blocks(W, all_dw, word(p, DWEIGHT), n, padded, blocks)
                if biased:
                    add_blocks(B, all_db, word(p, DBIAS), n, padded, blocks)

    return body
