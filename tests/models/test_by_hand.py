"""Every placement, norm and architecture against the same model written out by hand: logits and all gradients."""

import pytest
import torch

from normlab.models import Transformer
from normlab.models.config import PLACEMENTS


@pytest.fixture
def agrees(randomized, forward_by_hand, assert_close, assert_gradients_close):
    """Check a configuration's model, in float64, with random parameters and a random upstream gradient."""

    def check(config):
        model = randomized(Transformer(config).to(torch.float64))
        ids = torch.randint(config.vocab_size, (3, 7))
        logits = model(ids)
        upstream = torch.randn_like(logits)
        logits.backward(upstream)

        leaves = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
        parameters = leaves | ({"lm_head.weight": leaves["tokens.weight"]} if config.tied else {})
        expected = forward_by_hand(parameters, config, ids)
        expected.backward(upstream)
        assert_close(logits, expected)
        assert_gradients_close(model, {name: p.grad for name, p in leaves.items()})

    return check


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_logits_and_gradients(small, architecture, norm, placement, agrees):
    agrees(small(**architecture, norm=norm, placement=placement))


@pytest.mark.parametrize(("placement", "final_norm"), [("post", True), ("none", True), ("pre", False)])
def test_final_norm_is_its_own_switch(small, norm, placement, final_norm, agrees):
    agrees(small(norm=norm, placement=placement, final_norm=final_norm))


@pytest.mark.parametrize("placement", ["none", "post", "deepnorm"])
def test_query_and_key_norms_do_not_depend_on_the_placement(small, norm, placement, agrees):
    agrees(small(norm=norm, placement=placement, qk_norm=True))


@pytest.mark.parametrize("n_layers", [1, 3])
def test_deepnorm_weighs_the_stream_by_depth(small, n_layers, agrees):
    agrees(small(placement="deepnorm", n_layers=n_layers))
