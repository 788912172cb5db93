"""Editing a listing by line numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab._check import InputError
from normlab.learn.quiz.ask_lines import edited

CODE = """\
def f(x):
    y = x + 1

    return y
"""


@pytest.mark.parametrize(
    ("typed", "changed"),
    [
        ("2: y = x", CODE.replace("y = x + 1", "y = x")),
        ("2:y = x", CODE.replace("y = x + 1", "y = x")),
        (" 2 : y = x  ", CODE.replace("y = x + 1", "y = x")),
        ("2:  y = x", CODE.replace("    y = x + 1", "  y = x")),
        ("2:    y = x", CODE.replace("y = x + 1", "y = x")),
        ("2:     y = x", CODE.replace("y = x + 1", "y = x")),
        ("2:\ty = x", CODE.replace("y = x + 1", "y = x")),
        ("1: def g(x: int):", CODE.replace("def f(x):", "def g(x: int):")),
        ("+1: z = 2", CODE.replace("f(x):\n", "f(x):\n    z = 2\n")),
        ("+2: z = 2", CODE.replace("+ 1\n", "+ 1\n    z = 2\n")),
        ("+2:         z = 2", CODE.replace("+ 1\n", "+ 1\n        z = 2\n")),
        ("+4: z", CODE + "    z\n"),
        ("+0: import math", "import math\n" + CODE),
        ("-3", CODE.replace("\n\n", "\n")),
        ("- 1", CODE.partition("\n")[2]),
    ],
)
def test_a_line_is_changed_put_in_or_deleted(typed, changed):
    assert edited(CODE, typed) == changed


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("return x", "Type a line's number"),
        ("4 return x", "Type a line's number"),
        ("-2-3", "Type a line's number"),
        ("5: x", "There is no line 5: the lines are 1 to 4."),
        ("0: x", "There is no line 0"),
        ("+9: x", "There is no line 9"),
        ("-0", "There is no line 0"),
        ("2:", "-2 deletes the line"),
        ("+2:   ", "There is no text after the colon"),
        ("9999999: x", "Type a line's number"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(typed, sentence):
    with pytest.raises(InputError, match=r"^[^\n]+$") as refused:
        edited(CODE, typed)
    assert sentence in str(refused.value)


def test_a_listing_can_be_emptied_and_begun_anew():
    code = CODE
    for _ in range(4):
        code = edited(code, "-1")
    assert code == ""
    with pytest.raises(InputError, match="no lines left"):
        edited(code, "1: x")
    assert edited(code, "+0: x = 1") == "x = 1\n"


@given(st.text(max_size=30))
def test_anything_typed_changes_the_code_or_is_refused(typed):
    try:
        changed = edited(CODE, typed)
    except InputError:
        return
    assert changed != CODE or typed.partition(":")[2].strip() in CODE
    assert abs(changed.count("\n") - CODE.count("\n")) <= 1


@given(st.integers(1, 4), st.text(st.characters(categories=["L", "N"]), min_size=1))
def test_a_line_that_was_put_in_can_be_deleted_again(line, text):
    assert edited(edited(CODE, f"+{line}: {text}"), f"-{line + 1}") == CODE
