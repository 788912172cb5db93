"""What the layers that act on rows, beyond LayerNorm and RMSNorm, promise: the dtypes of statistics and results, where
they begin, and how they meet each other."""

import math

import pytest
import torch
import torch.nn.functional as F

import normlab
from normlab import NormSpec
from normlab.layers import crmsnorm

HALVES = [torch.bfloat16, torch.float16]
KIND = {
    "scalenorm": normlab.ScaleNorm,
    "l2norm": normlab.L2Norm,
    "crmsnorm": normlab.CRMSNorm,
    "prmsnorm": normlab.PRMSNorm,
    "dyt": normlab.DyT,
}


@pytest.mark.parametrize("kind", ["scalenorm", "l2norm", "crmsnorm", "prmsnorm"])
def test_float16_squares_overflow_only_in_float16_statistics(kind):
    """1000^2 is beyond float16's 65504."""
    x = torch.tensor([[1000.0, -1000.0], [-1000.0, 1000.0]], dtype=torch.float16)
    wide, narrow = (
        KIND[kind](2, spec=NormSpec(kind, stats_dtype=stats), dtype=torch.float16)(x) for stats in ("float32", "input")
    )
    size = math.sqrt(0.5) if kind == "l2norm" else math.sqrt(1.5) if kind == "crmsnorm" else 1.0
    torch.testing.assert_close(wide, x.sign() * size, rtol=2e-3, atol=0)
    if kind in ("crmsnorm", "prmsnorm"):
        assert torch.equal(narrow, torch.zeros_like(x))  # 1000 / inf
    assert wide.dtype == narrow.dtype == torch.float16


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("kind", KIND)
def test_the_statistics_dtype_shows_in_the_digits(kind, half):
    x = torch.randn(16, 64).to(half)
    one, other = (
        KIND[kind](64, spec=NormSpec(kind, stats_dtype=stats, alpha=0.7), dtype=half)(x)
        for stats in ("float32", "input")
    )
    assert not torch.equal(one, other)
    # A partial RMS of 4 entries may be small, so relative: a few roundings.
    torch.testing.assert_close(one, other, rtol=8 * torch.finfo(half).eps, atol=torch.finfo(half).eps)


@pytest.mark.parametrize(
    ("scale", "x_dtype", "weight_dtype", "result"),
    [
        ("stats", torch.bfloat16, torch.float32, torch.bfloat16),
        ("input", torch.bfloat16, torch.float32, torch.float32),
        ("weight", torch.bfloat16, torch.float32, torch.float32),
        ("weight", torch.float32, torch.bfloat16, torch.bfloat16),
        ("input", torch.float16, torch.float16, torch.float16),
    ],
)
@pytest.mark.parametrize("kind", KIND)
def test_the_dtype_of_the_result(kind, scale, x_dtype, weight_dtype, result):
    layer = KIND[kind](4, spec=NormSpec(kind, scale_dtype=scale), dtype=weight_dtype)
    assert layer(torch.randn(3, 4).to(x_dtype)).dtype == result


def test_l2norm_is_torchs_normalize(dtype):
    x = torch.randn(5, 33).to(dtype)
    y = normlab.L2Norm(33)(x)
    torch.testing.assert_close(y, F.normalize(x, dim=-1), rtol=0, atol=torch.finfo(dtype).eps)
    if dtype not in HALVES:
        assert torch.equal(y, F.normalize(x, dim=-1))


@pytest.mark.parametrize("power", [-20, 3, 20])
def test_scalenorm_and_l2norm_do_not_see_the_scale(power):
    x = torch.randn(4, 16)
    for layer in (normlab.ScaleNorm(16, eps=0.0), normlab.L2Norm(16, eps=0.0)):
        assert torch.equal(layer(x * 2.0**power), layer(x))


def test_fresh_layers_are_what_their_papers_begin_with():
    assert torch.equal(normlab.ScaleNorm(16).state_dict()["g"], torch.tensor([4.0]))
    assert torch.equal(normlab.ScaleNorm([2, 8]).state_dict()["g"], torch.tensor([4.0]))
    assert {n: v.tolist() for n, v in normlab.DyT(2).state_dict().items()} == {
        "alpha": [0.5],
        "weight": [1.0, 1.0],
        "bias": [0.0, 0.0],
    }
    assert not normlab.L2Norm(4).state_dict()
    x = torch.randn(4, 16)
    torch.testing.assert_close(normlab.ScaleNorm(16)(x), normlab.RMSNorm(16, eps=0.0)(x))
    torch.testing.assert_close(normlab.PRMSNorm(16, 1.0)(x), normlab.RMSNorm(16)(x))


@pytest.mark.parametrize("kind", KIND)
def test_with_an_offset_a_fresh_layer_scales_by_the_same(kind):
    plain, shifted = KIND[kind](9, spec=NormSpec(kind)), KIND[kind](9, spec=NormSpec(kind, offset=1.0))
    x = torch.randn(5, 9)
    torch.testing.assert_close(shifted(x), plain(x))
    name = "g" if kind == "scalenorm" else "weight"
    assert torch.equal(shifted.state_dict()[name], plain.state_dict()[name] - 1)
    with torch.no_grad():
        for p in shifted.parameters():
            p.fill_(3.0)
    shifted.reset_parameters()
    torch.testing.assert_close(shifted(x), plain(x))


@pytest.mark.parametrize("n", [1, 7, 64])
def test_crmsnorm_is_layernorm_of_the_recovered_vector(n, dtype):
    full = torch.randn(5, n + 1, dtype=torch.float64) + 3
    short = crmsnorm.compress(full).to(dtype)
    torch.testing.assert_close(crmsnorm.recover(short).double().mean(-1), torch.zeros(5).double(), rtol=0, atol=0.05)
    y = normlab.CRMSNorm(n, dtype=dtype)(short)
    whole = crmsnorm.recover(short.double())
    want = normlab.LayerNorm(n + 1, dtype=torch.float64)(whole)[..., :-1]
    torch.testing.assert_close(y.double(), want, rtol=0, atol=8 * (n + 16) * torch.finfo(y.dtype).eps)
    with pytest.raises(ValueError, match="x must have at least one entry along its last axis"):
        crmsnorm.compress(torch.empty(3, 0))
    with pytest.raises(ValueError, match="x must have at least one axis"):
        crmsnorm.recover(torch.tensor(1.0))


def test_the_dtype_of_dyts_parameters_does_not_decide_how_its_tanh_is_taken():
    spec = NormSpec("dyt", stats_dtype="input", alpha=0.75, affine=False)
    x = torch.randn(64, 8, dtype=torch.bfloat16)
    y = normlab.DyT(8, spec=spec)(x)
    assert torch.equal(y, torch.tanh(torch.tensor(0.75, dtype=torch.bfloat16) * x))
    assert not torch.equal(y, torch.tanh(0.75 * x.float()).bfloat16())


def test_dyt_loads_the_authors_checkpoint():
    state = {"alpha": torch.tensor([0.7]), "weight": torch.randn(4), "bias": torch.randn(4)}
    layer = normlab.DyT(4)
    layer.load_state_dict(state)
    x = torch.randn(3, 4)
    torch.testing.assert_close(layer(x), torch.tanh(0.7 * x) * state["weight"] + state["bias"])
    assert torch.all((layer(1e6 * x) - state["bias"]).abs() <= state["weight"].abs() + 1e-6)


def test_dyt_over_channels():
    layer, x = normlab.DyT(3), torch.randn(2, 3, 4, 5)
    moved = layer(x.movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(moved, torch.tanh(0.5 * x))
