"""Graphs drawn at random, with views, detours and tensors used many times, against PyTorch in float64."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from normlab.tensor import Tensor, cat, maximum, ops, stack, where

# On (4, 4) matrices, to (4, 4) matrices; those whose result does not grow much, so that long chains stay finite.
ONE: list[tuple[Any, Any]] = [
    (lambda a: a.tanh(), torch.tanh),
    (lambda a: (a * 0.1).exp(), lambda a: (a * 0.1).exp()),
    (lambda a: a.T, lambda a: a.T),
    (lambda a: a[::-1], lambda a: a.flip(0)),
    (lambda a: a + a.sum(0, True), lambda a: a + a.sum(0, keepdim=True)),
    (lambda a: a - a.mean(-1, True), lambda a: a - a.mean(-1, keepdim=True)),
    (lambda a: a / (a.var(0, True) + 1).sqrt(), lambda a: a / (a.var(0, keepdim=True, correction=0) + 1).sqrt()),
    (lambda a: a + a.max(0, True), lambda a: a + a.amax(0, keepdim=True)),
    (lambda a: a.softmax(), lambda a: a.softmax(-1)),
    (lambda a: a.log_softmax(0), lambda a: a.log_softmax(0)),
    (lambda a: ops.layer_norm(a, 4), lambda a: F.layer_norm(a, (4,))),
    (lambda a: ops.rms_norm(a, (4, 4), eps=1e-3), lambda a: F.rms_norm(a, (4, 4), eps=1e-3)),
    (lambda a: ops.batch_norm(a), lambda a: F.batch_norm(a, None, None, training=True)),
    (lambda a: ops.group_norm(a, 2), lambda a: F.group_norm(a, 2)),
    (ops.gelu, F.gelu),
    (ops.relu, F.relu),
    (lambda a: a.cumsum(0), lambda a: a.cumsum(0)),
    (lambda a: cat([a, a * 2], 1)[:, ::2], lambda a: torch.cat([a, a * 2], 1)[:, ::2]),
    (lambda a: stack([a, a.tanh()]).sum(0), lambda a: torch.stack([a, a.tanh()]).sum(0)),
    (lambda a: a[[0, 2, 2, 1]], lambda a: a[[0, 2, 2, 1]]),
    (lambda a: a @ a.T @ a * 0.01, lambda a: a @ a.T @ a * 0.01),
    (lambda a: a.detach() * a, lambda a: a.detach() * a),
    (lambda a: where(a.data > 0, a, a * 0.1), lambda a: torch.where(a.detach() > 0, a, a * 0.1)),
    (lambda a: maximum(a, a.T), lambda a: torch.maximum(a, a.T)),
    (lambda a: ops.broadcast_to(a[:1], (4, 4)), lambda a: a[:1].expand(4, 4)),
    (lambda a: a.reshape(2, 8).T.reshape(4, 4), lambda a: a.reshape(2, 8).T.reshape(4, 4)),
]
TWO: list[tuple[Any, Any]] = [
    (lambda a, b: a + b, lambda a, b: a + b),
    (lambda a, b: a - b, lambda a, b: a - b),
    (lambda a, b: a * b, lambda a, b: a * b),
    (lambda a, b: a / (b * b + 1), lambda a, b: a / (b * b + 1)),
    (lambda a, b: a @ b * 0.3, lambda a, b: a @ b * 0.3),
    (lambda a, b: ops.linear(a, b, b[0]) * 0.3, lambda a, b: F.linear(a, b, b[0]) * 0.3),
]


def grown(draw: np.random.Generator) -> tuple[list[Any], list[Any], list[int]]:
    """The same graph twice, and which of its tensors keep their gradients."""
    kept = [True, *(bool(draw.random() < 0.7) for _ in range(2))]
    arrays = [draw.standard_normal((4, 4)) for _ in kept]
    ours: list[Any] = [Tensor(a, wanted) for a, wanted in zip(arrays, kept, strict=True)]
    theirs: list[Any] = [torch.tensor(a, requires_grad=wanted) for a, wanted in zip(arrays, kept, strict=True)]
    watched = [i for i, wanted in enumerate(kept) if wanted]
    for _ in range(draw.integers(3, 14)):
        table = ONE if draw.random() < 0.5 else TWO
        f, g = table[draw.integers(len(table))]
        chosen = draw.integers(len(ours), size=1 if table is ONE else 2)
        ours.append(f(*[ours[i] for i in chosen]))
        theirs.append(g(*[theirs[i] for i in chosen]))
        if ours[-1].requires_grad and draw.random() < 0.2:
            ours[-1].retain_grad()
            theirs[-1].retain_grad()
            watched.append(len(ours) - 1)
    return ours, theirs, watched


@pytest.mark.parametrize("seed", range(150))
def test_a_random_graph(seed: int) -> None:
    draw = np.random.default_rng(seed)
    ours, theirs, watched = grown(draw)
    y, want = ours[0] + ours[-1], theirs[0] + theirs[-1]
    for i in range(3, len(ours) - 1):
        if draw.random() < 0.4:
            y, want = y + ours[i], want + theirs[i]
    before, dy = [t.data.copy() for t in ours], draw.standard_normal((4, 4))
    passes = 1 + int(draw.random() < 0.3)
    for left in range(passes)[::-1]:
        y.backward(dy, retain_graph=left > 0)
        want.backward(torch.tensor(dy), retain_graph=left > 0)
    for t, old in zip(ours, before, strict=True):
        np.testing.assert_array_equal(t.data, old)
    gradients: list[Any] = []
    for i in watched:
        if ours[i].grad is None:
            assert theirs[i].grad is None
            continue
        wanted = theirs[i].grad.numpy()
        scale = max(1.0, np.abs(wanted).max())
        np.testing.assert_allclose(ours[i].grad / scale, wanted / scale, rtol=1e-7, atol=1e-8)
        assert not any(np.shares_memory(ours[i].grad, g) for g in gradients)
        gradients.append(ours[i].grad)
