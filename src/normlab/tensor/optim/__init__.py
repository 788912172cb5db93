"""Optimizers, under torch's names: SGD, Adam, AdamW, and clipping of gradients by their norm."""

from normlab.tensor.optim.adam import Adam, AdamW
from normlab.tensor.optim.base import Optimizer, clip_grad_norm_
from normlab.tensor.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm_"]
