"""Draw the pipeline: a box for each stage, lines to what is made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from .state import FRESH, MISSING, RUNNING, Step

MARKS = {FRESH: "✓", MISSING: "–", RUNNING: "▶"}
STALE_MARK = "!"
WIDTH, HEIGHT = 112, 50


@dataclass(frozen=True)
class Box:
    """What a stage's box says below its name."""

    step: Step
    told: str

    @property
    def mark(self) -> str:
        """The sign of its state, for those who do not see colours."""
        return MARKS.get(self.step.state, STALE_MARK)


def draw(boxes: Sequence[Box], *, down: bool) -> str:
    """Return the pipeline from left to right, or from the top down for a narrow page."""
    edges = {box.step.stage: reduced(box.step.stage, boxes) for box in boxes}
    layers = arrange(edges)
    # Between boxes: along the way there is room for the lines.
    along, across = (HEIGHT + 26, WIDTH + 8) if down else (WIDTH + 26, HEIGHT + 14)
    widest = max(map(len, layers))
    places: dict[str, tuple[float, float]] = {}
    for layer, names in enumerate(layers):
        start = (widest - len(names)) / 2
        for at, name in enumerate(names):
            way, side = layer * along, (start + at) * across
            places[name] = (side, way) if down else (way, side)
    width = max(x for x, _ in places.values()) + WIDTH
    height = max(y for _, y in places.values()) + HEIGHT
    lines = "".join(
        _line(places[before], places[name], down=down)
        for name, befores in edges.items()
        for before in befores
    )
    drawn = "".join(_box(box, *places[box.step.stage]) for box in boxes)
    return (
        f'<svg class="pipeline {"down" if down else "across"}" role="img" '
        f'aria-label="{escape(spoken(boxes, edges))}" width="{width + 4:g}" '
        f'viewBox="-2 -2 {width + 4:g} {height + 4:g}">{lines}{drawn}</svg>'
    )


def spoken(boxes: Sequence[Box], edges: Mapping[str, Sequence[str]]) -> str:
    """Return the picture in words."""
    return "Pipeline. " + " ".join(
        f"{box.step.stage}{' from ' + ' and '.join(edges[box.step.stage])}: {box.step.state}."
        if edges[box.step.stage]
        else f"{box.step.stage}: {box.step.state}."
        for box in boxes
    )


def reduced(name: str, boxes: Sequence[Box]) -> list[str]:
    """Return the stages before a stage, without those that another one of them comes from."""
    before = {box.step.stage: box.step.before for box in boxes}

    def earlier(stage: str) -> set[str]:
        return {each for b in before[stage] for each in (b, *earlier(b))}

    behind = {each for b in before[name] for each in earlier(b)}
    return [b for b in before[name] if b not in behind]


def arrange(edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return the stages in layers: each after what it comes from, and close to what it leads to.

    Args:
        edges: the stages before each, in an order in which those come first.
    """
    layer: dict[str, int] = {}
    for name, before in edges.items():
        layer[name] = max((layer[b] + 1 for b in before), default=0)
    for name in reversed(list(edges)):
        after = [layer[other] for other, before in edges.items() if name in before]
        layer[name] = min(after) - 1 if after else layer[name]
    count = max(layer.values()) + 1
    return [names for n in range(count) if (names := [name for name in edges if layer[name] == n])]


def _line(start: tuple[float, float], end: tuple[float, float], *, down: bool) -> str:
    (x, y), (right, below) = start, end
    if down:
        x, y, right, bend = x + WIDTH / 2, y + HEIGHT, right + WIDTH / 2, 13
        way = f"C{x:g} {y + bend:g} {right:g} {below - bend:g} {right:g} {below:g}"
    else:
        x, y, below, bend = x + WIDTH, y + HEIGHT / 2, below + HEIGHT / 2, 13
        way = f"C{x + bend:g} {y:g} {right - bend:g} {below:g} {right:g} {below:g}"
    return f'<path class="edge" d="M{x:g} {y:g}{way}"/>'


def _box(box: Box, x: float, y: float) -> str:
    kind = box.step.state.replace(" ", "-")
    return (
        f'<g class="box {kind}"><rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" '
        f'rx="7"/><text class="name" x="{x + 9:g}" y="{y + 21:g}">{box.mark} '
        f'{escape(box.step.stage)}</text><text x="{x + 9:g}" y="{y + 39:g}">'
        f"{escape(box.told)}</text></g>"
    )
