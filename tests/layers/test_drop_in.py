"""The layers in torch.nn's place: constructors, attributes, repr, checkpoints both ways, copies."""

import copy
import inspect
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import normlab
from normlab import NormSpec

PAIRS = [
    (normlab.LayerNorm, nn.LayerNorm),
    (normlab.RMSNorm, nn.RMSNorm),
    (normlab.BatchNorm1d, nn.BatchNorm1d),
    (normlab.BatchNorm2d, nn.BatchNorm2d),
    (normlab.BatchNorm3d, nn.BatchNorm3d),
]
# Every way to call a constructor that changes what a layer holds, by position where torch allows it.
CALLS = [
    (normlab.LayerNorm, nn.LayerNorm, (8,), {}),
    (normlab.LayerNorm, nn.LayerNorm, ((2, 3), 1e-3, True, False), {}),
    (normlab.LayerNorm, nn.LayerNorm, ([4], 1e-5, False), {}),
    (normlab.LayerNorm, nn.LayerNorm, (torch.Size([4]), 0.1, True, True, "cpu", torch.float64), {}),
    (normlab.RMSNorm, nn.RMSNorm, (8, None), {}),
    (normlab.RMSNorm, nn.RMSNorm, ((2, 3), 1e-3, False), {}),
    (normlab.RMSNorm, nn.RMSNorm, (8, 1e-6, True, None, torch.bfloat16), {}),
    (normlab.BatchNorm1d, nn.BatchNorm1d, (8,), {}),
    (normlab.BatchNorm1d, nn.BatchNorm1d, (8, 1e-3, None), {}),
    (normlab.BatchNorm1d, nn.BatchNorm1d, (8, 1e-3, 0.2, False), {}),
    (normlab.BatchNorm2d, nn.BatchNorm2d, (8, 1e-3, 0.2, True, False), {}),
    (normlab.BatchNorm2d, nn.BatchNorm2d, (8, 1e-3, 0.2, True, True, "cpu", torch.float16), {}),
    (normlab.BatchNorm2d, nn.BatchNorm2d, (8,), {"bias": False}),
    (normlab.BatchNorm1d, nn.BatchNorm1d, (8,), {"affine": False, "track_running_stats": False}),
    (normlab.BatchNorm3d, nn.BatchNorm3d, (8, 1e-3, 0.2), {}),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_the_constructor_has_torchs_arguments_in_torchs_places(ours, theirs):
    mine = dict(inspect.signature(ours).parameters)
    spec = mine.pop("spec")
    assert spec.kind is inspect.Parameter.KEYWORD_ONLY
    assert spec.default is None
    reference = inspect.signature(theirs).parameters
    assert list(mine) == list(reference)
    for name, parameter in mine.items():
        assert parameter.kind is reference[name].kind
        if (ours, name) == (normlab.RMSNorm, "eps"):
            assert parameter.default == 1e-5  # the papers'; torch's None is another number in every dtype
        else:
            assert parameter.default == reference[name].default


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_forward_has_torchs_arguments(ours, theirs):
    assert list(inspect.signature(ours.forward).parameters) == list(inspect.signature(theirs.forward).parameters)


@pytest.mark.parametrize(("layer", "reference", "args", "kwargs"), CALLS)
def test_it_is_torchs_layer(layer, reference, args, kwargs):
    ours, theirs = layer(*args, **kwargs), reference(*args, **kwargs)
    assert isinstance(ours, reference)
    assert repr(ours) == repr(theirs)
    assert ours.extra_repr() == theirs.extra_repr()
    for name in theirs.__constants__:
        assert getattr(ours, name) == getattr(theirs, name)
    mine, state = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(state)
    for name, value in state.items():
        assert mine[name].dtype == value.dtype
        assert torch.equal(mine[name], value)  # the same initialization
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert ours._version == theirs._version


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_sizes_that_are_not_quite_ints(ours, theirs):
    """A NumPy integer is a size, as in torch, and becomes an int."""
    assert repr(ours(np.int64(8))) == repr(ours(8))
    assert ours(np.int64(8)).weight.shape == theirs(np.int64(8)).weight.shape


@pytest.mark.parametrize(("layer", "reference", "args", "kwargs"), CALLS)
def test_checkpoints_move_both_ways(layer, reference, args, kwargs, fill, rng):
    ours, theirs = fill(layer(*args, **kwargs), rng), reference(*args, **kwargs)
    if getattr(ours, "num_batches_tracked", None) is not None:
        ours.num_batches_tracked.fill_(7)
    for source, target in ((ours, theirs), (theirs, layer(*args, **kwargs))):
        file = io.BytesIO()
        torch.save(source.state_dict(), file)
        file.seek(0)
        missing, unexpected = target.load_state_dict(torch.load(file, weights_only=True))
        assert not missing
        assert not unexpected
        for (name, a), (other, b) in zip(source.state_dict().items(), target.state_dict().items(), strict=True):
            assert name == other
            assert torch.equal(a, b)


def test_a_checkpoint_from_before_num_batches_tracked(fill, rng):
    """torch adds the counter to a state without a version; so do we, the code being torch's."""
    state = fill(nn.BatchNorm1d(3), rng).state_dict()
    state = {name: value for name, value in state.items() if name != "num_batches_tracked"}
    layer = normlab.BatchNorm1d(3)
    layer.load_state_dict(state)
    assert layer.num_batches_tracked == 0
    assert torch.equal(layer.state_dict()["running_var"], state["running_var"])


@pytest.mark.parametrize(("layer", "reference", "args", "kwargs"), CALLS)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_are_whole_and_independent(layer, reference, args, kwargs, duplicate, fill, rng):
    original = fill(layer(*args, **kwargs), rng)
    twin = duplicate(original)
    assert type(twin) is layer
    assert twin.spec == original.spec
    assert repr(twin) == repr(original)
    for (name, a), (_, b) in zip(original.state_dict().items(), twin.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
        assert a.data_ptr() != b.data_ptr()


@pytest.mark.parametrize("preset", ["gemma", "llama", "t5"])
def test_a_copy_keeps_its_preset(preset):
    layer = normlab.RMSNorm(4, spec=preset, dtype=torch.bfloat16)
    twin = pickle.loads(pickle.dumps(layer))
    x = torch.randn(3, 4, dtype=torch.bfloat16)
    assert twin.spec == NormSpec.preset(preset)
    assert torch.equal(twin(x), layer(x))


@pytest.mark.parametrize(
    "layer",
    [
        normlab.LayerNorm(4, spec=NormSpec("layernorm", offset=1.0)),
        normlab.RMSNorm(4, spec="gemma"),
        normlab.BatchNorm1d(4, spec=NormSpec("batchnorm", offset=1.0)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_with_an_offset_a_fresh_weight_leaves_the_scale_at_1(layer):
    plain = type(layer)(4, eps=layer.eps)
    x = torch.randn(6, 4)
    assert torch.equal(layer.weight, torch.zeros(4))
    assert torch.equal(layer(x), plain(x))
    with torch.no_grad():
        layer.weight.fill_(3.0)
    layer.reset_parameters()
    assert torch.equal(layer.weight, torch.zeros(4))


@pytest.mark.parametrize("bias", [True, False])
def test_batchnorm_reset_restores_everything(bias, fill, rng):
    layer = fill(normlab.BatchNorm1d(4, bias=bias), rng)
    layer(torch.randn(3, 4))
    layer.reset_parameters()
    for name, value in nn.BatchNorm1d(4, bias=bias).state_dict().items():
        assert torch.equal(layer.state_dict()[name], value)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_eps_can_be_set_afterwards(ours, theirs):
    """As in `for m in model.modules(): m.eps = 1e-3`, which ports of EfficientNet and BERT do."""
    mine, reference = ours(4), theirs(4)
    mine.eps = reference.eps = 0.5
    x = torch.randn(5, 4, *{normlab.BatchNorm2d: (2, 2), normlab.BatchNorm3d: (2, 2, 2)}.get(ours, ()))
    torch.testing.assert_close(mine(x), reference(x))
    assert not torch.allclose(mine(x), ours(4)(x))
    assert mine.spec.eps == 0.5
    assert "eps=0.5" in repr(mine)
    mine.eps = -1.0
    with pytest.raises(ValueError, match=r"eps must be at least 0, got -1"):
        mine(x)


def test_conversions_move_parameters_and_statistics():
    layer = nn.Sequential(normlab.BatchNorm1d(4), normlab.RMSNorm(4)).double()
    assert {t.dtype for t in layer.state_dict().values()} == {torch.float64, torch.int64}
    assert layer(torch.randn(3, 4, dtype=torch.float64)).dtype == torch.float64
    half = layer.half()
    assert half(torch.randn(3, 4, dtype=torch.float16)).dtype == torch.float16
    on_meta = normlab.LayerNorm(4, device="meta")
    assert on_meta.weight.is_meta
    assert torch.equal(on_meta.to_empty(device="cpu").weight.new_ones(4), torch.ones(4))


@pytest.mark.parametrize(
    ("layer", "shown"),
    [
        (normlab.RMSNorm(8, spec="llama"), "RMSNorm((8,), eps=1e-06, elementwise_affine=True, scale_dtype='input')"),
        (normlab.RMSNorm(8, spec="gemma"), "RMSNorm((8,), eps=1e-06, elementwise_affine=True, offset=1.0)"),
        (
            normlab.LayerNorm(8, spec=NormSpec("layernorm", eps=0.5, eps_place="outside", bias=False)),
            "LayerNorm((8,), eps=0.5, elementwise_affine=True, bias=False, eps_place='outside')",
        ),
        (
            normlab.DyT(8, spec=NormSpec("dyt", offset=1.0)),
            "DyT((8,), alpha=0.5, elementwise_affine=True, offset=1.0)",
        ),
        (normlab.L2Norm(8), "L2Norm((8,), eps=1e-12, elementwise_affine=False)"),
    ],
)
def test_the_repr_says_in_what_the_formula_is_another(layer, shown):
    assert repr(layer) == shown


def test_batchnorm3d(fill, rng):
    ours, theirs = normlab.BatchNorm3d(3), nn.BatchNorm3d(3)
    fill(ours, rng)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 4, 5, 6)
    for mode in (True, False):
        torch.testing.assert_close(ours.train(mode)(x), theirs.train(mode)(x))
    with pytest.raises(ValueError, match="expected 5D input"):
        ours(torch.randn(2, 3, 4, 5))


class _Squared(nn.LayerNorm):
    def forward(self, input):
        return super().forward(input) ** 2


@pytest.fixture
def encoder():
    """An nn.TransformerEncoderLayer with two of a norm, and what it computes of something where it calls them."""

    def make(norm):
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        layer.norm1, layer.norm2 = norm(), norm()
        for p in (*layer.norm1.parameters(), *layer.norm2.parameters()):
            nn.init.normal_(p)
        x = torch.randn(2, 5, 8)
        with torch.no_grad():
            want = layer.train()(x)
        return layer.eval(), x, want

    return make


def test_an_encoder_layer_in_evaluation_does_not_call_its_norms(encoder):
    """The reason for the next test: where this fails, the layers need not see to it any longer."""
    layer, x, want = encoder(lambda: _Squared(8))
    with torch.no_grad():
        assert not torch.allclose(layer(x), want, rtol=1e-2, atol=1e-2)


IN_ITS_PLACE = {
    "LayerNorm": lambda: normlab.LayerNorm(8),
    "LayerNorm, 1 + weight": lambda: normlab.LayerNorm(8, spec=NormSpec("layernorm", offset=1.0)),
    "LayerNorm, eps outside": lambda: normlab.LayerNorm(8, spec=NormSpec("layernorm", eps=0.5, eps_place="outside")),
    "LayerNorm, no eps": lambda: normlab.LayerNorm(8, spec=NormSpec("layernorm", eps=None)),
    "DyT": lambda: normlab.DyT(8),
    "ScaleNorm": lambda: normlab.ScaleNorm(8),
    "L2Norm": lambda: normlab.L2Norm(8),
    "CRMSNorm": lambda: normlab.CRMSNorm(8),
    "PRMSNorm": lambda: normlab.PRMSNorm(8),
}


@pytest.mark.parametrize("duplicate", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("norm", IN_ITS_PLACE)
def test_an_encoder_layer_in_evaluation_computes_the_norm_that_stands_there(encoder, norm, duplicate):
    layer, x, want = encoder(IN_ITS_PLACE[norm])
    with torch.no_grad():
        torch.testing.assert_close(duplicate(layer)(x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("norm", [name for name in IN_ITS_PLACE if name.startswith(("LayerNorm,", "DyT"))])
def test_an_encoder_makes_padded_input_nested(encoder, norm):
    layer, x, _ = encoder(IN_ITS_PLACE[norm])
    whole = nn.TransformerEncoder(layer, 2)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad():
        want = whole.train()(x, src_key_padding_mask=padding)
        got = whole.eval()(x, src_key_padding_mask=padding)
    torch.testing.assert_close(got[~padding], want[~padding], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("norm", [*IN_ITS_PLACE, "RMSNorm"])
def test_nested_tensors(norm):
    layer = (IN_ITS_PLACE | {"RMSNorm": lambda: normlab.RMSNorm(8)})[norm]()
    parts = [torch.randn(3, 8, requires_grad=True), torch.randn(5, 8, requires_grad=True)]
    y = layer(torch.nested.as_nested_tensor(parts))
    dy = [torch.randn_like(part) for part in parts]
    torch.stack([(a * b).sum() for a, b in zip(y.unbind(), dy, strict=True)]).sum().backward()
    for part, got, d in zip(parts, y.unbind(), dy, strict=True):
        leaf = part.detach().requires_grad_()
        want = layer(leaf)
        assert torch.equal(got, want)
        torch.testing.assert_close(part.grad, torch.autograd.grad(want, leaf, d)[0])


LATER = """
import sys, torch
layer, x, want = torch.load(sys.argv[1], weights_only=False)
# PyTorch numbers hooks from 0 on in each process.
for handle in [norm.register_forward_pre_hook(lambda module, inputs: None) for norm in (layer.norm1, layer.norm2)]:
    handle.remove()
with torch.no_grad():
    torch.testing.assert_close(layer(x), want, rtol=1e-5, atol=1e-5)
"""


def test_an_encoder_layer_from_a_file_in_another_process(encoder, tmp_path):
    torch.save(encoder(IN_ITS_PLACE["DyT"]), tmp_path / "kept.pt")
    done = subprocess.run(
        [sys.executable, "-c", LATER, str(tmp_path / "kept.pt")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_file_holds_no_hook(tmp_path):
    """A function of ours in it would be one more that `weights_only` must be told to trust."""
    layer = normlab.DyT(8)
    torch.save(layer, tmp_path / "kept.pt")
    trusted = [normlab.DyT, NormSpec, set, layer._forward_hooks.__class__]
    with torch.serialization.safe_globals(trusted):
        assert repr(torch.load(tmp_path / "kept.pt", weights_only=True)) == repr(layer)
    assert layer._forward_pre_hooks


def test_an_encoder_layer_with_rmsnorm(encoder):
    layer, x, want = encoder(lambda: normlab.RMSNorm(8))
    fast = torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        if fast:
            with pytest.raises(AttributeError, match="bias"):
                layer(x)
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            torch.testing.assert_close(layer(x), want, rtol=1e-5, atol=1e-5)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
