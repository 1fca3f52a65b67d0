"""Draw the loss and the learning rate of a training as one small SVG that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .trainlog import Record

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 76, 28, 36
# More points than this are not seen; each is then the mean of its neighbours.
MOST_POINTS = 500
STEPS = (1, 2, 2.5, 5, 10)
STYLE = """\
<style>
svg { font: 12px sans-serif; color: #222; background: #fff }
text { fill: currentColor }
.grid { stroke: #8884 }
polyline { fill: none; stroke-width: 2 }
.loss { stroke: #0969da }
.lr { stroke: #bf8700; stroke-dasharray: 5 3 }
@media (prefers-color-scheme: dark) {
  svg { color: #ddd; background: #111 }
  .loss { stroke: #58a6ff }
  .lr { stroke: #d29922 }
}
</style>"""

Points = list[tuple[float, float]]


def svg(records: Sequence[Record]) -> str:
    """Return the picture; the same records give the same bytes."""
    loss, rate = (_points(records, name) for name in ("loss", "lr"))
    last = records[-1].iteration if records else 1
    told = f"Loss {loss[0][1]:.4g} to {loss[-1][1]:.4g} in {last} iterations" if loss else "No loss"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{told}</title>",
            STYLE,
            *_scale_of(loss, "loss", LEFT - 6, "end", grid=True),
            *_scale_of(rate, "lr (dashed)", WIDTH - RIGHT + 6, "start", grid=False),
            *(
                f'<text x="{_across(at, last):.1f}" y="{HEIGHT - 14}" text-anchor="middle">'
                f"{at:g}</text>"
                for at in _ticks(0, last)
            ),
            _line(rate, "lr", last),
            _line(loss, "loss", last),
            "</svg>\n",
        ]
    )


def _points(records: Sequence[Record], name: str) -> Points:
    """Return (iteration, value), thinned; what is no number leaves a gap."""
    found = [
        (float(record.iteration), record.values[name])
        for record in records
        if math.isfinite(record.values.get(name, math.nan))
    ]
    size = -(-len(found) // MOST_POINTS) or 1
    groups = [found[at : at + size] for at in range(0, len(found), size)]
    return [(group[-1][0], math.fsum(value for _, value in group) / len(group)) for group in groups]


def _range(points: Points) -> tuple[float, float]:
    """Return the values to draw between: from nothing, as loss and rate are never less."""
    values = [value for _, value in points]
    return min(0.0, *values), max(values) if max(values) > min(0.0, *values) else 1.0


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers in a range, about five of them."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in STEPS if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _across(iteration: float, last: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * iteration / last


def _down(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)


def _scale_of(points: Points, name: str, at: float, anchor: str, *, grid: bool) -> list[str]:
    """Return an axis: its name above, its numbers, and lines across where asked for."""
    if not points:
        return []
    low, high = _range(points)
    drawn = [f'<text x="{at}" y="{TOP - 12}" text-anchor="{anchor}">{name}</text>']
    for tick in _ticks(low, high):
        y = _down(tick, low, high)
        drawn.append(
            f'<text x="{at}" y="{y + 4:.1f}" text-anchor="{anchor}">{_number(tick)}</text>'
        )
        if grid:
            drawn.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
    return drawn


def _number(value: float) -> str:
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e")


def _line(points: Points, kind: str, last: float) -> str:
    if not points:
        return ""
    low, high = _range(points)
    path = " ".join(f"{_across(at, last):.1f},{_down(v, low, high):.1f}" for at, v in points)
    return f'<polyline class="{kind}" points="{path}"/>'
