"""The process that measures. One setting of the allocator is one process, since it cannot be taken back.

Reads a Plan as JSON from the standard input; writes one JSON value a line: see `Event`.
"""

import sys
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from normlab.bench.plan import Item, Plan
from normlab.heap import keep_heap, trim_heap


@dataclass(frozen=True, slots=True)
class Event:
    """What a line says: what is being done now, a sentence for the user, rows, or errors; the other fields are empty.

    Rows and errors are plain values, of `results.Row` and `accuracy.Accuracy`.
    """

    doing: str = ""
    note: str = ""
    rows: tuple[dict, ...] = ()
    accuracy: tuple[dict, ...] = ()


def say(event: Event) -> None:
    """Write a line."""
    sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
    sys.stdout.flush()


def time_item(plan: Plan, item: Item, all_threads: int) -> Event:
    """Time the contenders of a case; the event has their rows and, where some could not take part, a note."""
    import torch

    from normlab.bench.contenders import COPY, EMPTY, copy, forwards, inputs, step
    from normlab.bench.empty import empty
    from normlab.bench.results import rows_of
    from normlab.bench.timing import Call, alternate, on_cpu, on_gpu
    from normlab.layers import explain
    from normlab.spec import NormSpec

    torch.set_num_threads(item.threads or all_threads)
    data = inputs(item.case, plan.device)
    found, notes = forwards(item.case, data, formula=plan.formula, compiled=item.compiled)
    weight = data.parameters[0]
    runs = explain(data.given[0], spec=NormSpec("layernorm" if item.case.layer else "rmsnorm"), weight=weight)
    if runs.kernel == "torch":
        notes.append(f"normlab has no kernel of its own for {item.case}: {runs.reason}")
    calls: dict[str, Call] = {name: step(item.case, forward, data) for name, forward in found.items()}
    if plan.device == "cpu":
        calls[EMPTY] = step(item.case, empty(data), data)
    calls[COPY] = copy(data)
    timer, finish = (on_gpu(), torch.cuda.synchronize) if plan.device == "cuda" else (on_cpu, None)
    times = alternate(calls, budget=plan.budget, least=plan.least, timer=timer, finish=finish)
    rows = rows_of(item.case, times, heap=plan.heap, device=plan.device, threads=item.threads or all_threads)
    return Event(note="\n".join(notes), rows=tuple(msgspec.to_builtins(row) for row in rows))


def main() -> None:
    """Measure what the plan says."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    if plan.heap == "kept":
        note = keep_heap()
        if note.startswith("The heap is as it was"):
            say(Event(note=note))
    import torch

    all_threads = torch.get_num_threads()
    for i, item in enumerate(plan.items, 1):
        say(Event(doing=f"heap {plan.heap}, {i} of {len(plan.items)}: {item.case}"))
        try:
            say(time_item(plan, item, all_threads))
        except (MemoryError, torch.OutOfMemoryError) as error:
            say(Event(note=f"{item.case}: {type(error).__name__}: {str(error).splitlines()[0][:120]}"))
        # What this case has freed lies in pieces of its own sizes: the next one would take more beside them.
        trim_heap()
    torch.set_num_threads(all_threads)
    if plan.accuracy:
        from normlab.bench.accuracy import measure

        say(Event(doing="the gradients' errors against float64"))
        say(Event(accuracy=tuple(msgspec.to_builtins(a) for a in measure(plan.accuracy))))


if __name__ == "__main__":
    with suppress(BrokenPipeError, KeyboardInterrupt):
        main()
