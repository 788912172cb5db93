"""rms_norm, layer_norm and batch_norm with the signatures of torch.nn.functional, plus `spec=`.

Arguments are checked here, once; a kernel then computes (see `normlab.kernels`).
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from normlab.kernels import choose
from normlab.spec import Kind, NormSpec

RMS_NORM = NormSpec.preset("torch", "rmsnorm")
LAYER_NORM = NormSpec.preset("torch", "layernorm")
BATCH_NORM = NormSpec.preset("torch", "batchnorm")


def _spec(kind: Kind, spec: NormSpec | None, default: NormSpec, eps: float | None) -> NormSpec:
    """The spec to compute: the one given, or the default with this eps."""
    if spec is None:
        return default if eps == default.eps else NormSpec(kind, eps=eps)
    if not isinstance(spec, NormSpec):
        raise TypeError(f"spec must be a NormSpec, got {type(spec).__name__}")
    if spec.kind != kind:
        raise ValueError(f"spec must be of kind {kind!r} here, got {spec.kind!r}")
    if eps not in (default.eps, spec.eps):
        raise ValueError(f"eps is part of the spec ({spec.eps}): give it there, got eps={eps}")
    return spec


def _check_input(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{name} must have a floating-point dtype, got {x.dtype}")


def _check_shapes(x: Tensor, shape: Sequence[int], **parameters: Tensor | None) -> list[int]:
    """`shape` as a list, after checking it against x and the parameters against it."""
    sizes = list(shape)
    if not sizes or list(x.shape[-len(sizes) :]) != sizes:
        raise ValueError(f"normalized_shape must be the trailing axes of input {list(x.shape)}, got {sizes}")
    for name, p in parameters.items():
        if p is not None and list(p.shape) != sizes:
            raise ValueError(f"{name} must have shape normalized_shape {sizes}, got {list(p.shape)}")
    return sizes


def rms_norm(
    input: Float[Tensor, "..."],
    normalized_shape: Sequence[int],
    weight: Float[Tensor, "..."] | None = None,
    eps: float | None = None,
    *,
    spec: NormSpec | None = None,
) -> Float[Tensor, "..."]:
    """input / sqrt(mean(input^2) + eps) * weight over the trailing axes `normalized_shape`.

    Args:
        input: shape (*, *normalized_shape), any floating-point dtype.
        normalized_shape: the trailing axes that are normalized together.
        weight: shape normalized_shape, of input's or another floating-point dtype.
        eps: None stands for the machine epsilon of the dtype of the statistics, as in torch.
        spec: what to compute in every detail; holds the eps then.

    Returns:
        A new tensor of input's shape and (unless the spec says otherwise) dtype.

    Raises:
        TypeError, ValueError: one sentence on the argument that does not fit.

    Source: Zhang & Sennrich 2019, arXiv:1910.07467. Definition: `normlab.norms.rmsnorm`.
    """
    spec = _spec("rmsnorm", spec, RMS_NORM, eps)
    _check_input("input", input)
    shape = _check_shapes(input, normalized_shape, weight=weight)
    return choose(input, weight, spec).kernel.rms_norm(input, shape, weight, spec)


def layer_norm(
    input: Float[Tensor, "..."],
    normalized_shape: Sequence[int],
    weight: Float[Tensor, "..."] | None = None,
    bias: Float[Tensor, "..."] | None = None,
    eps: float = 1e-5,
    *,
    spec: NormSpec | None = None,
) -> Float[Tensor, "..."]:
    """(input - mean) / sqrt(var + eps) * weight + bias over the trailing axes `normalized_shape`.

    Args:
        input: shape (*, *normalized_shape), any floating-point dtype.
        normalized_shape: the trailing axes that are normalized together.
        weight, bias: shape normalized_shape, of input's or another floating-point dtype.
        eps: added to the (biased) variance.
        spec: what to compute in every detail; holds the eps then.

    Returns:
        A new tensor of input's shape and (unless the spec says otherwise) dtype.

    Raises:
        TypeError, ValueError: one sentence on the argument that does not fit.

    Source: Ba, Kiros & Hinton 2016, arXiv:1607.06450. Definition: `normlab.norms.layernorm`.
    """
    spec = _spec("layernorm", spec, LAYER_NORM, eps)
    _check_input("input", input)
    shape = _check_shapes(input, normalized_shape, weight=weight, bias=bias)
    return choose(input, weight, spec).kernel.layer_norm(input, shape, weight, bias, spec)


def batch_norm(
    input: Float[Tensor, "batch channels *space"],
    running_mean: Float[Tensor, " channels"] | None,
    running_var: Float[Tensor, " channels"] | None,
    weight: Float[Tensor, " channels"] | None = None,
    bias: Float[Tensor, " channels"] | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    spec: NormSpec | None = None,
) -> Float[Tensor, "batch channels *space"]:
    """Per channel (input - mean) / sqrt(var + eps) * weight + bias.

    Args:
        input: shape (batch, channels, *space).
        running_mean, running_var: shape (channels,), moved in place in training, as in torch.
        weight, bias: shape (channels,).
        training: use the batch's statistics; without running statistics evaluation does too.
        momentum: share of this batch in the running statistics.
        eps: added to the (biased) variance.
        spec: what to compute in every detail; holds the eps then.

    Raises:
        TypeError, ValueError: one sentence on the argument that does not fit.

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167. Definition: `normlab.norms.batchnorm`.
    """
    spec = _spec("batchnorm", spec, BATCH_NORM, eps)
    _check_input("input", input)
    if input.dim() < 2:
        raise ValueError(f"input must have shape (batch, channels, *space), got {list(input.shape)}")
    channels = input.shape[1]
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for name, p in given.items():
        if p is not None and list(p.shape) != [channels]:
            raise ValueError(f"{name} must have shape [{channels}], the channels of input, got {list(p.shape)}")
    if not training and (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var must be given together")
    if training and input.numel() // max(channels, 1) < 2:
        raise ValueError(f"input must hold more than 1 value per channel in training, got {list(input.shape)}")
    kernel = choose(input, weight, spec).kernel
    return kernel.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, spec)
