"""What one can write with tensors: the operators, and the methods that torch's tensors have. Each is one operation."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from normlab.tensor import core, ops

if TYPE_CHECKING:
    from normlab.tensor.core import Array, Tensor

Axis = int | Sequence[int] | None


class Operators:
    """The half of Tensor that computes."""

    __slots__ = ()

    if TYPE_CHECKING:
        _data: Array

    def __add__(self, other: Any) -> "Tensor":
        return ops.add(self, other)

    def __radd__(self, other: Any) -> "Tensor":
        return ops.add(other, self)

    def __sub__(self, other: Any) -> "Tensor":
        return ops.sub(self, other)

    def __rsub__(self, other: Any) -> "Tensor":
        return ops.sub(other, self)

    def __mul__(self, other: Any) -> "Tensor":
        return ops.mul(self, other)

    def __rmul__(self, other: Any) -> "Tensor":
        return ops.mul(other, self)

    def __truediv__(self, other: Any) -> "Tensor":
        return ops.div(self, other)

    def __rtruediv__(self, other: Any) -> "Tensor":
        return ops.div(other, self)

    def __pow__(self, other: Any) -> "Tensor":
        return ops.power(self, other)

    def __rpow__(self, other: Any) -> "Tensor":
        return ops.power(other, self)

    def __matmul__(self, other: Any) -> "Tensor":
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> "Tensor":
        return ops.matmul(other, self)

    def __neg__(self) -> "Tensor":
        return ops.neg(self)

    def __abs__(self) -> "Tensor":
        return ops.absolute(self)

    def __getitem__(self, index: Any) -> "Tensor":
        return ops.getitem(self, index)  # pyright: ignore[reportArgumentType]

    def _in_place(self, *_: Any) -> NoReturn:
        raise TypeError(
            "tensors are not changed in place: what was computed from the old numbers would get a wrong gradient. "
            "Write x = x + y for a new tensor, x.data += ... to move a parameter, where(mask, a, b) to replace some"
        )

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ipow__ = __imatmul__ = __setitem__ = _in_place

    # Comparisons have no gradient.

    def __eq__(self, other: object) -> "Tensor":  # pyright: ignore[reportIncompatibleMethodOverride]
        return ops.compare(np.equal, self, other)

    def __ne__(self, other: object) -> "Tensor":  # pyright: ignore[reportIncompatibleMethodOverride]
        return ops.compare(np.not_equal, self, other)

    def __lt__(self, other: Any) -> "Tensor":
        return ops.compare(np.less, self, other)

    def __le__(self, other: Any) -> "Tensor":
        return ops.compare(np.less_equal, self, other)

    def __gt__(self, other: Any) -> "Tensor":
        return ops.compare(np.greater, self, other)

    def __ge__(self, other: Any) -> "Tensor":
        return ops.compare(np.greater_equal, self, other)

    def __hash__(self) -> int:
        return id(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> "Array":
        """What NumPy's functions see: the numbers, without their history."""
        return np.array(self._data, dtype) if copy else np.asarray(self._data, dtype)

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise ValueError(f"a tensor of shape {self.shape} is neither true nor false")
        return bool(self._data)

    def __format__(self, form: str) -> str:
        return format(self._data.item() if form and self._data.size == 1 else str(self), form)

    def __float__(self) -> float:
        return float(self._data.item())

    def __int__(self) -> int:
        return int(self._data.item())

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> "Iterator[Tensor]":
        return (self[i] for i in range(len(self._data)))

    def __repr__(self) -> str:
        return f"Tensor({np.array2string(self._data, precision=4, prefix='Tensor(', separator=', ')}{self._suffix()})"

    def _suffix(self) -> str:
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """How many axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """How many numbers."""
        return self._data.size

    @property
    def dtype(self) -> "np.dtype[Any]":
        """The type of the numbers."""
        return self._data.dtype

    @property
    def T(self) -> "Tensor":
        """The axes in the opposite order."""
        return ops.permute(self, tuple(range(self._data.ndim))[::-1])

    def sum(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """The sum over axes, or over all."""
        return ops.total(self, axis, keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """The mean over axes, or over all."""
        return ops.mean(self, axis, keepdims)

    def var(self, axis: Axis = None, keepdims: bool = False, *, unbiased: bool = False) -> "Tensor":
        """The mean squared distance from the mean; `unbiased` divides by n - 1."""
        return ops.var(self, axis, keepdims, unbiased=unbiased)

    def max(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """The largest over axes, or of all."""
        return ops.amax(self, axis, keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """The smallest over axes, or of all."""
        return ops.amin(self, axis, keepdims)

    def cumsum(self, axis: int) -> "Tensor":
        """The running sum along an axis."""
        return ops.cumsum(self, axis)

    def exp(self) -> "Tensor":
        """e ** self."""
        return ops.exp(self)

    def log(self) -> "Tensor":
        """The natural logarithm."""
        return ops.log(self)

    def sqrt(self) -> "Tensor":
        """The square root."""
        return ops.sqrt(self)

    def tanh(self) -> "Tensor":
        """The hyperbolic tangent."""
        return ops.tanh(self)

    def sigmoid(self) -> "Tensor":
        """1 / (1 + exp(-self))."""
        return ops.sigmoid(self)

    def relu(self) -> "Tensor":
        """max(self, 0)."""
        return ops.relu(self)

    def softmax(self, axis: int = -1) -> "Tensor":
        """exp(self) / sum(exp(self)) along an axis."""
        return ops.softmax(self, axis)

    def log_softmax(self, axis: int = -1) -> "Tensor":
        """log(softmax(self)) along an axis."""
        return ops.log_softmax(self, axis)

    def reshape(self, *shape: Any) -> "Tensor":
        """Another shape: sizes, or one tuple of them; -1 stands for what is left."""
        return ops.reshape(self, *shape)

    def view(self, *shape: Any) -> "Tensor":
        """As `reshape`."""
        return ops.reshape(self, *shape)

    def unsqueeze(self, axis: int) -> "Tensor":
        """With an axis of length 1 at `axis`."""
        return ops.reshape(self, np.expand_dims(self._data, axis).shape)

    def squeeze(self, axis: Axis = None) -> "Tensor":
        """Without axes of length 1: these, or all."""
        return ops.reshape(
            self, np.squeeze(self._data, axis if axis is None or isinstance(axis, int) else tuple(axis)).shape
        )

    def flatten(self, start: int = 0) -> "Tensor":
        """All axes from `start` on as one."""
        shape = self._data.shape
        return ops.reshape(self, (*shape[:start], math.prod(shape[start:])))

    def permute(self, *axes: Any) -> "Tensor":
        """The axes in this order."""
        return ops.permute(self, *axes)

    def transpose(self, a: int, b: int) -> "Tensor":
        """Two axes exchanged."""
        return ops.transpose(self, a, b)

    def argmax(self, axis: int | None = None) -> "Tensor":
        """Where the largest stands along an axis, or of all; integers, without a gradient."""
        return core.wrap(np.asarray(self._data.argmax(axis)))

    def numpy(self) -> "Array":
        """The numbers."""
        return self._data

    def item(self) -> float:
        """The one number."""
        return self._data.item()

    def tolist(self) -> Any:
        """The numbers as Python's, in nested lists."""
        return self._data.tolist()

    def abs(self) -> "Tensor":
        """|self|."""
        return ops.absolute(self)

    def masked_fill(self, mask: Any, value: float) -> "Tensor":
        """value where the mask holds, else self."""
        return ops.masked_fill(self, mask, value)
