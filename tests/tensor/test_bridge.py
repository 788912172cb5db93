"""from_torch: whole models against PyTorch, what is kept, and what is refused."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import normlab.layers as normed
from normlab import NormSpec
from normlab.models import BLOCKS, Transformer, TransformerConfig
from normlab.models.config import PLACEMENTS
from normlab.tensor import Tensor, layers, manual_seed, ops
from normlab.tensor.bridge import from_torch
from normlab.tensor.random import generator

draw = np.random.default_rng(0).standard_normal
SIZES: dict[str, Any] = {"vocab_size": 11, "n_layers": 2, "dim": 8, "n_heads": 2, "context": 6}


def transformer(**options: Any) -> Any:
    """In float64, with norms and biases that are neither 0 nor 1."""
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**{**SIZES, **options})).double()
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return model


def theirs(name: str, model: Any) -> str:
    name = name.replace("gamma", "weight").replace("beta", "bias")
    return name if name in dict(model.named_parameters()) else f"{name} is not there"


def compare(model: Any, **tolerance: Any) -> Any:
    """Logits, loss and the gradient of every parameter."""
    ids = np.random.default_rng(1).integers(0, 11, (3, 6))
    target = np.random.default_rng(2).integers(0, 11, (3, 6))
    logits = model(torch.tensor(ids))
    loss = F.cross_entropy(logits.flatten(0, 1), torch.tensor(target).flatten())
    loss.backward()
    ours: Any = from_torch(model)
    y = ours(ids)
    our_loss = ops.cross_entropy(y.reshape(-1, 11), target.reshape(-1))
    our_loss.backward()
    np.testing.assert_allclose(y.data, logits.detach(), **tolerance)
    np.testing.assert_allclose(our_loss.data, loss.detach(), **tolerance)
    wanted, found = dict(model.named_parameters()), dict(ours.named_parameters())
    assert {theirs(name, model) for name in found} == set(wanted)
    for name, p in found.items():
        np.testing.assert_allclose(p.grad, wanted[theirs(name, model)].grad, err_msg=name, **tolerance)
    return ours


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_transformer_is_normlabs(placement: Any, kind: Any) -> None:
    model = transformer(placement=placement, norm=NormSpec(kind))
    ours = compare(model, rtol=1e-9, atol=1e-12)
    assert type(ours.blocks[0]) is layers.BLOCKS[placement]
    assert hasattr(ours, "final_norm") == model.config.has_final_norm


@pytest.mark.parametrize(
    "options",
    [
        {"tied": True},
        {"bias": False},
        {"hidden": 5, "n_heads": 4, "final_norm": False},
        {"norm": NormSpec("none")},
        {"norm": NormSpec("rmsnorm", eps=None)},
        {"norm": NormSpec("layernorm", eps=1e-2, bias=False), "placement": "post", "final_norm": True},
    ],
    ids=str,
)
def test_transformer_with_other_options(options: Any) -> None:
    ours = compare(transformer(**options), rtol=1e-9, atol=1e-12)
    assert (ours.lm_head.weight is ours.tokens.weight) == options.get("tied", False)


def test_transformer_in_float32() -> None:
    ours = compare(transformer().float(), rtol=1e-4, atol=1e-5)
    assert {p.dtype for p in ours.parameters()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_block_alone(placement: Any) -> None:
    block: Any = BLOCKS[placement](TransformerConfig(**SIZES, placement=placement)).double()
    x = draw((2, 5, 8))
    np.testing.assert_allclose(
        from_torch(block)(Tensor(x)).data, block(torch.tensor(x)).detach(), rtol=1e-11, atol=1e-12
    )


def test_parts_keep_their_names() -> None:
    model = transformer(placement="sandwich")
    state: dict[str, Any] = {name: p.numpy() for name, p in model.state_dict().items()}
    ours = from_torch(model).state_dict()
    assert [name.replace("gamma", "weight").replace("beta", "bias") for name in ours if "norm" in name] == [
        name for name in state if "norm" in name
    ]
    for name, array in ours.items():
        np.testing.assert_array_equal(array, state[theirs(name, model)])


def test_nothing_is_shared() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    arrays: list[Any] = [t.detach().numpy() for t in (*module.parameters(), *module.buffers())]
    before = [a.copy() for a in arrays]
    ours = from_torch(module)
    assert not any(np.shares_memory(a, b) for a in ours.state_dict().values() for b in arrays)
    for p in ours.parameters():
        p.data += 1
    ours(Tensor(draw((4, 3)).astype(np.float32)))
    for a, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, old)


def test_what_is_one_stays_one() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    ours: Any = from_torch(nn.Sequential(first, second, first))
    assert ours[0] is ours[2]
    assert ours[0].weight is ours[1].weight
    assert ours[0].bias is not ours[1].bias
    assert len(ours.parameters()) == 3


def test_modes_and_frozen_parameters_are_kept() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3).eval()), nn.Linear(3, 3))
    module[0].weight.requires_grad_(False)
    ours: Any = from_torch(module)
    assert [m.training for m in ours.modules()] == [m.training for m in module.modules()]
    assert [name for name, _ in ours.named_parameters()] == ["0.bias", "1.1.gamma", "1.1.beta", "2.weight", "2.bias"]
    assert not ours[0].weight.requires_grad
    assert next(iter(ours.state_dict())) == "0.weight"
    assert ours[1][0].p == 0.5
    module.eval()
    assert not any(m.training for m in from_torch(module).modules())
    attention = nn.MultiheadAttention(4, 2, batch_first=True).eval().requires_grad_(False)
    assert not any(m.training for m in from_torch(attention).modules())
    assert from_torch(attention).parameters() == []


def test_options_are_kept() -> None:
    bn: Any = from_torch(nn.BatchNorm1d(3, eps=1e-2, momentum=0.3))
    assert (bn.eps, bn.momentum, bn.unbiased_running_var) == (1e-2, 0.3, True)
    bn = from_torch(normed.BatchNorm1d(3, spec="tensorweaver"))
    assert not bn.unbiased_running_var
    rms: Any = from_torch(nn.RMSNorm(3))
    assert rms.eps is None
    assert from_torch(nn.GELU("tanh")).approximate == "tanh"  # pyright: ignore[reportAttributeAccessIssue]
    listed: Any = from_torch(nn.ModuleList([nn.ReLU(), nn.Tanh()]))
    assert isinstance(listed, layers.ModuleList)
    assert [type(m) for m in listed] == [layers.ReLU, layers.Tanh]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_converts(dtype: Any) -> None:
    for given in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        ours = from_torch(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).to(given), dtype)
        assert {a.dtype for a in ours.state_dict().values()} == {np.dtype(dtype)}
    with pytest.raises(ValueError, match=r"^1.weight is bfloat16, and the engine has float32 and float64: give dtype="):
        from_torch(nn.Sequential(nn.ReLU(), nn.Linear(3, 3, dtype=torch.bfloat16)))
    with pytest.raises(ValueError, match=r"^dtype must be float32 or float64, got float16$"):
        from_torch(nn.ReLU(), np.float16)


def test_no_random_number_is_taken() -> None:
    manual_seed(5)
    from_torch(transformer())
    taken = generator().random()
    manual_seed(5)
    assert generator().random() == taken


def test_a_subclass_is_what_its_forward_is() -> None:
    class Named(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 2)

    class Doubled(nn.Linear):
        def forward(self, input: Any) -> Any:
            return 2 * super().forward(input)

    assert isinstance(from_torch(Named()), layers.Linear)
    with pytest.raises(TypeError, match=r"^0.1 is a .*Doubled, which the engine has no module for$"):
        from_torch(nn.Sequential(nn.Sequential(nn.ReLU(), Doubled(3, 2))))
    patched: Any = nn.ReLU()
    patched.forward = lambda x: x
    with pytest.raises(TypeError, match=r"^module is a torch.nn.modules.activation.ReLU, which"):
        from_torch(patched)


def test_what_there_is_no_module_for() -> None:
    with pytest.raises(TypeError, match=r"^0.1 is a torch.nn.modules.conv.Conv2d, which the engine has no module for$"):
        from_torch(nn.Sequential(nn.ModuleList([nn.ReLU(), nn.Conv2d(1, 1, 1)])))
    for module in (nn.InstanceNorm1d(3), nn.SyncBatchNorm(3), nn.Dropout2d(), normed.ScaleNorm(3), nn.Module()):
        with pytest.raises(TypeError, match=r"^module is a .*, which the engine has no module for$"):
            from_torch(module)
    for thing in (3, np.ones(2), nn.ReLU, layers.ReLU()):
        with pytest.raises(TypeError, match=r"^module must be a torch.nn.Module, got "):
            from_torch(thing)


def hooked() -> nn.Module:
    module = nn.Linear(3, 3)
    module.register_forward_hook(lambda *_: None)
    return module


def untracked() -> nn.Module:
    module = nn.BatchNorm1d(3)
    module.track_running_stats = False
    return module


REFUSED: dict[str, Any] = {
    "has offset=1": lambda: normed.RMSNorm(3, spec="gemma"),
    "has eps_place='outside'": lambda: normed.LayerNorm(3, spec=NormSpec("layernorm", eps_place="outside")),
    "has momentum=None": lambda: nn.BatchNorm1d(3, momentum=None),
    "has eps=None": lambda: normed.BatchNorm1d(3, spec=NormSpec("batchnorm", eps=None)),
    "has running statistics that it does not track": untracked,
    "has padding_idx=1": lambda: nn.Embedding(4, 3, padding_idx=1),
    "has max_norm=1.0": lambda: nn.Embedding(4, 3, max_norm=1.0),
    "has scale_grad_by_freq=True": lambda: nn.Embedding(4, 3, scale_grad_by_freq=True),
    "has batch_first=False": lambda: nn.MultiheadAttention(4, 2),
    "has dropout=0.1": lambda: nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True),
    "has kdim or vdim": lambda: nn.MultiheadAttention(4, 2, kdim=3, batch_first=True),
    "has add_zero_attn=True": lambda: nn.MultiheadAttention(4, 2, add_zero_attn=True, batch_first=True),
    "has add_bias_kv=True": lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True, batch_first=True),
    "has hooks": hooked,
    "has parametrizations": lambda: parametrizations.weight_norm(nn.Linear(3, 3)),
}


@pytest.mark.parametrize("problem", REFUSED)
def test_options_that_the_engine_does_not_have(problem: str) -> None:
    module = REFUSED[problem]()
    for given, path in ((module, "module"), (nn.ModuleList([nn.ReLU(), module]), "1")):
        with pytest.raises(ValueError, match=f"^{path} {problem}, which the engine does not have$"):
            from_torch(given)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"positions": "rope"}, "module has rotary positions"),
        ({"activation": "swiglu"}, "blocks.0.feedforward is a SwiGLU"),
        ({"qk_norm": True}, "blocks.0.attention has norms of queries and keys"),
        ({"n_kv_heads": 1}, "blocks.0.attention has fewer key and value heads than query heads"),
        ({"norm": NormSpec.preset("gemma")}, "blocks.0.norm1 has offset=1"),
    ],
)
def test_transformers_that_the_engine_does_not_have(options: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}, which the engine does not have$"):
        from_torch(transformer(**options))


def test_torch_is_not_imported() -> None:
    program = "import sys, normlab.tensor.bridge; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
