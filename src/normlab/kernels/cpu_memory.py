"""Between memory and the tiles of `cpu_vector`, for Numba: loads, stores and conversions.

Memory is an address and a stride in bytes from row to row (integers), an element type and a column. Element types are
Numba's float32 and float64, and for half precision, which Numba does not have, two integers of its width stand in:

    BF16 = uint16      FP16 = int16
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from normlab.kernels.cpu_vector import (
    F32,
    F64,
    I32,
    I64,
    LLVM,
    Column,
    Lanes,
    intrinsic,
    pick,
    rows_of,
    splat,
    stack,
    vector,
)

BF16, FP16 = types.uint16, types.int16
# By torch's names.
ELEMENTS = {"float32": F32, "float64": F64, "bfloat16": BF16, "float16": FP16}
SIZE = {F32: 4, F64: 8, FP16: 2, BF16: 2}
WORD = types.int64

I16 = ir.IntType(16)
IN_MEMORY = {**LLVM, FP16: ir.HalfType(), BF16: I16}


def _constant(element, count, value):
    return ir.Constant(vector(element, count), [value] * count)


def _widen(builder, stored, element, dtype, paired=False):
    """From the element type in memory, in the order of memory, to lanes of the dtype that one computes in."""
    count = stored.type.count
    wide = vector(IN_MEMORY[dtype], count)
    if element == BF16 and paired:
        pairs = builder.bitcast(stored, vector(I32, count // 2))
        even = builder.shl(pairs, _constant(I32, count // 2, 16))
        odd = builder.and_(pairs, _constant(I32, count // 2, 0xFFFF0000))
        return builder.bitcast(stack(builder, [even, odd]), wide)
    if element == BF16:
        bits = builder.shl(builder.zext(stored, vector(I32, count)), _constant(I32, count, 16))
        stored, element = builder.bitcast(bits, vector(IN_MEMORY[F32], count)), F32
    if element != dtype:
        stored = (builder.fpext if SIZE[element] < SIZE[dtype] else builder.fptrunc)(stored, wide)
    if paired:
        # See _nearest_bf16: all NaN from outside are made the one that rounding cannot carry out of.
        nan = builder.fcmp_unordered("uno", stored, stored)
        stored = builder.select(nan, ir.Constant(wide, [float("nan")] * count), stored)
        stored = pick(builder, stored, [*range(0, count, 2), *range(1, count, 2)])
    return stored


def _nearest_bf16(builder, value):
    """float32 to the nearest bfloat16, in the upper half of each 32 bits: half a unit is added to the bits, a little
    less where the last bit that stays is 0, so that ties go to even. NaN stay NaN as long as their upper bits are not
    all 1 above lower bits that carry: arithmetic on bfloat16 does not make such."""
    count = value.type.count
    bits = builder.bitcast(value, vector(I32, count))
    sixteen, one, most = (_constant(I32, count, v) for v in (16, 1, 0x7FFF))
    last = builder.and_(builder.lshr(bits, sixteen), one)
    return builder.add(bits, builder.add(last, most))


def _narrow(builder, value, dtype, element, paired=False):
    """The inverse of `_widen`: to the nearest numbers of the element type, ties to even."""
    count = value.type.count
    if dtype == F64 and element != F64:
        # No processor goes from float64 to half precision in one step; float32 is on the way.
        value, dtype = builder.fptrunc(value, vector(IN_MEMORY[F32], count)), F32
    if element == BF16 and paired:
        half = count // 2
        even, odd = (_nearest_bf16(builder, pick(builder, value, range(k, k + half))) for k in (0, half))
        even = builder.lshr(even, _constant(I32, half, 16))
        odd = builder.and_(odd, _constant(I32, half, 0xFFFF0000))
        return builder.bitcast(builder.or_(even, odd), vector(I16, count))
    if paired:
        value = pick(builder, value, [i // 2 + i % 2 * (count // 2) for i in range(count)])
    if element == BF16:
        # An even bit above makes any NaN safe to round.
        nan = builder.fcmp_unordered("uno", value, value)
        value = builder.select(nan, ir.Constant(value.type, [float("nan")] * count), value)
        nearest = builder.lshr(_nearest_bf16(builder, value), _constant(I32, count, 16))
        return builder.trunc(nearest, vector(I16, count))
    if element == dtype:
        return value
    return (builder.fptrunc if SIZE[element] < SIZE[dtype] else builder.fpext)(value, vector(IN_MEMORY[element], count))


def _pointer(builder, address, stride, row, column, element, width):
    """To the elements of a row that begin at a column."""
    # The offset first: it is the same in all tensors of the call, which leaves registers for their addresses.
    offset = builder.add(builder.mul(stride, I64(row)), builder.mul(column, I64(SIZE[element])))
    return builder.inttoptr(builder.add(address, offset), vector(IN_MEMORY[element], width).as_pointer())


def _mask(builder, count, shape):
    """The lanes, in the order of memory, of the first `count` columns."""
    index = ir.Constant(vector(I64, shape.width), list(range(shape.width)))
    return builder.icmp_signed("<", index, splat(builder, count, shape.width))


def _masked(builder, operation, result, element, width, args):
    """A call of llvm.masked.load or llvm.masked.store."""
    name = f"llvm.masked.{operation}.v{width}{'i16' if element == BF16 else f'f{8 * SIZE[element]}'}.p0"
    kinds = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kinds, name), args)


@intrinsic
def load(typingctx, shape, element, dtype, address, stride, column):
    """The columns from `column` on of each row, as a Tile of `dtype`."""
    t, e, d = shape.shape, element.instance_type, dtype.instance_type

    def generate(context, builder, sig, args):
        address, stride, column = args[3:]
        pointers = [_pointer(builder, address, stride, r, column, e, t.width) for r in range(t.rows)]
        loaded = [builder.load(p, align=SIZE[e]) for p in pointers]
        return stack(builder, [_widen(builder, v, e, d, t.paired) for v in loaded])

    return Lanes(d, t)(shape, element, dtype, WORD, WORD, WORD), generate


@intrinsic
def load_first(typingctx, shape, element, dtype, address, stride, column, count):
    """As `load`, of the first `count` columns only; the other lanes are 0 and their memory is not touched."""
    t, e, d = shape.shape, element.instance_type, dtype.instance_type
    kind = vector(IN_MEMORY[e], t.width)

    def generate(context, builder, sig, args):
        address, stride, column, count = args[3:]
        mask, zero = _mask(builder, count, t), ir.Constant(kind, None)
        pointers = [_pointer(builder, address, stride, r, column, e, t.width) for r in range(t.rows)]
        loaded = [_masked(builder, "load", kind, e, t.width, [p, I32(SIZE[e]), mask, zero]) for p in pointers]
        return stack(builder, [_widen(builder, v, e, d, t.paired) for v in loaded])

    return Lanes(d, t)(shape, element, dtype, WORD, WORD, WORD, WORD), generate


def _store(streaming):
    def typed(typingctx, element, address, stride, column, tile):
        t, e = tile.shape, element.instance_type

        def generate(context, builder, sig, args):
            _, address, stride, column, value = args
            for r, row in enumerate(rows_of(builder, value, t.rows)):
                pointer = _pointer(builder, address, stride, r, column, e, t.width)
                align = t.width * SIZE[e] if streaming else SIZE[e]
                write = builder.store(_narrow(builder, row, tile.dtype, e, t.paired), pointer, align=min(align, 64))
                if streaming:
                    write.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
            return context.get_dummy_value()

        return types.none(element, WORD, WORD, WORD, tile), generate

    return typed


store = intrinsic(_store(streaming=False))
store.__doc__ = """Write a Tile."""
stream = intrinsic(_store(streaming=True))
stream.__doc__ = """As `store`, past the caches: for what is not read again soon. Rows must be aligned to 64 bytes."""


@intrinsic
def store_first(typingctx, element, address, stride, column, tile, count):
    """As `store`, of the first `count` columns only."""
    t, e = tile.shape, element.instance_type

    def generate(context, builder, sig, args):
        _, address, stride, column, value, count = args
        mask = _mask(builder, count, t)
        for r, row in enumerate(rows_of(builder, value, t.rows)):
            pointer = _pointer(builder, address, stride, r, column, e, t.width)
            stored = _narrow(builder, row, tile.dtype, e, t.paired)
            _masked(builder, "store", ir.VoidType(), e, t.width, [stored, pointer, I32(SIZE[e]), mask])
        return context.get_dummy_value()

    return types.none(element, WORD, WORD, WORD, tile, WORD), generate


@intrinsic
def keep(typingctx, element, address, stride, column, tile):
    """As `store`; gives the Tile back as it is in memory now."""
    t, e = tile.shape, element.instance_type

    def generate(context, builder, sig, args):
        _, address, stride, column, value = args
        kept = []
        for r, row in enumerate(rows_of(builder, value, t.rows)):
            stored = _narrow(builder, row, tile.dtype, e, t.paired)
            builder.store(stored, _pointer(builder, address, stride, r, column, e, t.width), align=SIZE[e])
            kept.append(_widen(builder, stored, e, tile.dtype, t.paired))
        return stack(builder, kept)

    return tile(element, WORD, WORD, WORD, tile), generate


@intrinsic
def stream_copy(typingctx, shape, element, source, target, stride, column):
    """Copy a tile's elements as they are, past the caches."""
    t, e = shape.shape, element.instance_type

    def generate(context, builder, sig, args):
        _, _, source, target, stride, column = args
        for r in range(t.rows):
            value = builder.load(_pointer(builder, source, stride, r, column, e, t.width), align=SIZE[e])
            write = builder.store(value, _pointer(builder, target, stride, r, column, e, t.width), align=64)
            write.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
        return context.get_dummy_value()

    return types.none(shape, element, WORD, WORD, WORD, WORD), generate


@intrinsic
def rounded(typingctx, element, value):
    """A Tile or Column after a round trip through an element type."""
    e, paired = element.instance_type, value.shape.paired

    def generate(context, builder, sig, args):
        parts = rows_of(builder, args[1], value.rows) if paired else [args[1]]
        parts = [_widen(builder, _narrow(builder, v, value.dtype, e, paired), e, value.dtype, paired) for v in parts]
        return stack(builder, parts)

    return value(element, value), generate


@intrinsic
def first(typingctx, value, count):
    """A Tile's first `count` columns, 0 in the others."""
    t = value.shape

    def generate(context, builder, sig, args):
        order = [*range(0, t.width, 2), *range(1, t.width, 2)] if t.paired else list(range(t.width))
        mask = pick(builder, _mask(builder, args[1], t), order * t.rows)
        return builder.select(mask, args[0], ir.Constant(args[0].type, None))

    return value(value, WORD), generate


@intrinsic
def load_column(typingctx, shape, address, stride):
    """One float64 a row."""
    n = shape.shape.rows

    def generate(context, builder, sig, args):
        value = ir.Constant(vector(IN_MEMORY[F64], n), ir.Undefined)
        for r in range(n):
            at = builder.add(args[1], builder.mul(args[2], I64(r)))
            number = builder.load(builder.inttoptr(at, IN_MEMORY[F64].as_pointer()))
            value = builder.insert_element(value, number, I32(r))
        return value

    return Column(n)(shape, WORD, WORD), generate


@intrinsic
def store_column(typingctx, address, stride, numbers):
    """Write one float64 a row."""

    def generate(context, builder, sig, args):
        for r in range(numbers.rows):
            at = builder.add(args[0], builder.mul(args[1], I64(r)))
            pointer = builder.inttoptr(at, IN_MEMORY[F64].as_pointer())
            builder.store(builder.extract_element(args[2], I32(r)), pointer)
        return context.get_dummy_value()

    return types.none(WORD, WORD, numbers), generate


@intrinsic
def prefetch(typingctx, shape, element, address, stride, column):
    """Begin to bring columns of each row into the caches. Any address will do."""
    t, e = shape.shape, element.instance_type

    def generate(context, builder, sig, args):
        for r in range(t.rows):
            pointer = _pointer(builder, args[2], args[3], r, args[4], e, t.width)
            operands = [pointer, I32(0), I32(2), I32(1)]
            kinds = ir.FunctionType(ir.VoidType(), [a.type for a in operands])
            builder.call(cgutils.get_or_insert_function(builder.module, kinds, "llvm.prefetch.p0"), operands)
        return context.get_dummy_value()

    return types.none(shape, element, WORD, WORD, WORD), generate


def _word(builder, address, index, kind):
    """A pointer to `address[index]`, words of 64 bits."""
    return builder.inttoptr(builder.add(address, builder.mul(index, I64(8))), kind.as_pointer())


@intrinsic
def word(typingctx, address, index):
    """The int64 at `address[index]`."""

    def generate(context, builder, sig, args):
        return builder.load(_word(builder, args[0], args[1], I64))

    return WORD(WORD, WORD), generate


@intrinsic
def real(typingctx, address, index):
    """The float64 at `address[index]`."""

    def generate(context, builder, sig, args):
        return builder.load(_word(builder, args[0], args[1], IN_MEMORY[F64]))

    return F64(WORD, WORD), generate


@intrinsic
def take(typingctx, address, index, count):
    """Add `count` to the int64 at `address[index]`, which other threads may be doing too; what it was before."""

    def generate(context, builder, sig, args):
        return builder.atomic_rmw("add", _word(builder, args[0], args[1], I64), args[2], "acq_rel")

    return WORD(WORD, WORD, WORD), generate


@intrinsic
def fence(typingctx):
    """What was written before, streamed or not, is seen by other threads before what is written after."""

    def generate(context, builder, sig, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(), generate


@intrinsic
def address_of(typingctx, pointer):
    """A void pointer as an integer."""

    def generate(context, builder, sig, args):
        return builder.ptrtoint(args[0], I64)

    return WORD(types.voidptr), generate
