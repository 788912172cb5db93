"""`normlab quiz` as it is used: typed into a terminal of 80 columns without colour, and driven by a pipe."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from io import StringIO
from math import sqrt
from pathlib import Path
from typing import Any

import pytest

pexpect = pytest.importorskip("pexpect", reason="pexpect is installed with the dev extra")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals there")

# One topic a kind, so that a kind can be asked for.
TOPICS = ("single", "multiple", "number", "order", "bug", "open")
COMMON = """
[[questions]]
kind = "{kind}"
id = "{id}"
topic = "{kind}"
level = 2
explanation = "This is the explanation."
notes = "rmsnorm.md#formula"
"""
LISTING = """
def forward(x, weight, eps):
    ms = np.mean(x * x, axis=-1, keepdims=True)
    return x / np.sqrt(ms) * weight

def backward(dy, x, weight, eps):
    r = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
    g = dy * weight
    dx = r * (g - x * r * r * np.mean(g * x, axis=-1, keepdims=True))
    return dx, np.sum(dy * x * r, axis=tuple(range(x.ndim - 1)))
"""
FIXED = "return x / np.sqrt(ms + eps) * weight"
OPTIONS = """
text = "By what does **RMSNorm** divide a row, if a long question is to be wrapped within the eighty columns?"
options = [
    { text = "The root mean square, `√(mean(x²) + ε)`", right = true, why = "That is the formula." },
    { text = "The standard deviation", why = "That is LayerNorm." },
    { text = "The largest entry", why = "No norm here does that." },
]
"""
BODIES = {
    "single": OPTIONS,
    "multiple": """
text = "Which are true?"
options = [
    { text = "LayerNorm subtracts the mean", right = true, why = "It does." },
    { text = "RMSNorm has a scale", right = true, why = "There is one." },
    { text = "RMSNorm subtracts the mean", why = "It leaves the mean alone." },
]
""",
    "number": """
generator = "rms-of-a-row"
text = "What is the RMS of {row}?"
mistakes = [
    { name = "std", why = "That is the standard deviation." },
    { name = "sum-not-mean", why = "The mean is missing." },
    { name = "no-root", why = "The root is missing." },
]
""",
    "order": """
text = "Put the steps in order."
lines = ["Subtract the mean", "Divide by the deviation", "Multiply by γ", "Add β"]
wrong = "The scale comes after the division."
""",
    "bug": f"""
text = "Find the bug."
norm = "rmsnorm"
language = "numpy"
hint = "Look at what keeps a row of zeros finite."
wrong = "The gradient is as it should be."
code = '''{LISTING}'''
fix = '''{LISTING.replace("return x / np.sqrt(ms) * weight", FIXED)}'''
""",
    "open": """
text = "Why does LayerNorm subtract the mean?"
answer = "So that a shift of all features changes nothing."
rubric = ["Names the shift.", "Says that the output stays."]
""",
}

DRIVER = """
import sys
from pathlib import Path
from normlab import terminal
from normlab.learn.quiz import command, progress, schema, session
quiz = schema.parse(Path(sys.argv[1]).read_text())
chosen = session.Selection(topic=sys.argv[3], seed=int(sys.argv[4]) if sys.argv[4] else None)
command.conduct(quiz, chosen, progress.Keeper(Path(sys.argv[2])), terminal.out, fresh="--fresh" in sys.argv)
"""

# Long enough for a machine on which everything else runs at the same time.
PATIENCE = 60


def source() -> str:
    titles = "\n".join(f'{kind} = {{ title = "On {kind}", page = "rmsnorm.md" }}' for kind in TOPICS)
    questions = [COMMON.format(kind=kind, id=kind) + BODIES[kind] for kind in TOPICS]
    return f"[topics]\n{titles}\n" + "".join([*questions, COMMON.format(kind="single", id="single-2") + OPTIONS])


@dataclass
class Talk:
    """A quiz in a terminal, and all that it has written."""

    child: Any
    written: StringIO

    def type(self, line: str, *expected: str) -> None:
        """Wait for the prompt, type a line, and wait for what must follow, in this order."""
        self.prompt()
        self.child.sendline(line)
        self.see(*expected)

    def prompt(self) -> None:
        self.child.expect("\n> ")

    def see(self, *expected: str) -> None:
        for words in expected:
            self.child.expect(r"\s+".join(map(re.escape, words.split())))

    def end(self) -> str:
        """Wait for the end; everything that was written."""
        self.child.expect(pexpect.EOF)
        self.child.close()
        text = self.written.getvalue().replace("\r\n", "\n")
        assert self.child.exitstatus == 0, text
        assert "Traceback" not in text
        return text

    def letter(self, option: str) -> str:
        """The letter of an option that is on the screen."""
        return re.findall(rf"(\w)\) {option}", self.written.getvalue())[-1]


@pytest.fixture
def start(tmp_path):
    """Start a quiz: start(topic, "--fresh"); the file with its progress is tmp_path / "quiz.json"."""
    (tmp_path / "source.toml").write_text(source(), encoding="utf-8")
    (tmp_path / "driver.py").write_text(DRIVER, encoding="utf-8")
    children = []

    def started(topic: str, *flags: str, seed: str = "7", columns: int = 80, **environment: str) -> Talk:
        paths = [str(tmp_path / name) for name in ("driver.py", "source.toml", "quiz.json")]
        written = StringIO()
        # COLUMNS, which pytest-xdist sets, would count for more than the terminal's own width.
        plain = {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "", "PYTHONWARNINGS": "error"}
        child = pexpect.spawn(
            sys.executable,
            [*paths, topic, seed, *flags],
            env=os.environ | plain | environment,
            dimensions=(40, columns),
            encoding="utf-8",
            codec_errors="replace",
            timeout=PATIENCE,
        )
        child.logfile_read = written
        children.append(child)
        return Talk(child, written)

    yield started
    for child in children:
        child.close(force=True)


def kept(folder: Path) -> dict:
    return json.loads((folder / "quiz.json").read_text())


def points(folder: Path) -> list[float | None]:
    return [a["points"] for a in kept(folder)["sessions"][-1]["answers"]]


def test_single_right_and_wrong_within_80_columns_and_without_colour(start, tmp_path):
    talk = start("single")
    talk.see("2 questions.", "Question 1 of 2: On single, level 2 (understand)")
    talk.type("x", "There is no option 'x'")
    talk.type("", "Nothing was chosen")
    talk.type("a b", "Only one can be chosen")
    talk.type("?", "Type the letter", "skips the question", "quits")
    talk.type("n", "docs/notes/rmsnorm.md#formula (On single)")
    talk.prompt()
    talk.child.sendline(talk.letter("The standard deviation"))
    talk.see("Not right.", "That is LayerNorm.", "The right answer", "The root mean square", "That is the formula.")
    talk.see("This is the explanation.", "Read on: docs/notes/rmsnorm.md#formula (On single)")
    talk.type("what", "Type nothing but Enter")
    talk.type("", "Question 2 of 2")
    talk.prompt()
    talk.child.sendline(talk.letter("The root mean square"))
    talk.see("Right.", "That is the formula.", "This is the explanation.")
    talk.type("", "topic", "asked", "right", "points", "On single", "2", "1", "1")
    talk.see("Read again", "rmsnorm.md#formula", "2 answered, 1 right (50%)", "The same questions again", "--seed 7")
    text = talk.end()
    assert points(tmp_path) == [0.0, 1.0]
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_multiple(start, tmp_path):
    talk = start("multiple")
    talk.type("a z", "There is no option 'z'")
    talk.prompt()
    talk.child.sendline(f"{talk.letter('LayerNorm subtracts')}, {talk.letter('RMSNorm subtracts')}")
    talk.see("Not right.", "RMSNorm has a scale", "There is one.", "RMSNorm subtracts the mean", "It leaves the mean")
    talk.type("", "0%")
    talk.end()
    assert points(tmp_path) == [0.0]


def test_number_with_a_known_slip_and_arithmetic(start, tmp_path):
    for typed, expected in (("no-root", "The root is missing."), ("right", "Right.")):
        talk = start("number", "--fresh")
        talk.see("What is the RMS of")
        talk.type("nothing", "number")
        talk.type("1 2", "One number is expected, got 2")
        talk.type("1/0", "1/0")
        talk.prompt()
        row = [float(x) for x in re.findall(r"RMS of \[(.*)\]\?", talk.written.getvalue())[-1].split(",")]
        square = sum(x * x for x in row) / len(row)
        talk.child.sendline(f"{square:.6f}" if typed == "no-root" else f"sqrt({square:.6f})")
        talk.see(expected, *([f"The right answer: {int(sqrt(square))}"] if typed == "no-root" else []))
        talk.type("", "The same questions again")
        talk.end()
        assert points(tmp_path) == [float(typed == "right")]


def test_order(start, tmp_path):
    lines = ["Subtract the mean", "Divide by the deviation", "Multiply by γ", "Add β"]
    for wanted in (0.0, 1.0):
        talk = start("order", "--fresh")
        talk.type("1 2", "is missing")
        talk.type("1 1 2 3", "more than once")
        talk.type("1 2 3 9", "There is no line '9'")
        talk.prompt()
        right = " ".join(re.findall(rf"(\d) +{line}", talk.written.getvalue())[0] for line in lines)
        talk.child.sendline(right if wanted else right[::-1])
        talk.see(*(["Right."] if wanted else ["Not right.", "comes after the division", "The right order", "Subtract"]))
        talk.type("", "The same questions again")
        talk.end()
        assert points(tmp_path) == [wanted]


def test_open_graded_by_oneself(start, tmp_path):
    talk = start("open")
    talk.type("", "There is no answer yet")
    talk.type("?", "empty line ends the answer")
    talk.type("A shift is taken away.")
    talk.type("q")
    talk.type("", "A model answer", "So that a shift", "1 Names the shift.", "2 Says that the output stays.")
    talk.type("3", "There is no point '3'")
    talk.type("1", "In part: 50%", "This is the explanation.")
    talk.type("", "The same questions again")
    talk.end()
    assert points(tmp_path) == [0.5]


@pytest.mark.heavy
def test_bug_mended_line_by_line(start, tmp_path):
    talk = start("bug")
    talk.see("Find the bug.", "1 def forward", "9 ", "return dx")
    talk.type("", "has not changed")
    talk.type("99: x", "There is no line 99")
    talk.type("3:", "-3 deletes the line")
    talk.type("return x", "Type a line's number")
    talk.type(
        "?", "row of zeros", "4: text", "+4: text", "deletes line 4", "your editor", "begins again", "runs the code"
    )
    talk.type("-2", "2     return x /")
    talk.type("+1: ms = np.nonsense(x)", "2     ms = np.nonsense(x)", "3     return x /")
    talk.type("", "Running it", "line 2", "try 1 of 3")
    talk.type("r", "2     ms = np.mean")
    talk.type(f"3: {FIXED}", "3     return x / np.sqrt(ms + eps)")
    talk.type("", "Right.", "This is the explanation.", "Read on")
    talk.type("", "The same questions again")
    text = talk.end()
    assert points(tmp_path) == [1.0]
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_help_of_a_bug_on_the_engine_says_what_a_tensor_knows(tmp_path):
    home = {"XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path)}
    arguments = ["--topic", "layernorm", "--level", "3", "--seed", "3", "--count", "1"]
    done = piped([*NORMLAB, *arguments], "?\n", **home)
    assert done.returncode == 0
    assert "A tensor knows + - * / **" in done.stdout


@pytest.mark.heavy
def test_bug_after_three_tries_the_fix_is_shown(start, tmp_path):
    talk = start("bug")
    talk.type("3: return x", "3     return x\r\n")
    talk.type("", "try 1 of 3")
    talk.type("3: return None", "3     return None\r\n")
    talk.type("", "try 2 of 3")
    talk.type("3:  import os", "3   import os\r\n")
    talk.type("", "Not right.", "The gradient is as it should be.", "-    return x / np.sqrt(ms) * weight")
    talk.see("+    return x / np.sqrt(ms + eps) * weight", "This is the explanation.")
    talk.type("", "The same questions again")
    talk.end()
    assert points(tmp_path) == [0.0]


@pytest.mark.heavy
def test_bug_mended_in_an_editor(start, tmp_path):
    script = tmp_path / "editor.py"
    script.write_text(
        "import sys, pathlib; p = pathlib.Path(sys.argv[1]); "
        "p.write_text(p.read_text().replace('np.sqrt(ms)', 'np.sqrt(ms + eps)'))"
    )
    talk = start("bug", VISUAL=f"{sys.executable} {script}")
    talk.type("e", "3     return x / np.sqrt(ms + eps)")
    talk.type("", "Right.")
    talk.type("", "The same questions again")
    talk.end()
    assert points(tmp_path) == [1.0]


@pytest.mark.parametrize(
    ("editor", "sentence"),
    [("true", "closed without saving"), ("false", "cannot be used"), ("no-such-editor-here", "cannot be used")],
)
def test_an_editor_that_does_not_work(start, editor, sentence):
    talk = start("bug", VISUAL=editor)
    talk.type("e", sentence)
    talk.type("q", "Nothing was answered")
    talk.end()


@pytest.mark.heavy
def test_ctrl_c_while_the_code_runs(start, tmp_path):
    talk = start("bug")
    talk.type("3: while True: pass", "3     while True: pass")
    talk.type("", "Running it")
    talk.child.sendintr()
    talk.see("Stopped at question 1 of 1. Nothing was answered.")
    talk.end()
    assert not (tmp_path / "quiz.json").exists()


def test_skip(start, tmp_path):
    talk = start("single")
    talk.type("s", "Skipped.", "Question 2 of 2")
    talk.type("S", "Skipped.", "Skipped: 2.")
    talk.end()
    assert points(tmp_path) == [None, None]
    assert kept(tmp_path)["questions"] == {}


LEAVE = {
    "q": lambda child: child.sendline("q"),
    "Ctrl-C": lambda child: child.sendintr(),
    "Ctrl-D": lambda child: child.sendeof(),
}


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
def test_leaving_keeps_what_was_answered_and_the_same_choice_goes_on(start, tmp_path, leave):
    talk = start("single")
    talk.type("a", "Read on")
    talk.type("", "Question 2 of 2")
    talk.prompt()
    leave(talk.child)
    talk.see("Stopped at question 2 of 2. The answers are kept. To go on:", "normlab quiz --topic single --seed 7")
    talk.end()
    assert len(points(tmp_path)) == 1
    talk = start("single")
    talk.see("Going on with question 2 of 2; --fresh begins anew.", "Question 2 of 2")
    talk.type("a", "Read on")
    talk.type("", "together", "2")
    talk.end()
    assert [len(s["answers"]) for s in kept(tmp_path)["sessions"]] == [2]


@pytest.mark.parametrize("word", ["quit", "exit", "QUIT"])
def test_whole_words_do_what_their_letters_do(start, tmp_path, word):
    talk = start("open")
    talk.type("help", "empty line ends the answer", "skips the question")
    talk.type("notes", "In the notes: docs/notes/rmsnorm.md#formula")
    talk.type(word, "Nothing was answered.")
    talk.end()
    talk = start("single")
    talk.type("skip", "Skipped.", "Question 2 of 2")
    talk.type("a", "Read on")
    talk.type(word, "Skipped: 1.")
    talk.end()


def test_in_a_narrow_terminal_a_command_stays_one_line_that_can_be_copied(start):
    # Of a dumb terminal rich does not ask how wide it is.
    talk = start("single", columns=32, TERM="xterm")
    for line in ("a", "q"):
        talk.child.expect("> ")
        talk.child.sendline(line)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", talk.end()).splitlines()
    assert "  normlab quiz --topic single --seed 7" in lines
    assert max(len(line) for line in lines if "normlab quiz" not in line) <= 32


def test_leaving_while_an_explanation_is_read_keeps_its_answer(start, tmp_path):
    talk = start("single")
    talk.type("a", "Read on")
    talk.prompt()
    talk.child.sendintr()
    talk.see("Stopped at question 2 of 2.")
    talk.end()
    assert len(points(tmp_path)) == 1


def test_fresh_begins_anew(start, tmp_path):
    talk = start("single")
    talk.type("a", "Read on")
    talk.type("q", "Stopped")
    talk.end()
    talk = start("single", "--fresh")
    talk.see("2 questions", "Question 1 of 2")
    talk.type("a", "Read on")
    talk.type("q", "Stopped")
    talk.end()
    assert [len(s["answers"]) for s in kept(tmp_path)["sessions"]] == [1, 1]


def test_a_folder_that_cannot_be_written_is_said_once_and_the_quiz_goes_on(start, tmp_path):
    (tmp_path / "quiz.json").mkdir()
    talk = start("single")
    talk.see("Progress is not kept")
    talk.type("a", "Read on")
    talk.type("", "Question 2 of 2")
    talk.type("q", "could not be kept")
    text = talk.end()
    assert text.count("Progress is not kept") == 1
    assert re.search(r"Progress is not kept: .*\n\nQuestion 1", text)


def test_a_terminal_with_colour_says_the_same_words(start):
    environment = {"TERM": "xterm-256color", "NO_COLOR": ""}
    talk = start("single", **environment)
    talk.child.expect("> ")
    talk.child.sendline("a")
    talk.child.expect("ight\\.")
    talk.child.expect("> ")
    talk.child.sendline("q")
    assert "\x1b[" in talk.end()


def test_bytes_that_are_no_text_are_a_wrong_answer(start):
    talk = start("number")
    talk.prompt()
    os.write(talk.child.child_fd, b"\xff\xfe\n")
    talk.type("q", "Nothing was answered")
    talk.end()


def piped(arguments: list[str], typed: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        input=typed,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "error"} | environment,
    )


NORMLAB = ["-c", "from normlab.cli import main; main()", "quiz"]


def test_a_pipe_answers_line_by_line_and_the_end_of_input_ends_it(tmp_path):
    home = {"XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = piped([*NORMLAB, "--count", "2", "--seed", "3"], "s\n", **home)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Question 1 of 2" in done.stdout
    assert "Stopped at question 2 of 2" in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    done = piped([*NORMLAB, "--count", "2", "--seed", "3"], "", **home)
    assert "Going on with question 2 of 2" in done.stdout


def test_the_real_command_in_a_terminal(tmp_path):
    home = {"XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path), "TERM": "dumb"}
    child = pexpect.spawn(
        sys.executable,
        [*NORMLAB, "--count", "1"],
        env=os.environ | home,
        dimensions=(40, 80),
        encoding="utf-8",
        timeout=PATIENCE,
    )
    child.expect("\n> ")
    child.sendline("s")
    child.expect("Skipped: 1")
    child.expect("--seed [0-9]+")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    (file,) = tmp_path.rglob("quiz.json")
    assert len(json.loads(file.read_text())["sessions"]) == 1
    done = piped([*NORMLAB, "--export", "json"], "", **home)
    assert json.loads(done.stdout)["session"] == {"asked": 0, "right": 0, "points": 0.0, "skipped": 1}
