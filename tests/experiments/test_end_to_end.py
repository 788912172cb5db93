"""Each experiment for real, tiny: runs, files, page; and everything again from what was kept."""

import csv
import json
import re
import sys
from dataclasses import replace

import pytest

from normlab.experiments.catalogue import EXPERIMENTS
from normlab.experiments.claims import CLAIMS
from normlab.experiments.conduct import conduct
from normlab.experiments.report import claims_table, show, write_report
from normlab.terminal import out as console

# Depth 72 and ten stacks are not tiny: shared by all tests here.
pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def conducted(folder):
    from normlab.experiments.setting import QUICK, Setting
    from normlab.lab import load_corpus

    tiny = replace(
        QUICK, name="tiny", n_seeds=2, cheap_seeds=2, steps=6, context=8, batch=2, dim=16, rates=(1e-3, 1e-2),
        comparison_layers=(1, 2), depths=(1, 2, 4), warmup_layers=(2,), warmup=3, init_layers=(1, 2, 4), init_batch=2,
        long_steps=9, long_rates=(1e-2,), half_seeds=2, half_layers=1, iris_seeds=2, speed_rounds=2,
    )  # fmt: skip
    done = conduct(list(EXPERIMENTS.values()), Setting(tiny, load_corpus(), flags="--quick"), folder, jobs=2)
    write_report(done, folder, "normlab verify --quick")
    return done


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not strict JSON")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_files(conducted, folder, name):
    png = (folder / f"{name}.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(png[16:20], "big") > 1000  # its width in pixels

    numbers = json.loads((folder / f"{name}.json").read_text(), parse_constant=refuse)
    assert numbers["command"] == f"normlab exp {name} --quick"
    assert numbers["machine"]["torch"]
    assert {c["id"] for c in numbers["claims"]} == {c.id for c in CLAIMS if c.experiment == name}

    with (folder / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 50
    assert all(None not in row.values() for row in rows)


def test_curves_hold_every_run_and_step(conducted, folder):
    with (folder / "norm_comparison.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["train_loss"]]
    runs = next(c for c in conducted if c.experiment.name == "norm_comparison").evidence.runs
    assert len(rows) == sum(len(r.train_loss) for r in runs)
    # 2 depths, 4 configurations, 2 rates, 2 seeds; and the long runs.
    assert len(runs) == 2 * 4 * 2 * 2 + 2


def test_claims_file(conducted, folder):
    claims = json.loads((folder / "claims.json").read_text(), parse_constant=refuse)["claims"]
    assert [c["id"] for c in claims] == [c.id for c in CLAIMS]
    for c in claims:
        assert c["verdict"] in ("holds", "holds only when", "does not hold", "undecided")
        assert c["statement"].startswith(c["verdict"])
        assert c["command"].startswith("normlab exp ")
        assert c["measured"]
        first = c["findings"][0]["interval"]
        assert c["effect"] == (first and first["mean"])
        assert c["interval"] == (first and [first["low"], first["high"]])
        for finding in c["findings"]:
            n = finding["interval"]["n"] if finding["interval"] else 0
            assert len(finding["values"]) == n


def test_page_is_one_file_that_reaches_for_nothing(conducted, folder):
    page = (folder / "index.html").read_text()
    assert page.count("data:image/png;base64,") == len(EXPERIMENTS)
    # Nothing is loaded from elsewhere: no src or href but the pictures' own data.
    assert set(re.findall(r'(?:src|href)="([^:"]*):', page)) == {"data"}
    for claim in CLAIMS:
        assert f'id="{claim.id}"' in page


def test_page_escapes_what_comes_from_outside(conducted, folder, tmp_path):
    first = conducted[0]
    corpus = replace(first.evidence.setting.corpus, source="<script>alert(1)</script>.txt")
    evidence = replace(first.evidence, setting=replace(first.evidence.setting, corpus=corpus))
    for c in conducted:
        (tmp_path / f"{c.experiment.name}.png").write_bytes((folder / f"{c.experiment.name}.png").read_bytes())
    write_report([replace(first, evidence=evidence)], tmp_path, "normlab verify")
    page = (tmp_path / "index.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_second_time_computes_nothing_and_says_the_same(conducted, folder, monkeypatch):
    def no_pool(*args, **kwargs):
        raise AssertionError("a run was computed again")

    monkeypatch.setattr(sys.modules["normlab.lab.sweep"], "_finished", no_pool)
    setting = conducted[0].evidence.setting
    again = conduct(list(EXPERIMENTS.values()), setting, folder)
    for c, first in zip(again, conducted, strict=True):
        # Times are taken anew.
        same_claims = [j.claim for j in c.judged] == [j.claim for j in first.judged]
        assert same_claims if c.experiment.name == "speed" else c.judged == first.judged


def test_fresh_runs_give_the_same_verdicts(conducted, tmp_path):
    """From nothing, one process instead of two: the same bits, so the same judgements."""
    setting = conducted[0].evidence.setting
    experiment = EXPERIMENTS["prenorm_vs_postnorm"]
    (again,) = conduct([experiment], setting, tmp_path, jobs=1)
    first = next(c for c in conducted if c.experiment is experiment)
    assert again.judged == first.judged
    for a, b in zip(again.evidence.runs, first.evidence.runs, strict=True):
        assert (a.config, a.train_loss, a.eval_loss, a.scales) == (b.config, b.train_loss, b.eval_loss, b.scales)


def test_terminal(conducted):
    with console.capture() as captured:
        for c in conducted:
            show(c, console)
        console.print(claims_table([j for c in conducted for j in c.judged]))
    # The table's cells wrap: compare without spaces and box lines.
    text = re.sub(r"[\s│┃]", "", captured.get())
    for words in ("Pre-LN + RMSNorm", "power of depth", "What the claims come to here", "ReLU stacks, 16 layers"):
        assert words.replace(" ", "") in text
