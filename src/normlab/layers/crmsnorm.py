"""CRMSNorm, the compressed RMSNorm, as a PyTorch layer."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from normlab.layers import functional
from normlab.layers._formula import WeightedRowNorm, factor, over_parts, scaled, wide
from normlab.layers._spec import DEFAULT_EPS
from normlab.spec import NormSpec


def compress(x: Float[Tensor, "... d"]) -> Float[Tensor, "... n"]:
    """Of vectors (..., d) the first n = d - 1 entries less the vector's mean; `recover` undoes it but for the mean.

    Raises:
        TypeError, ValueError: for what is not a floating-point tensor, or has nothing along its last axis.
    """
    functional.check_tensor("x", x)
    if x.dim() == 0 or x.shape[-1] == 0:
        raise ValueError(f"x must have at least one entry along its last axis, got shape {list(x.shape)}")
    return x[..., :-1] - x.mean(-1, keepdim=True)


def recover(x: Float[Tensor, "... n"]) -> Float[Tensor, "... d"]:
    """The vectors of mean 0 that `x` stands for, of d = n + 1 entries: the last is minus the sum of the others.

    Raises:
        TypeError, ValueError: for what is not a floating-point tensor, or has no axis.
    """
    functional.check_tensor("x", x)
    if x.dim() == 0:
        raise ValueError("x must have at least one axis, got shape []")
    return torch.cat([x, -x.sum(-1, keepdim=True)], -1)


class CRMSNorm(WeightedRowNorm):
    """y = x / sqrt((sum(x^2) + sum(x)^2) / (n + 1) + eps) * (offset + weight), over n numbers that stand for n + 1.

    A vector of mean 0 is known without its last entry, which is minus the sum of the others. y is what LayerNorm
    makes of that vector, without its last entry.

    Args:
        normalized_shape: int or sizes of the trailing axes that are normalized together; n is their product, one
            less than the size of the vector that they stand for.
        eps: added to the mean square.
        elementwise_affine: whether there is a weight, of shape normalized_shape.
        device, dtype: of the weight.
        spec: a NormSpec of kind "crmsnorm", for all details. Beside it elementwise_affine only takes away: True gives
            no weight that it has not.

    Raises:
        TypeError, ValueError: for a spec of another kind, an eps that contradicts it, or sizes that are none.

    Source: Jiang, Gu, Zhu & Pan 2023, arXiv:2305.14858. Definition: `normlab.norms.crmsnorm`.

    FAQ:
        What is it good for? A Pre-LN Transformer whose residual stream is kept at mean 0 needs no mean in its norms,
        and need not store the stream's last entry.
        Does the output stand for a vector of mean 0 again? Without a weight it does; a weight undoes that.
    """

    KIND = "crmsnorm"

    def __init__(
        self,
        normalized_shape: int | list[int] | torch.Size,
        eps: float | None = DEFAULT_EPS,
        elementwise_affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        spec: NormSpec | str | None = None,
    ) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, device, dtype, spec)

    @over_parts
    def forward(self, input: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Normalize input of shape (*, *normalized_shape)."""
        self._check(input)
        spec, axes = self.spec, self._axes
        h = wide(input, spec)
        n = math.prod(self.normalized_shape)
        v = (h.pow(2).sum(axes, keepdim=True) + h.sum(axes, keepdim=True).pow(2)) / (n + 1)
        return scaled(h * factor(v, spec), input, self.weight, None, spec)
