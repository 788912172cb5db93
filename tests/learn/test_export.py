"""What `normlab quiz --export` prints, and what it refuses."""

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from normlab import cli
from normlab.learn.quiz.export import as_json, as_markdown, last_session, report
from normlab.learn.quiz.progress import Keeper, Progress
from normlab.learn.quiz.schema import Open, Quiz, Topic, load
from normlab.learn.quiz.session import Answer, Selection, Session

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def question(name: str, topic: str, level: int) -> Open:
    return Open(
        id=name, topic=topic, level=level, text="?", explanation="!", notes=f"{topic}.md", answer=".", rubric=("1", "2")
    )


QUIZ = Quiz(
    {"rmsnorm": Topic("RMSNorm", "rmsnorm.md"), "layernorm": Topic("LayerNorm", "layernorm.md")},
    (question("a", "layernorm", 1), question("b", "rmsnorm", 4), question("c", "rmsnorm", 2)),
)


def answered(progress: Progress, key: str, names: str, points: list[float | None], start: datetime) -> Progress:
    session = Session(key, Selection("rmsnorm", None, len(names), None), 42, tuple(names))
    for minute, p in enumerate(points):
        answer = Answer(start + timedelta(minutes=minute), p, p == 1)
        progress, session = progress.record(session, answer), session.after(answer)
    return progress


@pytest.fixture
def progress() -> Progress:
    first = answered(Progress(), "first", "abc", [1.0, 1.0], NOON)
    return answered(first, "second", "bxca", [0.5, 0.0, None], NOON + timedelta(hours=1))


def test_the_last_session_is_the_one_answered_last(progress):
    assert last_session(Progress()) is None
    found = last_session(progress)
    assert found is not None
    assert found.key == "second"
    later = progress.record(progress.sessions[0], Answer(NOON + timedelta(hours=2), 0.0))
    found = last_session(later)
    assert found is not None
    assert found.key == "first"


def test_json_holds_every_answer_and_the_sums(progress):
    found = report(QUIZ, progress)
    assert found is not None
    data = json.loads(as_json(found))
    assert data["selection"] == {"topic": "rmsnorm", "level": None, "count": 4, "seed": None}
    assert (data["seed"], data["questions"], data["finished"]) == (42, 4, False)
    assert [(a["question"], a["topic"], a["points"], a["right"]) for a in data["answers"]] == [
        ("b", "rmsnorm", 0.5, False),
        ("x", None, 0.0, False),
        ("c", "rmsnorm", None, False),
    ]
    assert data["answers"][0]["when"] == "2026-01-01T13:00:00Z"
    assert data["session"] == {"asked": 2, "right": 0, "points": 0.5, "skipped": 1}
    assert data["topics"]["rmsnorm"] == {"asked": 1, "right": 0, "points": 0.5, "skipped": 1}
    assert data["total"] == {"asked": 4, "right": 2, "points": 2.5, "skipped": 0}
    assert data["read_again"] == ["docs/notes/rmsnorm.md"]


def test_markdown_is_a_page_with_two_tables(progress):
    found = report(QUIZ, progress)
    assert found is not None
    assert as_markdown(found, QUIZ).splitlines() == [
        "# normlab quiz",
        "",
        "2026-01-01 13:00 to 2026-01-01 13:02 UTC, stopped after question 3 of 4; topic rmsnorm, seed 42.",
        "",
        "| topic | asked | right | points |",
        "| --- | ---: | ---: | ---: |",
        "| RMSNorm | 1 | 0 | 0.5 |",
        "| no longer asked | 1 | 0 | 0 |",
        "| this session | 2 | 0 | 0.5 |",
        "| all sessions | 4 | 2 | 2.5 |",
        "",
        "| question | topic | level | result |",
        "| --- | --- | --- | --- |",
        "| b | RMSNorm | 4 (analyse) | in part (50%) |",
        "| x | no longer asked |  | not right |",
        "| c | RMSNorm | 2 (understand) | skipped |",
        "",
        "Read again:",
        "",
        "- docs/notes/rmsnorm.md",
    ]


def test_a_finished_session_says_so():
    found = report(QUIZ, answered(Progress(), "key", "a", [1.0], NOON))
    assert found is not None
    page = as_markdown(found, QUIZ)
    assert "finished" in page
    assert "| a | LayerNorm | 1 (recall) | right |" in page
    assert "Read again" not in page


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Where this test keeps progress."""
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / name)
    return tmp_path


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["quiz", *arguments])
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("form", ["markdown", "json"])
def test_without_a_session_it_says_so_and_exits_1(capsys, home, form):
    code, out, err = run(capsys, "--export", form)
    assert (code, out) == (1, "")
    assert "no result yet" in err
    assert err.count("\n") == 1
    assert not list(home.iterdir())


def test_the_command_prints_nothing_but_the_export(capsys, home):
    (name, *_) = (q.id for q in load().questions)
    keeper = Keeper()
    keeper.record(Session("key", Selection(), 1, (name,)), Answer(NOON, 1.0, True))
    code, out, err = run(capsys, "--export", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["answers"][0]["question"] == name
    code, out, err = run(capsys, "--export", "markdown")
    assert (code, err) == (0, "")
    assert out.startswith("# normlab quiz\n")
    assert keeper.path == home / "normlab" / "quiz.json"


def test_a_broken_file_is_named_on_standard_error(capsys, home):
    (home / "normlab").mkdir()
    (home / "normlab" / "quiz.json").write_text("broken")
    code, out, err = run(capsys, "--export", "json")
    assert (code, out) == (1, "")
    assert "quiz.broken.json" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--topic", "nonsense"], "--topic must be one of why, layernorm, rmsnorm, batchnorm"),
        (["--level", "5"], "'--level'"),
        (["--level", "0"], "'--level'"),
        (["--level", "two"], "'--level'"),
        (["--count", "0"], "'--count'"),
        (["--seed", "-1"], "'--seed'"),
        (["--export", "yaml"], "'--export'"),
        (["--export", "json", "--topic", "rmsnorm"], "--export prints the last result"),
        (["--export", "json", "--fresh"], "--export prints the last result"),
        (["rmsnorm"], "rmsnorm"),
    ],
)
def test_bad_options_are_one_sentence_exit_2_and_nothing_written(capsys, home, arguments, sentence):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert not list(home.iterdir())


def test_a_choice_without_questions_is_one_sentence_and_exit_2(capsys, home, monkeypatch):
    monkeypatch.setattr("normlab.learn.quiz.schema.load", lambda: QUIZ)
    code, out, err = run(capsys, "--topic", "layernorm", "--level", "3")
    assert (code, out) == (2, "")
    assert "--level 3: there are no questions on layernorm of that level, only of 1" in err
    none_left = msgspec.structs.replace(QUIZ, questions=QUIZ.questions[:1])
    monkeypatch.setattr("normlab.learn.quiz.schema.load", lambda: none_left)
    code, _, err = run(capsys, "--topic", "rmsnorm")
    assert code == 2
    assert "--topic rmsnorm: there are no questions on it" in err
