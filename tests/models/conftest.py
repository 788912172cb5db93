"""What the tests of the models share: a Transformer written out by hand, small configurations, one tolerance."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.models import TransformerConfig
from normlab.spec import NormSpec

Function = Callable[[Tensor], Tensor]

# A sum of n products is off by at most n roundings of its largest partial sum. No sum in these models has more than
# 256 terms, and errors of the steps before it are as small: so that many roundings of the largest number compared.
ROUNDINGS = 256

# Three models that together take every switch but the placement and the norm.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt2": {"positions": "learned", "activation": "gelu", "bias": True},
    "minimind": {
        "positions": "rope",
        "rope_theta": 100.0,
        "activation": "swiglu",
        "bias": False,
        "n_kv_heads": 2,
        "qk_norm": True,
        "tied": True,
    },
    "mixed": {"positions": "rope", "activation": "gelu", "bias": True, "n_kv_heads": 1, "tied": True},
}

# An eps far from the default, so that a norm with another one is noticed.
NORMS = {"layernorm": NormSpec("layernorm", eps=0.1), "rmsnorm": NormSpec("rmsnorm", eps=0.1), "none": NormSpec("none")}


def small(**changes: Any) -> TransformerConfig:
    """A Transformer that runs in a millisecond."""
    sizes: dict[str, Any] = {"vocab_size": 11, "n_layers": 2, "dim": 16, "n_heads": 4, "hidden": 24, "context": 8}
    return TransformerConfig(**(sizes | changes))


def randomized(model: Any) -> Any:
    """The model with every parameter drawn from N(0, 0.2^2): no norm or bias is left without effect."""
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.2)
    return model


def assert_close(
    actual: Tensor, expected: Tensor, scale: Tensor | None = None, dtype: torch.dtype | None = None
) -> None:
    """No entry of `actual` is further from `expected` than ROUNDINGS roundings of the largest entry of `scale`.

    Roundings of `dtype`, where something was computed in a lower one than `actual`'s.
    """
    assert actual.shape == expected.shape
    largest = (expected if scale is None else scale).detach().abs().max()
    bound = ROUNDINGS * torch.finfo(dtype or actual.dtype).eps * largest
    worst = (actual - expected).detach().abs().max()
    assert worst <= bound, f"differs by {worst:.3g}, allowed {bound:.3g}"


def assert_gradients_close(
    model: nn.Module, expected: Mapping[str, Tensor | None], dtype: torch.dtype | None = None
) -> None:
    """Every parameter's gradient is `expected`'s of that name.

    On the scale of the model's largest: some are zero but for rounding, as a key bias's, which softmax cancels.
    """
    actual = {name: p.grad for name, p in model.named_parameters()}
    assert actual
    assert set(actual) == set(expected)
    scale = torch.stack([g.abs().max() for g in expected.values() if g is not None]).max()
    for name, grad in actual.items():
        right = expected[name]
        assert grad is not None, name
        assert right is not None, name
        assert_close(grad, right, scale, dtype)


def rotated(x: Tensor, theta: float) -> Tensor:
    """RoPE as what it is: entry i of the first half + j * entry i of the second, turned by position * theta^(-2i/d)."""
    *_, time, d = x.shape
    x1, x2 = x.to(torch.float64).split(d // 2, dim=-1)
    frequencies = torch.tensor([theta ** (-2 * i / d) for i in range(d // 2)], dtype=torch.float64)
    angles = torch.arange(time, dtype=torch.float64)[:, None] * frequencies
    z = torch.complex(x1, x2) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((z.real, z.imag), dim=-1)


def _norm(x: Tensor, p: Mapping[str, Tensor], name: str, spec: NormSpec) -> Tensor:
    if spec.kind == "none":
        return x
    assert spec.eps is not None
    if spec.kind == "layernorm":
        x = x - x.mean(-1, keepdim=True)
    x = x / torch.sqrt((x * x).mean(-1, keepdim=True) + spec.eps) * p[f"{name}.weight"]
    return x + p[f"{name}.bias"] if spec.kind == "layernorm" else x


def _linear(x: Tensor, p: Mapping[str, Tensor], name: str) -> Tensor:
    return F.linear(x, p[f"{name}.weight"], p.get(f"{name}.bias"))


def _attention(x: Tensor, p: Mapping[str, Tensor], name: str, c: TransformerConfig) -> Tensor:
    batch, time, dim = x.shape
    d = dim // c.n_heads

    def heads(proj: str) -> Tensor:
        return _linear(x, p, f"{name}.{proj}").reshape(batch, time, -1, d)

    q, k, v = heads("q_proj"), heads("k_proj"), heads("v_proj")
    if c.qk_norm:
        q, k = _norm(q, p, f"{name}.q_norm", c.norm), _norm(k, p, f"{name}.k_norm", c.norm)
    q, k, v = (t.permute(0, 2, 1, 3) for t in (q, k, v))
    if c.positions == "rope":
        q, k = rotated(q, c.rope_theta), rotated(k, c.rope_theta)
    k, v = (t.repeat_interleave(c.n_heads // t.shape[1], dim=1) for t in (k, v))
    scores = q @ k.mT / math.sqrt(d)
    future = torch.ones(time, time, dtype=torch.bool).triu(1)
    scores = scores.masked_fill(future, -math.inf)
    e = torch.exp(scores - scores.max(-1, keepdim=True).values)
    y = e / e.sum(-1, keepdim=True) @ v
    return _linear(y.permute(0, 2, 1, 3).reshape(batch, time, dim), p, f"{name}.o_proj")


def _feedforward(x: Tensor, p: Mapping[str, Tensor], name: str, c: TransformerConfig) -> Tensor:
    u = _linear(x, p, f"{name}.up_proj")
    if c.activation == "swiglu":
        g = _linear(x, p, f"{name}.gate_proj")
        u = g / (1 + torch.exp(-g)) * u
    else:
        u = 0.5 * u * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))
    return _linear(u, p, f"{name}.down_proj")


def _joined(x: Tensor, f: Function, norm: Function, norm_out: Function, c: TransformerConfig) -> Tensor:
    match c.placement:
        case "none":
            return x + f(x)
        case "pre":
            return x + f(norm(x))
        case "post":
            return norm(x + f(x))
        case "sandwich":
            return x + norm_out(f(norm(x)))
        case "respost":
            return x + norm(f(x))
        case "deepnorm":
            return norm((2 * c.n_layers) ** (1 / 4) * x + f(x))


def forward_by_hand(p: Mapping[str, Tensor], c: TransformerConfig, ids: Tensor) -> Tensor:
    """The logits of a Transformer with the parameters `p`, by the formulas of its configuration, float64."""
    x = F.embedding(ids, p["tokens.weight"])
    if c.positions == "learned":
        x = x + p["positions.weight"][: ids.shape[1]]
    for i in range(c.n_layers):
        for number, name, branch in ((1, "attention", _attention), (2, "feedforward", _feedforward)):
            x = _joined(
                x,
                f=partial(branch, p=p, name=f"blocks.{i}.{name}", c=c),
                norm=partial(_norm, p=p, name=f"blocks.{i}.norm{number}", spec=c.norm),
                norm_out=partial(_norm, p=p, name=f"blocks.{i}.norm{number}_out", spec=c.norm),
                c=c,
            )
    if c.final_norm or (c.final_norm is None and c.placement in ("pre", "sandwich", "respost")):
        x = _norm(x, p, "final_norm", c.norm)
    return F.linear(x, p["lm_head.weight"])


@pytest.fixture(params=list(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The switches of one of ARCHITECTURES."""
    return ARCHITECTURES[request.param]


@pytest.fixture(params=list(NORMS))
def norm(request: pytest.FixtureRequest) -> NormSpec:
    """A spec of each kind that a Transformer takes."""
    return NORMS[request.param]


@pytest.fixture(name="small")
def small_fixture() -> Callable[..., TransformerConfig]:
    return small


@pytest.fixture(name="randomized")
def randomized_fixture() -> Callable[..., Any]:
    return randomized


@pytest.fixture(name="assert_close")
def assert_close_fixture() -> Callable[..., None]:
    return assert_close


@pytest.fixture(name="assert_gradients_close")
def assert_gradients_close_fixture() -> Callable[..., None]:
    return assert_gradients_close


@pytest.fixture(name="rotated")
def rotated_fixture() -> Callable[..., Tensor]:
    return rotated


@pytest.fixture(name="forward_by_hand")
def forward_by_hand_fixture() -> Callable[..., Tensor]:
    return forward_by_hand
