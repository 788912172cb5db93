"""`normlab bench --engine`: the same steps by all, and the table."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from normlab import cli
from normlab.bench import engine, engine_contenders
from normlab.bench.engine_contenders import OURS, TORCH


def test_all_take_the_same_steps_in_the_example():
    calls: dict[str, Any] = engine_contenders.contenders()["the example"]
    ours = [calls[OURS]() for _ in range(20)]
    assert ours[-1] < ours[0]
    for name, call in calls.items():
        if name not in (OURS, "TensorWeaver"):
            np.testing.assert_allclose([call() for _ in range(20)], ours, rtol=1e-9, err_msg=name)


def test_both_transformers_learn_the_batch():
    calls: dict[str, Any] = engine_contenders.contenders()["the Transformer"]
    for name in (OURS, TORCH):
        first, *_, last = (calls[name]() for _ in range(4))
        assert last < first


def test_rows_have_ratios_and_verdicts():
    rows = {(r.case, r.contender): r for r in engine.measure(seconds=0.0)}
    ours, torchs = rows["the example", OURS], rows["the example", TORCH]
    assert ours.ratio == 1
    assert ours.verdict == ""
    assert torchs.ratio == torchs.median / ours.median
    assert torchs.verdict == ("met" if torchs.ratio >= 1.3 else "missed")
    assert ours.p20 <= ours.median <= ours.p80


@pytest.mark.parametrize(
    "option",
    [
        ["--quick"],
        ["--sizes", "1x64"],
        ["--no-compile"],
        ["--heap", "kept"],
        ["--heap", "both"],
        ["--dtypes", "int8"],
        ["--dtypes", "float32,bfloat16"],
        ["--device", "cpu"],
    ],
)
def test_options_of_the_other_benchmark_are_refused(option, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["bench", "--engine", *option])
    told = capsys.readouterr().err
    assert "--engine is another benchmark: beside it only --out has a meaning, got --" in told
    assert option[0] in told.partition("got ")[2]


@pytest.mark.heavy
def test_the_command_writes_its_file(tmp_path):
    done = subprocess.run(
        [str(Path(sys.executable).with_name("normlab")), "bench", "--engine", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "normlab.tensor" in done.stdout
    lines = [line for line in (tmp_path / "engine.csv").read_text().splitlines() if not line.startswith("#")]
    assert lines[0].startswith("case,contender,median_us")
    assert len(lines) >= 5
