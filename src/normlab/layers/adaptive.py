"""AdaptiveLayerNorm and AdaptiveRMSNorm: norms whose scale and shift are computed from a conditioning vector."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from normlab.kernels.torch_ops import HALVES
from normlab.layers import functional
from normlab.layers._spec import DEFAULT_EPS, size
from normlab.layers.layernorm import LayerNorm
from normlab.layers.rmsnorm import RMSNorm
from normlab.spec import NormSpec


class _Adaptive(nn.Module):
    """y = norm(x) * (1 + scale) + shift,  (shift, scale) = projection(silu(condition)).

    The projection begins at 0, so a fresh layer is the plain norm, to the bit.

    Args:
        dim: size of the normalized, last axis.
        condition_dim: size of the conditioning vector.
        eps: the norm's.
        elementwise_affine: whether the norm has parameters of its own; DiT's has none.
        device, dtype: of the parameters.
        spec: a NormSpec or the name of a preset, of the kind of the norm, for all its details; `elementwise_affine`
            must be True for parameters that it asks for.

    Raises:
        TypeError, ValueError: for sizes that are none, a spec of another kind, or an eps that contradicts it.

    Source: Peebles & Xie 2022, arXiv:2212.09748 (with LayerNorm). Definition: `normlab.norms.adaptive`.

    FAQ:
        Where is adaLN-Zero's gate? It multiplies what a branch adds to the stream, after the branch, and is no part
        of the norm. DiT computes shift, scale and gate of two branches in one projection; the order, shift first, is
        the same here.
        Is the projection zero after `model.apply(init)`? Only if init leaves it alone: call `reset_parameters()`.
    """

    def __init__(
        self,
        norm: LayerNorm | RMSNorm,
        condition_dim: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        condition_dim = size("condition_dim", condition_dim, least=1)
        super().__init__()
        (dim,) = norm.normalized_shape
        self.norm = norm
        self.projection = nn.Linear(condition_dim, 2 * dim, device=device, dtype=dtype)
        self._zero()

    def _zero(self) -> None:
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    @property
    def spec(self) -> NormSpec:
        """What the norm computes."""
        return self.norm.spec

    def reset_parameters(self) -> None:
        """Fill the projection with 0 and the norm as when fresh."""
        self.norm.reset_parameters()
        self._zero()

    def forward(
        self, input: Float[Tensor, "*leading_positions dim"], condition: Float[Tensor, "*leading condition_dim"]
    ) -> Float[Tensor, "*leading_positions dim"]:
        """Normalize input (*leading, *positions, dim) under a condition (*leading, condition_dim).

        One conditioning vector acts on all positions under it: (batch, condition_dim) for input (batch, length, dim).
        """
        functional.check_tensor("input", input)
        functional.check_tensor("condition", condition)
        leading = condition.shape[:-1]
        size = self.projection.in_features
        fits = 0 < condition.dim() <= input.dim() and condition.shape[-1] == size
        if not fits or leading != input.shape[: len(leading)]:
            raise ValueError(
                f"condition must have shape (*leading, {size}) with the leading axes of input {list(input.shape)}, "
                f"got {list(condition.shape)}"
            )
        normed = self.norm(input)
        both = self.projection(F.silu(condition.to(self.projection.weight.dtype)))
        both = both.reshape(*leading, *(1,) * (input.dim() - condition.dim()), both.shape[-1])
        shift, scale = both.chunk(2, -1)
        # 1 + scale in half precision would lose the scale's last digits.
        dtype = torch.float32 if normed.dtype in HALVES else normed.dtype
        return (normed * (1 + scale.to(dtype)) + shift.to(dtype)).to(normed.dtype)


class AdaptiveLayerNorm(_Adaptive):
    """LayerNorm with scale and shift from a conditioning vector (adaLN)."""

    __doc__ = f"{__doc__}\n\n    {_Adaptive.__doc__}"

    def __init__(
        self,
        dim: int,
        condition_dim: int,
        eps: float = DEFAULT_EPS,
        elementwise_affine: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        spec: NormSpec | str | None = None,
    ) -> None:
        dim = size("dim", dim, least=1)
        norm = LayerNorm(dim, eps, elementwise_affine, device=device, dtype=dtype, spec=spec)
        super().__init__(norm, condition_dim, device, dtype)


class AdaptiveRMSNorm(_Adaptive):
    """RMSNorm with scale and shift from a conditioning vector."""

    __doc__ = f"{__doc__}\n\n    {_Adaptive.__doc__}"

    def __init__(
        self,
        dim: int,
        condition_dim: int,
        eps: float | None = DEFAULT_EPS,
        elementwise_affine: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        spec: NormSpec | str | None = None,
    ) -> None:
        dim = size("dim", dim, least=1)
        norm = RMSNorm(dim, eps, elementwise_affine, device=device, dtype=dtype, spec=spec)
        super().__init__(norm, condition_dim, device, dtype)
