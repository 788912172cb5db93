"""Running an exported model, by onnxruntime and by onnx's own reference, as the fixture `runtimes`."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from scipy.special import erf

from normlab.tensor import Tensor
from normlab.tensor.onnx import export

Array = NDArray[Any]
# Sums in another order: a few roundings more for the few dozen numbers that these cases add up.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


class Erf(OpRun):
    """onnx's own takes float64 through float32."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (erf(x),)


def arrays(inputs: Sequence[Any]) -> list[Array]:
    return [x.data if isinstance(x, Tensor) else np.asarray(x) for x in inputs]


def by_onnxruntime(model: onnx.ModelProto, inputs: Sequence[Any]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in model.graph.input]
    return [np.asarray(y) for y in session.run(None, dict(zip(names, arrays(inputs), strict=True)))]


def by_reference(model: onnx.ModelProto, inputs: Sequence[Any]) -> list[Array]:
    names = [i.name for i in model.graph.input]
    found = ReferenceEvaluator(model, new_ops=[Erf]).run(None, dict(zip(names, arrays(inputs), strict=True)))
    assert not isinstance(found, dict)
    return [np.asarray(y) for y in found]


def results(function: Callable[..., Any], inputs: Sequence[Any]) -> list[Array]:
    given = [Tensor(x) if not isinstance(x, Tensor) and x.dtype.kind == "f" else x for x in inputs]
    ys = function(*given)
    return [y.data for y in ys] if isinstance(ys, tuple) else [ys.data]


def close(found: Sequence[Array], wanted: Sequence[Array]) -> None:
    assert len(found) == len(wanted)
    for y, expected in zip(found, wanted, strict=True):
        assert y.dtype == expected.dtype
        assert y.shape == expected.shape
        tolerance = TOLERANCE.get(expected.dtype.name, 0)
        np.testing.assert_allclose(y, expected, tolerance, tolerance)


def agree(
    function: Callable[..., Any], *inputs: Any, by: Callable[..., list[Array]] = by_onnxruntime, **options: Any
) -> onnx.ModelProto:
    """Export, run, compare with the engine; the model."""
    model = export(function, *inputs, **options)
    onnx.checker.check_model(model, full_check=True)
    close(by(model, inputs), results(function, inputs))
    return model


@pytest.fixture(scope="session")
def runtimes() -> SimpleNamespace:
    return SimpleNamespace(
        agree=agree, close=close, results=results, by_onnxruntime=by_onnxruntime, by_reference=by_reference
    )
