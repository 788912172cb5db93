"""The recorded scales against autograd.grad on a forward pass run by hand; recording leaves no trace."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from normlab.lab import run
from normlab.lab.run import loss_of
from normlab.lab.scales import recording
from normlab.models import Transformer
from normlab.models.config import PLACEMENTS


def rms(x: torch.Tensor) -> float:
    return float(np.sqrt(np.mean(np.square(x.detach().numpy().astype(np.float64)))))


def expected_scales(model: Transformer, inputs: torch.Tensor, targets: torch.Tensor):
    """Activations, gradients by them, norms of the gradients by the feed-forward output weights."""
    x = model.tokens(inputs)
    if model.positions is not None:
        x = x + model.positions.weight[: inputs.shape[1]]
    stream = [x]
    for block in model.blocks:
        stream.append(block(stream[-1]))
    logits = model.lm_head(model.final_norm(stream[-1]))
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    weights = [block.get_parameter("feedforward.down_proj.weight") for block in model.blocks]
    gradients = torch.autograd.grad(loss, [*stream, *weights])
    by_stream, by_weights = gradients[: len(stream)], gradients[len(stream) :]
    norms = [float(np.linalg.norm(g.numpy().astype(np.float64))) for g in by_weights]
    return [rms(t) for t in stream], [rms(g) for g in by_stream], norms


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_scales_of_a_run(tiny, corpus, by_hand, placement, positions):
    config = tiny(
        model={"n_layers": 3, "placement": placement, "positions": positions}, lr=1e-3, steps=4, scales_at=(3, 0)
    )
    recorded = run(config, corpus).scales
    assert [s.step for s in recorded] == [0, 3]
    expected = {
        step: expected_scales(model, inputs, targets)
        for step, model, inputs, targets in by_hand(config, corpus, fused=True)
    }
    for s in recorded:
        activation, gradient, weight_gradient = expected[s.step]
        assert len(s.activation) == len(s.gradient) == 4
        assert len(s.weight_gradient) == 3
        # After three steps the weights agree to float32's rounding; before the first, exactly.
        rel = 1e-12 if s.step == 0 else 1e-4
        assert s.activation == pytest.approx(activation, rel=rel)
        assert s.gradient == pytest.approx(gradient, rel=rel)
        assert s.weight_gradient == pytest.approx(weight_gradient, rel=rel)


@pytest.mark.parametrize(("asked", "kept"), [((), []), ((1,), [1]), ((2, 0), [0, 2]), ((1, 1), [1]), ((2, 3, 99), [2])])
def test_recorded_at_the_asked_steps_that_are_reached(tiny, corpus, asked, kept):
    assert [s.step for s in run(tiny(steps=3, scales_at=asked), corpus).scales] == kept


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_recording_changes_no_bit_of_a_loss(tiny, corpus, placement):
    model = {"placement": placement, "n_layers": 2}
    with_scales = run(tiny(model, steps=4, scales_at=(0, 1, 2, 3)), corpus)
    without = run(tiny(model, steps=4, scales_at=()), corpus)
    assert len(with_scales.scales) == 4
    assert with_scales.train_loss == without.train_loss
    assert with_scales.final_loss == without.final_loss


@pytest.mark.parametrize("fails", [False, True])
def test_hooks_are_removed(tiny, corpus, fails):
    model = Transformer(tiny(model={"n_layers": 2}).model)
    inputs, targets = corpus.train[:8][None], corpus.train[1:9][None]
    recorders = []
    with pytest.raises(RuntimeError, match="in the step") if fails else nullcontext(), recording(model) as recorder:
        recorders.append(recorder)
        assert any(m._forward_hooks for m in model.modules())
        loss_of(model, inputs, targets).backward()
        if fails:
            raise RuntimeError("in the step")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    loss_of(model, inputs, targets)
    assert len(recorders[0].stream) == 3


def test_a_stream_that_no_gradient_reaches(tiny, corpus):
    """Before any backward pass the gradients are 0."""
    model = Transformer(tiny().model)
    with recording(model) as recorder:
        loss_of(model, corpus.train[:8][None], corpus.train[1:9][None])
    scales = recorder.read(model, 5)
    assert scales.step == 5
    assert scales.gradient == (0.0, 0.0)
    assert scales.weight_gradient == ()
    assert min(scales.activation) > 0
