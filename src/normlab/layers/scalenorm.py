"""ScaleNorm as a PyTorch layer."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from normlab.layers._formula import RowNorm, eps_for, over_parts, scaled, wide
from normlab.layers._spec import DEFAULT_EPS
from normlab.spec import NormSpec


class ScaleNorm(RowNorm):
    """y = (offset + g) * x / max(||x||, eps) over the trailing axes, with one learned number g.

    Args:
        normalized_shape: int or sizes of the trailing axes that are normalized together; n is their product.
        eps: the least length that a row is divided by, as in the authors' code.
        elementwise_affine: whether g is a parameter, of shape (1,); otherwise the scale stays sqrt(n).
        device, dtype: of g.
        spec: a NormSpec of kind "scalenorm", for all details. Beside it elementwise_affine only takes away: True gives
            no g that it has not.

    Raises:
        TypeError, ValueError: for a spec of another kind, an eps that contradicts it, or sizes that are none.

    Source: Nguyen & Salazar 2019, arXiv:1910.05895. Definition: `normlab.norms.scalenorm`.

    FAQ:
        How does it differ from RMSNorm? g begins at sqrt(n), where they are the same up to eps; ScaleNorm then learns
        one scale for all entries, RMSNorm one for each.
        Why has g the shape (1,) and not ()? Some tools that share parameters out, FSDP among them, take no scalars.
    """

    KIND = "scalenorm"
    g: nn.Parameter | None

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
        super().__init__(normalized_shape, eps, elementwise_affine, spec)
        self._add("g", (1,) if self._spec.affine else None, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill g so that the scale is sqrt(n)."""
        if self.g is not None:
            nn.init.constant_(self.g, math.sqrt(math.prod(self.normalized_shape)) - self.spec.offset)

    @over_parts
    def forward(self, input: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Normalize input of shape (*, *normalized_shape)."""
        self._check(input)
        spec = self.spec
        h = wide(input, spec)
        normed = F.normalize(h, dim=self._axes, eps=eps_for(h, spec))  # pyright: ignore[reportArgumentType]
        if self.g is None:
            normed = normed * math.sqrt(math.prod(self.normalized_shape))
        return scaled(normed, input, self.g, None, spec)
