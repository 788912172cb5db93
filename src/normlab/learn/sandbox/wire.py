"""What the sandbox's two processes say to each other, as MessagePack: numbers, names and sentences.

msgspec checks types when it reads, so that a message which the code has forged is at worst a wrong result.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

# Layers of defence that the child puts on itself, in this order.
LAYERS = ("limits", "seccomp", "hook")
# What the child says first: everything is loaded, the clock may start.
READY = b"R"


class Numbers(msgspec.Struct, frozen=True):
    """An array of float64."""

    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, array: NDArray[np.float64]) -> "Numbers":
        """Of an array, in C order."""
        return cls(array.shape, np.asarray(array, "<f8").tobytes())

    def array(self) -> NDArray[np.float64]:
        """A new array.

        Raises:
            ValueError: when there are not as many numbers as the shape says.
        """
        return np.frombuffer(self.data, "<f8").reshape(self.shape).astype(np.float64)


class Asked(msgspec.Struct, frozen=True):
    """A call. With an `upstream` gradient its arrays are passed as Tensors, and their gradients are results too.

    Attributes:
        results: how many are expected; 1: the function returns it, more: a tuple of them.
    """

    function: str
    arguments: tuple[tuple[str, Numbers | float], ...]
    results: int
    upstream: Numbers | None = None


class Request(msgspec.Struct, frozen=True):
    """What the child reads.

    Attributes:
        most: arrays of more numbers are described and not sent.
    """

    code: str
    calls: tuple[Asked, ...]
    most: int
    seconds: float
    memory: int
    layers: tuple[str, ...] = LAYERS


class Result(msgspec.Struct, frozen=True):
    """What was returned: its type, for arrays also dtype and shape, and the numbers where they are float64."""

    type: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    data: bytes = b""


class Returned(msgspec.Struct, frozen=True):
    """What came of a call.

    Attributes:
        count: how many results the function returned; None where it returned no tuple.
        changed: the arguments that it has written to.
    """

    results: tuple[Result, ...]
    count: int | None
    changed: tuple[str, ...]


class Answer(msgspec.Struct, frozen=True):
    """What the child writes: what came of the calls, or the trouble in the way of one of them."""

    returned: tuple[Returned, ...] = ()
    trouble: str = ""


def size(memory: int) -> str:
    """A number of bytes in words."""
    return f"{memory / 2**30:g} GiB" if memory >= 2**30 else f"{memory / 2**20:g} MiB"
