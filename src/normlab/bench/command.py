"""`normlab bench`: a process for each setting of the allocator, tables, pictures, CSV files, the bar."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import msgspec

from normlab.bench import bar, start, table
from normlab.bench.accuracy import Accuracy
from normlab.bench.apart import environment, last_words
from normlab.bench.busy import busy
from normlab.bench.cases import available_memory
from normlab.bench.child import Event
from normlab.bench.plan import Options, Plan, plan
from normlab.bench.results import COLUMNS, Heap, Measured, Row, facts, write_csv
from normlab.terminal import errors, out

STARTS = {"quick": 3, "default": 5, "full": 5}


def heaps(options: Options) -> tuple[Heap, ...]:
    """The settings of the allocator to measure; it does not matter to a GPU."""
    if options.device == "cuda":
        return ("default",)
    return ("kept", "default") if options.heap == "both" else (options.heap,)


@contextmanager
def _process(module: str, errors: int) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process with pipes, which does not outlive this block."""
    command = [sys.executable, "-m", module]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment())
    try:
        with process:
            yield process
    except BaseException:
        process.kill()
        raise


def run_plan(plan: Plan, measured: Measured, progress: Callable[[str], None]) -> bool:
    """Measure a plan in a process of its own, into `measured`; whether the process came to its end."""
    with tempfile.TemporaryFile() as complaints:
        with _process("normlab.bench.child", complaints.fileno()) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            # A process that broke at once reads nothing; its end is told below.
            with suppress(BrokenPipeError), process.stdin:
                process.stdin.write(msgspec.json.encode(plan))
            for line in process.stdout:
                event = msgspec.json.decode(line, type=Event)
                if event.doing:
                    progress(event.doing)
                measured.notes.extend(note for note in event.note.splitlines() if note not in measured.notes)
                measured.rows.extend(msgspec.convert(event.rows, list[Row]))
                measured.accuracy.extend(msgspec.convert(event.accuracy, list[Accuracy]))
        if process.returncode == 0:
            return True
        complaints.seek(0)
        last = last_words(complaints.read())
    measured.notes.append(f"the process with heap {plan.heap} ended early (code {process.returncode}): {last}")
    return False


def run(options: Options, progress: Callable[[str], None]) -> tuple[Measured, bool]:
    """Measure everything that is asked for; and whether nothing broke."""
    measured = Measured(options.device, notes=[sentence for sentence in (busy(),) if sentence])
    whole = True
    if options.device == "cpu" and options.sizes is None:
        progress("what a new process waits for")
        measured.start = start.measure(STARTS[options.amount])
    for heap in heaps(options):
        todo, notes = plan(options, heap, available_memory(options.device))
        measured.notes.extend(note for note in notes if note not in measured.notes)
        whole = run_plan(todo, measured, progress) and whole
    return measured, whole


def name_of(device: str, heap: Heap) -> str:
    """Of the files of a setting, without suffix."""
    return f"cpu-heap-{heap}" if device == "cpu" else device


def write(measured: Measured, folder: Path, command: str) -> list[Path]:
    """A CSV and a picture a setting of the allocator, and the bar; the files written."""
    from normlab.bench.plot import MODE, draw
    from normlab.experiments.outputs import write_figure

    known = {"command": command, **facts(measured.device)}
    written = []
    for heap in measured.heaps:
        path = folder / f"{name_of(measured.device, heap)}.csv"
        rows = [r for r in measured.rows if r.heap == heap]
        write_csv(path, known, COLUMNS, (r.cells for r in rows))
        written.append(path)
        if any(r.case.mode == MODE for r in rows):
            write_figure(path.with_suffix(".png"), draw(measured, heap, known["processor"]))
            written.append(path.with_suffix(".png"))
    path = folder / f"{measured.device}-bar.csv"
    columns = ("rule", "required", "measured", "default_allocator", "verdict", "empty_call_and_bytes")
    lines = (
        (r.rule.what, r.rule.requirement, r.rule.words(r.kept), r.rule.words(r.default), r.verdict, str(r.floor or ""))
        for r in bar.rulings(measured)
    )
    write_csv(path, known, columns, lines)
    return [*written, path]


def say(sentence: str) -> None:
    """A line of text, as it is."""
    out.print(sentence, markup=False, highlight=False, soft_wrap=True)


def conduct(options: Options, folder: Path, command: str) -> int:
    """Measure, show, write; the exit code: 1 where a measuring process broke, and what it had is shown."""
    with errors.status("starting") if errors.is_terminal else nullcontext() as status:
        measured, whole = run(options, (lambda doing: None) if status is None else status.update)
    if measured.rows:
        heap, rulings = measured.heaps[0], bar.rulings(measured)
        say(
            f"Medians ({table.where(measured, heap)}). normlab: the time; others: how many times that; of copy_: the "
            "bandwidth that normlab's time comes to, as a share of that of copy_ on such a tensor."
        )
        for times in table.times(measured, heap):
            out.print(times)
        if any(r.verdict != "not measured" for r in rulings):
            out.print(table.bar(rulings, measured))
        for sentence in (table.counts(rulings), *table.floors(rulings)):
            say(sentence)
    for note in measured.notes:
        say(note)
    if measured.rows:
        files = ", ".join(str(path) for path in write(measured, folder, command))
        say(f"Wrote {files}")
    return 0 if whole and measured.rows else 1
