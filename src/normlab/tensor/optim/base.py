"""What optimizers share: groups of parameters, and their state, laid out so that a step is a few operations.

The gradients of a group's parameters are copied into one long vector, and the state (momenta and such) is kept as
vectors of that length: a step on ten small parameters then costs what a step on one does.
"""

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from normlab.tensor.core import Array, Tensor
from normlab.tensor.layers.module import Module
from normlab.tensor.ops._operands import kind_of

# A step goes over so many numbers at a time, so that what it makes on the way stays in the caches.
PIECE = 1 << 15


class _Bucket:
    """Parameters of one dtype, one after the other."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = parameters
        ends = np.cumsum([p.size for p in parameters]).tolist()
        self.slices = [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]
        self.dtype = parameters[0].dtype
        self.length = ends[-1]
        self.steps = [0] * len(parameters)
        self.state: dict[str, Array] = {}

    def kept(self, name: str) -> Array:
        """A vector of the state; zeros at first."""
        if name not in self.state:
            self.state[name] = np.zeros(self.length, self.dtype)
        return self.state[name]


class Optimizer:
    """Moves parameters along their gradients.

    Args:
        params: tensors, or dicts with "params" and options of their own, as in torch.
        defaults: options of the groups that do not have them.

    Attributes:
        param_groups: a dict a group: "params" and the options, which may be changed between steps.

    Raises:
        TypeError, ValueError: for no parameters, something else than tensors that require a gradient, one twice, or
            options that there are not, or out of their range.
    """

    def __init__(self, params: Iterable[Any], **defaults: Any) -> None:
        given = _listed(params)
        if not given:
            raise ValueError("params must hold at least one tensor, got none")
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = [
            {**defaults, **g, "params": [g["params"]] if isinstance(g["params"], Tensor) else list(g["params"])}
            for g in groups
        ]
        for group in self.param_groups:
            unknown = sorted(group.keys() - defaults.keys() - {"params"})
            if unknown:
                raise ValueError(f"a group may have params, {', '.join(defaults)}, got {', '.join(unknown)}")
            self._check(group)
        everything = [p for group in self.param_groups for p in group["params"]]
        for p in everything:
            if not isinstance(p, Tensor):
                raise TypeError(f"params must be tensors of normlab.tensor, got {kind_of(p)}")
            if not p.requires_grad or p.node is not None:
                what = f"the result of {p.node.name}" if p.node else "one without requires_grad=True"
                raise ValueError(f"params must be leaves that require a gradient, got {what}, of shape {p.shape}")
        if len({id(p) for p in everything}) != len(everything):
            raise ValueError("params must not hold a tensor twice")
        self._buckets = [
            [_Bucket([p for p in group["params"] if p.dtype == dtype]) for dtype in {p.dtype for p in group["params"]}]
            for group in self.param_groups
        ]

    def _check(self, options: dict[str, Any]) -> None:
        """Raise ValueError for options out of their range."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for group, buckets in zip(self.param_groups, self._buckets, strict=True):
            for bucket in buckets:
                self._step_bucket(bucket, group)

    def _step_bucket(self, bucket: _Bucket, group: dict[str, Any]) -> None:
        gradients = [p.grad for p in bucket.parameters]
        for p, g in zip(bucket.parameters, gradients, strict=True):
            # One after the other in a vector, a number too few here would be taken from the next.
            if g is not None and g.shape != p._data.shape:
                raise ValueError(f"grad must have the shape of its parameter, {p._data.shape}, got {g.shape}")
        together = len(set(bucket.steps)) == 1 and not any(g is None for g in gradients)
        if together and bucket.length <= PIECE:
            bucket.steps = [bucket.steps[0] + 1] * len(bucket.steps)
            p = np.concatenate([p._data.ravel() for p in bucket.parameters])
            g = np.concatenate([g.ravel() for g in gradients])  # pyright: ignore[reportOptionalMemberAccess]
            self._update(p, g, bucket, slice(None), bucket.steps[0], group)
            for parameter, where in zip(bucket.parameters, bucket.slices, strict=True):
                parameter._data[...] = p[where].reshape(parameter._data.shape)
                parameter.changed()
            return
        for i, (parameter, g) in enumerate(zip(bucket.parameters, gradients, strict=True)):
            if g is None:
                continue
            bucket.steps[i] += 1
            flat = parameter._data.reshape(-1)
            for start in range(0, flat.size, PIECE):
                here = slice(start, min(start + PIECE, flat.size))
                state = slice(bucket.slices[i].start + here.start, bucket.slices[i].start + here.stop)
                self._update(flat[here], g.reshape(-1)[here], bucket, state, bucket.steps[i], group)
            if not np.shares_memory(flat, parameter._data):
                parameter._data[...] = flat.reshape(parameter._data.shape)
            parameter.changed()

    def _update(self, p: Array, g: Array, bucket: _Bucket, where: slice, step: int, group: dict[str, Any]) -> None:
        """Move p, in place, along the gradient g; the state that belongs to it is at `where`; g is not written to."""
        raise NotImplementedError


def _listed(params: Any) -> list[Any]:
    if isinstance(params, Module):
        raise TypeError(f"params must be tensors, got {type(params).__name__}: give its .parameters()")
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(f"params must be a list of tensors, got {type(params).__name__}")
    return list(params)


def check(name: str, value: float, most: float = math.inf) -> float:
    """An option that must be a number from 0 to `most`.

    Raises:
        TypeError, ValueError: when it is not.
    """
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__} {value!r}")
    if not 0 <= value <= most:
        raise ValueError(f"{name} must be from 0 to {most}, got {value}")
    return value


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients together so that their norm is at most `max_norm`; returns the norm that they had.

    The norm is that of all gradients as one vector; they are scaled by max_norm / (norm + 1e-6), as in torch.
    """
    check("max_norm", max_norm)
    parameters = [parameters] if isinstance(parameters, Tensor) else _listed(parameters)
    given = [p for p in parameters if p.grad is not None]
    # A float64 sum: the square of a large float32 gradient may not be a float32.
    squares = [float(np.einsum("i,i", *[p.grad.ravel().astype(np.float64)] * 2)) for p in given]  # pyright: ignore[reportOptionalMemberAccess]
    norm = math.sqrt(math.fsum(squares))
    scale = max_norm / (norm + 1e-6)
    # Not `scale < 1`: a NaN spreads to all gradients, as in torch, instead of leaving large ones as they are.
    if not scale >= 1:
        for p in given:
            p.grad = np.asarray(p.grad * p.dtype.type(scale))  # pyright: ignore[reportOptionalOperand]
    return norm
