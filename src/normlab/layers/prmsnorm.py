"""Partial RMSNorm as a PyTorch layer."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from normlab.layers._formula import WeightedRowNorm, agree, factor, over_parts, scaled, wide
from normlab.layers._spec import DEFAULT_EPS
from normlab.norms.prmsnorm import count
from normlab.spec import NormSpec

# As DEFAULT_EPS in _spec.
DEFAULT_FRACTION = float("0.0625")


class PRMSNorm(WeightedRowNorm):
    """y = x / sqrt(mean(x[:m]^2) + eps) * (offset + weight): the RMS of a row's first m = ceil(fraction * n) entries.

    Args:
        normalized_shape: int or sizes of the trailing axes that are normalized together; n is their product, and
            the first entries are those of the flattened row.
        fraction: the share of a row whose RMS is taken, above 0 and at most 1; the paper's is 6.25%.
        eps: added to the mean square.
        elementwise_affine: whether there is a weight, of shape normalized_shape.
        device, dtype: of the weight.
        spec: a NormSpec of kind "prmsnorm", for all details, `fraction` among them. Beside it elementwise_affine only
            takes away: True gives no weight that it has not.

    Raises:
        TypeError, ValueError: for a fraction out of range, a spec of another kind, an eps or fraction that
            contradicts it, or sizes that are none.

    Source: Zhang & Sennrich 2019, arXiv:1910.07467. Definition: `normlab.norms.prmsnorm`.

    FAQ:
        Why is a narrow layer so noisy? 6.25% of 16 entries is one entry; all are divided by its size.
        And the authors' code? It rounds m down, which is 0 below 16 entries, and has the eps outside of the root.
    """

    KIND = "prmsnorm"

    def __init__(
        self,
        normalized_shape: int | list[int] | torch.Size,
        fraction: float = DEFAULT_FRACTION,
        eps: float | None = DEFAULT_EPS,
        elementwise_affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        spec: NormSpec | str | None = None,
    ) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, device, dtype, spec, fraction=fraction)
        if spec is not None:
            agree("fraction", fraction, DEFAULT_FRACTION, self._spec.fraction)
        self._m = count(math.prod(self.normalized_shape), self._spec.fraction)

    @over_parts
    def forward(self, input: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Normalize input of shape (*, *normalized_shape)."""
        self._check(input)
        spec = self.spec
        h = wide(input, spec)
        rows = h.flatten(self._axes[0])
        v = rows[..., : self._m].pow(2).mean(-1)
        v = v.reshape(*v.shape, *(1,) * len(self.normalized_shape))
        return scaled(h * factor(v, spec), input, self.weight, None, spec)

    def extra_repr(self) -> str:
        """As torch.nn.RMSNorm's, with the fraction."""
        return f"{super().extra_repr()}, fraction={self.spec.fraction}"
