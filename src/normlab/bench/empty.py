"""A norm without the arithmetic: how long a call takes in which Python and PyTorch alone have something to do.

A layer is called, an autograd.Function applied; the memory for results, statistics and gradients is taken, tensors are
kept for the backward pass, and nothing is computed. An autograd.Function in Python takes no less; PyTorch's LayerNorm,
which is C++ all the way, does for small tensors.
"""

from typing import Any

import torch
from torch import Tensor, nn

from normlab.bench.contenders import Forward, Inputs


def _results(given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Memory for what a norm gives, as it comes, and for its statistics."""
    x = given[0]
    return *(torch.empty_like(t) for t in given), x.new_empty_strided((len(x), 1), (1, 1), dtype=torch.float64)


class _Empty(torch.autograd.Function):
    """What a norm makes and keeps is made and kept."""

    @staticmethod
    def forward(ctx: Any, adds: bool, *tensors: Any) -> Any:
        """x, with `adds` a residual, and the parameters."""
        given, parameters = tensors[: 1 + adds], tensors[1 + adds :]
        *results, stats = _results(given)
        ctx.save_for_backward(results[0] if adds else given[0], *parameters, stats)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Gradients of the shapes that belong there."""
        total, *parameters, _ = ctx.saved_tensors
        return None, *[torch.empty_like(total)] * len(gradients), *(torch.empty_like(p) for p in parameters)


# Without a search for what torch.func wraps.
_apply_empty: Any = super(torch.autograd.Function, _Empty).apply  # pyright: ignore[reportAttributeAccessIssue]


class _EmptyLayer(nn.Module):
    """As a norm's layer, with parameters of its own."""

    def __init__(self, parameters: tuple[nn.Parameter, ...]) -> None:
        super().__init__()
        self.weight = parameters[0]
        self.bias = parameters[1] if len(parameters) > 1 else None

    def forward(self, *given: Tensor) -> Any:
        parameters = (self.weight,) if self.bias is None else (self.weight, self.bias)
        return _apply_empty(len(given) > 1, *given, *parameters) if torch.is_grad_enabled() else _results(given)[:-1]


def empty(data: Inputs) -> Forward:
    """The call, on a case's tensors."""
    layer = _EmptyLayer(data.parameters)
    return lambda: layer(*data.given)
