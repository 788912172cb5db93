"""DyT, dynamic tanh, as a PyTorch layer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normlab.layers._formula import RowNorm, agree, over_parts, scaled, wide
from normlab.spec import NormSpec

# As DEFAULT_EPS in _spec.
DEFAULT_ALPHA = float("0.5")


class DyT(RowNorm):
    """y = tanh(alpha * x) * (offset + weight) + bias, number by number, with one learned alpha.

    Stands in the place of a norm and takes no statistics. A checkpoint of the authors' layer loads into it.

    Args:
        normalized_shape: int or sizes of the trailing axes, the shape of weight and bias.
        alpha: where alpha begins; the parameter of that name has shape (1,).
        elementwise_affine: whether there is a weight; alpha is there in any case.
        bias: whether there is a bias (only with elementwise_affine).
        device, dtype: of the parameters.
        spec: a NormSpec of kind "dyt", for all details, `alpha` among them; its eps is not used. Beside it
            elementwise_affine and bias only take away: True gives no parameter that it has not.

    Raises:
        TypeError, ValueError: for a spec of another kind, an alpha that contradicts it, or sizes that are none.

    Source: Zhu, Chen, He, LeCun & Liu 2025, arXiv:2503.10622. Definition: `normlab.norms.dyt`.

    FAQ:
        And over channels, (N, C, H, W)? Move them to the end and back: `dyt(x.movedim(1, -1)).movedim(-1, 1)`.
    """

    KIND = "dyt"
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    alpha: nn.Parameter

    def __init__(
        self,
        normalized_shape: int | list[int] | torch.Size,
        alpha: float = DEFAULT_ALPHA,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        spec: NormSpec | str | None = None,
    ) -> None:
        super().__init__(normalized_shape, self.DEFAULT_EPS, elementwise_affine, spec, bias=bias, alpha=alpha)
        if spec is not None:
            agree("alpha", alpha, DEFAULT_ALPHA, self._spec.alpha)
        self._add("alpha", (1,), device, dtype)
        self._add("weight", self.normalized_shape if self._spec.affine else None, device, dtype)
        self._add("bias", self.normalized_shape if self._spec.bias else None, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill alpha with where it begins, the weight so that the scale is 1, and the bias with 0."""
        nn.init.constant_(self.alpha, self.spec.alpha)
        if self.weight is not None:
            nn.init.constant_(self.weight, 1.0 - self.spec.offset)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @over_parts
    def forward(self, input: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Squash input of shape (*, *normalized_shape)."""
        self._check(input)
        spec = self.spec
        h = wide(input, spec)
        return scaled(torch.tanh(self.alpha.to(h.dtype) * h), input, self.weight, self.bias, spec)

    def extra_repr(self) -> str:
        """The shape and where alpha begins."""
        usual = f"{self.normalized_shape}, alpha={self.spec.alpha}, elementwise_affine={self.elementwise_affine}"
        return usual + self._others()
