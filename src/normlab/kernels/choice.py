"""Which implementation of a norm runs a call on tensors, and why."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

from normlab import _check
from normlab.kernels import cpu, cpu_plan, cpu_threads, gpu, torch_ops
from normlab.kernels.cpu_build import BuildError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from normlab.kernels.cpu_plan import BackwardPlan, ForwardPlan
    from normlab.kernels.fused import Backward, Forward
    from normlab.spec import NormSpec

VARIABLE = "NORMLAB_KERNELS"
CHOICES = ("fused", "torch")


class Passes(Protocol):
    """The two passes of a norm over rows: see `fused`."""

    @property
    def NAME(self) -> str:
        """The name in reports."""
        ...

    def forward(
        self,
        x: "Tensor",
        residual: "Tensor | None",
        weight: "Tensor | None",
        bias: "Tensor | None",
        rows: int,
        n: int,
        spec: "NormSpec",
    ) -> "Forward":
        """See `fused`."""
        ...

    def backward(
        self,
        dy: "Tensor",
        dtotal: "Tensor | None",
        x: "Tensor",
        weight: "Tensor | None",
        stats: "Tensor",
        bias_dtype: "torch.dtype | None",
        rows: int,
        n: int,
        spec: "NormSpec",
    ) -> "Backward":
        """See `fused`."""
        ...


class Kernel(Passes, Protocol):
    """What a module with fused kernels offers."""

    def refusal(
        self, x: "Tensor", residual: "Tensor | None", weight: "Tensor | None", bias: "Tensor | None", spec: "NormSpec"
    ) -> str | None:
        """Why it does not take a call of a fusable spec, or None."""
        ...


class Choice(NamedTuple):
    """The fused kernel that runs, or None for PyTorch's own operations, and why no other."""

    kernel: Kernel | None
    reason: str


class _Wish:
    """One that is in force, equal to no other: two threads may have the same."""

    def __init__(self, which: str) -> None:
        self.which = which


def _from_outside() -> _Wish:
    which = os.environ.get(VARIABLE) or "fused"
    try:
        _check.one_of(f"the variable {VARIABLE}", which, CHOICES)
    except ValueError as error:
        raise _check.InputError(str(error)) from None
    return _Wish(which)


# The newest last. Threads share the list without a lock: each adds and removes its own in one step.
_in_force = [_from_outside()]


@contextmanager
def use_kernels(which: str) -> Iterator[None]:
    """Within this context, in all threads: "fused" (the default; PyTorch's operations where no fused kernel fits) or
    "torch" (PyTorch's operations alone). The environment variable NORMLAB_KERNELS sets it for a process.

    Contexts may be nested, and those of several threads may overlap: of all that are in force the newest counts, and
    leaving one takes back that one alone.

    Args:
        which: "fused" or "torch".

    Raises:
        ValueError: for another name.
    """
    _check.one_of("which", which, CHOICES)
    wish = _Wish(which)
    _in_force.append(wish)
    try:
        yield
    finally:
        # A compiled function that uses this context in one thread puts the list back as it found it, without a wish
        # that another thread has added meanwhile.
        with suppress(ValueError):
            _in_force.remove(wish)


def chosen() -> str:
    """What `use_kernels` was last told, in force now."""
    return _in_force[-1].which


def unfusable(
    x: "torch.dtype",
    weight: "torch.dtype | None",
    bias: "torch.dtype | None",
    spec: "NormSpec",
    which: str | None = None,
) -> str | None:
    """Why no fused kernel computes this spec on these dtypes, or None.

    `which` stands for what `use_kernels` was told. A compiler can look through this function.
    """
    if (which or chosen()) == "torch":
        return "no fused kernel was asked for"
    half = x in torch_ops.HALVES
    if spec.kind not in ("rmsnorm", "layernorm"):
        return f"there is no fused kernel for kind {spec.kind!r}"
    if spec.eps_place != "inside":
        return 'eps_place is "outside"'
    if half and spec.stats_dtype != "float32":
        return f"the statistics are taken in {str(x).removeprefix('torch.')}"
    if spec.scale_dtype != "stats" and any(p not in (None, x) for p in (weight, bias)):
        return f'scale_dtype is "{spec.scale_dtype}" and the parameters are not of the input\'s dtype'
    if spec.scale_dtype == "weight" and half and weight is None and bias is not None:
        return 'scale_dtype is "weight" and there is a bias alone'
    return None


@cache
def _warn(sentence: str) -> None:
    """Once a process."""
    warnings.warn(sentence, stacklevel=5)


def _choice(kernel: Kernel, refusal: str | None) -> Choice:
    if refusal is None:
        return Choice(kernel, "fused")
    if "not installed" in refusal or "cannot be imported" in refusal:
        _warn(f"normlab runs on PyTorch's own operations, which are slower: {refusal}")
    return Choice(None, refusal)


@lru_cache(maxsize=1024)
def _choose_on_cpu(
    x: "torch.dtype",
    weight: "torch.dtype | None",
    bias: "torch.dtype | None",
    spec: "NormSpec",
    which: str,
    unusable: str | None,
) -> Choice:
    """There the answer depends on little, and is asked for at every call."""
    return _choice(cpu, unfusable(x, weight, bias, spec, which) or unusable)


class Plans(NamedTuple):
    """Of the two passes; of the backward pass only where gradients are wanted and no residual is added, since otherwise
    it is not known yet which code will run."""

    forward: "ForwardPlan"
    backward: "BackwardPlan | None"


@lru_cache(maxsize=4096)
def _plans(
    x: "torch.dtype",
    weight: "torch.dtype | None",
    bias: "torch.dtype | None",
    added: bool,
    spec: "NormSpec",
    rows: int,
    n: int,
    wanted: bool,
    workers: int,
    which: str,
    unusable: str | None,
) -> "Plans | None":
    names = ["" if dtype is None else cpu.NAMES.get(dtype) for dtype in (x, weight, bias)]
    if None in names or _choose_on_cpu(x, weight, bias, spec, which, unusable).kernel is None:
        return None
    try:
        return Plans(
            cpu_plan.forward_plan(*names, added, spec, rows, n, workers),
            cpu_plan.backward_plan(*names, False, spec, rows, n, workers) if wanted and not added else None,
        )
    except BuildError:
        return None


def plans_on_cpu(
    x: "Tensor",
    residual: "Tensor | None",
    weight: "Tensor | None",
    bias: "Tensor | None",
    rows: int,
    n: int,
    spec: "NormSpec",
    wanted: bool,
) -> "Plans | None":
    """The plans of a call on CPU tensors, in one look at what is known already; None where `choose` and the kernel that
    it names must be asked."""
    w, b = None if weight is None else weight.dtype, None if bias is None else bias.dtype
    added = residual is not None
    return _plans(x.dtype, w, b, added, spec, rows, n, wanted, cpu_threads.threads(), chosen(), cpu.unusable())


def choose(
    x: "Tensor", residual: "Tensor | None", weight: "Tensor | None", bias: "Tensor | None", spec: "NormSpec"
) -> Choice:
    """What runs a call."""
    dtypes = x.dtype, None if weight is None else weight.dtype, None if bias is None else bias.dtype
    if x.is_cpu:
        return _choose_on_cpu(*dtypes, spec, chosen(), cpu.unusable())
    why = unfusable(*dtypes, spec)
    return _choice(gpu, gpu.refusal(x, residual, weight, bias, spec) if why is None else why)
