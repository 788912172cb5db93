"""Results come back as they were; a file or a row that cannot be used is a sentence or a run to repeat."""

import math
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

import normlab
from normlab.kernels.choice import use_kernels
from normlab.lab import RunResult, Scales, Store, run
from normlab.spec import NormSpec

# A hundred results of these seeds, written when a line arrives on the standard input.
WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from normlab.lab import RunConfig, RunResult, Store
from normlab.models import TransformerConfig

config = RunConfig(model=TransformerConfig(vocab_size=5), text="none", lr=0.1, seed=0)
print("ready", flush=True)
sys.stdin.readline()
store = Store(Path(sys.argv[1]))
for seed in range(int(sys.argv[2]), int(sys.argv[2]) + 100):
    store.put(RunResult(replace(config, seed=seed), (1.0,), (1,), (1.0,), float(seed), None, "stuck", (), 1.0))
store.close()
"""


@pytest.fixture
def full(tiny):
    """A result with every kind of value: NaN, both infinities, None, tuples of several lengths, nested ones."""
    config = tiny(model={"norm": NormSpec("rmsnorm", eps=None), "final_norm": True}, scales_at=(0, 7))
    scales = Scales(step=7, activation=(1.5, math.inf), gradient=(-math.inf, 0.1), weight_gradient=(math.nan,))
    return RunResult(
        config=config,
        train_loss=(4.0, 0.1 + 0.2, math.inf),
        eval_steps=(0, 3),
        eval_loss=(5e-324, math.nan),
        final_loss=math.nan,
        first_nonfinite_step=2,
        outcome="nan",
        scales=(scales, replace(scales, step=8, weight_gradient=())),
        step_ms=1 / 3,
    )


def types(value) -> object:
    """The types in a value, at every depth."""
    if isinstance(value, tuple):
        return tuple(types(v) for v in value)
    names = [f.name for f in fields(value)] if hasattr(value, "__dataclass_fields__") else []
    return type(value), {name: types(getattr(value, name)) for name in names}


def test_a_result_comes_back_as_it_was(store, full):
    store.put(full)
    back = store.get(full.config)
    assert repr(back) == repr(full)
    assert types(back) == types(full)


def test_a_finite_result_comes_back_equal(store, tiny, corpus):
    result = run(tiny(steps=2, eval_every=1, scales_at=(0, 1)), corpus)
    store.put(result)
    assert store.get(result.config) == result
    assert hash(store.get(result.config)) == hash(result)


@pytest.mark.parametrize("lr", [1, 1.0])
def test_a_rate_of_one_is_found_as_int_and_as_float(store, full, lr):
    result = replace(full, config=replace(full.config, lr=1))
    store.put(result)
    assert store.get(replace(full.config, lr=lr)) is not None


def test_unknown_config(store, full, tiny):
    store.put(full)
    assert store.get(tiny(seed=99)) is None


def test_a_result_replaces_the_one_before(store, full):
    store.put(full)
    store.put(replace(full, step_ms=9.0))
    assert len(store) == 1
    assert store.get(full.config).step_ms == 9.0


def test_forget(store, full, tiny):
    other = replace(full, config=tiny(seed=5))
    store.put(full)
    store.put(other)
    store.forget([full.config, tiny(seed=99)])
    assert store.get(full.config) is None
    assert repr(store.get(other.config)) == repr(other)
    assert len(store) == 1


def test_results_outlive_the_process_and_the_folder_is_made(tmp_path, full):
    path = tmp_path / "a" / "b" / "runs.sqlite"
    for expected in (0, 1):
        store = Store(path)
        assert len(store) == expected
        store.put(full)
        store.close()


def test_other_code_is_another_key(store, store_module, full, monkeypatch):
    store.put(full)
    monkeypatch.setattr(store_module, "code_digest", lambda: "other")
    assert store.get(full.config) is None


def test_another_torch_is_another_key(store, full, monkeypatch):
    store.put(full)
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert store.get(full.config) is None


def test_a_run_without_numba_is_one_with_torchs_kernels(store, full, monkeypatch):
    config = replace(full.config, device="cpu")
    result = replace(full, config=config)
    with use_kernels("fused"):
        monkeypatch.setattr("normlab.kernels.cpu.unusable", lambda: None)
        store.put(result)
        monkeypatch.setattr("normlab.kernels.cpu.unusable", lambda: "Numba is not installed")
        assert store.get(config) is None
        store.put(result)
    with use_kernels("torch"):
        assert store.get(config) is not None


@pytest.mark.parametrize(
    ("file", "matters"),
    [
        ("spec.py", True),
        ("kernels/torch_ops.py", True),
        ("layers/functional.py", True),
        ("models/init.py", True),
        ("lab/config.py", True),
        ("lab/reproducible.py", True),
        ("lab/run.py", True),
        ("lab/scales.py", True),
        ("lab/text.py", True),
        ("kernels/new.py", True),
        ("lab/sweep.py", False),
        ("lab/store.py", False),
        ("cli.py", False),
        ("experiments/judge.py", False),
    ],
)
def test_the_code_that_matters(tmp_path, store_module, monkeypatch, file, matters):
    package = tmp_path / "normlab"
    source = Path(normlab.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(normlab, "__file__", str(package / "__init__.py"))
    before = store_module.code_digest.__wrapped__()
    with (package / file).open("a") as edited:
        edited.write("\n# another line\n")
    assert (store_module.code_digest.__wrapped__() != before) is matters


@pytest.mark.heavy
def test_two_processes_write_at_once(tmp_path):
    """The file does not exist before; half of the runs are written by both."""
    path = tmp_path / "runs.sqlite"
    writers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WRITER, str(path), first],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in ("0", "50")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    assert [writer.communicate(timeout=60) and writer.returncode for writer in writers] == [0, 0]
    with sqlite3.connect(path) as db:
        losses = db.execute("SELECT json_extract(result, '$.final_loss') FROM runs").fetchall()
    db.close()
    assert sorted(losses) == [(float(seed),) for seed in range(150)]


@pytest.mark.parametrize(
    "damage",
    [
        "substr(result, 1, 100)",
        "''",
        "'null'",
        "'[]'",
        "'{}'",
        "x'ff00'",
        "replace(result, '\"lr\": 0.01', '\"lr\": -1')",
        "replace(result, '\"lr\": 0.01', '\"lr\": 0.5')",
        'replace(result, \'"outcome": "nan"\', \'"outcome": "fine"\')',
    ],
)
def test_a_row_that_cannot_be_read_is_a_run_to_repeat(tmp_path, full, damage):
    path = tmp_path / "runs.sqlite"
    store = Store(path)
    store.put(full)
    with sqlite3.connect(path) as db:
        before = db.execute("SELECT result FROM runs").fetchone()
        db.execute(f"UPDATE runs SET result = {damage}")
        assert db.execute("SELECT result FROM runs").fetchone() != before
    db.close()
    assert store.get(full.config) is None
    store.put(full)
    assert repr(store.get(full.config)) == repr(full)
    assert len(store) == 1
    store.close()


def other_table(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE runs (name TEXT)")
    db.close()


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("file/runs.sqlite", lambda p: p.parent.write_text("text"), "runs.sqlite: .*(File exists|Not a directory)"),
        ("file/folder/runs.sqlite", lambda p: p.parent.parent.write_text("text"), "runs.sqlite: .*Not a directory"),
        ("runs.sqlite", lambda p: p.mkdir(), "runs.sqlite: unable to open database file"),
        ("runs.sqlite", lambda p: p.write_text("no database\n" * 100), "runs.sqlite: file is not a database"),
        ("runs.sqlite", other_table, "runs.sqlite: no such column: key"),
    ],
)
def test_a_path_that_cannot_be_used(tmp_path, name, make, reason):
    path = tmp_path / name
    make(path)
    with pytest.raises(ValueError, match=rf"^--out must be a folder to keep results in, got '{path.parent}': {reason}"):
        Store(path)


@pytest.mark.parametrize("use", [lambda s, r: s.get(r.config), lambda s, r: s.put(r), lambda s, r: len(s)])
def test_a_file_that_becomes_unusable(store, full, tmp_path, use):
    other = sqlite3.connect(tmp_path / "runs.sqlite")
    other.execute("DROP TABLE runs")
    other.close()
    with pytest.raises(ValueError, match=r"^--out must be a folder .*: runs.sqlite: no such table: runs$"):
        use(store, full)
