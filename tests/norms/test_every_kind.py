"""Every derivative of the kinds beyond the first three, by every input, with a random upstream gradient, twice: by
central differences of the definition's own forward, and by torch's autograd of the formula written once more."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from normlab.norms import adaptive, crmsnorm, dyt, groupnorm, instancenorm, l2norm, prmsnorm, scalenorm

UNIT = 2.0**-53
EPS = 0.05  # large enough to matter in every derivative


class Case(NamedTuple):
    """A function of several arrays: the definition, its gradients by each of them, and the formula in torch."""

    shapes: list[tuple[int, ...]]
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    formula: Callable[..., Any]


def inverse(v: Any, place: str) -> Any:
    return 1 / (v.sqrt() + EPS) if place == "outside" else (v + EPS).rsqrt()


def rows(module: Any, mean_square: Callable[[Any], Any], shape: tuple[int, ...], **options: Any) -> Case:
    """A norm x * s * (offset + weight) over the last axis, s from a mean square."""
    place, offset = options.get("eps_place", "inside"), options.get("offset", 0.0)
    return Case(
        [shape, shape[-1:]],
        lambda x, w: module.forward(x, w, eps=EPS, **options),
        lambda dy, x, w: module.backward(dy, x, w, eps=EPS, **options),
        lambda x, w: x * inverse(mean_square(x), place) * (offset + w),
    )


def compressed(x: Any) -> Any:
    whole = torch.cat([x, -x.sum(-1, keepdim=True)], -1)
    return whole.square().mean(-1, keepdim=True)


def partial(m: int) -> Callable[[Any], Any]:
    return lambda x: x[..., :m].square().mean(-1, keepdim=True)


def grouped(x: Any, w: Any, b: Any, groups: int, place: str, offset: float) -> Any:
    h = x.reshape(x.shape[0], groups, -1)
    c = h - h.mean(-1, keepdim=True)
    column = (-1,) + (1,) * (x.ndim - 2)
    normed = (c * inverse(c.square().mean(-1, keepdim=True), place)).reshape(x.shape)
    return normed * (offset + w).view(column) + b.view(column)


def groups_case(shape: tuple[int, ...], groups: int, **options: Any) -> Case:
    place, offset = options.get("eps_place", "inside"), options.get("offset", 0.0)
    return Case(
        [shape, shape[1:2], shape[1:2]],
        lambda x, w, b: groupnorm.forward(x, groups, w, b, eps=EPS, **options),
        lambda dy, x, w, b: groupnorm.backward(dy, x, groups, w, eps=EPS, **options),
        lambda x, w, b: grouped(x, w, b, groups, place, offset),
    )


def instances_case(shape: tuple[int, ...], **options: Any) -> Case:
    place, offset = options.get("eps_place", "inside"), options.get("offset", 0.0)
    return Case(
        [shape, shape[1:2], shape[1:2]],
        lambda x, w, b: instancenorm.forward(x, w, b, eps=EPS, **options).y,
        lambda dy, x, w, b: instancenorm.backward(dy, x, w, eps=EPS, **options),
        lambda x, w, b: grouped(x, w, b, shape[1], place, offset),
    )


MEAN, VAR = np.array([0.3, -0.2]), np.array([0.7, 1.9])


def evaluated() -> Case:
    def formula(x: Any, w: Any, b: Any) -> Any:
        m, v = (torch.tensor(a).view(2, 1) for a in (MEAN, VAR))
        return (x - m) * inverse(v, "inside") * w.view(2, 1) + b.view(2, 1)

    return Case(
        [(3, 2, 4), (2,), (2,)],
        lambda x, w, b: instancenorm.forward(x, w, b, MEAN, VAR, training=False, eps=EPS).y,
        lambda dy, x, w, b: instancenorm.backward(dy, x, w, MEAN, VAR, training=False, eps=EPS),
        formula,
    )


def scaled_case(shape: tuple[int, ...], eps: float, offset: float = 0.0) -> Case:
    return Case(
        [shape, (1,)],
        lambda x, g: scalenorm.forward(x, float(g[0]), eps=eps, offset=offset),
        lambda dy, x, g: scalenorm.backward(dy, x, float(g[0]), eps=eps, offset=offset),
        lambda x, g: (offset + g) * F.normalize(x, dim=-1, eps=eps),
    )


def lengths_case(shape: tuple[int, ...], eps: float, offset: float = 0.0) -> Case:
    return Case(
        [shape, shape[-1:]],
        lambda x, w: l2norm.forward(x, w, eps=eps, offset=offset),
        lambda dy, x, w: l2norm.backward(dy, x, w, eps=eps, offset=offset),
        lambda x, w: F.normalize(x, dim=-1, eps=eps) * (offset + w),
    )


def tanh_case(shape: tuple[int, ...], normalized: tuple[int, ...], offset: float = 0.0) -> Case:
    options: Any = {"offset": offset, "normalized_shape": normalized}
    return Case(
        [shape, (1,), normalized, normalized],
        lambda x, a, w, b: dyt.forward(x, float(a[0]), w, b, **options),
        lambda dy, x, a, w, b: dyt.backward(dy, x, float(a[0]), w, **options),
        lambda x, a, w, b: torch.tanh(a * x) * (offset + w) + b,
    )


def adaptive_case(shape: tuple[int, ...], condition: tuple[int, ...], kind: str) -> Case:
    n, size = shape[-1], condition[-1]

    def formula(x: Any, c: Any, w: Any, b: Any) -> Any:
        h = x - x.mean(-1, keepdim=True) if kind == "layernorm" else x
        normed = h * inverse(h.square().mean(-1, keepdim=True), "inside")
        shift, scale = F.linear(F.silu(c), w, b).chunk(2, -1)
        wide = (*condition[:-1], *(1,) * (len(shape) - len(condition)), n)
        return normed * (1 + scale.reshape(wide)) + shift.reshape(wide)

    return Case(
        [shape, condition, (2 * n, size), (2 * n,)],
        lambda *arrays: adaptive.forward(*arrays, kind=kind, eps=EPS),
        lambda dy, *arrays: adaptive.backward(dy, *arrays, kind=kind, eps=EPS),
        formula,
    )


OUTSIDE = {"eps_place": "outside", "offset": 1.0}
CASES = {
    "groupnorm, one group": groups_case((2, 4, 3), 1),
    "groupnorm, two groups": groups_case((3, 4, 2, 2), 2, **OUTSIDE),
    "groupnorm, as many groups as channels": groups_case((2, 3, 5), 3),
    "groupnorm, no space": groups_case((3, 6), 2, offset=-0.5),
    "instancenorm": instances_case((3, 2, 4)),
    "instancenorm, space of two axes": instances_case((2, 3, 2, 3), **OUTSIDE),
    "instancenorm, evaluation": evaluated(),
    "scalenorm": scaled_case((3, 5), 1e-5),
    "scalenorm, three axes": scaled_case((2, 2, 3), 1e-5, offset=1.0),
    "scalenorm, below the floor": scaled_case((3, 5), 20.0),
    "l2norm": lengths_case((3, 5), 1e-12),
    "l2norm, one entry": lengths_case((4, 1), 1e-12),
    "l2norm, below the floor": lengths_case((3, 5), 20.0, offset=1.0),
    "crmsnorm": rows(crmsnorm, compressed, (3, 5)),
    "crmsnorm, eps outside": rows(crmsnorm, compressed, (2, 2, 4), **OUTSIDE),
    "crmsnorm, one entry for two": rows(crmsnorm, compressed, (4, 1)),
    "prmsnorm, one entry": rows(prmsnorm, partial(1), (3, 7)),
    "prmsnorm, some": rows(prmsnorm, partial(3), (3, 7), fraction=0.4, **OUTSIDE),
    "prmsnorm, all": rows(prmsnorm, partial(7), (3, 7), fraction=1.0),
    "dyt": tanh_case((3, 5), (5,)),
    "dyt, two axes": tanh_case((2, 3, 2), (3, 2), offset=1.0),
    "adaptive layernorm, a condition a sample": adaptive_case((2, 3, 4), (2, 3), "layernorm"),
    "adaptive layernorm, one condition": adaptive_case((3, 4), (3,), "layernorm"),
    "adaptive rmsnorm, a condition a row": adaptive_case((2, 3, 4), (2, 3, 2), "rmsnorm"),
}


def draw(rng: Any, case: Case) -> tuple[list[Any], Any]:
    arrays = [rng.normal(size=shape) for shape in case.shapes]
    return arrays, rng.normal(size=case.shapes[0])


@pytest.mark.parametrize("name", CASES)
def test_against_autograd(name, rng, torch_gradients):
    case = CASES[name]
    arrays, dy = draw(rng, case)
    value, *theirs = torch_gradients(case.formula, dy, *arrays)
    ours = case.backward(dy, *arrays)
    assert case.forward(*arrays).shape == arrays[0].shape
    # A hundred roundings of numbers up to 100: a factor of at most 1 / sqrt(EPS) < 5, its cube in a derivative.
    np.testing.assert_allclose(case.forward(*arrays), value, rtol=0, atol=100 * 100 * UNIT)
    for got, want, array in zip(ours, theirs, arrays, strict=False):
        assert got.dtype == np.float64
        assert got.size == array.size
        np.testing.assert_allclose(np.reshape(got, want.shape), want, rtol=0, atol=100 * 100 * UNIT)


@pytest.mark.parametrize("name", CASES)
def test_central_differences(name, rng):
    case = CASES[name]
    arrays, dy = draw(rng, case)
    ours = case.backward(dy, *arrays)
    assert len(ours) == len(arrays)
    # Truncation step^2 * |f'''| / 6 and rounding UNIT * |f| / step are both below 1e-8 where the numbers divided by
    # are about 1; a partial RMS of one entry may be small, so there truncation is measured, by the step twice as wide.
    step = 3e-6
    for position, got in enumerate(ours):
        quotients = []
        for width in (step, 2 * step):
            out = np.empty(arrays[position].shape)
            for i in np.ndindex(out.shape):
                moved = [[a.copy() for a in arrays] for _ in range(2)]
                moved[0][position][i] += width
                moved[1][position][i] -= width
                up, down = (np.sum(dy * case.forward(*m)) for m in moved)
                out[i] = (up - down) / (2 * width)
            quotients.append(out)
        atol = 1e-8 + 2 * np.max(np.abs(quotients[0] - quotients[1]))
        assert atol < 1e-6
        np.testing.assert_allclose(np.reshape(got, out.shape), quotients[0], rtol=0, atol=atol)


def test_qk_norm(rng, torch_gradients):
    q, k, dq, dk = rng.normal(size=(4, 2, 3, 5))
    g = np.array([1.7])

    def formula(q, k, g):
        return torch.cat([g * F.normalize(q, dim=-1), F.normalize(k, dim=-1)], 0)

    value, *theirs = torch_gradients(formula, np.concatenate([dq, dk]), q, k, g)
    np.testing.assert_allclose(np.concatenate(l2norm.qk_forward(q, k, 1.7)), value, rtol=1e-14)
    for got, want in zip(l2norm.qk_backward(dq, dk, q, k, 1.7), theirs, strict=True):
        np.testing.assert_allclose(got, want.reshape(got.shape), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_changed(name, rng):
    case = CASES[name]
    arrays, dy = draw(rng, case)
    kept = [a.copy() for a in (*arrays, dy)]
    case.forward(*arrays)
    case.backward(dy, *arrays)
    for before, after in zip(kept, (*arrays, dy), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", CASES)
def test_any_float_input_in_any_layout(name, rng):
    case = CASES[name]
    arrays, dy = draw(rng, case)
    narrow = [a.astype(np.float16) for a in (*arrays, dy)]
    strange = [np.asfortranarray(np.repeat(a, 2, axis=-1))[..., ::2] for a in narrow]
    wide = [a.astype(np.float64) for a in narrow]
    got, want = ((case.forward(*a[:-1]), *case.backward(a[-1], *a[:-1])) for a in (strange, wide))
    for one, other in zip(got, want, strict=True):
        assert one.dtype == np.float64
        # The order of a sum may follow the layout.
        np.testing.assert_allclose(one, other, rtol=0, atol=100 * 100 * UNIT)


@pytest.mark.parametrize("name", CASES)
def test_backward_is_linear_in_the_upstream_gradient(name, rng):
    case = CASES[name]
    arrays, dy = draw(rng, case)
    for two, one in zip(case.backward(2 * dy, *arrays), case.backward(dy, *arrays), strict=True):
        np.testing.assert_array_equal(two, 2 * one)
