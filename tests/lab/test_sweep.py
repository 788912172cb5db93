"""A sweep gives the results of its configs in their order, computes each once, and keeps each as it comes."""

import sqlite3
from dataclasses import replace

import joblib
import pytest

from normlab.lab import Store, load_corpus, run, sweep
from normlab.lab.sweep import workers


@pytest.fixture
def started(sweep_module, monkeypatch):
    """The configs of the runs that are computed in this process, in the order of their start."""
    configs = []

    def spy(config, corpus):
        configs.append(config)
        return run(config, corpus)

    monkeypatch.setattr(sweep_module, "run", spy)
    return configs


@pytest.fixture
def file(tmp_path):
    """A text of one's own, and its corpus."""
    path = tmp_path / "text.txt"
    path.write_text("abcde fghij\n" * 2_000)
    return path, load_corpus(str(path))


def test_results_are_in_the_order_of_the_configs(store, tiny, corpus, bits, started):
    """The costly are computed first."""
    configs = [tiny(steps=n, seed=n) for n in (2, 1, 3)]
    results = sweep(configs, store, jobs=1)
    assert [bits(r) for r in results] == [bits(run(c, corpus)) for c in configs]
    assert [c.steps for c in started] == [3, 2, 1]


def test_duplicates_are_computed_once(store, tiny, started):
    a, b = tiny(steps=1), tiny(steps=2)
    results = sweep([a, b, a, tiny(steps=1)], store, jobs=1)
    assert [r.config for r in results] == [a, b, a, a]
    assert started == [b, a]
    assert len(store) == 2


def test_configs_may_be_an_iterator(store, tiny):
    assert [r.config.seed for r in sweep((tiny(seed=s, steps=1) for s in (4, 2)), store, jobs=1)] == [4, 2]


def test_no_configs(store):
    assert sweep([], store) == []


def test_kept_runs_are_not_repeated(store, tiny, started):
    first = sweep([tiny(seed=0), tiny(seed=1)], store, jobs=1)
    started.clear()
    again = sweep([tiny(seed=1), tiny(seed=2), tiny(seed=0)], store, jobs=1)
    assert started == [tiny(seed=2)]
    assert [again[2], again[0]] == first


def test_a_row_that_cannot_be_read_is_repeated(store, tiny, started, tmp_path, bits):
    (first,) = sweep([tiny()], store, jobs=1)
    with sqlite3.connect(tmp_path / "runs.sqlite") as db:
        db.execute("UPDATE runs SET result = substr(result, 1, 50)")
    db.close()
    assert [bits(r) for r in sweep([tiny()], store, jobs=1)] == [bits(first)]
    assert started == [tiny()] * 2
    assert store.get(tiny()) is not None


def test_results_are_kept_while_the_sweep_goes_on(store, tiny, sweep_module, monkeypatch):
    """Another reader of the file sees them."""
    kept = []

    def spy(config, corpus):
        reader = Store(store._path)
        kept.append(len(reader))
        reader.close()
        return run(config, corpus)

    monkeypatch.setattr(sweep_module, "run", spy)
    sweep([tiny(seed=s, steps=1) for s in range(4)], store, jobs=1)
    assert kept == [0, 1, 2, 3]


def test_an_error_in_a_run_is_raised_and_what_finished_is_kept(store, tiny, sweep_module, monkeypatch):
    class OwnError(Exception):
        pass

    def spy(config, corpus):
        if config.seed == 2:
            raise OwnError("in the run")
        return run(config, corpus)

    monkeypatch.setattr(sweep_module, "run", spy)
    configs = [tiny(seed=s) for s in range(4)]
    with pytest.raises(OwnError, match=r"^in the run$"):
        sweep(configs, store, jobs=1)
    assert [store.get(c) is not None for c in configs] == [True, True, False, False]


def test_interrupted(store, tiny, sweep_module, monkeypatch, capsys):
    """What was kept before counts, and duplicates do not."""

    def spy(config, corpus):
        if config.seed == 2:
            raise KeyboardInterrupt
        return run(config, corpus)

    monkeypatch.setattr(sweep_module, "run", spy)
    configs = [tiny(seed=s) for s in (0, 1, 2, 3, 0)]
    sweep(configs[:1], store, jobs=1)
    with pytest.raises(KeyboardInterrupt):
        sweep(configs, store, jobs=1)
    said = " ".join(capsys.readouterr().err.split())
    assert said == "Stopped: 2 of 4 runs are kept; the same command goes on from there."


def test_a_file_is_what_runs_learn_from(store, tiny, file, bits):
    path, own = file
    config = replace(tiny(model={"vocab_size": len(own.vocab)}), text=own.digest)
    (result,) = sweep([config], store, data=str(path), jobs=1)
    assert bits(result) == bits(run(config, own))


def test_nothing_is_written_when_nobody_watches(store, tiny, capfd):
    sweep([tiny(), tiny(seed=1)], store, jobs=1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("n_runs", "jobs", "device", "expected"),
    [(9, 2, "cpu", 2), (1, 4, "cpu", 1), (0, 4, "cpu", 1), (9, 4, "cuda", 1), (9, None, "cuda", 1)],
)
def test_workers(n_runs, jobs, device, expected):
    assert workers(n_runs, jobs, device) == expected


def test_workers_are_as_many_as_cores():
    assert workers(10_000, None, "cpu") == joblib.cpu_count(only_physical_cores=True)


@pytest.mark.heavy
def test_two_jobs_give_what_one_gives(store, tiny, tmp_path, bits, capfd):
    configs = [tiny(seed=s, steps=1 + s % 3) for s in range(6)]
    one, two = Store(tmp_path / "one.sqlite"), Store(tmp_path / "two.sqlite")
    expected = [bits(r) for r in sweep(configs, one, jobs=1)]
    assert [bits(r) for r in sweep(configs, two, jobs=2)] == expected
    assert [bits(r) for c in configs if (r := two.get(c))] == expected
    assert capfd.readouterr() == ("", "")
    one.close()
    two.close()


@pytest.mark.heavy
def test_workers_find_a_file_by_its_name_here(store, tiny, file, monkeypatch):
    """They may have started in another folder, for another sweep."""
    path, own = file
    sweep([tiny(seed=s, steps=1) for s in range(2)], store, jobs=2)
    monkeypatch.chdir(path.parent)
    config = replace(tiny(model={"vocab_size": len(own.vocab)}, steps=1), text=own.digest)
    results = sweep([config, replace(config, seed=1)], store, data=path.name, jobs=2)
    assert [r.config.seed for r in results] == [0, 1]


@pytest.mark.heavy
def test_an_error_in_a_worker_is_raised_and_what_finished_is_kept(store, tiny):
    """The run that fails is the last to start; of those before it, one may be under way."""
    configs = [tiny(seed=s) for s in range(5)]
    wrong = replace(tiny(steps=1), text="0" * 16)
    with pytest.raises(ValueError, match=r"^corpus must be the config's text 0000000000000000") as caught:
        sweep([wrong, *configs], store, jobs=2)
    assert sum(store.get(c) is not None for c in configs) >= 4
    assert "in _task" in caught.value.__notes__[0]


@pytest.mark.heavy
def test_a_store_that_fails_ends_a_sweep_of_two_jobs(store, tiny, monkeypatch):
    """With its own sentence, and without joblib's warning about the runs under way."""

    def full(_store: Store, _result: object) -> None:
        raise ValueError("disk full")

    monkeypatch.setattr(Store, "put", full)
    with pytest.raises(ValueError, match=r"^disk full$"):
        sweep([tiny(seed=s) for s in range(6)], store, jobs=2)
