"""What is kept: written whole or not at all, by one process or several, and never over what cannot be read."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep

import filelock
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.learn.quiz import progress as module
from normlab.learn.quiz.progress import Keeper, Progress, decode, default_path, write
from normlab.learn.quiz.session import Answer, Selection, Session

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def session(key: str = "key", count: int = 4) -> Session:
    return Session(key, Selection("rmsnorm", 2, count, None), 5, tuple(f"q-{i}" for i in range(count)))


def answer(minute: int, points: float | None = 1.0) -> Answer:
    return Answer(NOON + timedelta(minutes=minute), points, points == 1)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "normlab" / "quiz.json"


def test_the_file_lies_in_the_users_data_folder(monkeypatch, tmp_path):
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / name)
    assert default_path() == tmp_path / "normlab" / "quiz.json"


def test_nothing_is_written_before_there_is_an_answer(path):
    assert Keeper(path).progress == Progress()
    assert not path.parent.exists()


def test_every_answer_is_on_disk_at_once_and_found_again(path):
    keeper, going = Keeper(path), session()
    for minute, points in enumerate([1.0, 0.0, None, 0.5]):
        keeper.record(going, answer(minute, points))
        going = going.after(answer(minute, points))
        assert Keeper(path).progress == keeper.progress
        assert keeper.progress.sessions == (going,)
    assert keeper.troubles() == []
    kept = Keeper(path).progress.questions
    assert {name: (t.asked, t.right, t.points) for name, t in kept.items()} == {
        "q-0": (1, 1, 1.0),
        "q-1": (1, 0, 0.0),
        "q-3": (1, 0, 0.5),
    }
    assert [p.name for p in path.parent.iterdir() if p.suffix == ".json"] == ["quiz.json"]


points_given = st.lists(st.sampled_from([None, 0.0, 0.25, 1.0]), min_size=1, max_size=8)


@given(st.lists(points_given, max_size=4))
def test_progress_survives_the_way_to_disk_and_back(sessions):
    progress = Progress()
    for number, given_points in enumerate(sessions):
        going = session(str(number), len(given_points))
        for minute, points in enumerate(given_points):
            progress = progress.record(going, answer(minute, points))
            going = going.after(answer(minute, points))
    assert decode(msgspec.json.encode(progress)) == progress
    assert len(progress.sessions) == len(sessions)
    assert all(s.finished for s in progress.sessions)
    counted = sum(points is not None for given_points in sessions for points in given_points)
    assert sum(t.asked for t in progress.questions.values()) == counted


def test_the_very_same_answer_counts_once():
    once = Progress().record(session(), answer(1))
    assert once.record(session(), answer(1)) is once


def test_two_who_go_on_with_the_same_session_lose_no_answer():
    both = Progress().record(session(), answer(1)).record(session(), answer(2, 0.0))
    assert both.sessions[0].answers == (answer(1),)
    assert (both.questions["q-0"].asked, both.questions["q-0"].right) == (2, 1)


def test_a_process_that_dies_before_the_file_is_replaced_leaves_the_old_one(path, monkeypatch):
    keeper = Keeper(path)
    keeper.record(session(), answer(1))
    before = path.read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            keeper.record(session().after(answer(1)), answer(2))
    assert path.read_bytes() == before
    assert not list(path.parent.glob(".quiz*"))
    keeper.finish()
    assert Keeper(path).progress.sessions[0].answers == (answer(1), answer(2))


def test_a_process_that_dies_after_the_file_is_replaced_counts_nothing_twice(path, monkeypatch):
    keeper, replace = Keeper(path), os.replace

    def killed(*names):
        replace(*names)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            keeper.record(session(), answer(1))
    keeper.finish()
    assert Keeper(path).progress.questions["q-0"].asked == 1


def test_a_disk_that_is_full_for_a_while(path, monkeypatch):
    keeper = Keeper(path)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        keeper.record(session(), answer(1))
        keeper.record(session().after(answer(1)), answer(2))
    assert keeper.failing
    (sentence,) = keeper.troubles()
    assert "Progress is not kept" in sentence
    assert "No space left on device" in sentence
    assert not path.exists()
    keeper.record(session().after(answer(1)).after(answer(2)), answer(3))
    assert (keeper.failing, keeper.troubles()) == (False, [])
    assert len(Keeper(path).progress.sessions[0].answers) == 3


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("mine")
    keeper = Keeper(tmp_path / "file" / "quiz.json")
    keeper.record(session(), answer(1))
    keeper.record(session().after(answer(1)), answer(2))
    assert len(keeper.troubles()) == 1
    assert keeper.progress.questions["q-1"].asked == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_that_cannot_be_opened_is_not_written_over(tmp_path):
    (tmp_path / "quiz.json").mkdir()
    keeper = Keeper(tmp_path / "quiz.json")
    keeper.record(session(), answer(1))
    assert len(keeper.troubles()) == 1
    assert (tmp_path / "quiz.json").is_dir()


GOOD = msgspec.to_builtins(Progress().record(session(), answer(1)))
BROKEN = {
    "empty": b"",
    "cut": json.dumps(GOOD).encode()[:-20],
    "no JSON": b"\0\xff\xfe",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "no version": b'{"questions": {}}',
    "unknown field": json.dumps(GOOD | {"more": 1}).encode(),
    "wrong type": json.dumps(GOOD | {"sessions": 3}).encode(),
    "points": json.dumps(GOOD).replace('"points": 1.0', '"points": 7.0').encode(),
    "negative": json.dumps(GOOD).replace('"asked": 1', '"asked": -1').encode(),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_moved_aside(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    keeper = Keeper(path)
    (sentence,) = keeper.troubles()
    assert "could not be read" in sentence
    assert "quiz.broken.json" in sentence
    assert (path.with_name("quiz.broken.json")).read_bytes() == content
    keeper.record(session(), answer(1))
    assert len(Keeper(path).progress.sessions) == 1


def test_a_second_broken_file_does_not_take_the_place_of_the_first(path):
    path.parent.mkdir()
    for content in (b"one", b"two"):
        path.write_bytes(content)
        Keeper(path)
    assert path.with_name("quiz.broken.json").read_bytes() == b"one"
    assert path.with_name("quiz.broken-2.json").read_bytes() == b"two"


def test_a_file_of_a_newer_version_is_moved_aside(path):
    path.parent.mkdir()
    content = b'{"version": 2, "what": "is not known here"}'
    path.write_bytes(content)
    (sentence,) = Keeper(path).troubles()
    assert "version-2" in sentence
    assert path.with_name("quiz.version-2.json").read_bytes() == content


def test_a_file_that_breaks_during_a_session_costs_no_answer(path):
    keeper = Keeper(path)
    keeper.record(session(), answer(1))
    path.write_text("broken")
    keeper.record(session().after(answer(1)), answer(2))
    assert "quiz.broken.json" in keeper.troubles()[0]
    assert Keeper(path).progress.sessions[0].answers == (answer(1), answer(2))


def test_a_file_that_is_deleted_during_a_session_costs_no_answer(path):
    keeper, other = Keeper(path), Keeper(path)
    keeper.record(session("mine"), answer(1))
    path.unlink()
    other.record(session("other"), answer(2))
    keeper.record(session("mine").after(answer(1)), answer(3))
    kept = {s.key: s.answers for s in Keeper(path).progress.sessions}
    assert kept == {"other": (answer(2),), "mine": (answer(1), answer(3))}


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a right there")
def test_a_file_that_the_user_has_put_elsewhere_stays_there(path, tmp_path):
    path.parent.mkdir()
    elsewhere = tmp_path / "elsewhere.json"
    write(elsewhere, Progress())
    path.symlink_to(elsewhere)
    Keeper(path).record(session(), answer(1))
    assert path.is_symlink()
    assert decode(elsewhere.read_bytes()).sessions


def test_a_lock_that_is_not_given_back_delays_and_loses_nothing(path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    keeper = Keeper(path)
    path.parent.mkdir()
    with filelock.FileLock(path.with_name("quiz.json.lock")):
        keeper.record(session(), answer(1))
    assert len(keeper.troubles()) == 1
    keeper.finish()
    assert Keeper(path).progress.questions["q-0"].asked == 1


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from normlab.learn.quiz.progress import Keeper
from normlab.learn.quiz.session import Answer, Selection, Session

keeper, count = Keeper(Path(sys.argv[1])), int(sys.argv[3])
session = Session(sys.argv[2], Selection(), 5, tuple(f"q-{i}" for i in range(count)))
for _ in range(count):
    answer = Answer(datetime.now(UTC), 1.0, True)
    keeper.record(session, answer)
    session = session.after(answer)
assert keeper.troubles() == []
"""


def test_several_processes_at_once_lose_no_answer(path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), key, "25"]) for key in "abc"]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            decode(path.read_bytes())
        sleep(0.002)
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    kept = Keeper(path).progress
    assert {s.key: len(s.answers) for s in kept.sessions} == {"a": 25, "b": 25, "c": 25}
    assert {t.asked for t in kept.questions.values()} == {3}
