"""Stochastic gradient descent."""

from collections.abc import Iterable
from typing import Any

from normlab.tensor.core import Array
from normlab.tensor.optim.base import Optimizer, _Bucket, check


class SGD(Optimizer):
    """g = grad + weight_decay * p;  v = momentum * v + g;  p = p - lr * v.

    Args:
        params: see Optimizer.
        lr: learning rate.
        momentum: share of the old v; at the first step v = g.
        nesterov: p = p - lr * (g + momentum * v) instead (Sutskever et al. 2013).
        weight_decay: of the L2 penalty.

    Raises:
        ValueError: for options out of their range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        *,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def _check(self, options: dict[str, Any]) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            check(name, options[name])
        if options["nesterov"] and options["momentum"] == 0:
            raise ValueError("nesterov needs a momentum")

    def _update(self, p: Array, g: Array, bucket: _Bucket, where: slice, step: int, group: dict[str, Any]) -> None:
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p
        if group["momentum"]:
            v = bucket.kept("momentum")[where]
            v *= group["momentum"]
            v += g
            g = g + group["momentum"] * v if group["nesterov"] else v
        p -= group["lr"] * g
