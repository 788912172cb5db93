"""The command line as a user meets it: help, lists, and bad input, which gets one sentence and writes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import normlab
from normlab import cli

ROOT = Path(__file__).parent.parent


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of normlab in this process."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(arguments))
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


def bad_files(folder: Path) -> dict[str, Path]:
    """Texts that cannot be used."""
    files = {"empty": b"", "binary": b"abc\0def" * 9000, "latin": "é".encode("latin-1") * 30000, "short": b"short"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in (*files, "missing")} | {"folder": folder}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["verify", "--quick", "--full"], "--quick and --full exclude each other"),
        (["verify", "--seeds", "0"], "'--seeds': must be a whole number of at least 1, got '0'"),
        (["verify", "--jobs", "-1"], "'--jobs': must be a whole number of at least 1, got '-1'"),
        (["exp", "nonsense"], "NAME must be one of 'gradient_vanishing', 'norm_comparison', 'prenorm_vs_postnorm'"),
        (["verify", "--device", "cuda"], "--device cuda needs a GPU"),
        (["verify", "--data", "{empty}"], "got an empty file"),
        (["verify", "--data", "{binary}"], "which is binary"),
        (["verify", "--data", "{latin}"], "which is not UTF-8 at byte 0"),
        (["verify", "--data", "{short}"], "got 5 characters"),
        (["exp", "norm_comparison", "--data", "{missing}"], "which does not exist"),
        (["exp", "norm_comparison", "--data", "{folder}"], "which is not a file"),
    ],
)
def test_bad_input_is_one_sentence_exit_2_and_nothing_written(capsys, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    files = bad_files(tmp_path)
    out = tmp_path / "results"
    filled = [a.format_map({k: str(v) for k, v in files.items()}) for a in arguments]
    code, stdout, stderr = run(capsys, *filled, "--out", str(out))
    assert code == 2
    assert stdout == ""
    assert sentence in stderr
    assert stderr.count("\n") == 1
    assert not out.exists()


def test_out_that_is_a_file(capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    code, _, stderr = run(capsys, "verify", "--out", str(tmp_path / "file"))
    assert (code, (tmp_path / "file").read_text()) == (2, "mine")
    assert "--out must be a folder" in stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["verify", "--nonsense"], "--nonsense"),
        (["nonsense"], "'nonsense'"),
        (["verify", "--seeds", "many"], "'--seeds': must be a whole number of at least 1, got 'many'"),
        (["verify", "--seeds", "1.5"], "got '1.5'"),
        (["verify", "--device", "tpu"], "Invalid value for '--device': 'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (["verify", "--out"], "--out"),
    ],
)
def test_what_the_parser_refuses_is_one_sentence_and_exit_2(capsys, arguments, named):
    code, _, stderr = run(capsys, *arguments)
    assert code == 2
    assert named in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["exp"], ["verify", "--quick"]])
def test_a_wrong_variable_is_one_sentence_and_exit_2(arguments, tmp_path):
    command = [sys.executable, "-m", "normlab", *arguments]
    environment = {**os.environ, "NORMLAB_KERNELS": "bogus"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    sentence = "normlab: the variable NORMLAB_KERNELS must be one of 'fused', 'torch', got 'bogus'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)
    assert not list(tmp_path.iterdir())


def test_the_version():
    done = subprocess.run([sys.executable, "-m", "normlab", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"normlab {normlab.__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["verify", "--help"], ["exp", "--help"]])
def test_help(capsys, arguments):
    code, stdout, _ = run(capsys, *arguments)
    assert code == 0
    assert "Usage" in stdout


@pytest.mark.parametrize("arguments", [["exp"], ["exp", "--help"]])
def test_exp_names_the_experiments(capsys, arguments):
    from normlab.experiments.catalogue import EXPERIMENTS

    code, stdout, _ = run(capsys, *arguments)
    assert code == 0
    for name in EXPERIMENTS:
        assert name in stdout


def test_help_does_not_load_torch():
    code = """
import sys
from normlab import cli
try:
    cli.main(["--help"])
except SystemExit:
    assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    "script", ["exp1_gradient_vanishing", "exp2_norm_comparison", "exp3_prenorm_vs_postnorm", "exp6_iris"]
)
def test_scripts_refuse_like_the_command_line(script, tmp_path):
    command = [sys.executable, f"experiments/{script}.py", "--quick", "--data", str(tmp_path / "missing")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "which does not exist" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.heavy
def test_script_writes_its_picture_and_numbers_and_is_quiet_on_a_pipe(tmp_path):
    command = [
        sys.executable,
        "experiments/exp1_gradient_vanishing.py",
        "--quick",
        "--seeds",
        "2",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    assert done.stderr == ""
    assert {p.name for p in tmp_path.iterdir()} >= {f"gradient_vanishing.{s}" for s in ("png", "json", "csv")}
