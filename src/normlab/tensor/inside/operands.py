"""What an operation's formula calls its inputs, and their arrays."""

import inspect
from collections.abc import Iterator
from itertools import islice

from normlab.tensor.core import Operation

# Where the formula's letters are not the parameters of forward().
LETTERS: dict[str, tuple[str, ...]] = {
    "Linear": ("x", "W", "b"),
    "LayerNorm": ("x", "gamma", "beta"),
    "RMSNorm": ("x", "weight"),
    "BatchNorm": ("x", "gamma", "beta"),
    "GroupNorm": ("x", "gamma", "beta"),
}


def names_of(node: Operation) -> list[str]:
    """A name for each input, in the formula's letters."""
    return list(islice(_letters(node), len(node.inputs)))


def _letters(node: Operation) -> Iterator[str]:
    kinds = [c.__name__ for c in type(node).__mro__]
    known = next((LETTERS[k] for k in kinds if k in LETTERS), None)
    if known:
        yield from known
    else:
        for name, parameter in inspect.signature(node.forward).parameters.items():
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                # xs: x1, x2, ...
                yield from (f"{name.removesuffix('s')}{i}" for i in range(1, len(node.inputs) + 1))
            else:
                yield name
    yield from (f"input{i}" for i in range(1, len(node.inputs) + 1))
