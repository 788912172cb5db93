"""What cannot be exported is refused in one sentence, and nothing has happened then."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from normlab.tensor import Operation, Tensor, core, nn, ops
from normlab.tensor.onnx import EMITTERS, export

ONES = np.ones((2, 3))


def refuse(words: str, function: Any, *inputs: Any, error: type[Exception] = ValueError, **options: Any) -> None:
    with pytest.raises(error, match=words) as caught:
        export(function, *inputs, **options)
    assert "\n" not in str(caught.value)
    assert core.mode.observer is None
    assert core.mode.recording


def test_dropout_in_training():
    refuse("Dropout in training", nn.Dropout(0.5), ONES, error=NotImplementedError)


def test_batch_norm_in_training_keeps_its_running_statistics():
    norm = nn.BatchNorm(3)
    refuse("BatchNorm with the batch's own statistics", norm, ONES, error=NotImplementedError)
    assert norm.running_mean is not None
    assert not norm.running_mean.any()
    refuse("BatchNorm", nn.BatchNorm(3, track_running_stats=False).eval(), ONES, error=NotImplementedError)


def test_a_mask_as_an_index():
    refuse("mask", lambda x: x[np.array([True, False])], ONES, error=NotImplementedError)


class Twice(Operation):
    """2 x."""

    def forward(self, x: Any) -> Any:
        """As it says."""
        return 2 * x


def twice(x: Any) -> Tensor:
    return core.apply(Twice(), x)


def test_an_unknown_operation_and_how_to_make_it_known(rng, runtimes, monkeypatch):
    refuse("Twice", twice, ONES, error=NotImplementedError)
    monkeypatch.setitem(EMITTERS, Twice, lambda operation, call: call.graph.node("Add", *call.names, *call.names))
    runtimes.agree(twice, rng.standard_normal(3))


# Of ones, so that other inputs would make the same constants: what is computed of an input is known for it.
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * (x.data * 2),
        lambda x: x * Tensor(x.data + 1),
        lambda x: x * x.sum().item(),
        lambda x: x.masked_fill(np.zeros(3, np.bool_), float(x.sum())),
        lambda x: (x + 1).reshape(3, 2) + Tensor((x + 1).data.T.copy()),
    ],
)
def test_what_numpy_computes_of_the_inputs(function):
    refuse("inputs", function, ONES)


def doubled_in_place(x: Tensor) -> Tensor:
    x._data[...] *= 2
    return x + 1


def test_numbers_that_are_changed_in_place():
    refuse("read-only", doubled_in_place, ONES)


def test_a_branch():
    refuse("a branch that an input's numbers decide", lambda x: x.exp() if x.sum() > 5.9 else x.tanh(), ONES)
    refuse("a branch that an input's numbers decide", lambda x: x if x.sum() > 0 else -x, ONES)


def test_a_size():
    refuse("inputs", lambda x: x / x.shape[0], ONES, dynamic_batch=True)
    refuse("GetItem depends on", lambda x: x[: x.shape[0] // 2], ONES, dynamic_batch=True)
    refuse("several of whose sizes", lambda x: (x @ x.T).reshape(1, 1, len(x), -1), ONES, dynamic_batch=True)
    refuse("a size of which", lambda x: ops.broadcast_to(x.sum(), (2 * x.shape[0],)), ONES, dynamic_batch=True)
    refuse("a batch of another size", lambda x: x + ONES, ONES, dynamic_batch=True)
    # Of a fixed size they are what they are.
    for function in (lambda x: x / x.shape[0], lambda x: x[: x.shape[0] // 2], lambda x: x + ONES):
        export(function, ONES)


def test_an_input_that_is_not_used():
    refuse("uses the input y", lambda x, y: x + 1, ONES, ONES)


def test_a_result_that_is_no_tensor():
    refuse("must give a tensor", lambda x: x.data, ONES, error=TypeError)


def test_arguments(tmp_path):
    refuse("opset must be from 23", ops.relu, ONES, opset=22)
    refuse("input_names must be 1 different", ops.relu, ONES, input_names=["a", "b"])
    refuse("dynamic_batch must be names of inputs, x, got y", ops.relu, ONES, dynamic_batch=["y"])
    refuse("first axes of one size", ops.add, ONES, np.ones(3), dynamic_batch=True)
    refuse("first axes of one size", ops.relu, np.float64(1), dynamic_batch=True)
    refuse("No such file", ops.relu, ONES, path=tmp_path / "none" / "x.onnx", error=FileNotFoundError)


def test_the_examples_are_left_as_they_are(rng):
    x = rng.standard_normal((2, 3))
    before, tensor = x.copy(), Tensor(x, requires_grad=True)
    export(ops.relu, tensor)
    export(ops.relu, x)
    assert np.array_equal(x, before)
    assert type(x) is np.ndarray
    assert tensor.node is None


def test_onnx_that_is_not_installed():
    code = "import sys; sys.modules['onnx'] = None; import normlab.tensor.onnx"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert 'ImportError: normlab.tensor.onnx needs the package onnx: pip install "normlab[onnx]"' in done.stderr
