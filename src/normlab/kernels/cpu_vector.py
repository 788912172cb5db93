"""A few columns of a few rows at a time: the values that the CPU kernels are written in, for Numba.

A `Tile` is some rows of some lanes of float32 or float64; a `Column` is one float64 for each of these rows. Both are
LLVM vectors: 16 lanes of float32 are one 512-bit register, two of 256 bits or four of 128, whatever the machine has.
Every operation is the IEEE operation lane by lane, and nothing is reassociated or contracted behind the program's
back, so that the bits of a result are the same on every processor, and the same for a row that is alone in its tile.

A `Shape` says how many rows and lanes, and in which order the lanes hold the columns. `paired` is for bfloat16: first
the even columns, then the odd ones, because a register of 32 such numbers becomes two of float32 by one shift and
one mask. Here are the types and the arithmetic; `cpu_memory` loads and stores. Both modules are loaded only where a
kernel is compiled.
"""

import operator
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.core.imputils import lower_constant
from numba.core.typing import templates
from numba.extending import lower_builtin, models, typeof_impl

# In compiled code an intrinsic is called without the typing context that its Python function begins with.
intrinsic: Any = extending.intrinsic
register_model: Any = extending.register_model
_infer_global: Any = templates.infer_global
F32, F64 = types.float32, types.float64
LLVM = {F32: ir.FloatType(), F64: ir.DoubleType()}
I32, I64 = ir.IntType(32), ir.IntType(64)


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a Tile: rows, lanes of a row, and whether these are the even columns, then the odd ones."""

    rows: int
    width: int
    paired: bool = False


class ShapeType(types.Opaque):
    """A Shape is known to the compiler, as a type; nothing of it is left in the code."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        super().__init__(name=repr(shape))


register_model(ShapeType)(models.OpaqueModel)


@typeof_impl.register(Shape)
def _typeof_shape(value, c):
    return ShapeType(value)


@lower_constant(ShapeType)
def _shape_constant(context, builder, kind, value):
    return context.get_dummy_value()


class Lanes(types.Type):
    """The Numba type of a Tile of `dtype`, float32 or float64; a Column is one lane wide."""

    def __init__(self, dtype: types.Float, shape: Shape) -> None:
        self.dtype, self.shape, self.rows = dtype, shape, shape.rows
        super().__init__(name=f"Lanes({dtype}, {shape})")


def Column(rows: int) -> Lanes:
    """The Numba type of one float64 a row."""
    return Lanes(F64, Shape(rows, 1))


def vector(element: ir.Type, count: int) -> ir.VectorType:
    """The LLVM type of a vector."""
    return ir.VectorType(element, count)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, vector(LLVM[fe_type.dtype], fe_type.rows * fe_type.shape.width))


class _Elementwise(templates.AbstractTemplate):
    def generic(self, args, kws):
        a, b = args
        return templates.signature(a, a, a) if isinstance(a, Lanes) and a == b else None


def _operator(function, instruction):
    _infer_global(function)(type(function.__name__, (_Elementwise,), {"key": function}))

    @lower_builtin(function, Lanes, Lanes)
    def lower(context, builder, sig, args):
        return getattr(builder, instruction)(*args)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
_operator(operator.truediv, "fdiv")


def call_llvm(builder, name, result, args):
    """A call of an LLVM intrinsic, whose name ends in the type of its result."""
    suffix = f"v{result.count}f{32 if result.element == LLVM[F32] else 64}"
    kinds = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kinds, f"llvm.{name}.{suffix}"), args)


def pick(builder, value, indices):
    """The lanes at these indices."""
    return builder.shuffle_vector(value, value, ir.Constant(vector(I32, len(indices)), list(indices)))


def splat(builder, scalar, count):
    """A scalar in every lane."""
    one = builder.insert_element(ir.Constant(vector(scalar.type, 1), ir.Undefined), scalar, I32(0))
    return pick(builder, one, [0] * count)


def stack(builder, values):
    """Vectors one after another in one."""
    whole = values[0]
    for value in values[1:]:
        if whole.type.count != value.type.count:  # three of four
            value = pick(builder, value, [*range(value.type.count), *[0] * (whole.type.count - value.type.count)])
            count = whole.type.count + values[0].type.count
        else:
            count = 2 * whole.type.count
        whole = builder.shuffle_vector(whole, value, ir.Constant(vector(I32, count), list(range(count))))
    return whole


def rows_of(builder, value, rows):
    """The rows of a tile, each a vector."""
    width = value.type.count // rows
    return [pick(builder, value, range(r * width, (r + 1) * width)) for r in range(rows)]


@intrinsic
def tile(typingctx, shape, dtype, scalar):
    """A Tile with a float64 scalar, rounded to `dtype`, everywhere."""
    t, d = shape.shape, dtype.instance_type

    def generate(context, builder, sig, args):
        value = args[2] if d == F64 else builder.fptrunc(args[2], LLVM[d])
        return splat(builder, value, t.rows * t.width)

    return Lanes(d, t)(shape, dtype, F64), generate


@intrinsic
def column(typingctx, shape, scalar):
    """A Column with a float64 scalar in every row."""

    def generate(context, builder, sig, args):
        return splat(builder, args[1], shape.shape.rows)

    return Column(shape.shape.rows)(shape, F64), generate


@intrinsic
def across(typingctx, shape, dtype, numbers):
    """A Column's numbers, rounded to `dtype`, each in all columns of its row."""
    d, t = dtype.instance_type, shape.shape

    def generate(context, builder, sig, args):
        value = args[2] if d == F64 else builder.fptrunc(args[2], vector(LLVM[d], t.rows))
        return pick(builder, value, [r for r in range(t.rows) for _ in range(t.width)])

    return Lanes(d, t)(shape, dtype, numbers), generate


@intrinsic
def down(typingctx, shape, row):
    """A Tile of one row, repeated in every row."""
    t = shape.shape

    def generate(context, builder, sig, args):
        return pick(builder, args[1], list(range(t.width)) * t.rows)

    return Lanes(row.dtype, t)(shape, row), generate


@intrinsic
def retold(typingctx, shape, tile):
    """The same lanes, which are said to have another order."""

    def generate(context, builder, sig, args):
        return args[1]

    return Lanes(tile.dtype, shape.shape)(shape, tile), generate


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c with one rounding."""

    def generate(context, builder, sig, args):
        return call_llvm(builder, "fma", args[0].type, args)

    return a(a, a, a), generate


@intrinsic
def fma_rows(typingctx, a, b, row):
    """`row` + the sum over rows of a * b, one row after the other."""

    def generate(context, builder, sig, args):
        result = args[2]
        for x, y in zip(rows_of(builder, args[0], a.rows), rows_of(builder, args[1], a.rows), strict=True):
            result = call_llvm(builder, "fma", result.type, [x, y, result])
        return result

    return row(a, a, row), generate


@intrinsic
def add_rows(typingctx, a, row):
    """`row` + the sum over rows of a, one row after the other."""

    def generate(context, builder, sig, args):
        result = args[1]
        for x in rows_of(builder, args[0], a.rows):
            result = builder.fadd(result, x)
        return result

    return row(a, row), generate


@intrinsic
def negative(typingctx, value):
    """-value."""

    def generate(context, builder, sig, args):
        return builder.fneg(args[0])

    return value(value), generate


@intrinsic
def root(typingctx, value):
    """sqrt(value)."""

    def generate(context, builder, sig, args):
        return call_llvm(builder, "sqrt", args[0].type, args)

    return value(value), generate


@intrinsic
def total(typingctx, value):
    """The Column of the sums of a Tile's rows, in float64, added pairwise, always in the same order."""
    t = value.shape

    def generate(context, builder, sig, args):
        wide, width = args[0], t.width
        if value.dtype != F64:
            wide = builder.fpext(wide, vector(LLVM[F64], wide.type.count))
        while width > 1:
            half = width // 2
            low, high = ([r * width + k + i for r in range(t.rows) for i in range(half)] for k in (0, half))
            wide, width = builder.fadd(pick(builder, wide, low), pick(builder, wide, high)), half
        return wide

    return Column(t.rows)(value), generate


@intrinsic
def first_column(typingctx, value):
    """The Column of a Tile's first column."""
    t = value.shape

    def generate(context, builder, sig, args):
        found = pick(builder, args[0], range(0, t.rows * t.width, t.width))
        return found if value.dtype == F64 else builder.fpext(found, vector(LLVM[F64], t.rows))

    return Column(t.rows)(value), generate


@intrinsic
def in_all(typingctx, a, b):
    """Whether a <= b in every row of two Columns; not where one is NaN."""

    def generate(context, builder, sig, args):
        holds = builder.fcmp_ordered("<=", *args)
        result = builder.extract_element(holds, I32(0))
        for r in range(1, a.rows):
            result = builder.and_(result, builder.extract_element(holds, I32(r)))
        return result

    return types.boolean(a, a), generate


@intrinsic
def choose(typingctx, a, b, x, y):
    """x in the rows where a <= b, y in the others; all are Columns."""

    def generate(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<=", args[0], args[1]), args[2], args[3])

    return a(a, a, a, a), generate
