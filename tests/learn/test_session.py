"""What a session asks, and how it goes on: no input, no output, no clock."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.learn.quiz.schema import Choice, Option, Quiz, Topic
from normlab.learn.quiz.session import (
    Answer,
    Score,
    Selection,
    Session,
    Tally,
    by_topic,
    choose,
    question_seed,
    score,
    tallied,
    to_go_on,
    to_read,
    to_repeat,
    total,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RIGHT, WRONG = Answer(NOON, 1.0, True), Answer(NOON, 0.0)
HALF, SKIPPED = Answer(NOON, 0.5), Answer(NOON, None)

seeds = st.integers(0, 10**9)
answers = st.sampled_from([RIGHT, WRONG, HALF, SKIPPED])


def question(name: str, topic: str, level: int) -> Choice:
    options = tuple(Option(text, "Because.", right) for text, right in (("a", True), ("b", False), ("c", False)))
    return Choice(
        id=name, topic=topic, level=level, text="?", explanation="!", notes=f"{topic}.md#{name}", options=options
    )


def a_quiz(per_topic: int = 6) -> Quiz:
    """Questions x-0, x-1, ... and y-0, y-1, ... of levels 1, 2, 3."""
    listed = [question(f"{topic}-{i}", topic, 1 + i % 3) for topic in ("x", "y") for i in range(per_topic)]
    return Quiz({"x": Topic("X", "x.md"), "y": Topic("Y", "y.md")}, tuple(listed))


QUIZ = a_quiz()


def a_session(names: list[str], given: list[Answer] | None = None, selection: Selection | None = None, seed: int = 1):
    return Session("key", selection or Selection(), seed, tuple(names), tuple(given or ()))


@given(seeds, st.sampled_from([None, "x", "y"]), st.sampled_from([None, 1, 2, 3]), st.integers(1, 20))
def test_what_is_chosen_is_what_was_asked_for_each_once(seed, topic, level, count):
    chosen = choose(QUIZ, Selection(topic, level, count), seed, {})
    allowed = {q.id for q in QUIZ.questions if topic in (None, q.topic) and level in (None, q.level)}
    assert len(chosen) == len(set(chosen)) == min(count, len(allowed))
    assert set(chosen) <= allowed


@given(seeds)
def test_a_seed_that_is_asked_for_decides_alone(seed):
    tallies = {q.id: Tally(1, i % 2, 0, RIGHT if i % 2 else WRONG) for i, q in enumerate(QUIZ.questions)}
    selection = Selection(seed=seed, count=5)
    assert choose(QUIZ, selection, seed, tallies) == choose(QUIZ, selection, seed, {})


def test_another_seed_asks_others_in_another_order():
    assert len({choose(QUIZ, Selection(count=5, seed=s), s, {}) for s in range(20)}) > 15


def test_a_seed_asks_the_same_on_every_machine():
    assert choose(QUIZ, Selection(count=4, seed=7), 7, {}) == ("x-5", "x-4", "x-2", "y-5")
    assert question_seed(7, "x-1") == 198395657493758


@given(seeds, st.integers(1, 12))
def test_more_questions_in_the_quiz_keep_the_order_of_the_others(seed, count):
    longer = choose(a_quiz(per_topic=9), Selection(count=18, seed=seed), seed, {})
    known = {q.id for q in QUIZ.questions}
    assert [name for name in longer if name in known] == list(choose(QUIZ, Selection(count=12, seed=seed), seed, {}))


@given(seeds)
def test_wrong_ones_come_first_then_new_ones_then_the_others(seed):
    wrong, right = {"x-1", "y-4"}, {"x-0", "x-2", "y-0"}
    tallies = {name: Tally(2, 1, 1, WRONG) for name in wrong} | {name: Tally(2, 1, 1, RIGHT) for name in right}
    chosen = choose(QUIZ, Selection(count=12), seed, tallies)
    assert set(chosen[:2]) == wrong
    assert set(chosen[-3:]) == right


def test_questions_of_one_session_draw_different_numbers():
    assert len({question_seed(3, q.id) for q in QUIZ.questions}) == len(QUIZ.questions)


@given(st.lists(answers, min_size=1, max_size=6))
def test_a_session_grows_by_answers_until_it_is_finished(given_answers):
    session = a_session([q.id for q in QUIZ.questions[: len(given_answers)]])
    for answer in given_answers:
        assert not session.finished
        session = session.after(answer)
    assert session.finished
    assert session.answers == tuple(given_answers)
    with pytest.raises(ValueError, match="answers to"):
        session.after(RIGHT)


def test_a_session_with_more_answers_than_questions_cannot_be_read():
    session = msgspec.to_builtins(a_session(["x-0"], [RIGHT])) | {"answers": [msgspec.to_builtins(RIGHT)] * 2}
    with pytest.raises(msgspec.ValidationError, match="2 answers to 1 questions"):
        msgspec.convert(session, Session)


def test_the_same_choice_goes_on_and_another_does_not():
    chosen = Selection(topic="x", count=2)
    begun = a_session(["x-0", "x-1"], [RIGHT], chosen, seed=5)
    assert to_go_on([begun], chosen, QUIZ) is begun
    assert to_go_on([begun], Selection(topic="x", count=2, seed=5), QUIZ) is begun
    for other in (Selection(count=2), Selection("x", 1, 2), Selection("x", count=3), Selection("x", count=2, seed=6)):
        assert to_go_on([begun], other, QUIZ) is None


def test_a_session_begun_with_a_seed_goes_on_with_that_seed_alone():
    begun = a_session(["x-0", "x-1"], [RIGHT], Selection(seed=5), seed=5)
    assert to_go_on([begun], Selection(seed=5), QUIZ) is begun
    assert to_go_on([begun], Selection(), QUIZ) is None


def test_only_the_last_session_of_a_choice_goes_on():
    begun = a_session(["x-0", "x-1"], [RIGHT])
    finished = a_session(["x-2"], [RIGHT])
    assert to_go_on([begun, finished], Selection(), QUIZ) is None
    assert to_go_on([finished, begun], Selection(), QUIZ) is begun
    assert to_go_on([], Selection(), QUIZ) is None


def test_a_session_whose_questions_are_gone_does_not_go_on():
    gone = a_session(["x-0", "gone"], [RIGHT])
    assert to_go_on([gone], Selection(), QUIZ) is None
    assert to_repeat([gone], Selection(seed=1), QUIZ) is None


def test_a_drawn_seed_brings_its_questions_back():
    drawn = a_session(["y-3", "x-0"], [RIGHT, WRONG], Selection(count=2), seed=77)
    assert to_repeat([drawn], Selection(count=2, seed=77), QUIZ) == ("y-3", "x-0")
    assert to_repeat([drawn], Selection(count=2, seed=78), QUIZ) is None
    assert to_repeat([drawn], Selection(count=3, seed=77), QUIZ) is None
    assert to_repeat([drawn], Selection(count=2), QUIZ) is None


@given(st.lists(answers, max_size=20))
def test_sums_agree_with_each_other(given_answers):
    own = score(given_answers)
    assert own.asked + own.skipped == len(given_answers)
    assert own.right <= own.points <= own.asked
    tally = None
    for answer in given_answers:
        tally = tallied(tally, answer)
    everything = total([tally] if tally else [])
    assert (everything.asked, everything.right, everything.points) == (own.asked, own.right, own.points)


def test_a_tally_holds_the_last_answer():
    later = Answer(NOON + timedelta(hours=1), 0.0)
    assert tallied(tallied(None, RIGHT), later) == Tally(2, 1, 1.0, later)
    assert tallied(None, SKIPPED) is None
    assert tallied(Tally(1, 1, 1.0, RIGHT), SKIPPED) == Tally(1, 1, 1.0, RIGHT)


def test_sums_by_topic_and_what_to_read_again():
    session = a_session(["y-0", "x-1", "gone", "x-2", "x-3"], [WRONG, HALF, WRONG, RIGHT])
    assert by_topic(QUIZ, session) == {"x": Score(2, 1, 1.5), "y": Score(1, 0, 0.0), "": Score(1, 0, 0.0)}
    assert [q.notes for q in to_read(QUIZ, session)] == ["y.md#y-0", "x.md#x-1"]


def test_skipped_questions_are_not_to_be_read_again_and_no_place_stands_there_twice():
    same = tuple(msgspec.structs.replace(q, notes="x.md") for q in QUIZ.questions)
    session = a_session(["x-0", "x-1", "x-2"], [WRONG, WRONG, SKIPPED])
    assert len(to_read(Quiz(QUIZ.topics, same), session)) == 1
    assert to_read(QUIZ, a_session(["x-0"], [SKIPPED])) == ()
