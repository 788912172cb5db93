"""The bar's verdicts follow the rows: met, missed, not measured."""

from dataclasses import replace

import pytest

from normlab.bench import table
from normlab.bench.accuracy import MEANS, Accuracy
from normlab.bench.bar import Floor, Found, Rule, cpu_rules, rulings
from normlab.bench.cases import BAR, GPU, LARGEST, MODES, SMALL, Case, Dtype, Op
from normlab.bench.contenders import COMPILED, COPY, EMPTY, LIGER, OURS, TORCH, TWO_STEPS
from normlab.bench.results import Heap, Measured, rows_of
from normlab.bench.start import Start
from normlab.bench.timing import Times

NORMS: tuple[Op, ...] = ("rms_norm", "layer_norm")
DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16")


def rows(case: Case, rivals: dict[str, float], *, heap: Heap = "kept", device="cpu", of_copy=0.9, threads=2):
    """Ours takes 1 s; rivals so many times that; the copy as long as makes ours `of_copy` of its bandwidth."""
    copied = of_copy * case.bytes_copied / case.bytes_moved
    times = {name: Times(((t, t),)) for name, t in {OURS: 1.0, **rivals, COPY: copied}.items()}
    return rows_of(case, times, heap=heap, device=device, threads=threads)


def world(factor: float, *, heap: Heap = "kept", error=1.0, seconds=0.01, of_copy=0.9) -> Measured:
    """Every rival takes `factor` times as long as we do."""
    measured = Measured("cpu", start=Start(seconds, seconds + 0.1, 0.1))
    for size in (*SMALL, *BAR):
        for dtype in DTYPES:
            for mode in MODES:
                for op in NORMS:
                    rivals = {TORCH: factor, COMPILED: factor}
                    measured.rows += rows(Case(op, mode, dtype, *size), rivals, heap=heap, of_copy=of_copy)
                rivals = {TWO_STEPS: factor, TORCH: factor}
                measured.rows += rows(Case("add_rms_norm", mode, dtype, *size), rivals, heap=heap)
    measured.accuracy += [
        Accuracy(op, dtype, 8, 8, given, gradient, error * 1e-7, 1e-7)
        for op in NORMS
        for dtype in DTYPES
        for given in MEANS
        for gradient in ("dx", "dw")
    ]
    return measured


def verdicts(measured: Measured) -> set[str]:
    return {r.verdict for r in rulings(measured)}


def test_all_met():
    assert verdicts(world(12.0)) == {"met"}


def test_all_missed():
    assert verdicts(world(0.99, error=1.2, seconds=0.5, of_copy=0.79)) == {"missed"}


def test_exactly_what_is_required_will_do():
    found = {r.rule.what: r for r in rulings(world(6.0, error=1.1))}
    assert found["RMSNorm against torch.nn, float32, 4096 x 1024"].verdict == "met"
    assert found["RMSNorm against torch.nn, float32, 1024 x 512"].verdict == "missed"


def test_nothing_is_not_measured():
    assert verdicts(Measured("cpu")) == {"not measured"}
    assert table.counts(rulings(Measured("cpu"))).endswith(" 0 met, 0 missed, 37 not measured.")


def test_the_default_allocator_is_shown_but_does_not_judge():
    measured = world(12.0, heap="default")
    for ruling in rulings(measured):
        assert ruling.verdict == ("not measured" if ruling.rule.of_heap else "met")
        assert (ruling.default is not None) == ruling.rule.of_heap


def test_a_bar_over_sizes_takes_the_worst_and_needs_all():
    measured = world(12.0)
    slow = Case("rms_norm", "forward+backward", "float32", *BAR[1])
    measured.rows[:] = [
        replace(r, median=1.2) if (r.case, r.contender) == (slow, COMPILED) else r for r in measured.rows
    ]
    name = "RMSNorm against torch.compile, float32, 1024 x 512 and larger"
    found = next(r for r in rulings(measured) if r.rule.what == name)
    assert found.kept == Found(1.2, "4096 x 1024", slow)
    assert found.verdict == "missed"
    measured.rows[:] = [r for r in measured.rows if (r.case, r.contender) != (slow, COMPILED)]
    assert next(r for r in rulings(measured) if r.rule.what == name).verdict == "not measured"


def test_every_size_is_every_size_of_the_default_plan():
    """Not every size that happened to be measured; and a size beyond them does not judge."""
    measured = world(12.0)
    name = "LayerNorm against torch.nn, float32, every size"
    measured.rows += rows(Case("layer_norm", "forward+backward", "float32", *LARGEST), {TORCH: 0.5})
    assert next(r for r in rulings(measured) if r.rule.what == name).verdict == "met"
    measured.rows[:] = [r for r in measured.rows if (r.case.rows, r.case.dim) != SMALL[0]]
    assert next(r for r in rulings(measured) if r.rule.what == name).verdict == "not measured"


def test_only_all_threads_count():
    measured = world(12.0)
    case = Case("rms_norm", "forward+backward", "float32", *BAR[0])
    measured.rows += rows(case, {TORCH: 0.1}, threads=1)
    assert verdicts(measured) == {"met"}


@pytest.mark.parametrize("torch_wins", [False, True])
def test_gpu(torch_wins):
    measured = Measured("cuda")
    for size in (*SMALL, *GPU):
        for op in NORMS:
            # On the smallest size nobody is measured against anybody.
            rivals = {TORCH: 0.9 if torch_wins or size == (1, 64) else 1.1, LIGER: 2.0}
            case = Case(op, "forward", "bfloat16", *size)
            measured.rows += rows(case, rivals, heap="default", device="cuda", of_copy=0.95)
    expected = ["met", "met", "missed" if torch_wins else "met", "met"]
    assert [r.verdict for r in rulings(measured)] == expected


def test_words():
    rule = Rule("x", 1.3, True, "x", lambda measured, heap: None)
    assert rule.requirement == "≥ 1.3x"
    assert rule.words(Found(1.5)) == "1.50x"
    # What missed by a hair does not read as what was required.
    assert rule.words(Found(1.2999, "here")) == "1.2999x (here)"
    assert rule.words(None) == ""


def test_what_a_missed_time_consists_of():
    measured = Measured("cpu")
    case = Case("rms_norm", "forward+backward", "float32", *BAR[0])
    measured.rows += rows(case, {TORCH: 2.0, EMPTY: 0.25}, of_copy=0.5)
    found = {r.rule.what: r for r in rulings(measured)}
    ruling = found["RMSNorm against torch.nn, float32, 1024 x 512"]
    # Ours moves its bytes at half the speed of the copy: at the copy's it would take half the time.
    assert ruling.floor == pytest.approx(Floor(0.25, 0.5))
    assert table.floors(list(found.values()))[1:] == [f"  {ruling.rule.what}: 25% + 50%"]


def test_no_floor_where_nothing_was_missed_or_the_empty_call_was_not_measured():
    assert table.floors(rulings(world(12.0))) == []
    assert {r.floor for r in rulings(world(0.5))} == {None}
    assert table.floors(rulings(world(0.5))) == []


def test_rules_have_names_of_their_own():
    names = [rule.what for rule in cpu_rules()]
    assert len(set(names)) == len(names)
