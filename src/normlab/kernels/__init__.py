"""Norms on tensors, fast: the implementations that `normlab.layers` chooses from.

A kernel is a module with `rms_norm`, `layer_norm` and `batch_norm`, each a function of tensors and a
NormSpec, and `refusal`, which says in a sentence why it does not take a call, or None when it does.
`choose` returns the first that takes it. The last entry takes everything.
"""

from typing import TYPE_CHECKING, NamedTuple, Protocol

from normlab.kernels import torch_ops

if TYPE_CHECKING:
    from torch import Tensor

    from normlab.spec import NormSpec


class Kernel(Protocol):
    """What a module in KERNELS offers. Arguments have been checked by the caller."""

    @property
    def NAME(self) -> str:
        """The name in reports."""
        ...

    def refusal(self, x: "Tensor", weight: "Tensor | None", spec: "NormSpec") -> str | None:
        """Why this kernel does not take the call, or None."""
        ...

    def rms_norm(self, x: "Tensor", shape: list[int], weight: "Tensor | None", spec: "NormSpec") -> "Tensor":
        """As `normlab.functional.rms_norm`."""
        ...

    def layer_norm(
        self, x: "Tensor", shape: list[int], weight: "Tensor | None", bias: "Tensor | None", spec: "NormSpec"
    ) -> "Tensor":
        """As `normlab.functional.layer_norm`."""
        ...

    def batch_norm(
        self,
        x: "Tensor",
        running_mean: "Tensor | None",
        running_var: "Tensor | None",
        weight: "Tensor | None",
        bias: "Tensor | None",
        training: bool,
        momentum: float,
        spec: "NormSpec",
    ) -> "Tensor":
        """As `normlab.functional.batch_norm`."""
        ...


class Choice(NamedTuple):
    """The kernel that runs, and why those before it do not."""

    kernel: Kernel
    reason: str


KERNELS: tuple[Kernel, ...] = (torch_ops,)


def choose(x: "Tensor", weight: "Tensor | None", spec: "NormSpec") -> Choice:
    """The first kernel that takes this call."""
    refused = []
    for kernel in KERNELS:
        why = kernel.refusal(x, weight, spec)
        if why is None:
            return Choice(kernel, "; ".join(refused) or "first choice")
        refused.append(f"not {kernel.NAME}: {why}")
    raise RuntimeError(f"no kernel takes this call: {'; '.join(refused)}")
