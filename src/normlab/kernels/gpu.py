"""RMSNorm and LayerNorm on a GPU, fused, in Triton: what `normlab.kernels.fused` says, for CUDA and ROCm tensors.

Triton is imported when a GPU tensor first comes, so importing this module is cheap, and works without Triton. With
TRITON_INTERPRET=1 in the environment the kernels run in Triton's interpreter, on CPU tensors: slow, for tests.
"""

import os
import warnings
from functools import cache
from importlib import import_module

import torch
from torch import Tensor

from normlab.kernels.fused import Backward, Forward
from normlab.spec import NormSpec

NAME = "triton"
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
HALVES = DTYPES[:2]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@cache
def _no_triton() -> str | None:
    try:
        import_module("triton")
    except ImportError:
        return "triton is not installed (pip install triton)"
    return None


@cache
def _no_launch() -> str | None:
    """Why Triton cannot launch a kernel, found out without one, and said once in a warning.

    Before its first launch Triton compiles a module in C. Containers that have PyTorch need not have a C compiler, or
    Python's headers.
    """
    try:
        import_module("triton").runtime.driver.active.get_current_target()
    except Exception as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        why = f"triton cannot launch kernels here: {cause}"
        warnings.warn(f"normlab runs on PyTorch's own operations, which are slower: {why}", stacklevel=2)
        return why
    return None


def _interpreted() -> bool:
    """Whether the kernels run in Triton's interpreter."""
    if "TRITON_INTERPRET" not in os.environ or _no_triton():
        return False
    from normlab.kernels.gpu_rows import INTERPRETED

    return bool(INTERPRETED.value)


@cache
def _too_old(device: torch.device) -> str | None:
    major, minor = torch.cuda.get_device_capability(device)
    if torch.version.hip is None and major < 8:
        return f"the GPU's compute capability is {major}.{minor}, and Triton needs 8.0"
    return None


def _refused_device(x: Tensor) -> str | None:
    if not x.is_cuda:
        return (
            None
            if x.device.type == "cpu" and _interpreted()
            else f"the tensor is on {x.device.type}, not on a CUDA device"
        )
    if (why := _no_triton() or _too_old(x.device)) is not None or _interpreted():
        return why
    return _no_launch()


def refusal(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None, spec: NormSpec
) -> str | None:
    """Why the kernels do not take the call, or None when they do."""
    if (why := _refused_device(x)) is not None:
        return why
    # As far as a row's length is known before the shape is.
    parameter = bias if weight is None else weight
    if (x.shape[-1:] if parameter is None else parameter.shape).numel() >= 2**31:
        return "a row has 2^31 numbers or more"
    if spec.kind not in ("rmsnorm", "layernorm"):
        return f"it computes rmsnorm and layernorm, not {spec.kind}"
    given = [t for t in (x, residual, weight, bias) if t is not None]
    if any(t.device != x.device for t in given):
        return "the tensors are on different devices"
    if unknown := [t.dtype for t in given if t.dtype not in DTYPES]:
        return f"it computes {', '.join(map(_name, DTYPES))}, not {_name(unknown[0])}"
    if residual is not None and residual.dtype != x.dtype:
        return f"the residual is {_name(residual.dtype)}, the input {_name(x.dtype)}"
    if spec.eps_place == "outside":
        return "it adds eps inside of the square root only"
    if spec.stats_dtype == "input" and x.dtype in HALVES:
        return f"it takes statistics in float32, not in {_name(x.dtype)}"
    if spec.scale_dtype != "stats" and any(p is not None and p.dtype != x.dtype for p in (weight, bias)):
        return f"with scale_dtype {spec.scale_dtype!r} it takes parameters of the input's dtype, {_name(x.dtype)}, only"
    return None


def forward(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    rows: int,
    n: int,
    spec: NormSpec,
) -> Forward:
    """The forward pass of `normlab.kernels.fused`, of a call that is not refused."""
    from normlab.kernels import gpu_launch

    return gpu_launch.forward(x, residual, weight, bias, rows, n, spec)


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
    """The backward pass of `normlab.kernels.fused`."""
    from normlab.kernels import gpu_launch

    return gpu_launch.backward(dy, dtotal, x, weight, stats, bias_dtype, rows, n, spec)
