"""Every generator against formulas written out here once more, in float64, from the texts that a learner is shown."""

import math
from functools import cache

import numpy as np
import pytest

from normlab.learn.quiz.numbers import GENERATORS, Drawn, agree, shown
from normlab.learn.quiz.numbers import draw as draw_again

SEEDS = range(200)
draw = cache(draw_again)


def rms(row):
    return np.sqrt(np.mean(np.square(row)))


def sample_std(row):
    return np.sqrt(np.sum((row - np.mean(row)) ** 2) / (len(row) - 1))


def centred(row):
    return row - np.sum(row) / len(row)


def rmsnorm_gradient(row, dy, share):
    """The Jacobian of x / rms(x), written out: (I - share x xᵀ / rms²) / rms."""
    jacobian = (np.eye(len(row)) - share * np.outer(row, row) / rms(row) ** 2) / rms(row)
    return jacobian.T @ dy


def layers_until(factor, threshold):
    """Counted, not computed."""
    signal, layers = 1.0, 0
    while signal >= threshold:
        signal, layers = signal * factor, layers + 1
    return layers


def stack_factor(v):
    return v["std"] * np.sqrt(v["width"]) / np.sqrt(2)


# By generator: the answer, and what each slip leads to, from the values.
EXPECTED = {
    "rms-of-a-row": (
        lambda v: rms(v["row"]),
        {
            "std": lambda v: rms(centred(v["row"])),
            "sum-not-mean": lambda v: np.linalg.norm(v["row"]),
            "no-root": lambda v: rms(v["row"]) ** 2,
        },
    ),
    "std-of-a-row": (
        lambda v: rms(centred(v["row"])),
        {
            "sample-std": lambda v: sample_std(v["row"]),
            "rms": lambda v: rms(v["row"]),
            "variance": lambda v: rms(centred(v["row"])) ** 2,
        },
    ),
    "rmsnorm-of-a-row": (
        lambda v: v["row"] * v["gamma"] / rms(v["row"]),
        {
            "layernorm": lambda v: centred(v["row"]) * v["gamma"] / rms(centred(v["row"])),
            "no-gamma": lambda v: v["row"] / rms(v["row"]),
        },
    ),
    "layernorm-of-a-row": (
        lambda v: centred(v["row"]) * v["gamma"] / rms(centred(v["row"])) + v["beta"],
        {
            "rmsnorm": lambda v: v["row"] * v["gamma"] / rms(v["row"]) + v["beta"],
            "sample-std": lambda v: centred(v["row"]) * v["gamma"] / sample_std(v["row"]) + v["beta"],
            "no-beta": lambda v: centred(v["row"]) * v["gamma"] / rms(centred(v["row"])),
        },
    ),
    "gemma-of-a-row": (
        lambda v: v["row"] / rms(v["row"]) * (1 + v["weight"]),
        {"weight-alone": lambda v: v["row"] / rms(v["row"]) * v["weight"]},
    ),
    "eps-of-a-small-row": (
        lambda v: v["rms"] / np.sqrt(v["rms"] ** 2 + v["eps"]),
        {
            "one": lambda v: 1.0,
            "outside": lambda v: v["rms"] / (v["rms"] + v["eps"]),
            "no-root": lambda v: v["rms"] / (v["rms"] ** 2 + v["eps"]),
        },
    ),
    "rmsnorm-gradient": (
        lambda v: rmsnorm_gradient(v["row"], v["dy"], 1 / len(v["row"])),
        {
            "direct-only": lambda v: v["dy"] / rms(v["row"]),
            "batch": lambda v: rmsnorm_gradient(v["row"], v["dy"], 1),
        },
    ),
    "batchnorm-of-a-column": (
        lambda v: centred(v["column"]) / rms(centred(v["column"])) * v["gamma"] + v["beta"],
        {"sample-std": lambda v: centred(v["column"]) / sample_std(v["column"]) * v["gamma"] + v["beta"]},
    ),
    "batchnorm-running-mean": (
        lambda v: v["running"] + v["momentum"] * (v["batch_mean"] - v["running"]),
        {"swapped": lambda v: v["batch_mean"] + v["momentum"] * (v["running"] - v["batch_mean"])},
    ),
    "batchnorm-running-var": (
        lambda v: v["running"] + v["momentum"] * (sample_std(v["column"]) ** 2 - v["running"]),
        {
            "biased": lambda v: v["running"] + v["momentum"] * (rms(centred(v["column"])) ** 2 - v["running"]),
            "swapped": lambda v: v["momentum"] * v["running"] + (1 - v["momentum"]) * sample_std(v["column"]) ** 2,
        },
    ),
    "batchnorm-in-evaluation": (
        lambda v: (v["x"] - v["running_mean"]) / np.sqrt(v["running_var"]) * v["gamma"] + v["beta"],
        {"no-root": lambda v: (v["x"] - v["running_mean"]) / v["running_var"] * v["gamma"] + v["beta"]},
    ),
    "relu-stack-factor": (
        stack_factor,
        {
            "no-relu": lambda v: v["std"] * np.sqrt(v["width"]),
            "quarter": lambda v: v["std"] * np.sqrt(v["width"]) / 2,
        },
    ),
    "relu-stack-depth": (
        lambda v: layers_until(stack_factor(v), v["threshold"]),
        {"no-relu": lambda v: layers_until(v["std"] * np.sqrt(v["width"]), v["threshold"])},
    ),
    "residual-growth": (
        lambda v: np.sqrt(1 + v["layers"] + v["layers"]),
        {"linear": lambda v: 1 + v["layers"] * 2, "one-branch": lambda v: np.sqrt(1 + v["layers"])},
    ),
    "norm-parameters": (
        lambda v: (4 * v["layers"] + 2) * v["dim"],
        {
            "no-bias": lambda v: (2 * v["layers"] + 1) * v["dim"],
            "no-final": lambda v: 4 * v["layers"] * v["dim"],
        },
    ),
    "norm-traffic": (
        lambda v: 5e-3 * v["rows"] * v["dim"] * v["bytes"] / v["bandwidth"],
        {
            "forward-only": lambda v: 2e-3 * v["rows"] * v["dim"] * v["bytes"] / v["bandwidth"],
            "float32": lambda v: 20e-3 * v["rows"] * v["dim"] / v["bandwidth"],
        },
    ),
    "fp16-largest": (
        lambda v: np.sqrt(float(np.finfo(np.float16).max)) / v["largest"],
        {
            "no-square": lambda v: float(np.finfo(np.float16).max) / v["largest"],
            "root-of-the-ratio": lambda v: np.sqrt(float(np.finfo(np.float16).max) / v["largest"]),
        },
    ),
}


def values(drawn):
    """The numbers in the texts, rows as arrays."""
    return {
        name: np.array([float(x) for x in text[1:-1].split(",")]) if text.startswith("[") else float(text)
        for name, text in drawn.values.items()
    }


def test_every_generator_is_checked():
    assert set(EXPECTED) == set(GENERATORS)


@pytest.mark.parametrize("name", GENERATORS)
def test_answer_and_slips_follow_from_the_texts(name):
    answer, slips = EXPECTED[name]
    for seed in SEEDS:
        drawn = draw(name, seed)
        given = values(drawn)
        np.testing.assert_allclose(drawn.answer, np.ravel(answer(given)), rtol=1e-12, atol=1e-12)
        assert set(drawn.mistakes) == set(slips)
        for slip, wrong in drawn.mistakes.items():
            np.testing.assert_allclose(wrong, np.ravel(slips[slip](given)), rtol=1e-12, atol=1e-12, err_msg=slip)


@pytest.mark.parametrize("name", GENERATORS)
def test_a_slip_is_never_near_the_answer(name):
    for seed in SEEDS:
        drawn = draw(name, seed)
        for slip, wrong in drawn.mistakes.items():
            assert len(wrong) == len(drawn.answer)
            apart = [abs(w - a) > max(0.02 * abs(a), 0.01) for w, a in zip(wrong, drawn.answer, strict=True)]
            assert any(apart), (seed, slip)
        texts = [shown(wrong) for wrong in drawn.mistakes.values()]
        assert len(set(texts)) == len(texts), (seed, "two slips look the same")


@pytest.mark.parametrize("name", GENERATORS)
def test_numbers_fit_on_paper(name):
    for seed in SEEDS:
        drawn = draw(name, seed)
        assert all(math.isfinite(x) for x in drawn.answer)
        assert 1 <= len(drawn.answer) <= 4
        for text in drawn.values.values():
            for number in text.strip("[]").split(", "):
                digits = number.lower().split("e")[0].strip("-0.").replace(".", "")
                assert len(digits.rstrip("0")) <= 4, text
                assert len(number) <= 7, text


@pytest.mark.parametrize("name", GENERATORS)
def test_a_seed_draws_the_same_and_seeds_differ(name):
    assert all(draw_again(name, seed) == draw(name, seed) for seed in range(20))
    assert len({str(draw(name, seed).values) for seed in SEEDS}) >= 15


def test_the_numbers_of_a_seed_are_the_same_everywhere():
    """A seed that somebody wrote down must bring the same questions back in a later version."""
    assert draw("rms-of-a-row", 0).values == {"row": "[1, 0, -7, -7]"}
    assert draw("norm-parameters", 0).values == {"layers": "8", "dim": "1024"}


def test_generators_do_not_share_their_numbers():
    rows = {draw(name, 0).values["row"] for name in ("rmsnorm-of-a-row", "gemma-of-a-row", "layernorm-of-a-row")}
    assert len(rows) == 3


def test_a_square_beyond_the_fp16_answer_overflows():
    for seed in SEEDS:
        drawn = draw("fp16-largest", seed)
        entry = drawn.answer[0] * values(drawn)["largest"]
        with np.errstate(over="ignore"):
            below, above = (np.float16(entry * factor) ** 2 for factor in (0.999, 1.001))
        assert np.isfinite(below)
        assert np.isinf(above)


def test_the_stack_factor_is_what_a_stack_does():
    drawn = draw("relu-stack-factor", 3)
    given, rng = values(drawn), np.random.default_rng(0)
    width = int(given["width"])
    x = rng.normal(size=(width, 400))
    y = np.maximum(rng.normal(scale=given["std"], size=(width, width)) @ x, 0)
    assert rms(y) / rms(x) == pytest.approx(drawn.answer[0], rel=0.1)


@pytest.mark.parametrize("name", GENERATORS)
def test_what_is_shown_counts_as_right(name):
    for seed in SEEDS:
        drawn = draw(name, seed)
        assert agree([float(x) for x in shown(drawn.answer).split()], drawn.answer)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1e-17, "0"),
        (2.0000000000000004, "2"),
        (38400.0, "38400"),
        (1 / 3, "0.333"),
        (-1.2345, "-1.234"),
        (0.001234, "0.00123"),
        (12345.678, "12345.7"),
        (1e20, "100000000000000000000.0"),
    ],
)
def test_shown(number, text):
    assert shown((number,)) == text
    assert shown((number, 1.5)) == f"{text} 1.500"


def test_agree():
    assert agree((1.0099, -2.0), (1.0, -2.0))
    assert not agree((1.0101,), (1.0,))
    assert agree((0.0049,), (0.0,))
    assert agree((0.13,), (0.125,))
    assert not agree((0.0051,), (0.0,))
    assert not agree((1.0, 1.0), (1.0,))
    assert not agree((-1.0,), (1.0,))


def test_fill():
    drawn = Drawn({"row": "[1, 2]"}, (1.5811388, 2.0))
    assert drawn.fill("rms of {row}: {answer}") == "rms of [1, 2]: 1.581 2"
