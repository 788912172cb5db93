"""The packaged questions are sound, and a broken file is refused in one sentence that names the question."""

import re

import pytest

from normlab._check import InputError
from normlab.learn.quiz.numbers import draw
from normlab.learn.quiz.schema import LEVELS, Bug, Number, load, parse

QUIZ = load()

HEAD = """
[topics]
rmsnorm = { title = "RMSNorm", page = "rmsnorm.md" }
"""
COMMON = """
id = "{id}"
topic = "rmsnorm"
level = 1
text = "?"
explanation = "Because."
notes = "rmsnorm.md#formula"
"""
RIGHT, WRONG = '{ text = "A", why = "Yes.", right = true },', '{ text = "B", why = "No." }, { text = "C", why = "No." }'


def question(kind, fields, name="q"):
    return f'[[questions]]\nkind = "{kind}"{COMMON.format(id=name)}{fields}\n'


SINGLE = question("single", f"options = [{RIGHT} {WRONG}]")
MULTIPLE = question("multiple", f"options = [{RIGHT} {WRONG}]")
NUMBER = question("number", 'generator = "gemma-of-a-row"\nmistakes = [{ name = "weight-alone", why = "{weight}" }]')
ORDER = question("order", 'lines = ["a", "b", "a"]\nwrong = "No."')
BUG = question(
    "bug",
    'norm = "rmsnorm"\nlanguage = "numpy"\ncode = "a"\nfix = "b"\nhint = "Look."\nwrong = "No."',
)
OPEN = question("open", 'answer = "So."\nrubric = ["a", "b"]')
ALL = {"single": SINGLE, "multiple": MULTIPLE, "number": NUMBER, "order": ORDER, "bug": BUG, "open": OPEN}


@pytest.mark.parametrize("kind", ALL)
def test_every_kind_is_read(kind):
    quiz = parse(HEAD + ALL[kind])
    assert [q.id for q in quiz.questions] == ["q"]


def broken(text):
    with pytest.raises(InputError) as error:
        parse(text, "mine.toml")
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.startswith("mine.toml")
    return sentence


# What is broken, by replacing one text by another, and what the sentence must say.
FAULTS = [
    (SINGLE, "level = 1", 'level = "1"', "level: Expected `int`, got `str`"),
    (SINGLE, "level = 1", "level = 5", "level: Expected `int` <= 4"),
    (SINGLE, "level = 1", "level = 0", "level: Expected `int` >= 1"),
    (SINGLE, "level = 1", "level = true", "level: Expected `int`, got `bool`"),
    (SINGLE, 'text = "?"', "", "missing required field `text`"),
    (SINGLE, 'text = "?"', 'text = ""', "text: Expected `str` of length >= 1"),
    (SINGLE, 'explanation = "Because."', "", "missing required field `explanation`"),
    (SINGLE, 'notes = "rmsnorm.md#formula"', 'notes = "https://a.b"', "notes: Expected `str` matching regex"),
    (SINGLE, 'notes = "rmsnorm.md#formula"', 'notes = "../rmsnorm.md"', "notes: Expected `str` matching regex"),
    (SINGLE, 'text = "?"', 'text = "?"\nhint = "a"', "unknown field `hint`"),
    (SINGLE, 'kind = "single"', 'kind = "guess"', "kind: Invalid value 'guess'"),
    (SINGLE, 'kind = "single"', "", "missing required field `kind`"),
    (SINGLE, 'topic = "rmsnorm"', 'topic = "unknown"', "topic: must be one of rmsnorm, got 'unknown'"),
    (SINGLE, RIGHT, "", "options: Expected `array` of length >= 3"),
    (SINGLE, "right = true", "right = false", "options: exactly one must be right, got 0"),
    (SINGLE, 'why = "No." }, {', 'why = "No.", right = true }, {', "options: exactly one must be right, got 2"),
    (SINGLE, 'text = "B"', 'text = "A"', "options: two have the same text"),
    (SINGLE, 'text = "B", ', "", "options[1]: Object missing required field `text`"),
    (MULTIPLE, "right = true", "right = false", "options: at least one must be right, got none"),
    (NUMBER, "gemma-of-a-row", "of-no-row", "generator: must be one of rms-of-a-row"),
    (NUMBER, 'generator = "gemma-of-a-row"', "", "missing required field `generator`"),
    (NUMBER, "weight-alone", "gamma-alone", "mistakes: must explain weight-alone, got gamma-alone"),
    (
        NUMBER,
        'mistakes = [{ name = "weight-alone", why = "{weight}" }]',
        "",
        "mistakes: must explain weight-alone, got none",
    ),
    (NUMBER, 'text = "?"', 'text = "{gamma}?"', "text: 'gamma' is none of row, weight, answer"),
    (NUMBER, "{weight}", "{0}", "is none of row, weight, answer"),
    (NUMBER, "{weight}", "{", "text: braces stand around one of row, weight, answer: "),
    (NUMBER, "{weight}", "{weight.real}", "is none of row, weight, answer"),
    (NUMBER, 'text = "?"', 'text = "{answer}?"', "text: {answer} would give the answer away"),
    (ORDER, '["a", "b", "a"]', '["a", "a", "a"]', "lines: all are equal"),
    (ORDER, '["a", "b", "a"]', '["a", "b"]', "lines: Expected `array` of length >= 3"),
    (BUG, 'fix = "b"', 'fix = "a"', "fix: is the code as it was given"),
    (BUG, 'norm = "rmsnorm"', 'norm = "groupnorm"', "norm: Invalid enum value 'groupnorm'"),
    (BUG, 'language = "numpy"', 'language = "c"', "language: Invalid enum value 'c'"),
    (OPEN, 'rubric = ["a", "b"]', 'rubric = ["a"]', "rubric: Expected `array` of length >= 2"),
    (OPEN, 'rubric = ["a", "b"]', "rubric = 1", "rubric: Expected `array`, got `int`"),
]


@pytest.mark.parametrize(("text", "old", "new", "says"), FAULTS, ids=[f"{n} {f[3][:40]}" for n, f in enumerate(FAULTS)])
def test_a_broken_question_is_named(text, old, new, says):
    assert old in text
    sentence = broken(
        HEAD + question("open", 'answer = "So."\nrubric = ["a", "b"]', "first") + text.replace(old, new, 1)
    )
    assert "question 'q'" in sentence
    assert says in sentence


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('id = "q"', "", "question 1 (without an id): Object missing required field `id`"),
        ('id = "q"', "id = 3", "question 1 (without an id): id: Expected `str`, got `int`"),
        ('id = "q"', 'id = "Q 1"', "question 'Q 1': id: Expected `str` matching regex"),
    ],
)
def test_a_question_without_an_id_is_named_by_its_place(old, new, says):
    assert says in broken(HEAD + SINGLE.replace(old, new))


def test_an_id_stands_once():
    assert broken(HEAD + SINGLE + OPEN) == "mine.toml, question 'q': another question has this id"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[topics", "mine.toml is not TOML: "),
        ("\x00", "mine.toml is not TOML: "),
        ("", "mine.toml must have [topics] and [[questions]]"),
        (HEAD, "mine.toml must have [topics] and [[questions]]"),
        (SINGLE, "mine.toml must have [topics] and [[questions]]"),
        (f"questions = 3\n{HEAD}", "mine.toml must have [topics] and [[questions]]"),
        (f"questions = [1]\n{HEAD}", "mine.toml, question 1 (without an id): Expected `object`, got `int`"),
        (f"extra = 1\n{HEAD}{SINGLE}", "mine.toml: extra: only topics and questions may stand there"),
        ("topics = 1\n" + SINGLE, "mine.toml: topics: Expected `object`, got `int`"),
        (HEAD.replace("page", "pages") + SINGLE, "mine.toml: topics: "),
        (HEAD.replace('"RMSNorm"', '""') + SINGLE, "mine.toml: topics: "),
    ],
)
def test_a_broken_file_is_refused(text, says):
    assert says in broken(text)


def texts(q):
    """All texts of a question."""
    yield from (q.text, q.explanation)
    for part in (*getattr(q, "options", ()), *getattr(q, "mistakes", ())):
        yield from (part.why, getattr(part, "text", part.why))
    for name in ("wrong", "hint", "answer"):
        yield from filter(None, [getattr(q, name, None)])
    yield from (*getattr(q, "lines", ()), *getattr(q, "rubric", ()))


@pytest.mark.parametrize("q", QUIZ.questions, ids=lambda q: q.id)
def test_the_packaged_question_is_sound(q):
    for text in texts(q):
        assert text.strip() == text or text in getattr(q, "lines", ()), "spaces around a text"
        assert "\t" not in text
        assert not re.search(r"</?(?!eps\b)[a-z]+>", re.sub(r"`[^`]*`", "", text)), "HTML"
        if not isinstance(q, Number):
            assert not re.search(r"\{answer\}", text)
    if isinstance(q, Number):
        for seed in range(20):
            filled = draw(q.generator, seed).fill(q.text)
            assert "{" not in filled
    if isinstance(q, Bug):
        assert len(q.code.strip().splitlines()) <= 20
        for code in (q.code, q.fix):
            compile(code, q.id, "exec")


def test_the_packaged_quiz_has_all_topics_and_levels():
    assert {q.topic for q in QUIZ.questions} == set(QUIZ.topics)
    assert {q.level for q in QUIZ.questions} == set(LEVELS)
    assert {type(q).__name__ for q in QUIZ.questions} == {"Choice", "Multiple", "Number", "Order", "Bug", "Open"}
    assert len(QUIZ.questions) >= 40


def test_selection():
    assert QUIZ.select() == QUIZ.questions
    for topic in QUIZ.topics:
        assert all(q.topic == topic for q in QUIZ.select(topic))
    assert all(q.level == 2 for q in QUIZ.select(level=2))
    assert sum(len(QUIZ.select(topic, level)) for topic in QUIZ.topics for level in LEVELS) == len(QUIZ.questions)
    assert QUIZ.select("unknown") == ()
    first = QUIZ.questions[0]
    assert QUIZ.question(first.id) is first
    assert QUIZ.question("unknown") is None
