"""What an experiment is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from normlab.experiments.evidence import Evidence
from normlab.experiments.setting import Setting
from normlab.lab import RunConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Table:
    """Text for the terminal and the report alike."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Needs:
    """A package that normlab does without elsewhere: its module, its name on PyPI, the extra that brings it along."""

    module: str
    package: str
    extra: str

    def __str__(self) -> str:
        return f'it needs {self.package}, which is not installed: pip install "normlab[{self.extra}]"'

    @property
    def missing(self) -> bool:
        """Whether it is not installed."""
        return find_spec(self.module) is None


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment.

    Attributes:
        name: of the command (`normlab exp NAME`) and of its files.
        script: the same as a script of the repository.
        title, question: for people.
        settings: what was run, in words.
        plan: the training runs that it needs in a setting.
        measure: takes its other measurements in a setting: a frozen dataclass of the experiment's own, which
            `evidence.of(ItsType)` hands to everything below and to the claims; None where the runs are all.
            It is called anew every time, so it has to be quick and, where the numbers allow, seeded.
        numbers: what goes into NAME.json, from the evidence.
        tables: what people read first.
        reading: sentences computed from the evidence: what the picture shows.
        curves: header and rows of NAME.csv.
        draw: NAME.png.
        needs: an optional package without which it cannot be run.
        timed: whether it takes times, into which other work on the machine comes.
    """

    name: str
    script: str
    title: str
    question: str
    settings: Callable[[Setting], str]
    plan: Callable[[Setting], list[RunConfig]]
    measure: Callable[[Setting], Any] | None
    numbers: Callable[[Evidence], dict[str, Any]]
    tables: Callable[[Evidence], list[Table]]
    reading: Callable[[Evidence], list[str]]
    curves: Callable[[Evidence], tuple[Sequence[str], list[Sequence[Any]]]]
    draw: "Callable[[Evidence], Figure]"
    needs: Needs | None = None
    timed: bool = False

    def command(self, setting: Setting) -> str:
        """The command that gives these results again."""
        return f"normlab exp {self.name} {setting.flags}".strip()

    @property
    def missing(self) -> str:
        """Why it cannot be run here, or nothing."""
        return f"{self.name} cannot be run: {self.needs}" if self.needs and self.needs.missing else ""
