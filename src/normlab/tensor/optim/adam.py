"""Adam and AdamW."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from normlab.tensor.core import Array
from normlab.tensor.optim.base import Optimizer, _Bucket, check


class Adam(Optimizer):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p = p - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).

    t counts the steps of each parameter from 1 (Kingma & Ba 2014, arXiv:1412.6980).

    Args:
        params: see Optimizer.
        lr: learning rate.
        betas: b1 and b2.
        eps: keeps the quotient finite.
        weight_decay: of the L2 penalty, added to g.

    Raises:
        ValueError: for options out of their range.
    """

    decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _check(self, options: dict[str, Any]) -> None:
        for name in ("lr", "eps", "weight_decay"):
            check(name, options[name])
        for beta in options["betas"]:
            if not 0 <= beta < 1:
                raise ValueError(f"betas must be at least 0 and less than 1, got {options['betas']}")

    def _update(self, p: Array, g: Array, bucket: _Bucket, where: slice, step: int, group: dict[str, Any]) -> None:
        lr, (b1, b2), decay = group["lr"], group["betas"], group["weight_decay"]
        if decay and self.decoupled:
            p *= 1 - lr * decay
        elif decay:
            g = g + decay * p
        m, v = bucket.kept("m")[where], bucket.kept("v")[where]
        m *= b1
        change = g * (1 - b1)
        m += change
        v *= b2
        np.multiply(g, g, out=change)
        change *= 1 - b2
        v += change
        np.sqrt(v, out=change)
        change *= 1 / math.sqrt(1 - b2**step)
        change += group["eps"]
        np.divide(m, change, out=change)
        change *= lr / (1 - b1**step)
        p -= change


class AdamW(Adam):
    """Adam with decoupled weight decay: p = (1 - lr * weight_decay) p before each step.

    Loshchilov & Hutter 2017, arXiv:1711.05101.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
