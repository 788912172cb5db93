"""The scale of activations and gradients, layer by layer, in one training step of a Transformer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from normlab.models import Transformer


@dataclass(frozen=True, slots=True)
class Scales:
    """Root mean squares in one step. Index 0 is the embedding, index i the output of block i.

    Attributes:
        step: the optimizer step, from 0.
        activation: of the residual stream after each block.
        gradient: of the loss's gradient by the same.
        weight_gradient: Euclidean norm of the gradient by each block's feed-forward output weight
            (what Xiong et al. 2020 bound), one entry a block.
    """

    step: int
    activation: tuple[float, ...]
    gradient: tuple[float, ...]
    weight_gradient: tuple[float, ...]


def rms(x: Tensor) -> float:
    """Root mean square, taken in float64."""
    return x.detach().double().pow(2).mean().sqrt().item()


class Recorder:
    """Keeps the residual stream of one forward pass, for reading after its backward pass."""

    def __init__(self) -> None:
        self.stream: list[Tensor] = []

    def keep(self, tensor: Tensor) -> None:
        """Keep a tensor and the gradient that will reach it."""
        tensor.retain_grad()
        self.stream.append(tensor)

    def read(self, model: Transformer, step: int) -> Scales:
        """The scales, after backward."""
        grads = [torch.zeros_like(t) if t.grad is None else t.grad for t in self.stream]
        weights = [m.get_parameter("feedforward.down_proj.weight").grad for m in model.blocks]
        return Scales(
            step=step,
            activation=tuple(rms(t) for t in self.stream),
            gradient=tuple(rms(g) for g in grads),
            weight_gradient=tuple(w.double().norm().item() for w in weights if w is not None),
        )


@contextmanager
def recording(model: Transformer) -> Iterator[Recorder]:
    """Record the residual stream of the forward passes made inside the with block."""
    recorder = Recorder()

    def before_first(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        recorder.keep(inputs[0])

    def after(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        recorder.keep(output)

    handles = [model.blocks[0].register_forward_pre_hook(before_first)]
    handles += [block.register_forward_hook(after) for block in model.blocks]
    try:
        yield recorder
    finally:
        for handle in handles:
            handle.remove()
