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
from normlab.kernels.cpu_vector import Shape, column, down, fma, tile, total

DEPTH = 128

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
        sums: (R, given, stride, n) -> sum(x) of each row.
        squares: (R, given, stride, n, hi, lo) -> sum((x - mean)^2) of each row.

    `given` is the address of x, or (x, residual, total): then total = x + residual is written on the way, and summed
    in its place.
    """

    fetch: Any
    put: Any
    centred: Any
    scale: Any
    sums: Any
    squares: Any


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
    def scale(R, W, w, j, count, offset):
        g = fetch(ONE, W, w, 0, j, count)
        if shifted:
            g = g + offset
            if cast:
                g = rounded(E, g)
        return down(R, g)

    @inlined
    def sums(R, given, stride, n):
        result = column(R, 0.0)
        for start in range(0, n, PIECE):
            end = min(start + PIECE, n)
            main = end - (end - start) % LANES
            acc = tile(R, A, 0.0)
            for j in range(start, main, LANES):
                acc = acc + take_in(R, given, stride, j, None)
            if main < end:
                acc = acc + take_in(R, given, stride, main, end - main)
            result = result + total(acc)
        return result

    @inlined
    def squares(R, given, stride, n, hi, lo):
        result = column(R, 0.0)
        for start in range(0, n, PIECE):
            end = min(start + PIECE, n)
            main = end - (end - start) % LANES
            acc = tile(R, A, 0.0)
            for j in range(start, main, LANES):
                v = centred(take_in(R, given, stride, j, None), hi, lo)
                acc = fma(v, v, acc)
            if main < end:
                # Beyond the end x is 0, and x - mean is not.
                v = first(centred(take_in(R, given, stride, main, end - main), hi, lo), end - main)
                acc = fma(v, v, acc)
            result = result + total(acc)
        return result

    return Sweeps(fetch, put, centred, scale, sums, squares)
