"""The documents are true: code runs, links lead somewhere, generated parts are those of the committed results."""

import csv
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/architecture.md",
        "docs/kernels.md",
        "docs/tensor.md",
        "bench/README.md",
    )
]


def publish():
    spec = importlib.util.spec_from_file_location("publish", ROOT / "docs" / "publish.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("block", python_blocks(), ids=lambda b: b.splitlines()[0])
def test_readme_code_runs(block, capsys):
    exec(compile(block, "README.md", "exec"), {})


def printed(document: str, folder: Path) -> list[str]:
    """What a document's code prints, one block after the other, in a process of its own, where warnings are errors, and
    in a folder of its own."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / document).read_text(), flags=re.DOTALL))
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_code_on_kernels_runs(tmp_path):
    assert printed("kernels.md", tmp_path)[:2] == ["numba: fused", 'torch: eps_place is "outside"']


def test_the_code_on_the_engine_runs(tmp_path):
    accuracy, *rest = printed("tensor.md", tmp_path)
    assert re.fullmatch(r"\d+% of the 30 held-out flowers", accuracy)
    steps, (derivative, *rest) = rest[:6], rest[6:]
    assert [line.split()[0] for line in steps] == ["MatMul", "Add", "LayerNorm", "ReLU", "MatMul", "Add"]
    assert derivative.startswith("u = dy * gamma,  dx = s * (u - mean(u) - h * mean(u * h))")
    assert sum(line.startswith("step ") and " of 11: " in line for line in rest) == 11
    refusals = [line for line in rest if line.startswith(("TypeError", "RuntimeError"))]
    in_place, freed, assigned = refusals
    assert in_place.startswith("TypeError: tensors are not changed in place")
    assert freed.startswith("RuntimeError: the graph of this Sum was freed")
    assert assigned.startswith("RuntimeError: an input of Mul")
    assert rest[-1] == "['Gemm', 'LayerNormalization', 'Relu', 'Gemm', 'Identity']"
    assert {path.name for path in tmp_path.iterdir()} == {"classifier.safetensors", "classifier.onnx"}


def times(heap):
    """Medians by contender of RMSNorm, forward and backward, at the largest size of the bar, from a committed file."""
    lines = (ROOT / "bench" / f"cpu-heap-{heap}.csv").read_text().splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    case = {"op": "rms_norm", "mode": "forward+backward", "dtype": "float32", "rows": "8192", "dim": "4096"}
    return {
        r["contender"]: float(r["median_us"])
        for r in rows
        if r["threads"] != "1" and all(r[k] == v for k, v in case.items())
    }


SIZES = ("1 x 64", "128 x 512", "1024 x 512", "4096 x 1024", "8192 x 4096")


def on_all_threads(heap):
    """The rows of a committed file."""
    lines = (ROOT / "bench" / f"cpu-heap-{heap}.csv").read_text().splitlines()
    return [r for r in csv.DictReader(line for line in lines if not line.startswith("#")) if r["threads"] != "1"]


@pytest.mark.parametrize("heap", ["kept", "default"])
def test_where_torchs_norms_are_faster_is_what_was_measured(heap):
    """Of the sentences in docs/kernels.md on forward and backward."""
    faster: dict[tuple[str, str], set[str]] = {}
    for r in on_all_threads(heap):
        if (r["contender"], r["mode"]) == ("torch.nn", "forward+backward"):
            sizes = faster.setdefault((r["op"], r["dtype"]), set())
            if float(r["ratio_to_normlab"]) < 1:
                sizes.add(f"{r['rows']} x {r['dim']}")
    text = " ".join((ROOT / "docs" / "kernels.md").read_text().split())
    upto = {}
    for dtype in ("float32", "bfloat16"):
        assert faster["rms_norm", dtype] == set()
        sizes = faster["layer_norm", dtype]
        # The smallest ones, and no others.
        assert sizes == set(SIZES[: len(sizes)])
        upto[dtype] = SIZES[len(sizes) - 1]
    sentence = f"LayerNorm is faster up to {upto['float32']} in float32 and up to {upto['bfloat16']} in bfloat16"
    assert f"{sentence}{', and slower' if heap == 'kept' else '; and'}" in text


def test_what_bounds_the_misses_is_what_was_measured():
    """An empty call beside PyTorch's LayerNorm, what 1024 x 512 consists of, and a residual in fresh memory."""
    small = {
        r["contender"]: float(r["median_us"])
        for r in on_all_threads("kept")
        if (r["op"], r["mode"], r["dtype"], r["rows"]) == ("layer_norm", "forward+backward", "float32", "1")
    }
    assert small["empty call"] > small["torch.nn"]
    lines = (ROOT / "bench" / "cpu-bar.csv").read_text().splitlines()
    for r in csv.DictReader(line for line in lines if not line.startswith("#")):
        if r["rule"].endswith("against torch.nn, float32, 1024 x 512"):
            assert 33 <= sum(float(part.strip(" %")) for part in r["empty_call_and_bytes"].split("+")) <= 50
    slowest = min(
        float(r["ratio_to_normlab"])
        for r in on_all_threads("default")
        if r["op"].startswith("add_")
        and r["mode"] == "forward"
        and r["rows"] == "8192"
        and r["contender"] != "empty call"
        and r["contender"] != "copy_"
    )
    text = " ".join((ROOT / "docs" / "kernels.md").read_text().split())
    assert f"an addition and a norm in one pass take up to {1 / slowest:.1f} times as long as in two" in text


def test_what_the_allocator_costs_is_what_was_measured():
    kept, default = times("kept"), times("default")
    text = " ".join((ROOT / "docs" / "kernels.md").read_text().split())
    ours, theirs = (f"{default[name] / kept[name]:.1f}" for name in ("normlab", "torch.nn"))
    assert f"{ours} times as long with glibc's default, and PyTorch's {theirs} times" in text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_links_lead_to_files(document):
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_readme_shows_the_committed_results():
    readme = (ROOT / "README.md").read_text()
    results = json.loads((ROOT / "docs" / "results" / "claims.json").read_text())
    assert readme == publish().renewed(readme, results), "the README's results are stale: make readme"


def test_every_experiment_of_the_committed_results_has_its_picture():
    folder = ROOT / "docs" / "results"
    pictures = publish().pictures(json.loads((folder / "claims.json").read_text()))
    assert {path.name for path in folder.glob("*.png")} == set(pictures.values())


def test_committed_claims_are_those_of_the_code():
    from normlab.experiments.claims import CLAIMS

    committed = json.loads((ROOT / "docs" / "results" / "claims.json").read_text())["claims"]
    assert [(c["id"], c["text"]) for c in committed] == [(c.id, c.text) for c in CLAIMS], "stale: make readme"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_named_files_exist(document):
    """A path of the repository in backticks exists."""
    for path in re.findall(r"`((?:src|docs|experiments|tests)/[\w/.]+)`", document.read_text()):
        assert (ROOT / path).exists(), path
