"""Experiment 6: the same seed gives the same bits, the nets learn, the files are there, bad input is refused."""

import csv
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from normlab import cli
from normlab.experiments import iris, iris_train
from normlab.experiments.catalogue import EXPERIMENTS
from normlab.experiments.claims import CLAIMS
from normlab.experiments.evidence import Evidence
from normlab.experiments.iris_train import KINDS, RATE, RATES, STEPS, IrisResults, Kind, Training
from normlab.experiments.setting import QUICK, Setting

SENTENCE = 'it needs scikit-learn, which is not installed: pip install "normlab[learn]"'


@pytest.fixture
def without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(arguments))
    return int(stopped.value.code or 0)


def run(kind: Kind, lr: float, seed: int, accuracy: float, arrives: int) -> Training:
    """A made-up run whose loss falls to 0.1 after so many steps."""
    losses = tuple(1.0 if step < arrives else 0.1 for step in range(STEPS + 1))
    return Training(kind, lr, seed, losses, accuracy, 0.1)


def world(accuracy: dict[Kind, float], arrives: dict[Kind, int], setting: Setting) -> Evidence:
    """Evidence in which accuracies and steps are known: those given, and a little more for a later seed."""
    runs = tuple(
        run(kind, lr, seed, accuracy[kind] + seed % 2, arrives[kind])
        for kind in KINDS
        for lr in RATES
        for seed in range(4)
    )
    return Evidence(setting, [], IrisResults(runs, (90.0, 91.0, 90.0, 91.0)))


def test_a_split_is_stratified_and_standardized_by_its_training_part() -> None:
    flowers = iris_train.split(3)
    assert np.bincount(flowers.y).tolist() == [40, 40, 40]
    assert np.bincount(flowers.held_y).tolist() == [10, 10, 10]
    np.testing.assert_allclose(flowers.x.mean(0), 0, atol=1e-14)
    np.testing.assert_allclose(flowers.x.std(0), 1, rtol=1e-14)
    assert np.abs(flowers.held_x.mean(0)).max() > 1e-3
    assert not np.array_equal(flowers.held_y, iris_train.split(4).held_y)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bits(kind: Kind) -> None:
    first, again, other = (iris_train.train(kind, RATE, seed, iris_train.split(seed)) for seed in (0, 0, 1))
    assert first == again
    assert first.losses != other.losses
    assert len(first.losses) == STEPS + 1
    assert all(map(math.isfinite, first.losses))


def test_runs_that_share_a_seed_start_from_the_same_weights() -> None:
    nets = [iris_train.Classifier(kind, seed=5) for kind in KINDS]
    for net in nets[1:]:
        np.testing.assert_array_equal(net.W1.data, nets[0].W1.data)
        np.testing.assert_array_equal(net.W2.data, nets[0].W2.data)
    assert [len(net.parameters()) for net in nets] == [4, 6, 5, 6]


@pytest.mark.parametrize("kind", KINDS)
def test_each_norm_reaches_95_percent(kind: Kind) -> None:
    runs = [iris_train.train(kind, RATE, seed, iris_train.split(seed)) for seed in range(QUICK.iris_seeds)]
    assert np.mean([r.accuracy for r in runs]) >= iris.GOAL


def test_files_and_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command("exp", "iris", "--quick", "--seeds", "2", "--out", str(tmp_path)) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Steps to a training loss of 0.2" in shown
    assert "What the claims come to" not in shown
    assert (tmp_path / "iris.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    numbers = json.loads((tmp_path / "iris.json").read_text())
    assert numbers["command"] == "normlab exp iris --quick --seeds 2"
    assert numbers["claims"] == []
    assert len(numbers["runs"]) == len(KINDS) * len(RATES) * 2
    assert len(numbers["table"]) == len(KINDS) * len(RATES)
    with (tmp_path / "iris.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(KINDS) * len(RATES) * 2 * (STEPS + 1)
    assert {r["norm"] for r in rows} == set(KINDS)


def test_one_seed_is_no_evidence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command("exp", "iris", "--quick", "--seeds", "1", "--out", str(tmp_path)) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "One seed is no evidence" in shown
    assert all(word not in shown for word in ("(fewer)", "(more)", "(higher)", "(lower)"))


def test_sentences_are_those_of_the_numbers(tiny: Setting) -> None:
    setting = replace(tiny, size=replace(tiny.size, iris_seeds=4))
    accuracy: dict[Kind, float] = {"none": 96.0, "layernorm": 98.0, "rmsnorm": 94.0, "batchnorm": 96.0}
    arrives: dict[Kind, int] = {"none": 80, "layernorm": 40, "rmsnorm": 160, "batchnorm": 80}
    goal, gains, logistic, *speeds, _ = iris.reading(world(accuracy, arrives, setting))
    assert "no norm, LayerNorm, BatchNorm of the four" in goal
    assert "LayerNorm 2 (higher); RMSNorm -2 (lower); BatchNorm 0 (not told apart)" in gains
    assert "is 90.5" in logistic
    assert logistic.endswith("told to be better: no norm, LayerNorm, RMSNorm, BatchNorm.")
    assert len(speeds) == len(RATES)
    for sentence in speeds:
        assert "LayerNorm 0.500 (fewer); RMSNorm 2 (more); BatchNorm 1 (not told apart)" in sentence


def test_runs_that_do_not_get_there_are_counted(tiny: Setting) -> None:
    never: dict[Kind, int] = dict.fromkeys(KINDS, STEPS + 1)
    high: dict[Kind, float] = dict.fromkeys(KINDS, 80.0)
    setting = replace(tiny, size=replace(tiny.size, iris_seeds=4))
    evidence = world(high, never, setting)
    goal, _, logistic, *speeds, _ = iris.reading(evidence)
    assert "none of the four names at least 95%" in goal
    assert "no network is told to be better" in logistic
    assert all("bring none of the 16 runs" in sentence for sentence in speeds)
    assert iris.tables(evidence)[1].rows[0][1] == "0 of 4 get there"
    iris.EXPERIMENT.draw(evidence)
    never["layernorm"] = 20
    assert "bring 4 of the 16 runs" in iris.reading(world(high, never, setting))[3]


def test_evidence_of_another_experiment_is_refused(tiny: Setting) -> None:
    with pytest.raises(ValueError, match="evidence must hold IrisResults"):
        iris.tables(Evidence(tiny))


def test_without_scikit_learn_it_says_what_to_install(
    without_scikit_learn: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "results"
    assert command("exp", "iris", "--quick", "--out", str(out)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"normlab: iris cannot be run: {SENTENCE}\n"
    assert not out.exists()
    with pytest.raises(ModuleNotFoundError, match="Iris is part of scikit-learn"):
        iris_train.split(0)


def test_without_scikit_learn_verify_leaves_it_out_and_says_so(
    without_scikit_learn: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    conducted: list[str] = []

    def conduct(experiments, *_, **__):
        conducted.extend(e.name for e in experiments)
        return []

    monkeypatch.setattr("normlab.experiments.conduct.conduct", conduct)
    monkeypatch.setattr("normlab.experiments.report.write_report", lambda *_: None)
    assert command("verify", "--quick", "--out", str(tmp_path)) == 0
    assert conducted == [name for name in EXPERIMENTS if name != "iris"]
    assert capsys.readouterr().err == f"Left out: iris cannot be run: {SENTENCE}\n"
    # So every claim is judged all the same.
    assert all(claim.experiment in conducted for claim in CLAIMS)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["iris", "--seeds", "0"], "'--seeds': must be a whole number of at least 1, got '0'"),
        (["iris", "--quick", "--full"], "--quick and --full exclude each other"),
        (["Iris"], "NAME must be one of"),
    ],
)
def test_wrong_arguments(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    out = tmp_path / "results"
    assert command("exp", *arguments, "--out", str(out)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert not out.exists()
