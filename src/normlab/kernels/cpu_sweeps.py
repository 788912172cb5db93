"""What the forward and the backward kernel share: going over some rows, 64 bytes of each at a time.

A sum over a row is one partial sum a lane over a piece of DEPTH tiles, the lanes added pairwise, then the pieces in
float64. That keeps long rows as accurate as short ones.

The mean is kept as hi + lo, two numbers of the dtype that one computes in. (x - hi) - lo then has all digits even
where the mean is many times the standard deviation. For half precision, whose own digits end long before, and for
float64, whose mean has no more digits, hi alone is as good.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numba

from normlab.kernels.cpu_memory import (
    BF16,
    F32,
    F64,
    SIZE,
    first,
    keep,
    load,
    load_first,
    rounded,
    store,
    store_first,
    stream,
)
from normlab.kernels.cpu_vector import Shape, across, choose, column, down, first_column, fma, in_all, tile, total

DEPTH = 128
# Deviations are taken from the mean of a row's first tile. Where that is further from the row's mean than so many
# standard deviations (the square), the difference of the two sums would cost digits: they are taken again.
FAR = 1.0

_njit: Any = numba.njit
inlined: Callable[..., Any] = _njit(forceinline=True, error_model="numpy", no_cpython_wrapper=True, nogil=True)


class Types(NamedTuple):
    """The types of a kernel for elements E.

    Attributes:
        E: the element type of x.
        A: the dtype that one computes in.
        MANY, ONE: tiles of several rows and of one.
        LANES: columns of a tile.
    """

    E: Any
    A: Any
    MANY: Shape
    ONE: Shape
    LANES: int


def types_of(E: Any, together: int) -> Types:
    """The types of a kernel for elements E that takes so many rows together."""
    lanes, paired = 64 // SIZE[E], E is BF16
    return Types(E, F64 if E is F64 else F32, Shape(together, lanes, paired), Shape(1, lanes, paired), lanes)


class Sweeps(NamedTuple):
    """Compiled functions over rows, for one element type and norm.

    In their arguments R is the shape of a tile, `stride` the bytes from row to row, j a column, and `count` says how
    many columns are left there: None where a whole tile is.

    Attributes:
        fetch: (R, T, address, stride, j, count) -> the next elements, of type T.
        put: (T, address, stride, j, tile, count, streaming): write them; `streaming` past the caches.
        centred: (x, hi, lo) -> x - mean for LayerNorm, x for RMSNorm.
        scale: (R, W, w, j, count, offset) -> offset + weight, repeated in every row.
        squares: (R, given, stride, n) -> mean(x^2) of each row.
        moments: (R, given, near, stride, n) -> (mean(x), mean((x - mean)^2)) of each row. `near` is the address of x
            once it has been gone over.

    `given` is the address of x, or (x, residual, total): then total = x + residual is written on the way, and summed
    in its place.
    """

    fetch: Any
    put: Any
    centred: Any
    scale: Any
    squares: Any
    moments: Any


def sweeps(kernel: Types, layer: bool, shifted: bool, cast: bool) -> Sweeps:
    """The functions. `shifted`: the spec has an offset; `cast`: offset + weight is rounded to x's type."""
    E, A, _, ONE, LANES = kernel
    PIECE = DEPTH * LANES
    exact = E is F32

    @inlined
    def fetch(R, T, address, stride, j, count):
        if count is None:
            return load(R, T, A, address, stride, j)
        return load_first(R, T, A, address, stride, j, count)

    @inlined
    def put(T, address, stride, j, value, count, streaming):
        if count is not None:
            store_first(T, address, stride, j, value, count)
        elif streaming:
            stream(T, address, stride, j, value)
        else:
            store(T, address, stride, j, value)

    @inlined
    def centred(x, hi, lo):
        if layer and exact:
            return (x - hi) - lo
        if layer:
            return x - hi
        return x

    @inlined
    def take_in(R, given, stride, j, count):
        """The next numbers that a statistic is taken of."""
        if not isinstance(given, tuple):
            return fetch(R, E, given, stride, j, count)
        x, residual, both = given
        added = fetch(R, E, x, stride, j, count) + fetch(R, E, residual, stride, j, count)
        if count is None:
            return keep(E, both, stride, j, added)
        store_first(E, both, stride, j, added, count)
        return rounded(E, added)

    @inlined
    def peek(R, given, stride, count):
        """A row's first numbers, without going over them."""
        if not isinstance(given, tuple):
            return fetch(R, E, given, stride, 0, count)
        return fetch(R, E, given[0], stride, 0, count) + fetch(R, E, given[1], stride, 0, count)

    @inlined
    def scale(R, W, w, j, count, offset):
        g = fetch(ONE, W, w, 0, j, count)
        if shifted:
            g = g + offset
            if cast:
                g = rounded(E, g)
        return down(R, g)

    @inlined
    def squares(R, given, stride, n):
        result = column(R, 0.0)
        for start in range(0, n, PIECE):
            end = min(start + PIECE, n)
            main = end - (end - start) % LANES
            acc = tile(R, A, 0.0)
            for j in range(start, main, LANES):
                v = take_in(R, given, stride, j, None)
                acc = fma(v, v, acc)
            if main < end:
                # Beyond the end x is 0.
                v = take_in(R, given, stride, main, end - main)
                acc = fma(v, v, acc)
            result = result + total(acc)
        return result / column(R, float(n))

    @inlined
    def about(R, given, stride, n, point):
        """(mean(c), mean(c^2) - mean(c)^2) of each row, c = x - point."""
        sum_c = sum_cc = column(R, 0.0)
        for start in range(0, n, PIECE):
            end = min(start + PIECE, n)
            main = end - (end - start) % LANES
            a = b = tile(R, A, 0.0)
            for j in range(start, main, LANES):
                c = take_in(R, given, stride, j, None) - point
                a, b = a + c, fma(c, c, b)
            if main < end:
                # Beyond the end x is 0, and c is not.
                c = first(take_in(R, given, stride, main, end - main) - point, end - main)
                a, b = a + c, fma(c, c, b)
            sum_c, sum_cc = sum_c + total(a), sum_cc + total(b)
        length = column(R, float(n))
        mean = sum_c / length
        return mean, sum_cc / length - mean * mean

    @inlined
    def moments(R, given, near, stride, n):
        few = min(n, LANES)
        point = across(R, A, total(peek(R, given, stride, few)) / column(R, float(few)))
        mean, variance = about(R, given, stride, n, point)
        mean_found, distance, limit = first_column(point) + mean, mean * mean, column(R, FAR) * variance
        if in_all(distance, limit):
            return mean_found, variance
        point = across(R, A, mean_found)
        mean, variance_again = about(R, near, stride, n, point)
        mean = first_column(point) + mean
        return choose(distance, limit, mean_found, mean), choose(distance, limit, variance, variance_again)

    return Sweeps(fetch, put, centred, scale, squares, moments)
