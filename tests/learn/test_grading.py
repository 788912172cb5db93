"""What may be typed, what it is taken for, and what it is worth."""

import math
import sys
import warnings
from itertools import permutations
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab._check import InputError
from normlab.learn.quiz.arithmetic import read_numbers
from normlab.learn.quiz.grading import Grade, grade, read, shuffled
from normlab.learn.quiz.numbers import GENERATORS, Drawn, draw, shown
from normlab.learn.quiz.schema import Bug, Choice, Mistake, Multiple, Number, Open, Option, Order, load

COMMON = {"topic": "rmsnorm", "level": 1, "text": "?", "explanation": "Because.", "notes": "rmsnorm.md"}
SINGLE = Choice(
    id="single", options=(Option("A", "no A"), Option("B", "yes B", right=True), Option("C", "no C")), **COMMON
)
MULTIPLE = Multiple(
    id="multiple",
    options=(
        Option("A", "A holds", right=True),
        Option("B", "B does not"),
        Option("C", "C holds", right=True),
        Option("D", "D does not"),
    ),
    **COMMON,
)
NUMBER = Number(
    id="number",
    generator="layernorm-of-a-row",
    mistakes=(Mistake("one", "{row}: one"), Mistake("near", "near one"), Mistake("far", "far from {answer}")),
    **COMMON,
)
DRAWN = Drawn({"row": "[1, 2]"}, (0.5, -2.0), {"one": (1.0, 1.0), "near": (1.005, 1.005), "far": (9.0, 9.0)})
ORDER = Order(id="order", lines=("x = 1", "y = x", "x = 1", "z = y"), wrong="y needs x.", **COMMON)
BUG = Bug(
    id="bug", norm="rmsnorm", language="numpy", code="a = 1", fix="a = 2", hint="Look.", wrong="Not that.", **COMMON
)
OPEN = Open(id="open", answer="A model.", rubric=("says this", "says that", "says more"), **COMMON)


def refused(question, typed, drawn=None):
    with pytest.raises(InputError) as error:
        read(question, drawn, typed)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize("typed", ["b", "B", "2", " b ", "b)", "b.", "(b)", "bb"])
def test_single_is_a_letter_or_a_number(typed):
    assert read(SINGLE, None, typed) == (1,)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "Nothing was chosen: type a, b or c."),
        ("d", "There is no option 'd': type a, b or c."),
        ("4", "There is no option '4': type a, b or c."),
        ("0", "There is no option '0': type a, b or c."),
        ("²", "There is no option '²': type a, b or c."),
        ("a c", "Only one can be chosen, got 2: type a, b or c."),
    ],
)
def test_single_refuses(typed, sentence):
    assert refused(SINGLE, typed) == sentence


@pytest.mark.parametrize("typed", ["a c", "ac", "a,c", "c, a", "1 3", "13", "A;C", "a 3", "a a c"])
def test_multiple_is_a_set(typed):
    assert read(MULTIPLE, None, typed) == (0, 2)


def test_multiple_refuses():
    assert refused(MULTIPLE, "a e") == "There is no option 'e': type the letters of all that are right, such as a c."
    assert refused(MULTIPLE, " ").startswith("Nothing was chosen")


def test_letters_are_those_shown():
    assert read(SINGLE, None, "a", (1, 2, 0)) == (1,)
    assert read(SINGLE, None, "3", (1, 2, 0)) == (0,)
    assert read(MULTIPLE, None, "b d", (3, 2, 1, 0)) == (0, 2)
    assert read(ORDER, None, "1 2 3 4", (3, 1, 2, 0)) == (3, 1, 2, 0)


def test_grade_of_single():
    assert grade(SINGLE, None, (1,)) == Grade(1.0, True, ("yes B",))
    assert grade(SINGLE, None, (2,)) == Grade(0.0, False, ("no C",))


def test_grade_of_multiple_explains_each_error():
    assert grade(MULTIPLE, None, (0, 2)) == Grade(1.0, True)
    assert grade(MULTIPLE, None, (0, 1)) == Grade(
        0.0, False, ("Chosen, but wrong: B\n\nB does not", "Not chosen, but right: C\n\nC holds")
    )
    assert grade(MULTIPLE, None, (0,)).points == 0.0
    assert grade(MULTIPLE, None, (0, 1, 2, 3)).points == 0.0


@pytest.mark.parametrize(
    ("typed", "numbers"),
    [
        ("0.5 -2", (0.5, -2.0)),
        ("0.5, -2", (0.5, -2.0)),
        ("0.5;-2", (0.5, -2.0)),
        ("[0.5, -2]", (0.5, -2.0)),
        ("1/2 −2", (0.5, -2.0)),
        ("1 / 2  - 2", (-1.5,)),
        ("- 0.5", (-0.5,)),
        ("3 * - 2, - 1", (-6.0, -1.0)),
        ("3 -1 2", (3.0, -1.0, 2.0)),
        ("sqrt(2)", (math.sqrt(2),)),
        ("√2 √(1 + 1)", (math.sqrt(2), math.sqrt(2))),
        ("2√3 2*sqrt(3) 2·√3 2 √3", (2 * math.sqrt(3),) * 3 + (2.0, math.sqrt(3))),
        ("-√7.5", (-math.sqrt(7.5),)),
        ("1e-3 .5 5. 1E2", (0.001, 0.5, 5.0, 100.0)),
        ("2**3 2^-1", (8.0, 0.5)),
        ("((1+2)*3)/4", (2.25,)),
        ("", ()),
    ],
)
def test_numbers_as_people_type_them(typed, numbers):
    assert read_numbers(typed) == pytest.approx(numbers)


@pytest.mark.parametrize(
    "typed",
    [
        *("x", "1j", "nan", "inf", "-inf", "True", "1_0", "0x10", "012", "1..2", "2(3)", "(1)(2)", "sqrt", "sqrt()"),
        *("sqrt(2)(3)", "e", "1if 1else 2", "1 < 2", "'a'", "[1][0]", "1,[2]", "(1", "1)", "*", "1/", "√", "√√", "٣"),
        *("1/0", "0**-1", "9**9**9", "1e999", "1e308*10", "sqrt(-1)", "(-8)**(1/3)", "1 2 3 4 5" * 100, "(" * 399),
        *("__import__('os').getcwd()", "().__class__", "lambda: 1", "print(1)", "1;import os", "sqrt(x:=2)", "\x00"),
    ],
)
def test_what_is_not_arithmetic_is_refused(typed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as error:
            read_numbers(typed)
    assert str(error.value).endswith(".")


@given(st.text(alphabet="0123456789.eE+-*/() ,;√−sqrt^[]", max_size=40))
def test_whatever_is_typed_is_read_or_refused(typed):
    try:
        numbers = read_numbers(typed)
    except InputError:
        return
    assert all(isinstance(x, float) and math.isfinite(x) for x in numbers)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_numbers_come_back(numbers):
    assert read_numbers(" ".join(map(repr, numbers))) == tuple(numbers)
    assert read_numbers(", ".join(map(repr, numbers))) == tuple(numbers)


def test_a_wrong_count_names_the_right_one():
    assert refused(NUMBER, "1", DRAWN) == "2 numbers with spaces between them are expected, got 1."
    assert refused(NUMBER, "", DRAWN) == "2 numbers with spaces between them are expected, got none."
    one = Drawn({}, (0.5,))
    assert refused(NUMBER, "1 2", one) == "One number is expected, got 2."
    assert refused(NUMBER, "0,5", one) == "One number is expected, got 2 (decimals have a point, thousands no comma)."


def graded(typed):
    return grade(NUMBER, DRAWN, read(NUMBER, DRAWN, typed))


@pytest.mark.parametrize("typed", ["0.5 -2", "1/2 -sqrt(4)", "0.5049 -2.019", "0.495 -1.98", "0.505 -2.02"])
def test_a_number_within_the_tolerance_is_right(typed):
    assert graded(typed) == Grade(1.0, True)


@pytest.mark.parametrize("typed", ["0.5 2", "-2 0.5", "0.506 -2", "0.5 -2.021"])
def test_a_number_beyond_it_is_wrong(typed):
    assert graded(typed) == Grade(0.0, False)


def test_a_known_slip_is_explained_and_of_two_the_nearer():
    assert graded("9 9.01") == Grade(0.0, False, ("far from 0.500 -2",))
    assert graded("1 1") == Grade(0.0, False, ("[1, 2]: one",))
    assert graded("1.006 1.006") == Grade(0.0, False, ("near one",))


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generators_answer_is_right_and_every_slip_wrong(name):
    for seed in range(30):
        drawn = draw(name, seed)
        why = {slip: f"It is {slip}." for slip in drawn.mistakes}
        question = Number(id="x", generator=name, mistakes=tuple(Mistake(*pair) for pair in why.items()), **COMMON)
        assert grade(question, drawn, read(question, drawn, shown(drawn.answer))) == Grade(1.0, True)
        for slip, wrong in drawn.mistakes.items():
            assert grade(question, drawn, read(question, drawn, shown(wrong))) == Grade(0.0, False, (why[slip],))


@pytest.mark.parametrize("typed", ["3 1 2 4", "3124", "3,1,2,4", "3-1-2-4", "3 > 1 > 2 > 4", "3. 1. 2. 4."])
def test_order_is_a_permutation(typed):
    assert read(ORDER, None, typed) == (2, 0, 1, 3)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "Line 1 is missing: type the numbers of all 4 lines, such as 4 3 2 1."),
        ("1 2 4", "Line 3 is missing: type the numbers of all 4 lines, such as 4 3 2 1."),
        ("1 2 2 4", "Line 2 stands there more than once: type each number once, such as 4 3 2 1."),
        ("1 2 3 5", "There is no line '5': they have the numbers 1 to 4."),
        ("1 2 3 0", "There is no line '0': they have the numbers 1 to 4."),
        ("a b c d", "There is no line 'a': they have the numbers 1 to 4."),
        ("1 2 3 ４", "There is no line '４': they have the numbers 1 to 4."),
    ],
)
def test_order_refuses(typed, sentence):
    assert refused(ORDER, typed) == sentence


def test_equal_lines_are_interchangeable():
    right = {places for places in permutations(range(4)) if grade(ORDER, None, places).right}
    assert right == {(0, 1, 2, 3), (2, 1, 0, 3)}
    assert grade(ORDER, None, (0, 1, 2, 3)) == Grade(1.0, True)
    assert grade(ORDER, None, (0, 1, 3, 2)) == Grade(0.0, False, ("y needs x.",))


def test_open_counts_the_points_that_were_met():
    assert read(OPEN, None, "1 3") == read(OPEN, None, "3,1,1") == (0, 2)
    assert read(OPEN, None, " All") == (0, 1, 2)
    assert read(OPEN, None, "none") == ()
    assert grade(OPEN, None, (0, 1, 2)) == Grade(1.0, True)
    assert grade(OPEN, None, (0, 2)) == Grade(2 / 3, False, ("Missing: says that",))
    assert grade(OPEN, None, ()).points == 0.0
    assert "all, or none" in refused(OPEN, "")
    assert refused(OPEN, "4") == "There is no point '4': they have the numbers 1 to 3."


@pytest.mark.parametrize("right", [True, False])
def test_a_bug_is_judged_by_running_it(monkeypatch, right):
    asked = []

    def judge(question, code):
        asked.append((question, code))
        return SimpleNamespace(right=right, sentence="forward differs.", printed="h is 3")

    monkeypatch.setitem(sys.modules, "normlab.learn.quiz.bugs", SimpleNamespace(judge=judge))
    code = read(BUG, None, "  a = 3\n")
    assert code == "  a = 3\n"
    assert grade(BUG, None, code) == Grade(float(right), right, ("forward differs.", "The code printed:\nh is 3"))
    assert asked == [(BUG, "  a = 3\n")]
    assert refused(BUG, " \n") == "There is no code: type what the listing should be."


@pytest.mark.parametrize("question", [SINGLE, MULTIPLE, ORDER], ids=lambda q: q.id)
def test_shuffles_depend_on_id_and_seed_alone(question):
    orders = [shuffled(question, seed) for seed in range(60)]
    assert orders == [shuffled(question, seed) for seed in range(60)]
    assert all(sorted(order) == list(range(len(order))) for order in orders)
    renamed = msgspec.structs.replace(question, id="another")
    assert [shuffled(renamed, seed) for seed in range(60)] != orders
    count = math.factorial(len(orders[0])) - 2 * isinstance(question, Order)
    assert len(set(orders)) > count * 0.8


@pytest.mark.parametrize("question", [NUMBER, BUG, OPEN], ids=lambda q: q.id)
def test_other_kinds_are_not_shuffled(question):
    assert shuffled(question, 0) == ()


def test_lines_are_never_shown_in_order():
    questions = [ORDER, *(q for q in load().questions if isinstance(q, Order))]
    assert not any(grade(q, None, shuffled(q, seed)).right for q in questions for seed in range(200))


def test_the_right_option_comes_at_every_place():
    assert {shuffled(SINGLE, seed).index(1) for seed in range(40)} == {0, 1, 2}


def test_of_a_count_every_digit_counts():
    question = next(q for q in load().questions if isinstance(q, Number) and q.generator == "norm-parameters")
    drawn = draw("norm-parameters", 0)
    (right,) = drawn.answer
    assert grade(question, drawn, (right,)).right
    assert not grade(question, drawn, (right + 1,)).right
