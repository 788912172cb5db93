"""The judge of find-the-bug answers: right norms in several spellings, and wrong ones of many kinds."""

import math

import msgspec
import numpy as np
import pytest

from normlab.learn.quiz import bugs
from normlab.learn.quiz.bugs import EPS, TOLERANCE, cases, expected, judge
from normlab.learn.quiz.schema import Bug, load

FORWARD = {
    "rmsnorm": """
def forward(x, weight, eps):
    return x / np.sqrt(np.mean(x ** 2, axis=-1, keepdims=True) + eps) * weight
""",
    "layernorm": """
def forward(x, weight, bias, eps):
    c = x - x.mean(axis=-1, keepdims=True)
    return c / np.sqrt(np.mean(c * c, axis=-1, keepdims=True) + eps) * weight + bias
""",
    "batchnorm": """
def forward(x, weight, bias, eps):
    c = x - x.mean(axis=0)
    return c / np.sqrt(x.var(axis=0) + eps) * weight + bias
""",
}
BACKWARD = {
    "rmsnorm": """
def backward(dy, x, weight, eps):
    s = 1 / np.sqrt(np.mean(x ** 2, axis=-1, keepdims=True) + eps)
    h, u = x * s, dy * weight
    dweight = (dy * h).reshape(-1, x.shape[-1]).sum(axis=0)
    return s * (u - h * (u * h).mean(axis=-1, keepdims=True)), dweight
""",
    "layernorm": """
def backward(dy, x, weight, bias, eps):
    c = x - x.mean(axis=-1, keepdims=True)
    s = 1 / np.sqrt(np.mean(c * c, axis=-1, keepdims=True) + eps)
    h, u = c * s, dy * weight
    rows = tuple(range(x.ndim - 1))
    dx = s * (u - u.mean(axis=-1, keepdims=True) - h * (u * h).mean(axis=-1, keepdims=True))
    return dx, (dy * h).sum(axis=rows), dy.sum(axis=rows)
""",
    "batchnorm": """
def backward(dy, x, weight, bias, eps):
    s = 1 / np.sqrt(x.var(axis=0) + eps)
    h, u = (x - x.mean(axis=0)) * s, dy * weight
    return s * (u - u.mean(axis=0) - h * (u * h).mean(axis=0)), (dy * h).sum(axis=0), dy.sum(axis=0)
""",
}
ENGINE = {
    "rmsnorm": """
def norm(x, weight, eps):
    return x / ((x * x).mean(-1, keepdims=True) + eps).sqrt() * weight
""",
    "layernorm": """
def norm(x, weight, bias, eps):
    c = x - x.mean(-1, keepdims=True)
    return c / ((c * c).mean(-1, keepdims=True) + eps).sqrt() * weight + bias
""",
    "batchnorm": """
def norm(x, weight, bias, eps):
    c = x - x.mean(0)
    return c / (x.var(0) + eps).sqrt() * weight + bias
""",
}
NORMS = tuple(FORWARD)


def told(norm: str, code: str, *replaced: str, language: str = "numpy") -> bugs.Verdict:
    """The verdict on the code, after the first text of `replaced` was replaced by the second."""
    if replaced:
        assert replaced[0] in code
        code = code.replace(replaced[0], replaced[1])
    texts = dict.fromkeys(("id", "topic", "text", "explanation", "code", "fix", "hint", "wrong"), "a")
    return judge(msgspec.convert({**texts, "notes": "a.md", "level": 3, "norm": norm, "language": language}, Bug), code)


@pytest.mark.parametrize("item", [q for q in load().questions if isinstance(q, Bug)], ids=lambda item: item.id)
def test_the_quizs_own_bugs_are_found_and_their_fixes_are_right(item):
    fixed, given = judge(item, item.fix), judge(item, item.code)
    assert fixed.right, fixed.sentence
    assert not given.right
    assert given.sentence


@pytest.mark.parametrize("norm", NORMS)
def test_right_norms_are_right(norm):
    results = "y, dx and dweight" if norm == "rmsnorm" else "y, dx, dweight and dbias"
    count = 3 if norm == "batchnorm" else 4
    for verdict in (told(norm, FORWARD[norm] + BACKWARD[norm]), told(norm, ENGINE[norm], language="engine")):
        assert verdict == bugs.Verdict(True, f"{results} agree with the definition on {count} inputs")


def test_other_spellings_are_right():
    """E[x^2] - E[x]^2, and loops over rows: what is equal on paper passes, at a mean of 1000 too."""
    one_pass = (
        "np.mean(c * c, axis=-1, keepdims=True)",
        "(np.mean(x*x, -1, keepdims=True) - x.mean(-1, keepdims=True)**2)",
    )
    assert told("layernorm", FORWARD["layernorm"] + BACKWARD["layernorm"], *one_pass).right
    loops = """
def forward(x, weight, eps):
    if x.ndim > 1:
        return np.array([forward(row, weight, eps) for row in x])
    return np.array([v / math.sqrt(sum(u * u for u in x) / len(x) + eps) * w for v, w in zip(x, weight)])
"""
    assert told("rmsnorm", loops + BACKWARD["rmsnorm"]).right


@pytest.mark.parametrize(
    ("norm", "replaced", "what"),
    [
        ("rmsnorm", ("x ** 2, axis=-1, keepdims=True) + eps) * weight", "x ** 2) + eps) * weight"), "y"),
        ("rmsnorm", (") + eps) * weight", ")) * weight"), "y"),
        ("rmsnorm", ("np.sqrt(np.mean(x ** 2, axis=-1, keepdims=True) + eps) *", "x.std(-1)[..., None] *"), "y"),
        ("rmsnorm", ("eps) * weight", "eps) * (1 + weight)"), "y"),
        ("rmsnorm", ("np.mean(x ** 2, axis=-1, keepdims=True) + eps) *", "np.var(x, -1, keepdims=True) + eps) *"), "y"),
        ("rmsnorm", ("return s * (u - h * (u * h).mean(axis=-1, keepdims=True))", "return s * u"), "dx"),
        ("rmsnorm", ("(u * h).mean", "(u * h).sum"), "dx"),
        ("rmsnorm", ("u = x * s, dy * weight", "u = x * s, dy"), "dx"),
        ("rmsnorm", ("(dy * h).reshape", "(u * h).reshape"), "dweight"),
        ("layernorm", ("* weight + bias", "* weight"), "y"),
        ("layernorm", ("eps) * weight + bias", "eps) * weight - bias"), "y"),
        ("layernorm", ("c / np.sqrt(np.mean(c * c, axis=-1", "x / np.sqrt(np.mean(c * c, axis=-1"), "y"),
        ("layernorm", ("(u - u.mean(axis=-1, keepdims=True) -", "(u -"), "dx"),
        ("layernorm", ("dy.sum(axis=rows)", "u.sum(axis=rows)"), "dbias"),
        ("layernorm", ("(dy * h).sum(axis=rows)", "(dy * c).sum(axis=rows)"), "dweight"),
        ("batchnorm", ("c / np.sqrt(x.var(axis=0)", "c / np.sqrt(x.var(axis=0, ddof=1)"), "y"),
        ("batchnorm", ("s * (u - u.mean(axis=0) - h * (u * h).mean(axis=0))", "s * u"), "dx"),
        ("batchnorm", ("dy.sum(axis=0)", "dy.mean(axis=0)"), "dbias"),
    ],
)  # fmt: skip
def test_an_error_is_found_where_it_is(norm, replaced, what):
    verdict = told(norm, FORWARD[norm] + BACKWARD[norm], *replaced)
    assert not verdict.right
    assert verdict.difference is not None, verdict.sentence
    assert verdict.difference.what == what
    assert verdict.sentence.startswith(f"{what}[")


def test_the_sentence_names_the_worst_place():
    code = FORWARD["rmsnorm"] + BACKWARD["rmsnorm"].replace("return s", "dweight[3] += 0.5\n    return s")
    verdict = told("rmsnorm", code)
    # Of the inputs that on which the error is largest beside the right numbers.
    values, case = min(
        ((expected("rmsnorm", case)["dweight"], case) for case in cases("rmsnorm")),
        key=lambda pair: np.abs(pair[0]).max(),
    )
    value = float(values[3])
    assert verdict.difference is not None
    assert (verdict.difference.index, verdict.difference.case) == ((3,), case.words)
    assert verdict.difference.expected == value
    assert verdict.difference.got == pytest.approx(value + 0.5)
    assert verdict.difference.apart == pytest.approx(0.5 / np.abs(values).max())
    numbers = f"dweight[3] is {value + 0.5:.4g}, and should be {value:.4g}"
    assert verdict.sentence == f"{numbers} (x: {case.words}); y and dx are right"


def test_the_place_of_eps_is_shown_on_tiny_rows():
    verdict = told("rmsnorm", ENGINE["rmsnorm"], " + eps).sqrt()", ").sqrt() + eps", language="engine")
    assert verdict.difference is not None
    assert verdict.difference.case == "numbers about 0.001, shape (3, 5)"
    assert verdict.difference.apart > 0.1


def test_a_wrong_forward_beside_a_right_gradient():
    verdict = told("rmsnorm", FORWARD["rmsnorm"] + BACKWARD["rmsnorm"], "+ eps) * weight", ") * weight")
    assert verdict.sentence.startswith("y[")
    assert verdict.sentence.endswith("; dx and dweight are right")


def test_a_small_difference_is_shown_with_the_digits_that_differ():
    verdict = told("rmsnorm", FORWARD["rmsnorm"].replace("* weight", "* weight * (1 + 1e-6)") + BACKWARD["rmsnorm"])
    got, should = verdict.sentence.split(" is ")[1].split(" (x:")[0].split(", and should be ")
    assert got != should
    assert math.isclose(float(got), float(should), rel_tol=1e-5)


@pytest.mark.parametrize(
    ("replaced", "what"),
    [
        ((" + eps).sqrt()", ").sqrt() + eps"), "y"),
        (("x / (", "Tensor(x.data) / ("), "dx"),
        (("* weight", "* Tensor(weight.data)"), None),
        (("((x * x).mean(-1, keepdims=True)", "(Tensor((x.data ** 2).mean(-1, keepdims=True))"), "dx"),
    ],
)
def test_errors_in_the_engine(replaced, what):
    verdict = told("rmsnorm", ENGINE["rmsnorm"], *replaced, language="engine")
    assert not verdict.right
    assert (verdict.difference and verdict.difference.what) == what
    if replaced[0] == "* weight":
        assert verdict.sentence == "no gradient reaches weight: the graph is cut on the way to it"
    elif what == "dx":
        assert verdict.sentence.endswith("; y and dweight are right")


def test_inputs_must_stay_as_they_are():
    code = FORWARD["rmsnorm"].replace("return x /", "x /=").replace("eps) * weight", "eps)\n    return x * weight")
    verdict = told("rmsnorm", code + BACKWARD["rmsnorm"])
    assert verdict == bugs.Verdict(False, "forward has changed its argument x: it must leave it as it is")
    engine = ENGINE["rmsnorm"].replace("return", "weight.data[0] += 1\n    return")
    assert told("rmsnorm", engine, language="engine").sentence.startswith("norm has changed its argument weight")


def test_no_number_is_wrong():
    verdict = told(
        "rmsnorm", FORWARD["rmsnorm"] + BACKWARD["rmsnorm"], "np.sqrt(np.mean(x ** 2", "np.sqrt(-np.mean(x ** 2"
    )
    assert not verdict.right
    assert verdict.sentence.startswith("y[0, 0] is nan, and should be")


def test_trouble_is_the_sentence_and_prints_come_along():
    verdict = told("rmsnorm", "print('here')\n" + FORWARD["rmsnorm"])
    assert verdict == bugs.Verdict(False, "the code does not define backward(dy, x, weight, eps)", printed="here\n")
    assert told("rmsnorm", "import os").sentence == "line 1: import os: only numpy and math may be imported"


@pytest.mark.parametrize("norm", NORMS)
def test_the_inputs_are_those_that_are_promised(norm):
    """And on each of them the definition's gradient is that of its forward, by differences."""
    shapes = [case.x.shape for case in cases(norm)]
    assert shapes == ([(6, 3)] * 3 if norm == "batchnorm" else [(3, 5), (2, 3, 4), (3, 5), (3, 5)])
    *_, far, tiny = cases(norm)
    assert far.x.mean() == pytest.approx(1e3, rel=1e-2)
    assert np.abs(tiny.x).max() < 1e-2
    for case, again in zip(cases(norm), cases(norm), strict=True):
        np.testing.assert_array_equal(case.x, again.x)
        values, direction = expected(norm, case), np.cos(np.arange(case.x.size)).reshape(case.x.shape)
        step = 1e-5 * case.x.std() * direction
        ends = [expected(norm, bugs.Case("", case.x + sign * step, case.parameters, case.dy))["y"] for sign in (1, -1)]
        slope = np.sum(case.dy * (ends[0] - ends[1])) / 2
        assert slope == pytest.approx(np.sum(values["dx"] * step), rel=1e-4)
        # y is linear in the parameters.
        linear = sum(np.sum(values[f"d{name}"] * value) for name, value in case.parameters.items())
        assert linear == pytest.approx(np.sum(case.dy * values["y"]))


def test_the_tolerance_lies_between_rounding_and_errors():
    """LayerNorm in one pass loses the most by rounding; eps outside of the root shows on tiny rows alone."""
    for case in cases("layernorm"):
        y, x = expected("layernorm", case)["y"], case.x
        variance = (x * x).mean(-1, keepdims=True) - x.mean(-1, keepdims=True) ** 2
        weight, bias = case.parameters.values()
        one_pass = (x - x.mean(-1, keepdims=True)) / np.sqrt(variance + EPS) * weight + bias
        assert np.abs(one_pass - y).max() < TOLERANCE / 10 * np.abs(y).max()
        outside = (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + EPS) * weight + bias
        if "0.001" in case.words:
            assert np.abs(outside - y).max() > 0.1 * np.abs(y).max()
