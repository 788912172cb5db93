"""The documents are true: code runs, links lead somewhere, generated parts are those of the committed results."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md")]


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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_links_lead_to_files(document):
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
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
