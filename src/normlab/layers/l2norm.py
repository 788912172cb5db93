"""L2Norm and QKNorm as PyTorch layers."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from normlab import _check
from normlab.layers import functional
from normlab.layers._formula import WeightedRowNorm, agree, eps_for, over_parts, scaled, wide
from normlab.layers._spec import plain, size
from normlab.spec import NormSpec

PLAIN = NormSpec("l2norm")
# torch.nn.functional.normalize's; as DEFAULT_EPS in _spec.
DEFAULT_LENGTH = float("1e-12")


class L2Norm(WeightedRowNorm):
    """y = x / max(||x||, eps), times a weight if there is one, over the trailing axes: every row gets length 1.

    torch.nn.functional.normalize as a layer, with its eps; statistics in float32 for half precision.

    Args:
        normalized_shape: int or sizes of the trailing axes that are normalized together.
        eps: the least length that a row is divided by.
        elementwise_affine: whether there is a weight, of shape normalized_shape, as in ParseNet.
        device, dtype: of the weight.
        spec: a NormSpec of kind "l2norm", for all details, `affine` among them: beside it elementwise_affine=False
            cannot be told from nothing said. A plain NormSpec("l2norm") has the eps and the weight that a NormSpec has
            by default, 1e-5 and True.

    Raises:
        TypeError, ValueError: for a spec of another kind, an eps or elementwise_affine that contradicts it, or sizes
            that are none.

    Source: Liu, Rabinovich & Berg 2015, arXiv:1506.04579. Definition: `normlab.norms.l2norm`.
    """

    KIND = "l2norm"
    DEFAULT_EPS = DEFAULT_LENGTH

    def __init__(
        self,
        normalized_shape: int | list[int] | torch.Size,
        eps: float | None = DEFAULT_LENGTH,
        elementwise_affine: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        spec: NormSpec | str | None = None,
    ) -> None:
        # False is the default here, so beside a spec it means that nothing was said.
        wanted = elementwise_affine if spec is None else True
        super().__init__(normalized_shape, eps, wanted, device, dtype, spec)
        if spec is not None:
            agree("elementwise_affine", elementwise_affine, False, self._spec.affine)

    @over_parts
    def forward(self, input: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Normalize input of shape (*, *normalized_shape)."""
        self._check(input)
        spec = self.spec
        h = wide(input, spec)
        normed = F.normalize(h, dim=self._axes, eps=eps_for(h, spec))  # pyright: ignore[reportArgumentType]
        return scaled(normed, input, self.weight, None, spec)


class QKNorm(nn.Module):
    """q' = g * q / ||q||,  k' = k / ||k|| for the queries and keys of attention, with one learned number g.

    The dot products of q' and k' are g times a cosine, so that no logit leaves [-|g|, |g|]. g takes the place of the
    factor 1 / sqrt(head_dim): call `F.scaled_dot_product_attention(q', k', v, scale=1.0)`.

    Args:
        length: length of the training sequences, at least 2 (the paper: of 97.5% of them at most);
            g begins at log2(length^2 - length).
        eps: the least length that a row is divided by.
        device, dtype: of g, which has shape (1,).

    Raises:
        TypeError, ValueError: for a length or an eps that is out of range.

    Source: Henry, Dachapally, Pawar & Chen 2020, arXiv:2010.04245. Definition: `normlab.norms.l2norm`.

    FAQ:
        Is this the qk_norm of newer models? No. Qwen3 puts one RMSNorm over each head's queries and another over its
        keys, `make_norm("rmsnorm", head_dim)` each, and keeps 1 / sqrt(head_dim); OLMo 2 the same, over all heads at
        once. Both bound the logits, there by the weights, here by g.
    """

    def __init__(
        self,
        length: int,
        eps: float = 1e-12,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        length, eps = size("length", length, least=2), plain(eps)
        _check.number("eps", eps, least=0)
        super().__init__()
        self.length = length
        self.eps = eps
        self.g = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill g with log2(length^2 - length)."""
        nn.init.constant_(self.g, math.log2(self.length**2 - self.length))

    def forward(
        self, q: Float[Tensor, "*queries n"], k: Float[Tensor, "*keys n"]
    ) -> tuple[Float[Tensor, "*queries n"], Float[Tensor, "*keys n"]]:
        """(q', k'), each of its input's shape and dtype; n is head_dim."""
        for name, x in (("q", q), ("k", k)):
            functional.check_tensor(name, x)
        if q.dim() == 0 or k.dim() == 0 or q.shape[-1] != k.shape[-1]:
            raise ValueError(f"q and k must end in the same axis, got shapes {list(q.shape)} and {list(k.shape)}")
        normed_q, normed_k = (F.normalize(wide(x, PLAIN), dim=-1, eps=self.eps) for x in (q, k))
        return scaled(normed_q, q, self.g, None, PLAIN), scaled(normed_k, k, None, None, PLAIN)

    def extra_repr(self) -> str:
        """Where g begins and the eps."""
        return f"length={self.length}, eps={self.eps}"
