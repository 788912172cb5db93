"""Bad input to the definitions beyond the first three: one sentence that names the argument, what came, what fits."""

import re
from typing import Any

import numpy as np
import pytest

from normlab.norms import adaptive, crmsnorm, dyt, groupnorm, instancenorm, l2norm, prmsnorm, scalenorm

X = np.ones((4, 6))
SPACE = np.ones((2, 6, 3))
WEIGHTED = [l2norm, crmsnorm, prmsnorm]
ROWS = [*WEIGHTED, scalenorm, dyt]


def both(norm: Any, *arguments: Any, error: type[Exception], message: str, **options: Any) -> None:
    x, *rest = arguments
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        norm.forward(x, *rest, **options)
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        norm.backward(x, x, *rest, **options)


@pytest.mark.parametrize("norm", ROWS)
def test_rows(norm):
    shape = "normalized_shape must be the trailing axes of x, (4, 6), got (4,)"
    both(norm, X, normalized_shape=(4,), error=ValueError, message=shape)
    both(norm, 3.0, error=ValueError, message="normalized_shape must be the trailing axes of x, (), got ()")
    with pytest.raises(ValueError, match=re.escape("dy must have the shape of x, (4, 6), got (6,)")):
        norm.backward(np.ones(6), X)


@pytest.mark.parametrize("norm", [*WEIGHTED, scalenorm])
@pytest.mark.parametrize(
    ("eps", "error", "message"),
    [
        (-1e-5, ValueError, "eps must be at least 0, got -1e-05"),
        (float("nan"), ValueError, "eps must be finite, got nan"),
        (True, TypeError, "eps must be a number, got bool True"),
        ("1e-5", TypeError, "eps must be a number, got str '1e-5'"),
    ],
)
def test_eps(norm, eps, error, message):
    both(norm, X, eps=eps, error=error, message=message)


@pytest.mark.parametrize("norm", [*WEIGHTED, dyt])
def test_a_weight_of_another_shape(norm):
    both(norm, X, weight=np.ones(5), error=ValueError, message="weight must have shape (6,), got (5,)")


@pytest.mark.parametrize(
    ("g", "error", "message"),
    [
        (np.ones(6), TypeError, "g must be a number, got ndarray"),
        (float("nan"), ValueError, "g must be finite, got nan"),
    ],
)
def test_scalenorms_g(g, error, message):
    both(scalenorm, X, g, error=error, message=message)


@pytest.mark.parametrize("place", ["beside", None])
def test_eps_place(place):
    for norm in (crmsnorm, prmsnorm):
        both(norm, X, eps_place=place, error=ValueError, message="eps_place must be one of 'inside', 'outside', got")


@pytest.mark.parametrize(
    ("fraction", "error", "message"),
    [
        (0, ValueError, "fraction must be greater than 0, got 0"),
        (-0.5, ValueError, "fraction must be greater than 0, got -0.5"),
        (1.5, ValueError, "fraction must be at most 1, got 1.5"),
        (float("nan"), ValueError, "fraction must be finite, got nan"),
        (None, TypeError, "fraction must be a number, got NoneType None"),
    ],
)
def test_fraction(fraction, error, message):
    both(prmsnorm, X, fraction=fraction, error=error, message=message)


@pytest.mark.parametrize(("alpha", "error"), [("1", TypeError), (float("inf"), ValueError), (X, TypeError)])
def test_alpha(alpha, error):
    both(dyt, X, alpha, error=error, message="alpha must be")


def test_a_bias_of_another_shape():
    with pytest.raises(ValueError, match=re.escape("bias must have shape (6,), got (4,)")):
        dyt.forward(X, 0.5, None, np.ones(4))
    with pytest.raises(ValueError, match=re.escape("bias must have shape (6,), got (4,)")):
        groupnorm.forward(X, 2, None, np.ones(4))


@pytest.mark.parametrize(
    ("x", "groups", "error", "message"),
    [
        (np.ones(6), 2, ValueError, "x must have shape (N, C) or (N, C, *space), got (6,)"),
        (X, 4, ValueError, "groups must divide the 6 channels of x, got 4"),
        (X, 0, ValueError, "groups must be at least 1, got 0"),
        (X, 2.0, TypeError, "groups must be an int, got float 2.0"),
        (X, True, TypeError, "groups must be an int, got bool True"),
    ],
)
def test_groups(x, groups, error, message):
    both(groupnorm, x, groups, error=error, message=message)


@pytest.mark.parametrize("norm", ["groupnorm", "instancenorm"])
def test_channels(norm):
    arguments = (SPACE, 2) if norm == "groupnorm" else (SPACE,)
    module = {"groupnorm": groupnorm, "instancenorm": instancenorm}[norm]
    both(module, *arguments, weight=np.ones(3), error=ValueError, message="weight must have shape (6,), got (3,)")
    both(module, *arguments, eps=-1, error=ValueError, message="eps must be at least 0, got -1")


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (X, {}, "x must have shape (N, C, *space), got (4, 6)"),
        (np.ones((2, 6, 1)), {}, "x must have more than 1 number per sample and channel for their statistics, got"),
        (np.ones((2, 6, 1)), {"training": False}, "x must have more than 1 number per sample and channel"),
        (SPACE, {"running_mean": np.ones(6)}, "running_mean and running_var must be given together, got only one"),
        (
            SPACE,
            {"running_mean": np.ones(1), "running_var": np.ones(6)},
            "running_mean must have shape (6,), got (1,)",
        ),
    ],
)
def test_instancenorm(x, options, message):
    both(instancenorm, x, **options, error=ValueError, message=message)


def test_one_number_is_fine_with_running_statistics():
    out = instancenorm.forward(np.full((1, 2, 1), 5.0), None, None, np.ones(2), np.full(2, 4.0), training=False, eps=0)
    np.testing.assert_array_equal(out.y.ravel(), [2.0, 2.0])


@pytest.mark.parametrize("x", [3.0, np.empty((2, 0))])
def test_nothing_to_compress(x):
    with pytest.raises(ValueError, match="x must have at least one entry along its last axis, got shape"):
        crmsnorm.compress(x)


ADAPTIVE: dict[str, Any] = {
    "condition": np.ones((2, 5)),
    "projection": np.ones((6, 5)),
    "projection_bias": np.ones(6),
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"condition": np.ones((3, 5))}, "condition must have shape (*leading, size) with the leading axes of x"),
        (
            {"condition": 1.0},
            "condition must have shape (*leading, size) with the leading axes of x, (2, 4, 3), got ()",
        ),
        ({"condition": np.ones((2, 4, 3, 5))}, "condition must have shape (*leading, size)"),
        ({"projection": np.ones((3, 5))}, "projection must have shape (6, 5), got (3, 5)"),
        ({"projection": np.ones((6, 4))}, "projection must have shape (6, 5), got (6, 4)"),
        ({"projection_bias": np.ones(3)}, "projection_bias must have shape (6,), got (3,)"),
        ({"kind": "batchnorm"}, "kind must be one of 'layernorm', 'rmsnorm', got 'batchnorm'"),
        ({"eps": -1}, "eps must be at least 0, got -1"),
    ],
)
def test_adaptive(changes, message):
    both(adaptive, np.ones((2, 4, 3)), **{**ADAPTIVE, **changes}, error=ValueError, message=message)
