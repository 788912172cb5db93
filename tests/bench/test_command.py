"""`normlab bench`, tiny, for real: processes, files, exit codes; and what it refuses."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from normlab import cli
from normlab.bench import child, command, plan
from normlab.bench import engine as bench_engine
from normlab.bench.cases import BAR, LARGEST, Case
from normlab.bench.plan import Options
from normlab.bench.results import COLUMNS, Measured

PLENTY = 10**15


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(arguments))
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


@pytest.mark.heavy
def test_a_tiny_benchmark(capsys, tmp_path):
    code, stdout, stderr = run(
        capsys, "bench", "--sizes", "1x64", "--no-compile", "--heap", "both", "--ops", "rms_norm,add_layer_norm",
        "--dtypes", "float32", "--threads", "1", "--out", str(tmp_path),
    )  # fmt: skip
    assert (code, stderr) == (0, "")
    names = ("cpu-heap-kept.csv", "cpu-heap-kept.png", "cpu-heap-default.csv", "cpu-heap-default.png", "cpu-bar.csv")
    assert {p.name for p in tmp_path.iterdir()} == set(names)
    for heap in ("kept", "default"):
        path = tmp_path / f"cpu-heap-{heap}.csv"
        assert "# processor: " in path.read_text()
        rows = read(path)
        assert tuple(rows[0]) == COLUMNS
        # 2 operations in 2 directions, 5 contenders each.
        assert len(rows) == 2 * 2 * 5
        assert len({(r["op"], r["mode"], r["rows"], r["contender"]) for r in rows}) == len(rows)
        for r in rows:
            assert (r["heap"], r["device"], r["threads"]) == (heap, "cpu", "1")
            assert 0 < float(r["p20_us"]) <= float(r["median_us"]) <= float(r["p80_us"])
            assert float(r["ratio_to_normlab"]) > 0
            if r["contender"] == "normlab":
                assert float(r["ratio_to_normlab"]) == 1
            if r["contender"] == "copy_":
                assert float(r["percent_of_copy"]) == 100
            if r["contender"] == "empty call":
                assert float(r["gb_per_s"]) == 0
    verdicts = {r["rule"]: r["verdict"] for r in read(tmp_path / "cpu-bar.csv")}
    assert verdicts["RMSNorm against torch.nn, float32, 1 x 64"] in ("met", "missed")
    assert "rms_norm + backward" in stdout
    assert "Wrote " in stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--quick", "--full"], "--quick and --full exclude each other"),
        (["--sizes", "1024"], "--sizes must be ROWSxDIM such as 1024x512, separated by commas, got '1024'"),
        (["--sizes", "0x64"], "got '0x64'"),
        (["--sizes", "1x64,,2x64"], "--sizes must be a list with commas"),
        (["--dtypes", "int8"], "--dtypes must be one of 'float32', 'bfloat16', 'float16', 'float64', got 'int8'"),
        (["--ops", "batch_norm"], "--ops must be one of 'rms_norm'"),
        (["--threads", "0"], "--threads must be numbers from 1 to 9999 or 'all', separated by commas, got '0'"),
        (
            ["--threads", "1,99999"],
            "--threads must be numbers from 1 to 9999 or 'all', separated by commas, got '99999'",
        ),
        (["--heap", "big"], "big"),
        (["--device", "cuda"], "--device cuda needs a GPU"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(capsys, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    out = tmp_path / "results"
    code, stdout, stderr = run(capsys, "bench", *arguments, "--out", str(out))
    assert (code, stdout) == (2, "")
    assert sentence in stderr
    assert stderr.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("engine", [[], ["--engine"]])
@pytest.mark.parametrize("where", ["file", "file/below", "/proc/nowhere"])
def test_a_place_that_cannot_be_written_is_told_first(capsys, tmp_path, monkeypatch, where, engine):
    (tmp_path / "file").write_text("mine")
    for module in (command, bench_engine):
        monkeypatch.setattr(module, "conduct", lambda *given: pytest.fail("it has begun to measure"))
    code, stdout, stderr = run(capsys, "bench", *engine, "--out", str(tmp_path / where))
    assert (code, stdout) == (2, "")
    assert "--out must be a folder" in stderr
    assert str(tmp_path / where) in stderr
    assert stderr.count("\n") == 1


def test_help_says_what_the_options_are(capsys):
    code, stdout, _ = run(capsys, "bench", "--help")
    assert code == 0
    assert "--heap" in stdout


def test_a_process_that_breaks_is_told_and_what_it_had_is_kept(monkeypatch):
    measured = Measured("cpu")
    case = Case("rms_norm", "forward", "float32", 2, 4)
    todo = plan.Plan("default", "cpu", (plan.Item(case, 1, False),), formula=False, budget=0, least=1)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert command.run_plan(todo, measured, lambda doing: None) is False
    assert measured.notes == ["the process with heap default ended early (code 1): no words"]


def test_the_child_knows_its_allocator():
    """keep_heap comes before any tensor: in a process that imports nothing else first."""
    code = "import sys; from normlab.bench import child; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
    assert child.keep_heap


def sizes_of(todo: plan.Plan) -> set[tuple[int, int]]:
    return {(i.case.rows, i.case.dim) for i in todo.items}


def test_plans():
    default, _ = plan.plan(Options(), "kept", PLENTY)
    assert LARGEST not in sizes_of(default)
    assert LARGEST in sizes_of(plan.plan(Options(amount="full"), "kept", PLENTY)[0])
    assert {i.threads for i in default.items} == {0, 1}
    assert {i.threads for i in plan.plan(Options(), "default", PLENTY)[0].items} == {0}
    assert {i.threads for i in plan.plan(Options(threads=(1,)), "default", PLENTY)[0].items} == {1}
    assert not plan.plan(Options(), "default", PLENTY)[0].accuracy
    assert plan.plan(Options(heap="default"), "default", PLENTY)[0].accuracy


def test_what_memory_does_not_hold_is_left_out_and_named():
    todo, notes = plan.plan(Options(amount="full", compiled=False), "kept", 4 * 2**30)
    assert LARGEST not in sizes_of(todo)
    assert notes == ["32768 x 4096 needs about 8.0 GiB of memory; 4.0 GiB are free"]


def test_who_is_compiled(monkeypatch):
    monkeypatch.setattr(plan, "compiler", lambda: "g++")
    compiled = {(i.case.rows, i.case.dim) for i in plan.plan(Options(), "kept", PLENTY)[0].items if i.compiled}
    assert compiled == set(BAR)
    assert not any(i.compiled for i in plan.plan(Options(amount="quick"), "kept", PLENTY)[0].items)
    every, _ = plan.plan(Options(compiled=True, sizes=((2, 4),)), "kept", PLENTY)
    assert any(i.compiled for i in every.items)
    monkeypatch.setattr(plan, "compiler", lambda: None)
    without, notes = plan.plan(Options(), "kept", PLENTY)
    assert not any(i.compiled for i in without.items)
    assert "needs a C++ compiler" in notes[0]
