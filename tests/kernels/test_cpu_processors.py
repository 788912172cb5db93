"""The bits of a result are the same on processors with registers of other sizes: the kernels compiled for one with
256-bit and for one with 128-bit registers and no fused multiply-add, both run here, beside this one's own."""

import platform

import pytest
import torch

from normlab.kernels import cpu, cpu_build
from normlab.spec import NormSpec

PROCESSORS = {
    "256 bits": ("haswell", "+avx,+avx2,+fma,+f16c,+sse4.2,+bmi,+bmi2,+popcnt,+lzcnt,+movbe"),
    # Its fused multiply-adds are calls of the C library's, exact and slow.
    "128 bits": ("nehalem", "+sse4.2,+popcnt"),
}


def results(dtype):
    """y, the statistics and every gradient, in two shapes, of both norms."""
    torch.manual_seed(0)
    found = []
    for spec in (NormSpec("rmsnorm"), NormSpec("layernorm")):
        for rows, n in ((9, 100), (40, 2100)):
            x, dy = torch.randn(2, rows, n).to(dtype)
            weight, bias = torch.randn(2, n).to(dtype)
            biased = bias if spec.bias else None
            forward = cpu.forward(x, None, weight, biased, rows, n, spec)
            backward = cpu.backward(
                dy, None, x, weight, forward.stats, None if biased is None else biased.dtype, rows, n, spec
            )
            found += [forward.y, forward.stats, *(g for g in backward if g is not None)]
    return found


@pytest.mark.heavy
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the processors are x86 ones")
@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_bits_on_another_processor(processor, dtype, monkeypatch, tmp_path, forget_plans):
    here = results(dtype)
    monkeypatch.setattr(cpu_build, "_machine", lambda: PROCESSORS[processor])
    monkeypatch.setattr(cpu_build, "_addresses", {})
    engines = {}
    monkeypatch.setattr(cpu_build, "_engines", engines)
    monkeypatch.setattr(cpu_build, "_digest", lambda: processor.replace(" ", ""))
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path))
    forget_plans()
    there = results(dtype)
    assert len(engines) == 4  # compiled anew: forward and backward of both
    for ours, theirs in zip(here, there, strict=True):
        assert torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8))
