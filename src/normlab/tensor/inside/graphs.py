"""graph(): what a tensor was computed from, as data, as a table, as a picture (SVG) and as Mermaid text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.table import Table
from rich.text import Text

from normlab.tensor import core
from normlab.tensor.core import Tensor
from normlab.tensor.inside import drawing, text
from normlab.tensor.inside.facts import Names, Node, by_identity, node_of

if TYPE_CHECKING:
    from normlab.tensor.inside.recording import Recording

# A notebook is not handed pictures of more nodes than this: it gets the table.
PICTURE = 400


@dataclass(frozen=True)
class Graph:
    """A computation, in the order in which it was carried out: `nodes[i].number == i`.

    Attributes:
        nodes: every operation, and each leaf and constant before its first use.
    """

    nodes: tuple[Node, ...]

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, number: int) -> Node:
        return self.nodes[number]

    @property
    def operations(self) -> tuple[Node, ...]:
        """The nodes that were computed."""
        return tuple(n for n in self.nodes if not n.is_leaf)

    @property
    def leaves(self) -> tuple[Node, ...]:
        """The nodes that were given: parameters, inputs, constants."""
        return tuple(n for n in self.nodes if n.is_leaf)

    def svg(self, *, color: Literal["activation", "gradient"] = "activation", leaves: bool | None = None) -> str:
        """A picture, from inputs above to the result below, that needs no other file or program.

        Args:
            color: by which root mean square the boxes are coloured.
            leaves: whether leaves are boxes of their own, or are named in the boxes of the operations that use them;
                None: boxes in a graph of at most 60 nodes.

        Raises:
            ValueError: for another color.
        """
        return drawing.svg(self.nodes, color, len(self.nodes) <= 60 if leaves is None else leaves)

    def mermaid(self) -> str:
        """A flowchart in Mermaid's language, which GitHub and many notebooks draw (up to 500 arrows by default)."""
        return drawing.mermaid(self.nodes)

    def table(self, *, leaves: bool = False) -> Table:
        """A line for each operation, in order; with `leaves` for leaves and constants too, as lines and as inputs.

        Columns for gradients and times are there if they were recorded.
        """
        nodes = self.nodes if leaves else self.operations
        gradients = any(n.gradient_rms is not None for n in nodes)
        times = any(n.forward_seconds is not None for n in nodes)
        marked = any(n.non_finite for n in nodes)
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        if marked:
            table.caption, table.caption_justify = "! of the finite numbers: others are NaN or infinite", "left"
        left, right = ["operation", "inputs", "shape"], ["RMS of\nresult"]
        right += ["RMS of\ngradient"] if gradients else []
        right += ["time\nforward", "time\nbackward"] if times else []
        for title in ("#", *left, *right, "bytes"):
            # Only long names and long lists of inputs are broken over lines.
            wide = title in ("operation", "inputs")
            least = max((min(len(n.label), 12) for n in nodes), default=0) if title == "operation" else None
            justify = "left" if title in left else "right"
            table.add_column(title, justify=justify, no_wrap=not wide, overflow="fold", min_width=least)
        for n in nodes:
            inputs = dict.fromkeys(i for i in n.inputs if leaves or not self.nodes[i].is_leaf)
            cells = [str(n.number), n.label, ", ".join(map(str, inputs)), text.shape(n.shape)]
            cells += [text.rms(n.rms, n.non_finite)]
            cells += [text.rms(n.gradient_rms)] if gradients else []
            cells += [text.seconds(n.forward_seconds), text.seconds(n.backward_seconds)] if times else []
            table.add_row(*map(Text, cells), text.size(n.bytes), style="dim" if n.is_leaf else "")
        return table

    def __rich__(self) -> Table:
        return self.table()

    def __str__(self) -> str:
        return text.plain(self.table())

    def __repr__(self) -> str:
        return f"Graph of {text.counted(len(self.operations), len(self.leaves))}"

    def _repr_svg_(self) -> str | None:
        return self.svg() if len(self.nodes) <= PICTURE else None

    def _repr_html_(self) -> str:
        picture = self._repr_svg_()
        table = text.preformatted(text.plain(self.table(), 120))
        if picture is None:
            return table
        folded = f"<details><summary>{self!r}</summary>{table}</details>"
        return f'<div style="overflow: auto; max-height: 80vh">{picture}</div>{folded}'


def graph(result: Tensor, names: Names = None, *, recording: "Recording | None" = None) -> Graph:
    """What `result` was computed from.

    Args:
        result: a loss, or any tensor.
        names: a module, or names with their tensors, for the leaves.
        recording: of `record()`; brings times and gradients along, and still knows a graph that backward() has freed.
            Without it, gradients are those that tensors hold as `grad`.

    Raises:
        RuntimeError: for a graph that was freed, without a recording.
        TypeError, ValueError: for what is no tensor, or was not recorded.
    """
    if not isinstance(result, Tensor):
        raise TypeError(f"result must be a Tensor, got {type(result).__name__}")
    if recording is not None:
        return recording.graph(result, names)
    called = by_identity(names)
    nodes: list[Node] = []
    numbers: dict[int, int] = {}
    for tensor in ordered(result):
        operation = tensor.node if tensor.requires_grad else None
        inputs = tuple([numbers[id(t)] for t in operation.inputs]) if operation else ()
        numbers[id(tensor)] = len(nodes)
        nodes.append(node_of(tensor, len(nodes), inputs, operation, name=called.get(id(tensor), "")))
    return Graph(tuple(nodes))


def ordered(result: Tensor) -> list[Tensor]:
    """All tensors that `result` was computed from in the order of their making, leaves before their first use.

    Raises:
        RuntimeError: for a graph that was freed.
    """
    found: dict[int, Tensor] = {}
    for tensor in reversed(core._history(result)):
        if tensor.node is not None:
            for t in tensor.node.inputs:
                found.setdefault(id(t), t)
            found[id(tensor)] = tensor
    return list(found.values()) or [result]
