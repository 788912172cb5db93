"""The errors that the bar judges, at a small size; what a new process waits for."""

import pytest
import torch

from normlab.bench import accuracy, start
from normlab.bench.accuracy import Accuracy


def test_errors_are_of_the_order_of_rounding():
    found = accuracy.measure(("float64", "float32"), (300, 32))
    assert {(a.op, a.gradient) for a in found} == {
        ("rms_norm", "dx"), ("rms_norm", "dw"), ("layer_norm", "dx"), ("layer_norm", "dw"), ("layer_norm", "db"),
    }  # fmt: skip
    for a in found:
        # At mean 1e4 LayerNorm loses four digits of its input.
        rounding = torch.finfo(getattr(torch, a.dtype)).eps * (1 if a.given == "mean 0, std 1" else 1e5)
        assert a.ours < 10 * rounding, a
        assert a.torchs < 100 * rounding, a


def test_two_exact_zeros_are_equal():
    """In bfloat16 all of 1e4 + noise is one number."""
    found = {
        a.gradient: a
        for a in accuracy.measure(("bfloat16",), (64, 16))
        if (a.op, a.given[:8]) == ("layer_norm", "mean 1e4")
    }
    assert (found["dw"].ours, found["dw"].ratio) == (0, 1)
    assert Accuracy("rms_norm", "float32", 1, 1, "", "dx", 1e-7, 0.0).ratio == float("inf")


@pytest.mark.heavy
def test_start():
    seconds = start.measure(1)
    assert 0 < seconds.importing < seconds.first
    assert seconds.torchs > 0
