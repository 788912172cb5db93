"""The page holds every question and every explanation, gives nothing away above a fold, and is Markdown all through."""

import re

import msgspec
import pytest
from markdown_it import MarkdownIt

from normlab.learn.quiz.grading import grade, shuffled
from normlab.learn.quiz.numbers import draw, shown
from normlab.learn.quiz.reading import page
from normlab.learn.quiz.schema import Bug, Choice, Multiple, Number, Open, Order, Quiz, Topic, load, parse

QUIZ = load()
PAGE = page()
OPEN_FOLD, CLOSE_FOLD = "<details>\n<summary>Answer</summary>\n", "</details>\n"

HOSTILE = """
[topics]
rmsnorm = { title = "a <b> & c", page = "rmsnorm.md" }

[[questions]]
kind = "single"
id = "angles"
topic = "rmsnorm"
level = 1
text = "Is a < b, or a<b>c, or <script>alert(1)</script>? `x < y` and ``a ` <i>``, ` <u>\\n\\n<s> `"
explanation = "</details> <!-- no"
notes = "rmsnorm.md#formula"
options = [
    { text = "1 < 2 &lt; 3", right = true, why = "<img src=x>" },
    { text = "two\\n\\nparagraphs <p>", why = "```py\\nif a < b: '</details>'\\n```\\n<td>" },
    { text = "https://a.b <https://a.b>", why = "`<b>`" },
]

[[questions]]
kind = "bug"
id = "code"
topic = "rmsnorm"
level = 1
text = "?"
explanation = "E."
notes = "rmsnorm.md"
norm = "rmsnorm"
language = "numpy"
code = "if a < b:\\n    print('</details>')\\n"
fix = "if a <= b:\\n    print('</details>')\\n"
hint = "H."
wrong = "W."
"""


def tokens(markdown):
    return MarkdownIt("commonmark", {"html": True}).parse(markdown)


def spoken(markdown):
    """What a reader sees: text and code, without marks."""
    parts = []
    for token in tokens(markdown):
        if token.type in ("fence", "code_block"):
            parts.append(token.content.rstrip("\n"))
        parts += ["\n" if child.type in ("softbreak", "hardbreak") else child.content for child in token.children or ()]
        parts.append("\n")
    return re.sub(r"\s*\n\s*", "\n", "".join(parts)).strip()


def section(question):
    """A question's part of the page, and its halves above and below the fold."""
    begin = re.search(rf"^### \d+\. {question.id}$", PAGE, flags=re.MULTILINE)
    assert begin
    text = re.split(r"^##", PAGE[begin.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    above, folded = text.split(OPEN_FOLD)
    return above, folded.split(CLOSE_FOLD.strip())[0]


def told(question):
    """Texts that stand above the fold, and those that belong below it."""
    match question:
        case Choice(options=options) | Multiple(options=options):
            return [o.text for o in options], [o.why for o in options]
        case Number():
            drawn = draw(question.generator, 0)
            wrong = [shown(w) for w in drawn.mistakes.values()]
            return [], [drawn.fill(m.why) for m in question.mistakes] + [shown(drawn.answer), *wrong]
        case Order():
            return list(question.lines), [question.wrong, "\n\n".join(question.lines)]
        case Bug():
            return [f"```\n{question.code}\n```"], [f"```\n{question.fix}\n```", question.hint, question.wrong]
        case Open():
            return [], [question.answer, *question.rubric]
    raise TypeError(question)


def filled(question, text):
    return draw(question.generator, 0).fill(text) if isinstance(question, Number) else text


@pytest.mark.parametrize("question", QUIZ.questions, ids=lambda q: q.id)
def test_every_text_stands_where_it_belongs(question):
    above, folded = map(spoken, section(question))
    asked, answered = told(question)
    for text in (filled(question, question.text), *asked):
        assert spoken(text) in above
    for text in (filled(question, question.explanation), *answered):
        assert spoken(text) in folded
        # A number may stand in the question by chance, a sentence may not.
        if " " in text and not re.fullmatch(r"[-0-9. e]+", text):
            assert spoken(text) not in above
    assert f"]({question.notes})" in section(question)[1]


@pytest.mark.parametrize("question", QUIZ.questions, ids=lambda q: q.id)
def test_nothing_above_the_fold_gives_the_answer_away(question):
    above, _ = section(question)
    assert "Right" not in re.findall(r"\*\*(.*?)\*\*", above)
    match question:
        case Choice(options=options) | Multiple(options=options):
            shown_texts = [options[place].text for place in shuffled(question, 0)]
            listed = re.findall(r"^- \*\*([a-g])\.\*\* ", above, flags=re.MULTILINE)
            assert listed == list("abcdefg")[: len(options)]
            places = [spoken(above).find(spoken(text)) for text in shown_texts]
            assert places == sorted(places)
        case Order():
            assert not grade(question, None, shuffled(question, 0)).right
            assert spoken("\n\n".join(question.lines)) not in spoken(above)
        case Number():
            assert "fresh numbers each time in `normlab quiz`" in above


@pytest.mark.parametrize(
    "question", [q for q in QUIZ.questions if isinstance(q, Choice | Multiple)], ids=lambda q: q.id
)
def test_the_letters_are_those_of_the_right_options(question):
    order = shuffled(question, 0)
    letters = ["abcdefg"[place] for place, option in enumerate(order) if question.options[option].right]
    assert section(question)[1].strip().startswith(f"**{', '.join(letters)}**\n")


def test_the_right_option_is_not_always_the_same_letter():
    first = [section(q)[1].strip()[2] for q in QUIZ.questions if isinstance(q, Choice)]
    assert max(first.count(letter) for letter in "abcd") < 0.6 * len(first)


def test_the_first_line_says_where_it_comes_from():
    first = PAGE.splitlines()[0]
    assert first.startswith("<!-- ")
    assert "quiz.toml" in first
    assert "`make notes`" in first
    assert not first.startswith("<!-- make:")


def test_topics_and_questions_follow_the_file():
    titles = [topic.title for topic in QUIZ.topics.values()]
    assert re.findall(r"^## (.*)", PAGE, flags=re.MULTILINE) == titles
    headings = re.findall(r"^### (\d+)\. (.*)", PAGE, flags=re.MULTILINE)
    by_topic = [q.id for name in QUIZ.topics for q in QUIZ.select(name)]
    assert headings == [(str(i), name) for i, name in enumerate(by_topic, 1)]
    assert f"\n{len(by_topic)} questions" in PAGE


def test_a_topic_without_questions_is_left_out():
    quiz = Quiz({**QUIZ.topics, "empty": Topic("Empty", "empty.md")}, QUIZ.questions)
    assert page(quiz) == PAGE


def html(text):
    """The HTML in a page, all but the comment at its top."""
    found = []
    for token in tokens(text):
        found += [token.content] if token.type == "html_block" else []
        found += [child.content for child in token.children or () if child.type == "html_inline"]
    assert found[0].startswith("<!-- ")
    return found[1:]


def test_folds_are_balanced_and_nothing_else_is_html():
    assert html(PAGE) == [OPEN_FOLD, CLOSE_FOLD] * len(QUIZ.questions)
    assert f"{OPEN_FOLD}\n" in PAGE


def test_html_in_a_text_is_shown_and_not_obeyed():
    quiz = parse(HOSTILE)
    text = page(quiz)
    assert html(text) == [OPEN_FOLD, CLOSE_FOLD] * 2
    seen = spoken(text)
    for shows in (
        "a < b, or a<b>c, or <script>alert(1)</script>?",
        "x < y",
        "a ` <i>",
        "</details> <!-- no",
        "1 < 2 < 3",
    ):
        assert shows in seen
    for shows in (
        "<img src=x>",
        "paragraphs <p>",
        "if a < b: '</details>'",
        "<td>",
        "a <b> & c",
        "print('</details>')",
    ):
        assert shows in seen
    assert "&lt; y" not in text
    depths = [token.level for token in tokens(text) if token.type == "inline" and "paragraphs" in token.content]
    assert depths == [tokens("- a")[3].level], "a second paragraph belongs to its option"


def test_no_block_is_one_that_runs():
    assert "```python" not in PAGE
    assert PAGE.count("```py\n") == 2 * sum(isinstance(q, Bug) for q in QUIZ.questions)


def test_the_page_is_always_the_same():
    assert page() == PAGE == page(msgspec.convert(QUIZ, Quiz))
    assert PAGE.endswith("</details>\n")
