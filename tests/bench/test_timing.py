"""How contenders are timed: in turns, each after its own untimed calls."""

import gc
from types import SimpleNamespace

import pytest
import torch

from normlab.bench import timing
from normlab.bench.timing import Times, alternate


@pytest.fixture
def one_untimed(monkeypatch):
    monkeypatch.setattr(timing, "SETTLE", 0)


def recorded(names, **options):
    """The order of all calls: (name, whether it was timed)."""
    calls = []
    timed = []

    def contender(name):
        return lambda: calls.append((name, bool(timed)))

    def timer(call):
        timed.append(True)
        call()
        timed.pop()
        return 1e-6

    times = alternate({name: contender(name) for name in names}, timer=timer, **options)
    return calls, times


def test_rounds_alternate_and_each_begins_untimed(one_untimed):
    calls, times = recorded("ab", budget=0, least=3, warm_up=0)
    one = [(False, 1), (True, 3)]

    def turn(name):
        return [(name, timed) for timed, n in one for _ in range(n)]

    # Who begins moves on by one each round.
    assert calls == turn("a") + turn("b") + turn("b") + turn("a") + turn("a") + turn("b")
    assert {name: len(t.rounds) for name, t in times.items()} == {"a": 3, "b": 3}


def test_untimed_calls_go_on_for_a_while(monkeypatch):
    monkeypatch.setattr(timing, "SETTLE", 2e-3)
    calls, _ = recorded("a", budget=0, least=1, warm_up=0)
    assert sum(not timed for _, timed in calls) > 10
    assert [timed for _, timed in calls[-4:]] == [False, True, True, True]


def test_a_slow_call_is_timed_once_a_round(one_untimed):
    times = alternate({"slow": lambda: None}, budget=0, least=2, timer=lambda call: 1.0)["slow"]
    assert times.rounds == ((1.0,), (1.0,))


def test_rounds_end_with_the_budget_or_at_most(one_untimed):
    assert len(recorded("a", budget=60, least=1, most=7)[1]["a"].rounds) == 7
    assert len(recorded("a", budget=0, least=4, most=7)[1]["a"].rounds) == 4


def test_summaries():
    times = Times(((1.0, 2.0, 9.0), (3.0, 4.0, 5.0)))
    assert times.by_round == (2.0, 4.0)
    assert times.median == 3.5
    assert (times.percentile(0), times.percentile(100)) == (1.0, 9.0)


def test_garbage_is_not_collected_meanwhile_and_is_afterwards():
    seen = []
    alternate({"a": lambda: seen.append(gc.isenabled())}, budget=0, least=1, warm_up=0)
    assert set(seen) == {False}
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        alternate({"a": lambda: 1 / 0}, budget=0)
    assert gc.isenabled()


def test_untimed_calls_are_waited_for(one_untimed):
    order = []

    def timer(call):
        order.append("timed")
        return 1.0

    alternate(
        {"a": lambda: order.append("call")},
        budget=0,
        least=1,
        warm_up=1,
        timer=timer,
        finish=lambda: order.append("finish"),
    )
    assert order == ["call", "finish", "call", "finish", "timed"]


def test_a_call_on_a_gpu_queues_up_behind_a_wait(monkeypatch):
    order = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            order.append("event")

        def elapsed_time(self, end):
            return 3.0

    monkeypatch.setattr(torch, "empty", lambda *_, **__: SimpleNamespace(zero_=lambda: order.append("fill")))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: order.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: order.append("wait"))
    assert timing.on_gpu()(lambda: order.append("call")) == 3e-3
    assert order == ["synchronize", "fill", "wait", "event", "call", "event", "synchronize"]
