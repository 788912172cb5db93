"""The command line: normlab verify | exp | bench | quiz."""

import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.exceptions import TyperException

import normlab
from normlab import _check, terminal

if TYPE_CHECKING:
    from normlab.experiments.setting import Setting

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        _say(f"normlab {normlab.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", metavar="", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Normalization in deep networks: claims measured, verdicts computed."""


def _count(value: str) -> int:
    """A whole number of at least 1."""
    if not value.isdecimal() or int(value) < 1:
        raise typer.BadParameter(f"must be a whole number of at least 1, got {value!r}")
    return int(value)


def _flag(name: str, words: str) -> Any:
    """An option that is there or not; typer's help would ask for a value."""
    return typer.Option(name, help=words, metavar="")


Quick = Annotated[bool, _flag("--quick", "Small models and few steps: a minute for everything.")]
Full = Annotated[bool, _flag("--full", "The whole grid of depths and rates: the default.")]
Out = Annotated[Path, typer.Option(help="Folder for the results; kept runs in it are used again.")]
Data = Annotated[
    str | None, typer.Option(metavar="FILE", help="A UTF-8 text to learn from, instead of Python's own documentation.")
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto takes a GPU when there is one.")]
Seeds = Annotated[
    int | None, typer.Option(parser=_count, metavar="N", help="Repetitions of every run; each size has its default.")
]
Jobs = Annotated[
    int | None, typer.Option(parser=_count, metavar="N", help="Processes on the CPU; default: one a physical core.")
]
Fresh = Annotated[bool, _flag("--fresh", "Repeat runs that are kept already.")]


@contextmanager
def _checking() -> Iterator[None]:
    """What is refused in this block is the user's to mend; a ValueError elsewhere is a fault of ours."""
    try:
        yield
    except ValueError as error:
        raise _check.InputError(str(error)) from None


def _device(name: str) -> str:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a GPU that PyTorch can use, and there is none: use --device cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def _folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got {str(out)!r}, which is a file")


def _writable(out: Path) -> None:
    """Make the folder, and a file in it: what takes minutes to measure must not be without a place at the end."""
    _folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ValueError(f"--out must be a folder to keep results in, got {str(out)!r}: {error.strerror}") from None


def _setting(quick: bool, full: bool, data: str | None, device: str, seeds: int | None, results: Path) -> "Setting":
    """Check every option before anything is computed or written."""
    from normlab.experiments.setting import FULL, QUICK, Setting
    from normlab.lab import load_corpus

    if quick and full:
        raise ValueError("--quick and --full exclude each other: give one of them")
    _folder(results)
    flags = [
        "--quick" if quick else "--full",
        *([f"--data {shlex.quote(data)}"] if data else []),
        *([f"--seeds {seeds}"] if seeds else []),
        *([f"--device {device}"] if device != "auto" else []),
    ]
    size = QUICK if quick else FULL
    repeats = ("n_seeds", "cheap_seeds", "half_seeds", "iris_seeds", "speed_rounds")
    return Setting(
        size=size if seeds is None else replace(size, **dict.fromkeys(repeats, seeds)),
        corpus=load_corpus(data),
        data=data,
        device=_device(device),
        flags=" ".join(flags),
    )


def _say(sentence: str) -> None:
    """A line of text with file names in it: as it is, however long."""
    terminal.out.print(sentence, markup=False, highlight=False, soft_wrap=True)


@app.command()
def verify(
    quick: Quick = False,
    full: Full = False,
    out: Out = Path("results"),
    data: Data = None,
    device: Device = "auto",
    seeds: Seeds = None,
    jobs: Jobs = None,
    fresh: Fresh = False,
) -> None:
    """Run all experiments and judge every claim: a table here, and a page in the results folder."""
    from normlab.experiments.catalogue import EXPERIMENTS
    from normlab.experiments.conduct import conduct
    from normlab.experiments.report import claims_table, write_report

    with _checking():
        setting = _setting(quick, full, data, device, seeds, out)
    for reason in filter(None, (e.missing for e in EXPERIMENTS.values())):
        terminal.errors.print(f"Left out: {reason}", markup=False, highlight=False, soft_wrap=True)
    possible = [e for e in EXPERIMENTS.values() if not e.missing]
    conducted = conduct(possible, setting, out, jobs=jobs, fresh=fresh)
    write_report(conducted, out, f"normlab verify {setting.flags}")
    terminal.out.print(claims_table([j for c in conducted for j in c.judged]))
    pictures = ", ".join(f"{c.experiment.name}.png" for c in conducted)
    _say(f"Open {out / 'index.html'} for the whole report. Beside it: claims.json, {pictures}.")


@app.command("exp")
def exp(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="gradient_vanishing, norm_comparison, prenorm_vs_postnorm, speed, half_precision or iris; without "
            "it, what each asks.",
        ),
    ] = None,
    quick: Quick = False,
    full: Full = False,
    out: Out = Path("results"),
    data: Data = None,
    device: Device = "auto",
    seeds: Seeds = None,
    jobs: Jobs = None,
    fresh: Fresh = False,
) -> None:
    """Run one experiment: its tables, its picture, its numbers, the claims that it tests."""
    from normlab.experiments.catalogue import EXPERIMENTS
    from normlab.experiments.conduct import conduct
    from normlab.experiments.report import show

    if name is None:
        for e in EXPERIMENTS.values():
            terminal.out.print(f"[bold]{e.name}[/bold]  {e.question}", highlight=False)
        return
    with _checking():
        _check.one_of("NAME", name, tuple(EXPERIMENTS))
        if EXPERIMENTS[name].missing:
            raise ValueError(EXPERIMENTS[name].missing)
        setting = _setting(quick, full, data, device, seeds, out)
    (conducted,) = conduct([EXPERIMENTS[name]], setting, out, jobs=jobs, fresh=fresh)
    show(conducted, terminal.out)
    files = ", ".join(str(out / f"{name}.{suffix}") for suffix in ("png", "json", "csv"))
    _say(f"Wrote {files}")


def _given(context: typer.Context) -> list[str]:
    """The options on the command line, without their values."""
    return [
        "/".join((*option.opts, *option.secondary_opts))
        for option in context.command.params
        if option.name and (source := context.get_parameter_source(option.name)) and source.name == "COMMANDLINE"
    ]


@app.command()
def bench(
    context: typer.Context,
    quick: Annotated[bool, _flag("--quick", "The bar alone, roughly, in under two minutes.")] = False,
    full: Annotated[bool, _flag("--full", "Also 32768 x 4096, and one thread everywhere.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the CSV files and pictures.")] = Path("results/bench"),
    heap: Annotated[
        Literal["kept", "default", "both"], typer.Option(help="The allocator: normlab.keep_heap() or glibc's default.")
    ] = "both",
    sizes: Annotated[str | None, typer.Option(metavar="ROWSxDIM,...", help="Such as 1024x512,8192x4096.")] = None,
    dtypes: Annotated[str, typer.Option(metavar="NAME,...", help="Also float16, float64.")] = "float32,bfloat16",
    ops: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Of rms_norm, layer_norm, add_rms_norm, add_layer_norm.")
    ] = None,
    threads: Annotated[str | None, typer.Option(metavar="N,...", help="Numbers of threads, such as 1,all.")] = None,
    compiled: Annotated[
        bool | None,
        _flag("--compile/--no-compile", "torch.compile in every size, or never; default: in the sizes of the bar."),
    ] = None,
    device: Device = "cpu",
    engine: Annotated[
        bool, _flag("--engine", "Instead: a training step of normlab.tensor beside PyTorch's and others'.")
    ] = False,
) -> None:
    """Time the norms beside every peer: tables, pictures, CSV files, and the bar that the library must reach."""
    if engine:
        others = ", ".join(name for name in _given(context) if name not in ("--engine", "--out"))
        if others:
            raise _check.InputError(f"--engine is another benchmark: beside it only --out has a meaning, got {others}")
        from normlab.bench.engine import conduct as conduct_engine

        with _checking():
            _writable(out)
        raise typer.Exit(conduct_engine(out, shlex.join(["normlab", *sys.argv[1:]])))
    if quick and full:
        raise _check.InputError("--quick and --full exclude each other: give one of them")
    from normlab.bench import plan

    with _checking():
        options = plan.Options(
            amount="quick" if quick else "full" if full else "default",
            device=_device(device),
            heap=heap,
            sizes=None if sizes is None else plan.sizes(sizes),
            dtypes=plan.names("--dtypes", dtypes, plan.DTYPES),  # pyright: ignore[reportArgumentType]
            ops=None if ops is None else plan.names("--ops", ops, plan.OPS),  # pyright: ignore[reportArgumentType]
            threads=None if threads is None else plan.threads(threads),
            compiled=compiled,
        )
        _writable(out)
    from normlab.bench.command import conduct

    raise typer.Exit(conduct(options, out, shlex.join(["normlab", *sys.argv[1:]])))


@app.command()
def quiz(
    topic: Annotated[
        str | None, typer.Option(metavar="T", help="Such as rmsnorm; an unknown one lists them. Default: all.")
    ] = None,
    level: Annotated[
        int | None, typer.Option(min=1, max=4, metavar="N", help="1 recall, 2 understand, 3 apply, 4 analyse.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, metavar="K", help="How many questions.")] = 10,
    seed: Annotated[int | None, typer.Option(min=0, metavar="S", help="Decides questions, order and numbers.")] = None,
    fresh: Annotated[bool, _flag("--fresh", "Begin anew instead of going on.")] = False,
    export: Annotated[
        Literal["markdown", "json"] | None, typer.Option(help="Print the last result, and ask nothing.")
    ] = None,
) -> None:
    """Ask questions about normalization, explain every answer, and keep what was right and wrong."""
    from normlab.learn.quiz import command, progress, schema, session

    selection = session.Selection(topic, level, count, seed)
    keeper = progress.Keeper()
    if export:
        if selection != session.Selection() or fresh:
            raise _check.InputError("--export prints the last result: beside it no other option has a meaning")
        raise typer.Exit(command.export(schema.load(), export, keeper, terminal.errors))
    command.conduct(schema.load(), selection, keeper, terminal.out, fresh=fresh)


def main(arguments: list[str] | None = None) -> None:
    """The entry point. Bad input: one sentence, exit code 2. Interrupted: exit code 130."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or a pipe that knows no √ shows a question mark: no reason to lose the results.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = app(args=arguments, prog_name="normlab", standalone_mode=False)
    except typer.Abort:
        sys.exit(130)
    except (_check.InputError, TyperException) as error:
        # A usage error brings its own words; without any, the help has been shown.
        words = error.format_message() if isinstance(error, TyperException) else str(error)
        if words:
            # The parser names its own kind of error before some of them.
            words = words.replace(": Value error, ", ": ")
            terminal.errors.print(f"normlab: {words}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    sys.exit(code or 0)


def script(name: str) -> None:
    """`python experiments/SCRIPT.py [options]` is `normlab exp NAME [options]`."""
    main(["exp", name, *sys.argv[1:]])
