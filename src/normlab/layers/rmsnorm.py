"""RMSNorm as a PyTorch layer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normlab.layers import functional
from normlab.layers._spec import DEFAULT_EPS, WithSpec, resolve, sizes
from normlab.spec import NormSpec


class RMSNorm(WithSpec, nn.RMSNorm):
    """y = x / sqrt(mean(x^2) + eps) * (offset + weight), over the trailing axes `normalized_shape`.

    A torch.nn.RMSNorm: same constructor, same state_dict keys, so a checkpoint of one loads into the other.

    Args:
        normalized_shape: int or sizes of the trailing axes that are normalized together.
        eps: added to the mean square. 1e-5, as for LayerNorm; torch.nn's default is None, which stands for
            the machine epsilon of the dtype of the statistics, and is accepted here too.
        elementwise_affine: whether there is a weight, of shape normalized_shape.
        device, dtype: of the weight.
        spec: a NormSpec or the name of a preset ("llama", "gemma", "t5", "minimind", ...), for all details. Beside
            it elementwise_affine only takes away: True gives no weight that it has not.

    Raises:
        TypeError, ValueError: for a spec of another kind, an eps that contradicts it, or sizes that are none.

    Source: Zhang & Sennrich 2019, arXiv:1910.07467. Definition: `normlab.norms.rmsnorm`.

    FAQ:
        Why does a fresh Gemma-style layer hold zeros? Its scale is `1 + weight`: zeros mean "unchanged".
        Why does nn.TransformerEncoderLayer raise "has no attribute 'bias'" with it, as with torch.nn.RMSNorm? In
            evaluation it computes LayerNorm itself, whatever stands there. It calls its norms after
            `torch.backends.mha.set_fastpath_enabled(False)`.
    """

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
        resolved = resolve("rmsnorm", spec, eps=eps, default_eps=DEFAULT_EPS, affine=elementwise_affine, bias=False)
        self._spec = resolved
        shape = list(sizes("normalized_shape", normalized_shape))
        super().__init__(shape, resolved.eps, resolved.affine, device, dtype)

    def reset_parameters(self) -> None:
        """Fill the weight so that the scale is 1."""
        if self.weight is not None:
            nn.init.constant_(self.weight, 1.0 - self.spec.offset)

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Normalize x of shape (*, *normalized_shape)."""
        return functional.rms_norm(x, self.normalized_shape, self.weight, spec=self.spec)
