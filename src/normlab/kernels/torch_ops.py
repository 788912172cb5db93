"""PyTorch's own operations: its fused norm where it computes exactly the spec, and the spec's formula,
step by step, where it does not. Takes every call."""

import torch
import torch.nn.functional as F
from torch import Tensor

from normlab.spec import NormSpec

HALVES = (torch.float16, torch.bfloat16)


def _is_torch_formula(x: Tensor, spec: NormSpec, *parameters: Tensor | None) -> bool:
    """Whether torch's fused norms compute this spec, to the bit of its casts, on these dtypes."""
    if spec.eps_place != "inside" or any(p is not None and p.dtype != x.dtype for p in parameters):
        return False
    # Away from the half precisions every cast of the spec is a cast to the same dtype.
    return x.dtype not in HALVES or (spec.stats_dtype == "float32" and spec.scale_dtype == "stats" and spec.offset == 0)


def _scale(weight: Tensor | None, spec: NormSpec) -> Tensor | None:
    return weight + spec.offset if weight is not None and spec.offset else weight


def _stats_dtype(x: Tensor, spec: NormSpec) -> torch.dtype:
    return torch.float32 if x.dtype in HALVES and spec.stats_dtype == "float32" else x.dtype


def _eps(x: Tensor, spec: NormSpec) -> float:
    return torch.finfo(_stats_dtype(x, spec)).eps if spec.eps is None else spec.eps


def _factor(v: Tensor, eps: float, eps_place: str) -> Tensor:
    if eps_place == "inside":
        return torch.rsqrt(v + eps)
    # sqrt has no derivative at 0; the row is zero there, so a derivative of 0 is the limit.
    nonzero = v != 0
    return 1 / (torch.where(nonzero, v, 1).sqrt() * nonzero + eps)


def _scaled(normed: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, spec: NormSpec) -> Tensor:
    """normed * (offset + weight) + bias, with the casts where the spec has them."""
    if spec.scale_dtype == "input":
        normed = normed.to(x.dtype)
    elif spec.scale_dtype == "weight" and weight is not None:
        normed = normed.to(weight.dtype) if weight.dtype in HALVES else normed
    if weight is not None:
        scale = weight.to(normed.dtype) if spec.scale_dtype == "stats" else weight
        normed = normed * (scale + spec.offset if spec.offset else scale)
    if bias is not None:
        normed = normed + (bias.to(normed.dtype) if spec.scale_dtype == "stats" else bias)
    cast_back = spec.scale_dtype == "stats" or weight is None
    return normed.to(x.dtype) if cast_back else normed


def rms_norm(x: Tensor, shape: list[int], weight: Tensor | None, spec: NormSpec) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * (offset + weight) over the trailing axes `shape`."""
    if _is_torch_formula(x, spec, weight):
        return F.rms_norm(x, shape, _scale(weight, spec), _eps(x, spec))
    h = x.to(_stats_dtype(x, spec))
    axes = tuple(range(-len(shape), 0))
    v = h.pow(2).mean(axes, keepdim=True)
    return _scaled(h * _factor(v, _eps(x, spec), spec.eps_place), x, weight, None, spec)


def layer_norm(x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, spec: NormSpec) -> Tensor:
    """(x - mean) / sqrt(var + eps) * (offset + weight) + bias over the trailing axes `shape`."""
    if _is_torch_formula(x, spec, weight, bias):
        return F.layer_norm(x, shape, _scale(weight, spec), bias, _eps(x, spec))
    h = x.to(_stats_dtype(x, spec))
    axes = tuple(range(-len(shape), 0))
    c = h - h.mean(axes, keepdim=True)
    v = c.pow(2).mean(axes, keepdim=True)
    return _scaled(c * _factor(v, _eps(x, spec), spec.eps_place), x, weight, bias, spec)


def norm(x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, spec: NormSpec) -> Tensor:
    """rms_norm or layer_norm, by the spec's kind."""
    if spec.kind == "rmsnorm":
        return rms_norm(x, shape, weight, spec)
    return layer_norm(x, shape, weight, bias, spec)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    spec: NormSpec,
) -> Tensor:
    """Per channel (x - mean) / sqrt(var + eps) * (offset + weight) + bias; in training moves the running statistics."""
    of_batch = training or running_mean is None
    # torch's refuses an eps of 0 on batch statistics, and in half precision it rounds the statistics to the
    # parameters' dtype.
    if (
        _is_torch_formula(x, spec, weight, bias, running_mean, running_var)
        and x.dtype not in HALVES
        and (spec.unbiased_running_var or not training or running_var is None)
        and not (of_batch and spec.eps == 0)
    ):
        return F.batch_norm(x, running_mean, running_var, _scale(weight, spec), bias, of_batch, momentum, _eps(x, spec))

    h = x.to(_stats_dtype(x, spec))
    column = [1, -1] + [1] * (x.dim() - 2)
    w, b, m, v = (p if p is None else p.view(column) for p in (weight, bias, running_mean, running_var))
    if of_batch or m is None or v is None:
        axes = (0, *range(2, x.dim()))
        m = h.mean(axes, keepdim=True)
        v = (h - m).pow(2).mean(axes, keepdim=True)
    normed = (h - m.to(h.dtype)) * _factor(v.to(h.dtype), _eps(x, spec), spec.eps_place)
    y = _scaled(normed, x, w, b, spec)

    # Last, so that a call that fails leaves them alone; and an empty batch has no statistics to move them by.
    n = x.numel() // max(x.shape[1], 1)
    if training and n and running_mean is not None and running_var is not None:
        _move(running_mean, m, momentum)
        _move(running_var, v * (n / (n - 1)) if spec.unbiased_running_var else v, momentum)
    return y


@torch.no_grad()
def _move(running: Tensor, new: Tensor, momentum: float) -> None:
    """running <- (1 - momentum) * running + momentum * new, in place, rounded once."""
    old = running.to(torch.promote_types(running.dtype, new.dtype))
    running.copy_((1 - momentum) * old + momentum * new.flatten())
