"""The notes are true: generated parts are those of the committed results, links and anchors lead somewhere, code runs,
and a page is read in under ten minutes."""

import csv
import json
import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import contents
import marks
import outputs
import pytest

ROOT = Path(__file__).parent.parent
NOTES = ROOT / "docs" / "notes"
PAGES = sorted(NOTES.glob("*.md"))
page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def anchors(path: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text_of(path), flags=re.DOTALL), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"<!--.*?-->|\[([^\]]*)\]\([^)]*\)", r"\1", title).lower())
        name = base = plain.strip().replace(" ", "-")
        count = 0
        while name in found:
            count += 1
            name = f"{base}-{count}"
        found.add(name)
    return found


def links(path: Path) -> list[str]:
    """Where a page's links and pictures lead, code left out."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text_of(path), flags=re.DOTALL)
    return re.findall(r"\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)\)", text)


@pytest.mark.heavy
def test_what_is_generated_is_not_stale():
    """All pages, figures and the quiz, in a process as `make notes` runs it."""
    if platform.machine() not in ("x86_64", "AMD64"):
        # A training run's last digits are another processor's: there the code must run, whatever it prints.
        for path in PAGES:
            outputs.run(tuple(marks.blocks(text_of(path))))
        return
    command = [sys.executable, "-W", "error", "docs/make_notes", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "make notes"


def test_no_figure_is_left_over():
    shown = {name for p in PAGES for name in re.findall(r"\]\(figures/([^)]+)\)", text_of(p))}
    assert {p.name for p in (NOTES / "figures").glob("*")} == shown


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md", *(ROOT / "docs").glob("*.md")], ids=lambda p: p.name)
def test_tables_have_as_many_cells_in_every_row(path):
    text = re.sub(r"```.*?```", "", text_of(path), flags=re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


@page
def test_code_that_should_run_is_found(page):
    """A block that is indented would not be."""
    assert not re.search(r"^[ \t>]+```python", text_of(page), re.MULTILINE)


@page
def test_links_lead_somewhere(page):
    for target in links(page):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path.resolve()), target


@page
def test_links_to_the_web_are_to_papers_or_code(page):
    """What cannot be tried without a network is at least of a known form."""
    known = r"https://(arxiv\.org/abs/\d{4}\.\d{4,5}|doi\.org/10\.\S+|github\.com/[\w.-]+/[\w.-]+(/\S*)?|(docs\.)?pytorch\.org/\S*|openreview\.net/forum\?id=\S+|proceedings\.\S+|papers\.nips\.cc/\S+|huggingface\.co/\S+)"
    for target in links(page):
        if target.startswith("http"):
            assert re.fullmatch(known, target), target


@page
def test_named_files_and_symbols_exist(page):
    """Paths of the repository, and names of this package, in backticks."""
    text = text_of(page)
    for path in re.findall(r"`((?:src|docs|experiments|tests|bench)/[\w/.-]+)`", text):
        assert (ROOT / path).exists(), path
    import importlib

    for name in re.findall(r"`(normlab(?:\.\w+)+)(?:\(.*?\))?`", text):
        parts, attributes = name.split("."), []
        while True:
            try:
                value = importlib.import_module(".".join(parts))
                break
            except ModuleNotFoundError:
                attributes.insert(0, parts.pop())
        for attribute in attributes:
            value = getattr(value, attribute)


@page
def test_code_shows_what_it_prints(page):
    """So that it runs whenever what is generated is made anew."""
    assert not marks.blocks(text_of(page)) or "<!-- make: output -->" in text_of(page)


@pytest.mark.parametrize("name", contents.PAGES)
def test_a_page_is_short_begins_with_its_promise_and_leads_on(name):
    text = text_of(NOTES / name)
    assert contents.words(text) / contents.WORDS_A_MINUTE < 10
    assert re.match(r"# .+\n\n(?![#|`!-]).+", text)
    if name != contents.PAGES[-1]:
        following = contents.PAGES[contents.PAGES.index(name) + 1]
        assert re.search(rf"^Next: \[.+\]\({following}\)$", text, re.MULTILINE), f"must lead to {following}"


def test_the_subject_is_learned_in_an_hour():
    assert contents.minutes_of(*contents.HOUR) <= 60


def test_the_index_has_every_page():
    assert {p.name for p in PAGES} == {*contents.PAGES, "README.md", "quiz.md"}


def test_links_of_questions_lead_to_headings():
    from normlab.learn.quiz.schema import load

    quiz = load()
    for target in {q.notes for q in quiz.questions} | {t.page for t in quiz.topics.values()}:
        file, _, anchor = target.partition("#")
        assert (NOTES / file).exists(), target
        assert not anchor or anchor in anchors(NOTES / file), target


def test_summaries_are_of_the_run_that_the_claims_are_of():
    """The losses behind a claim, seed by seed, are those of the summary."""
    claims = json.loads(text_of(ROOT / "docs" / "results" / "claims.json"))
    (claim,) = (c for c in claims["claims"] if c["id"] == "eight-pre-stable")
    (finding,) = (f for f in claim["findings"] if f["condition"] == "rate 1e-2")
    with (ROOT / "docs" / "results" / "prenorm_vs_postnorm.csv").open() as file:
        lines = [
            r for r in csv.DictReader(file)
            if (r["placement"], r["norm"], r["layers"], r["lr"], r["warmup"]) == ("pre", "layernorm", "8", "0.01", "0")
        ]  # fmt: skip
    losses = [float(r["final_loss"]) - claims["text"]["trained_below"] for r in lines]
    assert losses == pytest.approx(finding["values"], abs=1e-9)


class TestMarks:
    def renewed(self, text):
        return marks.renewed(NOTES / "page.md", text)

    @pytest.fixture(autouse=True)
    def makers(self, monkeypatch):
        made = {
            "two": lambda place, a="": f"2{a}",
            "table": lambda place, *a, **k: "| a |\n| - |",
            "bad": lambda p: 1 / 0,
        }
        monkeypatch.setattr(marks, "MAKERS", made)

    def test_a_number_in_a_sentence(self):
        assert self.renewed("It is <!-- make: two -->5<!-- end -->.") == "It is <!-- make: two -->2<!-- end -->."

    def test_an_argument_with_spaces(self):
        assert '"x y" -->2x y<' in self.renewed('It is <!-- make: two "x y" --><!-- end -->.')

    def test_a_table_has_lines_for_itself(self):
        text = "<!-- make: table a b=c -->\n<!-- end -->\n"
        assert self.renewed(text) == "<!-- make: table a b=c -->\n| a |\n| - |\n<!-- end -->\n"
        assert self.renewed(self.renewed(text)) == self.renewed(text)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("It is <!-- make: three --><!-- end -->", "page.md: there is no maker 'three'"),
            ("It is <!-- make: bad --><!-- end -->", "ZeroDivisionError"),
            ("It is <!-- make: two -->", "not closed"),
            ("<!-- make: two --><!-- end --> it is", "must not begin a line"),
            ("It is <!-- make: table --><!-- end -->", "lines for itself"),
        ],
    )
    def test_what_cannot_be_made_is_said(self, text, words):
        with pytest.raises(ValueError, match=words):
            self.renewed(text)

    def test_made_blocks_do_not_run(self):
        text = "```python\na\n```\n<!-- make: table -->\n```python\nb\n```\n<!-- end -->\n```text\nc\n```\n"
        assert marks.blocks(text) == ["a\n"]
