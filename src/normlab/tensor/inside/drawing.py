"""A graph as a picture, an SVG that stands alone, and as Mermaid text."""

import math
import re
from collections.abc import Sequence
from html import escape
from statistics import median

from rich.cells import cell_len

from normlab.tensor.inside import text
from normlab.tensor.inside.facts import CONSTANT, Node
from normlab.tensor.inside.layout import Box, Line, layout

FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
# Pixels. The widest of these fonts is 0.61 of its size wide.
BIG, SMALL, LETTER, LINE, PAD, MARGIN = 13, 11, 0.61, 15, 10, 24
HEAD = 64
# Names longer than this lose their beginning: the end of a path says more.
LONGEST = 40
# From far below the centre of the scale to far above it; dark letters stand on each.
SCALE = ("#74add1", "#abd9e9", "#e0f3f8", "#ffffff", "#fee8c8", "#fdbb84", "#f4795b")
DECADES = 3
EDGE, INK, FAINT, BAD, UNKNOWN = "#8a94a0", "#1f2933", "#52606d", "#e78ac3", "#eef0f2"
WORDS = {"activation": "RMS of the result", "gradient": "RMS of the gradient"}


def svg(nodes: Sequence[Node], color: str, leaves: bool) -> str:
    """The picture."""
    if color not in WORDS:
        raise ValueError(f"color must be {' or '.join(map(repr, WORDS))}, got {color!r}")
    # A leaf that nothing uses is the result itself.
    used = {i for n in nodes for i in n.inputs}
    shown = [n for n in nodes if leaves or not n.is_leaf or n.number not in used]
    place = {n.number: k for k, n in enumerate(shown)}
    lines = [_lines(n, nodes, place) for n in shown]
    inputs = [[place[i] for i in dict.fromkeys(n.inputs) if i in place] for n in shown]
    plan = layout([_size(part) for part in lines], inputs)
    if plan.cut:
        for source, target in plan.cut:
            lines[target].append(f"from {shown[source].number}")
            inputs[target].remove(source)
        plan = layout([_size(part) for part in lines], inputs)
    centre = _centre(nodes, color)
    heading = _heading(nodes)
    width = max(plan.width, LETTER * BIG * cell_len(heading), 330) + 2 * MARGIN
    left = (width - plan.width) / 2
    height = plan.height + HEAD + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{FONT}">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *_legend(heading, color, centre),
        f'<g transform="translate({left:.1f} {HEAD + MARGIN})">',
        *map(_line, plan.lines),
        *(_box(n, part, b, _fill(n, color, centre)) for n, part, b in zip(shown, lines, plan.boxes, strict=True)),
        "</g></svg>",
    ]
    return "\n".join(parts)


def _lines(node: Node, nodes: Sequence[Node], place: dict[int, int]) -> list[str]:
    """What stands in the box of a node, from its title on."""
    lines = [_short(node.label), f"{text.shape(node.shape)} {node.dtype}"]
    if node.is_leaf and node.name:
        lines[1] = f"{node.operation} {lines[1]}" if node.shape or node.operation != CONSTANT else node.operation
    scalar = node.operation == CONSTANT and not node.shape
    if not scalar:
        lines.append(f"RMS {text.rms(node.rms)}" + (f", grad {g}" if (g := text.rms(node.gradient_rms)) else ""))
    if node.non_finite:
        lines.append(f"{node.non_finite} not finite")
    if node.forward_seconds is not None:
        back = f", back {text.seconds(node.backward_seconds)}" if node.backward_seconds is not None else ""
        lines.append(text.seconds(node.forward_seconds) + back)
    folded = [nodes[i] for i in dict.fromkeys(node.inputs) if i not in place]
    lines += ["with " + _short(leaf.name or f"{leaf.operation} {text.shape(leaf.shape)}") for leaf in folded]
    return lines


def _short(name: str) -> str:
    name = _printable(name)
    return name if len(name) <= LONGEST else "…" + name[1 - LONGEST :]


def _printable(name: str) -> str:
    # XML has no place for control characters and lone surrogates, escaped or not.
    return "".join(c if c.isprintable() else "�" for c in name)


def _size(lines: list[str]) -> tuple[float, float]:
    # Beside the title there is room for the number.
    title = LETTER * BIG * (cell_len(lines[0]) + 1) + LETTER * SMALL * 5
    rest = max((LETTER * SMALL * cell_len(line) for line in lines[1:]), default=0.0)
    return math.ceil(max(title, rest)) + 2 * PAD, LINE * len(lines) + 2 * PAD - 4


def _heading(nodes: Sequence[Node]) -> str:
    leaves = sum(n.is_leaf for n in nodes)
    return f"{text.counted(len(nodes) - leaves, leaves)}, {text.size(sum(n.bytes for n in nodes))}"


def _value(node: Node, color: str) -> float | None:
    return node.rms if color == "activation" else node.gradient_rms


def _centre(nodes: Sequence[Node], color: str) -> float:
    """1 for activations; gradients have no natural size, so the middle one."""
    if color == "activation":
        return 1.0
    known = [g for n in nodes if (g := n.gradient_rms) is not None and math.isfinite(g) and g > 0]
    return 10 ** round(math.log10(median(known))) if known else 1.0


def _fill(node: Node, color: str, centre: float) -> str:
    value = _value(node, color)
    if value is None:
        return UNKNOWN
    if not math.isfinite(value):
        return BAD
    if value == 0:
        return SCALE[0]
    decade = math.log10(value / centre)
    return SCALE[min(max(round(decade * 2), -DECADES), DECADES) + DECADES]


def _legend(heading: str, color: str, centre: float) -> list[str]:
    y, width = MARGIN + 22, 36
    parts = [f'<text x="{MARGIN}" y="{MARGIN + 8}" font-size="{BIG}" fill="{INK}">{heading}</text>']
    for k, fill in enumerate(SCALE):
        x = MARGIN + k * width
        parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="10" fill="{fill}" stroke="#c5ccd3"/>')
    for k in (1, 3, 5):
        x, value = MARGIN + (k + 0.5) * width, centre * 10.0 ** ((k - 3) / 2)
        parts.append(
            f'<text x="{x}" y="{y + 24}" font-size="{SMALL}" fill="{FAINT}" text-anchor="middle">{value:g}</text>'
        )
    x = MARGIN + len(SCALE) * width + 8
    parts.append(f'<text x="{x}" y="{y + 9}" font-size="{SMALL}" fill="{FAINT}">{WORDS[color]}</text>')
    return parts


def _line(line: Line) -> str:
    middle = (line.bend + line.straight) / 2
    # The curve ends above the arrow, whose tip touches the box.
    end = line.straight - 6 if line.arrow else line.straight
    path = f"M{line.x:.1f} {line.top:.1f}"
    if line.bend > line.top:
        path += f"V{line.bend:.1f}"
    if abs(line.x - line.to_x) < 0.5:
        path += f"L{line.to_x:.1f} {end:.1f}"
    else:
        path += f"C{line.x:.1f} {middle:.1f} {line.to_x:.1f} {middle:.1f} {line.to_x:.1f} {end:.1f}"
    if line.bottom > line.straight:
        path += f"V{line.bottom:.1f}"
    drawn = f'<path d="{path}" fill="none" stroke="{EDGE}" stroke-width="1.3"/>'
    if line.arrow:
        x, y = line.to_x, line.straight
        drawn += f'<path d="M{x:.1f} {y:.1f}l-3.5 -7h7z" fill="{EDGE}"/>'
    return drawn


def _box(node: Node, lines: list[str], box: Box, fill: str) -> str:
    x, y = box.x + PAD, box.y + PAD + 9
    style = f'rx="{box.height / 2.6:.1f}" stroke-dasharray="4 2"' if node.is_leaf else 'rx="5"'
    parts = [
        "<g>",
        f"<title>{escape(_printable_lines(_tip(node)))}</title>",
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" {style} '
        f'fill="{fill}" stroke="#52606d"/>',
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{BIG}" font-weight="bold" fill="{INK}">{escape(lines[0])}</text>',
        f'<text x="{box.x + box.width - PAD + 2:.1f}" y="{y - 1:.1f}" font-size="{SMALL - 2}" text-anchor="end" '
        f'fill="{FAINT}">{node.number}</text>',
    ]
    for k, line in enumerate(lines[1:], 1):
        parts.append(f'<text x="{x:.1f}" y="{y + k * LINE:.1f}" font-size="{SMALL}" fill="{INK}">{escape(line)}</text>')
    return "".join([*parts, "</g>"])


def _tip(node: Node) -> str:
    """What appears when the pointer rests on a box."""
    lines = [f"{node.number} {node.label}", f"{text.shape(node.shape)} {node.dtype}, {text.size(node.bytes)}"]
    if node.inputs:
        lines.append(f"from {', '.join(map(str, node.inputs))}")
    return "\n".join([*lines, *filter(None, (node.formula, node.derivative))])


def _printable_lines(many: str) -> str:
    return "\n".join(map(_printable, many.split("\n")))


def mermaid(nodes: Sequence[Node]) -> str:
    """A flowchart, operations as boxes and leaves as rounded ones."""
    lines = ["flowchart TD"]
    for n in nodes:
        words = [_mermaid(_short(n.label)), f"{text.shape(n.shape)} {n.dtype}", f"RMS {text.rms(n.rms)}"]
        if n.gradient_rms is not None:
            words[-1] += f", grad {text.rms(n.gradient_rms)}"
        opened, closed = ('(["', '"])') if n.is_leaf else ('["', '"]')
        lines.append(f"    n{n.number}{opened}{'<br/>'.join(words)}{closed}")
    lines += [f"    n{i} --> n{n.number}" for n in nodes for i in n.inputs]
    return "\n".join(lines) + "\n"


def _mermaid(words: str) -> str:
    """Letters that mean something in Mermaid, by their codes."""
    return re.sub(r"""[^\w\s.\-+:/,…]""", lambda match: f"#{ord(match[0])};", words)
