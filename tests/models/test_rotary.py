"""RoPE: rotations by position, whose products depend on the distance alone."""

import pytest
import torch

from normlab.models import Transformer
from normlab.models.attention import Rotary


@pytest.mark.parametrize("theta", [100.0, 1e6])
@pytest.mark.parametrize("head_dim", [2, 8, 96])
def test_float64_is_the_definition(head_dim, theta, rotated, assert_close):
    x = torch.randn(2, 3, 40, head_dim, dtype=torch.float64)
    assert_close(Rotary(head_dim, theta)(x), rotated(x, theta))


def test_the_first_pair_turns_by_one_radian_a_position():
    x = torch.tensor([1.0, 5.0, 0.0, 7.0], dtype=torch.float64).expand(1, 1, 9, 4)
    turned = Rotary(4, 1e4)(x)[0, 0]
    position = torch.arange(9, dtype=torch.float64)
    torch.testing.assert_close(turned[:, 0], position.cos())
    torch.testing.assert_close(turned[:, 2], position.sin())


def test_products_depend_on_the_distance_alone(assert_close):
    rotary, time = Rotary(16, 50.0), 12
    q, k = (rotary(torch.randn(16, dtype=torch.float64).expand(1, 1, time, 16))[0, 0] for _ in range(2))
    products = q @ k.T
    assert products.std() > 0.1
    for distance in range(1 - time, time):
        diagonal = products.diagonal(distance)
        assert_close(diagonal, diagonal[:1].expand_as(diagonal), scale=products)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_position_0_is_unchanged_and_the_dtype_stays(dtype):
    x = torch.randn(2, 3, 4, 8).to(dtype)
    turned = Rotary(8, 1e4)(x)
    assert turned.dtype == dtype
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    assert not torch.equal(turned[:, :, 1], x[:, :, 1])


def test_lengths_are_kept(assert_close):
    x = torch.randn(2, 3, 50, 8, dtype=torch.float64)
    assert_close(Rotary(8, 1e4)(x).norm(dim=-1), x.norm(dim=-1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_beyond_position_2048(dtype, rotated):
    time = 4100
    x = torch.randn(16).to(dtype).expand(1, 1, time, 16)
    turned = Rotary(16, 1e4)(x)[0, 0]
    # Roundings: cos or sin, each product, the sum. A float32 angle is off by at most two roundings of the position.
    rounding = torch.finfo(dtype).eps / 2
    angle = time * torch.finfo(torch.float32).eps
    x1, x2 = x[0, 0].to(torch.float64).abs().chunk(2, dim=-1)
    bound = (3 * rounding + angle) * (x1 + x2)
    error = (turned - rotated(x, 1e4)[0, 0]).abs()
    assert (error <= torch.cat((bound, bound), dim=-1)).all()
    # Positions rounded to half precision would be equal in pairs from here on.
    assert not (turned[2048:-1] == turned[2049:]).all(dim=-1).any()


def test_gradients():
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Rotary(4, 10.0), x)


def test_holds_no_state_and_is_shared_by_all_layers(small):
    model = Transformer(small(positions="rope", n_layers=3))
    rotaries = [m for m in model.modules() if isinstance(m, Rotary)]
    assert len(rotaries) == 1
    assert not [*rotaries[0].parameters(), *rotaries[0].buffers()]
    assert not [name for name in model.state_dict() if "rotary" in name]


def test_context_does_not_change_what_is_computed(small):
    short = Transformer(small(positions="rope", context=8))
    long = Transformer(small(positions="rope", context=4096))
    long.load_state_dict(short.state_dict())
    ids = torch.randint(11, (2, 8))
    assert torch.equal(short(ids), long(ids))
