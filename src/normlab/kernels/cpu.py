"""The CPU kernels on tensors: Numba's code behind the interface of `fused`."""

import threading
import warnings
from functools import cache

import torch
from torch import Tensor

from normlab.kernels import cpu_plan, cpu_threads, plain
from normlab.kernels.cpu_build import BuildError, unusable
from normlab.kernels.fused import Backward, Forward
from normlab.spec import NormSpec

NAME = "numba"

NAMES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16", torch.float16: "float16"}


def refusal(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None, spec: NormSpec
) -> str | None:
    """Why these kernels do not take the call, or None."""
    return unusable() if x.is_cpu else f"input is on {x.device}"


def _name(tensor: Tensor | None) -> str:
    return "" if tensor is None else NAMES[tensor.dtype]


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


@cache
def _warn(cause: str) -> None:
    """Once a process and cause."""
    warnings.warn(f"normlab runs a norm on PyTorch's own operations, which are slower: {cause}", stacklevel=2)


_kept = threading.local()
KEPT_AT_MOST = 1 << 22


def _room(size: int) -> Tensor:
    """Memory of that many bytes. Small ones are kept for the thread's next call, which saves the page faults."""
    room = getattr(_kept, "room", None)
    if room is None or room.shape[0] < size:
        room = torch.empty(size, dtype=torch.uint8)
        if size <= KEPT_AT_MOST:
            _kept.room = room
    return room


def forward(x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None, spec: NormSpec) -> Forward:
    """See `fused`. All tensors are contiguous, and x is (rows, n)."""
    rows, n = x.shape
    plan = cpu_plan.plan(NAMES[x.dtype], _name(weight), _name(bias), residual is not None, False, spec)
    y = torch.empty_like(x)
    total = None if residual is None else torch.empty_like(x)
    stats = x.new_empty((rows, 1 + plan.forward.layer), dtype=torch.float64)
    if x.numel():
        workers = cpu_threads.threads()
        scratch = None if residual is None else _room(plan.size * cpu_plan.scratch_length(n, workers))
        try:
            cpu_plan.run_forward(
                plan, rows, n, x.data_ptr(), _address(residual), _address(weight), _address(bias), y.data_ptr(),
                _address(total), stats.data_ptr(), _address(scratch), workers,
            )  # fmt: skip
        except BuildError as error:
            _warn(str(error))
            return plain.forward(x, residual, weight, bias, spec)
    return Forward(y, total, stats)


def backward(
    dy: Tensor,
    dtotal: Tensor | None,
    x: Tensor,
    weight: Tensor | None,
    stats: Tensor,
    spec: NormSpec,
    bias_dtype: torch.dtype | None,
) -> Backward:
    """See `fused`. All tensors are contiguous; x is what was normalized: the sum, where a residual was added."""
    rows, n = x.shape
    bias = "" if bias_dtype is None else NAMES[bias_dtype]
    plan = cpu_plan.plan(NAMES[x.dtype], _name(weight), bias, False, dtotal is not None, spec)
    dx = torch.empty_like(x)
    dweight = None if weight is None else torch.empty_like(weight)
    dbias = None if bias_dtype is None else x.new_empty(n, dtype=bias_dtype)
    if x.numel():
        parameters = (weight is not None) + (bias_dtype is not None)
        partial = _room(plan.wide * cpu_plan.partial_length(rows, n, parameters))
        try:
            cpu_plan.run_backward(
                plan, rows, n, dy.data_ptr(), _address(dtotal), x.data_ptr(), _address(weight), stats.data_ptr(),
                dx.data_ptr(), partial.data_ptr(), _address(dweight), _address(dbias),
            )  # fmt: skip
        except BuildError as error:
            _warn(str(error))
            return plain.backward(dy, dtotal, x, weight, stats, spec, bias_dtype)
    else:
        for sums in (dweight, dbias):
            if sums is not None:
                sums.zero_()
    return Backward(dx, dweight, dbias)
