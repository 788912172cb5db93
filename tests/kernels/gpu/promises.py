"""What the Triton kernels promise beside the formula: the same bits, rows that keep to themselves, clear refusals."""

from typing import Any

import pytest
import torch
from torch import Tensor

from normlab.kernels import gpu
from normlab.spec import NormSpec

pytest.importorskip("triton", reason="triton is not installed")

from normlab.kernels import gpu_launch

# The interpreter computes with NumPy, which warns where a GPU says nothing.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_in_its_row(kind, bad, make, run, bits):
    call = make(kind, 5, 33, torch.float32, torch.float32)
    clean = run(call)
    broken = call._replace(x=call.x.clone())
    broken.x[2, 7] = bad
    result = run(broken)
    others = [0, 1, 3, 4]
    assert bits(result.y[others]) == bits(clean.y[others])
    assert bits(result.dx[others]) == bits(clean.dx[others])
    assert not result.y[2].isfinite().all()
    assert result.dx[2].isnan().all()


@pytest.mark.parametrize("n", [33, 1000, 17000])
def test_same_bits_every_time_and_inputs_untouched(kind, n, make, run, bits):
    call = make(kind, 4, n, torch.float32, torch.float32, residual=True, dtotal=True)
    before = [bits(t) for t in call if isinstance(t, Tensor)]
    first = bits(run(call))
    assert first == bits(run(call))
    assert before == [bits(t) for t in call if isinstance(t, Tensor)]


@pytest.mark.parametrize("n", [33, 1000, 9000])
def test_a_row_does_not_depend_on_the_rows_around_it(kind, n, make, run, bits):
    call = make(kind, 6, n, torch.float32, torch.float32, residual=True, dtotal=True)
    whole = run(call)
    for part in (slice(0, 1), slice(1, 3), slice(3, 6)):
        rows = {k: getattr(call, k)[part] for k in ("x", "dy", "residual", "dtotal")}
        result = run(call._replace(**rows))
        for name in ("y", "total", "stats", "dx"):
            assert bits(getattr(result, name)) == bits(getattr(whole, name)[part])


# Only a GPU's compiler looks at addresses; 300 numbers are a width at which it sums in another order for odd ones.
def test_bits_do_not_depend_on_where_tensors_lie(kind, make, run, bits):
    call = make(kind, 4, 300, torch.float32, torch.float32, residual=True, dtotal=True)
    moved = {
        name: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape)
        for name, t in call._asdict().items()
        if isinstance(t, Tensor)
    }
    assert moved["weight"].data_ptr() % 16
    assert bits(run(call._replace(**moved))) == bits(run(call))


def test_programs_that_take_several_tiles_each(kind, monkeypatch, make, run, check):
    # As many programs as one processor runs, so that few rows suffice.
    monkeypatch.setattr(gpu_launch, "PROCESSORS", 1)
    gpu_launch.backward_plan.cache_clear()
    try:
        call = make(kind, 40, 1000, torch.float32, torch.float32, residual=True, dtotal=True)
        assert gpu_launch.backward_plan(40, 1000, 4, kind == "layernorm").programs == 4
        check(call, run(call))
    finally:
        gpu_launch.backward_plan.cache_clear()


def test_bits_do_not_depend_on_the_shared_memory(kind, monkeypatch, make, run, bits):
    call = make(kind, 5, 1000, torch.bfloat16, torch.float32)
    results = []
    for stages in (1, 2, 3):
        monkeypatch.setattr(gpu_launch, "stages", lambda *_, stages=stages: stages)
        results.append(bits(run(call)))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("itemsize", [2, 4, 8])
def test_plans_fit(kind, itemsize):
    for n in (1, 33, 256, 1024, 4096, 5120, 8192, 12288, 16384, 32768, 100_000):
        for rows in (1, 7, 4096, 1_000_000):
            tile, splits, in_chunks, programs = gpu_launch.backward_plan(rows, n, itemsize, kind == "layernorm")
            assert tile.block * splits >= n > tile.block * (splits - 1)
            assert 1 <= programs <= -(-rows // tile.rows)
            assert programs * splits <= max(132 * max(16 // tile.warps, 1), splits)
            assert in_chunks or splits <= 2


@pytest.fixture
def refused(make):
    """Why a call is refused that would be taken without the changes."""

    def why(**changes: Any) -> str:
        call = make("rmsnorm", 2, 4, torch.bfloat16, torch.bfloat16)
        assert gpu.refusal(call.x, call.residual, call.weight, call.bias, call.spec) is None
        call = call._replace(**changes)
        answer = gpu.refusal(call.x, call.residual, call.weight, call.bias, call.spec)
        assert answer is not None
        return answer

    return why


def test_refusals(refused, device):
    four, meta = torch.ones(4, device=device), torch.ones(4, device="meta")
    assert refused(spec=NormSpec("batchnorm")) == "it computes rmsnorm and layernorm, not batchnorm"
    assert refused(spec=NormSpec("rmsnorm", eps_place="outside")) == "it adds eps inside of the square root only"
    stats = NormSpec("rmsnorm", stats_dtype="input")
    assert refused(spec=stats) == "it takes statistics in float32, not in bfloat16"
    cast = "with scale_dtype 'input' it takes parameters of the input's dtype, bfloat16, only"
    assert refused(spec=NormSpec("rmsnorm", scale_dtype="input"), weight=four) == cast
    dtypes = "it computes float16, bfloat16, float32, float64, not float8_e5m2"
    assert refused(weight=four.to(torch.float8_e5m2)) == dtypes
    assert refused(residual=four.expand(2, 4)) == "the residual is float32, the input bfloat16"
    long = "a row has 2^31 numbers or more"
    assert refused(weight=four[:1].expand(2**31)) == long
    assert refused(x=four[:1].expand(2, 2**31), weight=None) == long
    assert refused(weight=meta) == "the tensors are on different devices"
    assert refused(x=meta.expand(2, 4)) == "the tensor is on meta, not on a CUDA device"
