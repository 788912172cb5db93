"""Where the boxes of a graph stand and how its lines run: a layered drawing (Sugiyama, Tagawa & Toda 1981).

    layers       a box stands one layer below the lowest of its inputs; leaves right above their first use
    trunks       a line that passes layers gets a place of its own in each, and all lines of one source share it
    order        within a layer by the mean place of the neighbours (barycentre), the order with the fewest crossings
    places       boxes move towards their neighbours and keep their order and distance: least squares, layer by layer

Lines bend only between two layers and are vertical inside of one, where they have their own place: none crosses a box.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

TRUNK, SPACE, BESIDE_TRUNK = 8.0, 26.0, 16.0
GAP, STEEP, WIDEST_GAP = 34.0, 0.12, 110.0
# More places for passing lines than this are not laid out: the longest lines are left out, and named in `cut`.
MOST_TRUNKS = 12_000


@dataclass(frozen=True, slots=True)
class Box:
    """A box by its upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Line:
    """Down from (x, top) to `bend`, over to (to_x, straight), and down to `bottom`; with an arrow if a box is there."""

    source: int
    x: float
    top: float
    bend: float
    to_x: float
    straight: float
    bottom: float
    arrow: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """Boxes in the order they were given in, lines, the pairs (source, target) without a line, and the size."""

    boxes: list[Box]
    lines: list[Line]
    cut: list[tuple[int, int]]
    width: float
    height: float


def layout(sizes: Sequence[tuple[float, float]], inputs: Sequence[Sequence[int]]) -> Layout:
    """Lay out boxes.

    Args:
        sizes: (width, height) of each.
        inputs: for each the boxes above it that a line comes from, all of smaller index.
    """
    count = len(sizes)
    of = _layers(inputs)
    edges = sorted({(i, j) for j in range(count) for i in inputs[j]})
    edges, cut = _bounded(edges, of)
    rows: list[list[int]] = [[] for _ in range(max(of, default=-1) + 1)]
    for i in range(count):
        rows[of[i]].append(i)
    above: list[list[int]] = [[] for _ in range(count)]
    source = list(range(count))
    trunk: dict[int, list[int]] = {}
    for i, j in edges:
        passing = trunk.setdefault(i, [i])
        while of[i] + len(passing) < of[j]:
            item = len(source)
            source.append(i)
            above.append([passing[-1]])
            rows[of[i] + len(passing)].append(item)
            passing.append(item)
        above[j].append(passing[of[j] - of[i] - 1])
    below: list[list[int]] = [[] for _ in source]
    for j, ups in enumerate(above):
        for i in ups:
            below[i].append(j)
    _order(rows, above, below)
    widths = [sizes[i][0] if i < count else TRUNK for i in range(len(source))]
    middles = _places(rows, above, below, widths, count, [not inputs[s] for s in source])
    return _drawn(sizes, rows, above, source, middles, cut)


def _layers(inputs: Sequence[Sequence[int]]) -> list[int]:
    of = [0] * len(inputs)
    first_use: dict[int, int] = {}
    for j, ups in enumerate(inputs):
        of[j] = 1 + max((of[i] for i in ups), default=-1)
    for j in reversed(range(len(inputs))):
        # What depends on leaves alone comes as late as it can; of the others the longest path decides.
        if j in first_use and all(not inputs[i] for i in inputs[j]):
            of[j] = first_use[j] - 1
        for i in inputs[j]:
            first_use[i] = min(of[j], first_use.get(i, of[j]))
    least = min(of, default=0)
    return [layer - least for layer in of]


def _bounded(edges: list[tuple[int, int]], of: list[int]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    limit = max((of[j] - of[i] for i, j in edges), default=0)
    while True:
        kept = [(i, j) for i, j in edges if of[j] - of[i] <= limit]
        longest: dict[int, int] = {}
        for i, j in kept:
            longest[i] = max(longest.get(i, 0), of[j] - of[i])
        if limit <= 1 or sum(longest.values()) - len(longest) <= MOST_TRUNKS:
            break
        limit //= 2
    # The trunks of a source grow downwards.
    kept.sort(key=lambda edge: (edge[0], of[edge[1]]))
    return kept, [(i, j) for i, j in edges if of[j] - of[i] > limit]


def _order(rows: list[list[int]], above: list[list[int]], below: list[list[int]]) -> None:
    """Sort the rows in place."""
    place = [0.0] * len(above)
    for row in rows:
        for k, item in enumerate(row):
            place[item] = k
    best, fewest = [list(row) for row in rows], _crossings(rows, above, place)
    for sweep in range(8):
        if not fewest:
            break
        down = sweep % 2 == 0
        neighbours = above if down else below
        for row in rows if down else reversed(rows):
            wanted = {i: sum(place[n] for n in near) / len(near) if (near := neighbours[i]) else place[i] for i in row}
            row.sort(key=wanted.__getitem__)
            for k, item in enumerate(row):
                place[item] = k
        crossings = _crossings(rows, above, place)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    for row, good in zip(rows, best, strict=True):
        row[:] = good


def _crossings(rows: list[list[int]], above: list[list[int]], place: list[float]) -> int:
    crossings = 0
    for row in rows:
        if len(row) < 2:
            continue
        seen: list[float] = []
        for item in row:
            ends = sorted(place[i] for i in above[item])
            crossings += sum(len(seen) - bisect_left(seen, end + 0.5) for end in ends)
            for end in ends:
                insort(seen, end)
    return crossings


def _places(
    rows: list[list[int]],
    above: list[list[int]],
    below: list[list[int]],
    widths: list[float],
    count: int,
    given: list[bool],
) -> list[float]:
    """The middle of each item."""
    middle = [0.0] * len(above)
    offsets: list[list[float]] = []
    for row in rows:
        at, offset = 0.0, []
        for k, item in enumerate(row):
            if k:
                space = SPACE if item < count and row[k - 1] < count else BESIDE_TRUNK
                at += (widths[row[k - 1]] + widths[item]) / 2 + space
            offset.append(at)
        offsets.append(offset)
        for item, x in zip(row, offset, strict=True):
            middle[item] = x - at / 2

    def pull(item: int, other: int) -> float:
        # Trunks are to be straight, and the main line is not to swing towards the leaves beside it.
        if item < count and given[other]:
            return 0.01
        return 8.0 if item >= count and other >= count else 1.0

    # From below in between, so that what is given stands near its use; from above last, so that chains hang straight.
    for sweep in range(9):
        down = sweep % 2 == 0
        for r in range(len(rows)) if down else reversed(range(len(rows))):
            row = rows[r]
            wanted, weights = [], []
            for item in row:
                near = above[item] if down else below[item]
                loose = item < count and given[item]
                # Nothing is above of what is given: it stays where its use is.
                near = below[item] if loose else near
                pulls = [pull(item, n) for n in near]
                total = sum(pulls)
                x = sum(p * middle[n] for p, n in zip(pulls, near, strict=True)) / total if near else middle[item]
                wanted.append(x)
                weights.append(0.01 if loose else total or 0.1)
            for item, x in zip(row, _spread(wanted, weights, offsets[r]), strict=True):
                middle[item] = x
    return middle


def _spread(wanted: list[float], weights: list[float], offset: list[float]) -> list[float]:
    """Nearest to where they want to be, in order and at their distances: isotonic regression, by pooling."""
    if len(wanted) == 1:
        return wanted
    pools: list[tuple[float, float, int]] = []
    for x, weight, at in zip(wanted, weights, offset, strict=True):
        value, heavy, many = x - at, weight, 1
        while pools and pools[-1][0] > value:
            v, w, n = pools.pop()
            value = (v * w + value * heavy) / (w + heavy)
            heavy, many = heavy + w, many + n
        pools.append((value, heavy, many))
    flat = [value for value, _, many in pools for _ in range(many)]
    return [x + at for x, at in zip(flat, offset, strict=True)]


def _drawn(
    sizes: Sequence[tuple[float, float]],
    rows: list[list[int]],
    above: list[list[int]],
    source: list[int],
    middle: list[float],
    cut: list[tuple[int, int]],
) -> Layout:
    count = len(sizes)
    left = min((middle[i] - (sizes[i][0] if i < count else TRUNK) / 2 for row in rows for i in row), default=0.0)
    middle = [x - left for x in middle]
    boxes: list[Box] = [Box(0, 0, 0, 0)] * count
    lines: list[Line] = []
    # Of each item where a line may leave it and where it must stay vertical to.
    ends: dict[int, tuple[float, float]] = {}
    y = right = 0.0
    for r, row in enumerate(rows):
        arrivals: list[tuple[int, int, float]] = []
        for item in row:
            ups = sorted(above[item], key=middle.__getitem__)
            for k, up in enumerate(ups):
                share = (k + 1) / (len(ups) + 1) - 0.5
                arrivals.append((up, item, middle[item] + (share * 0.7 * sizes[item][0] if item < count else 0)))
        if r:
            farthest = max((abs(middle[up] - x) for up, _, x in arrivals), default=0.0)
            y += min(GAP + STEEP * farthest, WIDEST_GAP)
        bottom = y + max(sizes[i][1] if i < count else 0.0 for i in row)
        for up, item, x in arrivals:
            top, bend = ends[up]
            lines.append(Line(source[up], middle[up], top, bend, x, y, y if item < count else bottom, item < count))
        for item in row:
            if item < count:
                width, height = sizes[item]
                boxes[item] = Box(middle[item] - width / 2, y, width, height)
                right = max(right, middle[item] + width / 2)
                ends[item] = y + height, bottom
            else:
                ends[item] = bottom, bottom
                right = max(right, middle[item] + TRUNK / 2)
        y = bottom
    return Layout(boxes, lines, cut, right, y)
