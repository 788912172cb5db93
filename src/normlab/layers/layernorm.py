"""LayerNorm as a PyTorch layer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normlab.layers import functional
from normlab.layers._spec import DEFAULT_EPS, Called, resolve, sizes
from normlab.spec import NormSpec


class LayerNorm(Called, nn.LayerNorm):
    """y = (x - mean(x)) / sqrt(var(x) + eps) * (offset + weight) + bias, over the trailing axes.

    A torch.nn.LayerNorm: same constructor, same state_dict keys, so a checkpoint of one loads into the other.

    Args:
        normalized_shape: int or sizes of the trailing axes that are normalized together.
        eps: added to the (biased) variance.
        elementwise_affine: whether there is a weight, of shape normalized_shape.
        bias: whether there is a bias, of the same shape (only with elementwise_affine).
        device, dtype: of the parameters.
        spec: a NormSpec or the name of a preset ("torch", "tensorweaver"), for all details. Beside it
            elementwise_affine and bias only take away: True gives no parameter that it has not.

    Raises:
        TypeError, ValueError: for a spec of another kind, an eps that contradicts it, or sizes that are none.

    Source: Ba, Kiros & Hinton 2016, arXiv:1607.06450. Definition: `normlab.norms.layernorm`.
    """

    def __init__(
        self,
        normalized_shape: int | list[int] | torch.Size,
        eps: float = DEFAULT_EPS,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        spec: NormSpec | str | None = None,
    ) -> None:
        resolved = resolve("layernorm", spec, eps=eps, default_eps=DEFAULT_EPS, affine=elementwise_affine, bias=bias)
        self._spec = resolved
        shape = list(sizes("normalized_shape", normalized_shape))
        # torch.nn keeps eps for its repr; None is the spec's to interpret.
        super().__init__(shape, resolved.eps, resolved.affine, resolved.bias, device, dtype)  # pyright: ignore[reportArgumentType]
        self._ask_for_calls()

    def reset_parameters(self) -> None:
        """Fill the weight so that the scale is 1, and the bias with 0."""
        if self.weight is not None:
            nn.init.constant_(self.weight, 1.0 - self.spec.offset)
            if self.bias is not None:
                nn.init.zeros_(self.bias)

    def forward(self, input: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Normalize input of shape (*, *normalized_shape)."""
        return functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, spec=self.spec)
