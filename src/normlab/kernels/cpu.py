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
        room = torch.empty(size, dtype=torch.uint8, device="cpu")
        if size <= KEPT_AT_MOST:
            _kept.room = room
    return room


def forward(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    rows: int,
    n: int,
    spec: NormSpec,
) -> Forward:
    """See `fused`."""
    if not rows * n:
        stats = x.new_empty((rows, 1 + (spec.kind == "layernorm")), dtype=torch.float64)
        return Forward(torch.empty_like(x), None if residual is None else torch.empty_like(x), stats)
    w, b = "" if weight is None else NAMES[weight.dtype], "" if bias is None else NAMES[bias.dtype]
    try:
        added = residual is not None
        plan = cpu_plan.forward_plan(NAMES[x.dtype], w, b, added, spec, rows, n, cpu_threads.threads())
    except BuildError as error:
        _warn(str(error))
        return plain.forward(x, residual, weight, bias, rows, n, spec)
    return run_forward(plan, x, residual, weight, bias)


def run_forward(
    plan: cpu_plan.ForwardPlan, x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None
) -> Forward:
    """`forward` of a call that is planned."""
    y = torch.empty_like(x)
    total = None if residual is None else torch.empty_like(x)
    # In two thirds of the time of new_empty.
    stats = x.new_empty_strided((plan.rows, plan.columns), (plan.columns, 1), dtype=torch.float64)
    room = None if residual is None else _room(plan.scratch)
    cpu_plan.run_forward(
        plan, x.data_ptr(), _address(residual), _address(weight), _address(bias), y.data_ptr(), _address(total),
        stats.data_ptr(), _address(room),
    )  # fmt: skip
    return Forward(y, total, stats)


def backward(
    dy: Tensor,
    dtotal: Tensor | None,
    x: Tensor,
    weight: Tensor | None,
    stats: Tensor,
    bias_dtype: torch.dtype | None,
    rows: int,
    n: int,
    spec: NormSpec,
) -> Backward:
    """See `fused`."""
    if not rows * n:
        dweight = None if weight is None else torch.zeros_like(weight)
        dbias = None if bias_dtype is None else x.new_zeros(n, dtype=bias_dtype)
        return Backward(torch.empty_like(x), dweight, dbias)
    w, b = "" if weight is None else NAMES[weight.dtype], "" if bias_dtype is None else NAMES[bias_dtype]
    try:
        added = dtotal is not None
        plan = cpu_plan.backward_plan(NAMES[x.dtype], w, b, added, spec, rows, n, cpu_threads.threads())
    except BuildError as error:
        _warn(str(error))
        return plain.backward(dy, dtotal, x, weight, stats, bias_dtype, rows, n, spec)
    return run_backward(plan, dy, dtotal, x, weight, stats, bias_dtype)


def run_backward(
    plan: cpu_plan.BackwardPlan,
    dy: Tensor,
    dtotal: Tensor | None,
    x: Tensor,
    weight: Tensor | None,
    stats: Tensor,
    bias_dtype: torch.dtype | None,
) -> Backward:
    """`backward` of a call that is planned."""
    dx = torch.empty_like(x)
    dweight = None if weight is None else torch.empty_like(weight)
    dbias = None
    if bias_dtype is not None:
        if weight is not None and weight.dtype is bias_dtype:
            dbias = torch.empty_like(weight)
        else:
            dbias = x.new_empty(plan.n, dtype=bias_dtype)
    # In a variable, so that it lives until the kernel has run.
    room = _room(plan.partial)
    cpu_plan.run_backward(
        plan, dy.data_ptr(), _address(dtotal), x.data_ptr(), _address(weight), stats.data_ptr(), dx.data_ptr(),
        room.data_ptr(), _address(dweight), _address(dbias),
    )  # fmt: skip
    return Backward(dx, dweight, dbias)
