"""The layers beside torch.nn's and beside the definition: value, every gradient, running statistics, every dtype."""

import pytest
import torch
from torch import nn

import normlab

pytestmark = pytest.mark.usefixtures("kernels")

# One row, no leading axes, several normalized axes, one column, an odd width beyond a vector register, no rows.
ROWS = [
    ((4, 8), 8),
    ((1, 8), 8),
    ((8,), 8),
    ((2, 3, 5), (3, 5)),
    ((5, 1), 1),
    ((6, 33), 33),
    ((0, 8), 8),
    ((2, 0, 3), 3),
]
CHANNELS = [
    (normlab.BatchNorm1d, nn.BatchNorm1d, (7, 5)),
    (normlab.BatchNorm1d, nn.BatchNorm1d, (2, 3)),
    (normlab.BatchNorm1d, nn.BatchNorm1d, (4, 3, 6)),
    (normlab.BatchNorm1d, nn.BatchNorm1d, (0, 3)),
    (normlab.BatchNorm2d, nn.BatchNorm2d, (3, 2, 4, 5)),
    (normlab.BatchNorm2d, nn.BatchNorm2d, (1, 3, 2, 2)),
]


def draw(shape, dtype):
    return (torch.randn(shape) * 2 + 0.5).to(dtype), torch.randn(shape).to(dtype)


def compare(ours, theirs, expected, check, computed_in=lambda name: None, theirs_in=lambda name: None):
    """`computed_in` and `theirs_in`: the dtype in which a result is summed, where it is not the wider one."""
    assert ours.keys() == theirs.keys() == expected.keys()
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype
        check(value, expected[name], computed_in=computed_in(name))
        # torch's is off by as much again; its BatchNorm in half precision also rounds the statistics to it.
        more = 1 + expected[name].kappa
        both = expected[name]._replace(value=theirs[name].double().numpy(), terms=more * expected[name].terms)
        check(value, both, computed_in=theirs_in(name) or computed_in(name))


@pytest.mark.parametrize(("shape", "normalized"), ROWS)
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"elementwise_affine": False}, {"eps": 0.1}], ids=str)
def test_layernorm(shape, normalized, options, dtype, check, definition, run, fill, rng, kernels):
    x, dy = draw(shape, dtype)
    ours = fill(normlab.LayerNorm(normalized, dtype=dtype, **options), rng)
    theirs = nn.LayerNorm(normalized, dtype=dtype, **options)
    theirs.load_state_dict(ours.state_dict())
    expected = definition(
        "layernorm", dy, x, ours.weight, ours.bias, eps=ours.eps, normalized_shape=ours.normalized_shape
    )

    def sums(name):
        # torch's CPU kernel adds up the parameters' gradients in the dtype of the input.
        return dtype if name in ("dweight", "dbias") else None

    # Ours do so only where it is that kernel that runs.
    own = sums if kernels == "torch" else lambda name: None
    compare(run(ours, x, dy), run(theirs, x, dy), expected, check, own, sums)


@pytest.mark.parametrize(("shape", "normalized"), ROWS)
@pytest.mark.parametrize("options", [{"eps": None}, {"eps": 1e-5, "elementwise_affine": False}, {"eps": 0.1}], ids=str)
def test_rmsnorm(shape, normalized, options, dtype, check, definition, run, fill, rng):
    x, dy = draw(shape, dtype)
    ours = fill(normlab.RMSNorm(normalized, dtype=dtype, **options), rng)
    theirs = nn.RMSNorm(normalized, dtype=dtype, **options)
    theirs.load_state_dict(ours.state_dict())
    eps = options["eps"]
    if eps is None:
        eps = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    expected = definition("rmsnorm", dy, x, ours.weight, None, eps=eps, normalized_shape=ours.normalized_shape)
    compare(run(ours, x, dy), run(theirs, x, dy), expected, check)


@pytest.mark.parametrize(("layer", "reference", "shape"), CHANNELS)
@pytest.mark.parametrize("options", [{}, {"bias": False, "momentum": 0.7}, {"affine": False}], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_batchnorm(layer, reference, shape, options, training, dtype, check, definition, run, fill, rng):
    x, dy = draw(shape, dtype)
    ours = fill(layer(shape[1], dtype=dtype, **options), rng).train(training)
    theirs = reference(shape[1], dtype=dtype, **options).train(training)
    theirs.load_state_dict(ours.state_dict())
    expected = definition(
        "batchnorm",
        dy,
        x,
        ours.weight,
        ours.bias,
        training=training,
        momentum=ours.momentum,
        running_mean=ours.running_mean.clone(),
        running_var=ours.running_var.clone(),
    )
    compare(run(ours, x, dy), run(theirs, x, dy), expected, check)
    assert ours.num_batches_tracked == theirs.num_batches_tracked == int(training)


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5)])
def test_batchnorm_without_running_statistics(shape, dtype, check, definition, run, fill, rng):
    x, dy = draw(shape, dtype)
    ours = fill(normlab.BatchNorm1d(3, track_running_stats=False, dtype=dtype), rng)
    theirs = nn.BatchNorm1d(3, track_running_stats=False, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())
    expected = definition("batchnorm", dy, x, ours.weight, ours.bias)
    for mode in (True, False):  # it takes the batch's statistics in both
        compare(run(ours.train(mode), x, dy), run(theirs.train(mode), x, dy), expected, check)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_statistics_of_a_half_precision_batch_are_float32(dtype, check, definition, run):
    """Rounded to half precision a mean of 100 would be off by a tenth of a standard deviation, as torch's is."""
    x, dy = (torch.randn(16, 8) * 2 + 100).to(dtype), torch.randn(16, 8).to(dtype)
    layer = normlab.BatchNorm1d(8, dtype=dtype)
    stats = {"running_mean": torch.zeros(8), "running_var": torch.ones(8)}
    expected = definition("batchnorm", dy, x, layer.weight, layer.bias, **stats)
    for name, value in run(layer, x, dy).items():
        if name.startswith("running"):
            # Computed in float32 and rounded once: the nearest number there is.
            assert torch.equal(value, torch.tensor(expected[name].value).to(dtype))
        else:
            check(value, expected[name])


@pytest.mark.parametrize("momentum", [0.1, 1.0, 0.0, None])
@pytest.mark.parametrize("half", [False, True])
def test_running_statistics_over_many_batches(momentum, half):
    """momentum=None is the plain average of all batches; in half precision no error piles up beyond torch's."""
    dtype = torch.bfloat16 if half else torch.float32
    ours, theirs = (layer(3, momentum=momentum, dtype=dtype) for layer in (normlab.BatchNorm1d, nn.BatchNorm1d))
    for _ in range(5):
        x = (torch.randn(16, 3) + 2).to(dtype)
        ours(x)
        theirs(x)
    assert ours.num_batches_tracked == theirs.num_batches_tracked == 5
    # Each batch rounds the statistics once, torch's in half precision twice; they are numbers around 2.
    atol = 5 * 3 * torch.finfo(dtype).eps
    torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=0, atol=atol)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=0, atol=atol)


def test_plain_average():
    layer = normlab.BatchNorm1d(3, momentum=None, dtype=torch.float64)
    batches = torch.randn(4, 8, 3, dtype=torch.float64)
    for batch in batches:
        layer(batch)
    torch.testing.assert_close(layer.running_mean, batches.mean((0, 1)))
    torch.testing.assert_close(layer.running_var, batches.var(1).mean(0))
