"""rms_norm, layer_norm and batch_norm with the signatures of torch.nn.functional, plus `spec=`; and the first two
with a residual added.

Arguments are checked here, once; a kernel then computes (see `normlab.kernels`).
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from normlab import _check
from normlab.kernels import torch_ops
from normlab.layers import _half
from normlab.layers._fused import Added
from normlab.layers._rows import by_parts, in_parts
from normlab.layers._spec import DEFAULT_EPS, check_spec, plain, sizes
from normlab.layers.fused import at_once, norm
from normlab.spec import Kind, NormSpec

RMS_NORM = NormSpec.preset("torch", "rmsnorm")
LAYER_NORM = NormSpec.preset("torch", "layernorm")
BATCH_NORM = NormSpec.preset("torch", "batchnorm")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _spec(kind: Kind, spec: NormSpec | str | None, default: NormSpec, eps: float | None) -> NormSpec:
    """The spec to compute: the one given, maybe by its name, or the default with this eps."""
    if spec is not None:
        if isinstance(spec, str):
            spec = NormSpec.preset(spec, kind)
        default_eps = None if kind == "rmsnorm" else DEFAULT_EPS
        check_spec(spec, kind, eps=eps, default_eps=default_eps, allowed="a NormSpec or the name of a preset")
        return spec
    if eps is default.eps or (isinstance(eps, float) and eps == default.eps):
        return default
    if type(eps) is float and not torch.compiler.is_compiling():
        return _with_eps(kind, eps)
    return NormSpec(kind, eps=plain(eps))


@lru_cache(maxsize=64)
def _with_eps(kind: Kind, eps: float) -> NormSpec:
    """The standard formula with this eps, made once: checking a spec takes as long as a small norm."""
    return NormSpec(kind, eps=eps)


def check_tensor(name: str, x: Tensor) -> None:
    """Raise TypeError unless x is a tensor of a dtype that the norms take."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if x.dtype not in DTYPES:
        raise TypeError(f"{name} must have dtype float16, bfloat16, float32 or float64, got {x.dtype}")


def _traced() -> bool:
    """Whether torch.jit writes down what runs; torch.compile, which does so too, cannot look into the question."""
    return not torch.compiler.is_compiling() and torch._C._is_tracing()


def _check_parameter(name: str, p: Tensor | None, shape: list[int], meaning: str) -> None:
    if p is None:
        return
    check_tensor(name, p)
    if list(p.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, {meaning}, got {list(p.shape)}")


def _check_shapes(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None
) -> list[int]:
    """`normalized_shape` as a list, after checking it against x and the parameters against it."""
    if _traced():
        # Sizes are tensors then: a comparison of them would become a constant of the traced program, and so would an
        # int made of one.
        return list(normalized_shape) if isinstance(normalized_shape, Iterable) else [normalized_shape]
    shape = list(sizes("normalized_shape", normalized_shape))
    if len(shape) > x.dim() or list(x.shape[x.dim() - len(shape) :]) != shape:
        raise ValueError(f"normalized_shape must be the trailing axes of input {list(x.shape)}, got {shape}")
    for name, p in (("weight", weight), ("bias", bias)):
        _check_parameter(name, p, shape, "the normalized_shape")
    return shape


def _check_residual(input: Tensor, residual: Tensor) -> None:
    if not _traced() and residual.shape != input.shape:
        raise ValueError(f"residual must have the shape of input, {list(input.shape)}, got {list(residual.shape)}")
    if residual.dtype != input.dtype:
        raise TypeError(f"residual must have the dtype of input, {input.dtype}, got {residual.dtype}")


def _norm(
    x: Tensor,
    residual: Tensor | None,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    spec: NormSpec,
) -> Any:
    found = at_once(x, residual, normalized_shape, weight, bias, spec)
    if found is not None:
        return found
    check_tensor("input", x)
    if residual is not None:
        _check_residual(x, residual)
    elif in_parts(x):
        return by_parts(lambda part: _norm(part, None, normalized_shape, weight, bias, spec), x)
    return norm(x, residual, _check_shapes(x, normalized_shape, weight, bias), weight, bias, spec)


def rms_norm(
    input: Float[Tensor, "..."],
    normalized_shape: Sequence[int],
    weight: Float[Tensor, "..."] | None = None,
    eps: float | None = None,
    *,
    spec: NormSpec | str | None = None,
) -> Float[Tensor, "..."]:
    """input / sqrt(mean(input^2) + eps) * weight over the trailing axes `normalized_shape`.

    Args:
        input: shape (*, *normalized_shape), any floating-point dtype.
        normalized_shape: the trailing axes that are normalized together.
        weight: shape normalized_shape, of input's or another floating-point dtype.
        eps: None stands for the machine epsilon of the dtype of the statistics, as in torch.
        spec: what to compute in every detail, a NormSpec or the name of a preset ("llama"); holds the eps then.

    Returns:
        A new tensor of input's shape and (unless the spec says otherwise) dtype.

    Raises:
        TypeError, ValueError: one sentence on the argument that does not fit.

    Source: Zhang & Sennrich 2019, arXiv:1910.07467. Definition: `normlab.norms.rmsnorm`.
    """
    spec = _spec("rmsnorm", spec, RMS_NORM, eps)
    return _norm(input, None, normalized_shape, weight, None, spec)


def layer_norm(
    input: Float[Tensor, "..."],
    normalized_shape: Sequence[int],
    weight: Float[Tensor, "..."] | None = None,
    bias: Float[Tensor, "..."] | None = None,
    eps: float = DEFAULT_EPS,
    *,
    spec: NormSpec | str | None = None,
) -> Float[Tensor, "..."]:
    """(input - mean) / sqrt(var + eps) * weight + bias over the trailing axes `normalized_shape`.

    Args:
        input: shape (*, *normalized_shape), any floating-point dtype.
        normalized_shape: the trailing axes that are normalized together.
        weight, bias: shape normalized_shape, of input's or another floating-point dtype.
        eps: added to the (biased) variance.
        spec: what to compute in every detail, a NormSpec or the name of a preset ("llama"); holds the eps then.

    Returns:
        A new tensor of input's shape and (unless the spec says otherwise) dtype.

    Raises:
        TypeError, ValueError: one sentence on the argument that does not fit.

    Source: Ba, Kiros & Hinton 2016, arXiv:1607.06450. Definition: `normlab.norms.layernorm`.
    """
    spec = _spec("layernorm", spec, LAYER_NORM, eps)
    return _norm(input, None, normalized_shape, weight, bias, spec)


def add_rms_norm(
    input: Float[Tensor, "..."],
    residual: Float[Tensor, "..."],
    normalized_shape: Sequence[int],
    weight: Float[Tensor, "..."] | None = None,
    eps: float | None = None,
    *,
    spec: NormSpec | str | None = None,
) -> Added:
    """total = input + residual and rms_norm(total), in one pass over memory.

    Args:
        input: shape (*, *normalized_shape).
        residual: of input's shape and dtype.
        normalized_shape, weight, eps, spec: as in `rms_norm`.

    Returns:
        (total, normed), new tensors of input's shape; the gradients of both flow to input and residual. They are two
        results of one operation: what reaches `normed` is not seen at `total` (by hooks, `retain_grad`).

    Raises:
        TypeError, ValueError: one sentence on the argument that does not fit.
    """
    spec = _spec("rmsnorm", spec, RMS_NORM, eps)
    check_tensor("input", input)
    check_tensor("residual", residual)
    return _norm(input, residual, normalized_shape, weight, None, spec)


def add_layer_norm(
    input: Float[Tensor, "..."],
    residual: Float[Tensor, "..."],
    normalized_shape: Sequence[int],
    weight: Float[Tensor, "..."] | None = None,
    bias: Float[Tensor, "..."] | None = None,
    eps: float = DEFAULT_EPS,
    *,
    spec: NormSpec | str | None = None,
) -> Added:
    """total = input + residual and layer_norm(total), in one pass over memory.

    Args:
        input: shape (*, *normalized_shape).
        residual: of input's shape and dtype.
        normalized_shape, weight, bias, eps, spec: as in `layer_norm`.

    Returns:
        (total, normed), as `add_rms_norm`.

    Raises:
        TypeError, ValueError: one sentence on the argument that does not fit.
    """
    spec = _spec("layernorm", spec, LAYER_NORM, eps)
    check_tensor("input", input)
    check_tensor("residual", residual)
    return _norm(input, residual, normalized_shape, weight, bias, spec)


def batch_norm(
    input: Float[Tensor, "batch channels *space"],
    running_mean: Float[Tensor, " channels"] | None,
    running_var: Float[Tensor, " channels"] | None,
    weight: Float[Tensor, " channels"] | None = None,
    bias: Float[Tensor, " channels"] | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = DEFAULT_EPS,
    *,
    spec: NormSpec | str | None = None,
) -> Float[Tensor, "batch channels *space"]:
    """Per channel (input - mean) / sqrt(var + eps) * weight + bias.

    Args:
        input: shape (batch, channels, *space).
        running_mean, running_var: shape (channels,), moved in place in training, as in torch.
        weight, bias: shape (channels,).
        training: use the batch's statistics; without running statistics evaluation does too.
        momentum: share of this batch in the running statistics.
        eps: added to the (biased) variance.
        spec: what to compute in every detail, a NormSpec or the name of a preset ("llama"); holds the eps then.

    Raises:
        TypeError, ValueError: one sentence on the argument that does not fit.

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167. Definition: `normlab.norms.batchnorm`.
    """
    spec = _spec("batchnorm", spec, BATCH_NORM, eps)
    check_tensor("input", input)
    if input.dim() < 2:
        raise ValueError(f"input must have shape (batch, channels, *space), got {list(input.shape)}")
    momentum = plain(momentum)
    _check.number("momentum", momentum)
    channels = input.shape[1]
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for name, p in given.items():
        _check_parameter(name, p, [channels], "the channels of input")
    if (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var must be given together, got only one of them")
    if (training or running_mean is None) and input.numel() == channels > 0:
        raise ValueError(f"input must hold more than 1 value per channel for its statistics, got {list(input.shape)}")
    arguments = (input, running_mean, running_var, weight, bias, training, momentum, spec)
    found = _half.batch_norm(*arguments)
    return torch_ops.batch_norm(*arguments) if found is None else found


# One node each in a graph of torch.fx.symbolic_trace, which has no numbers to check.
for _name in ("rms_norm", "layer_norm", "add_rms_norm", "add_layer_norm", "batch_norm"):
    torch.fx.wrap(_name)
