"""Draw curves and bars as SVG, for a page of any width; colours are the page's own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from .curves import Curve

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 10, 24


@dataclass(frozen=True)
class Scale:
    """Where a number lies between two edges of the drawing."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (
            (math.log(self.low), math.log(self.high), math.log(max(value, self.low)))
            if self.log
            else (self.low, self.high, value)
        )
        share = (at - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def line(name: str, curve: Curve, *, zero: bool) -> str:
    """Return a curve; what varies between its points is a band.

    Args:
        name: what the numbers are, for those who hear the page.
        zero: whether the axis starts at zero; else it may also be logarithmic.
    """
    x = Scale(curve.points[0].at, curve.points[-1].at, LEFT, WIDTH - RIGHT)
    y = _upright(curve, zero=zero)
    upper = [f"{x(p.at)} {y(p.high)}" for p in curve.points]
    lower = [f"{x(p.at)} {y(p.low)}" for p in reversed(curve.points)]
    middle = [f"{x(p.at)} {y(p.mean)}" for p in curve.points]
    told = [[p.at, number(p.mean), x(p.at), y(p.mean)] for p in curve.points]
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(spoken(name, curve))}" '
        f'data-points="{escape(json.dumps(told, separators=(",", ":")))}">{_axes(x, y)}'
        f'<path class="band" d="M{"L".join([*upper, *lower])}Z"/>'
        f'<path class="curve" d="M{"L".join(middle)}"/>'
        f'<circle class="cursor" r="4" cx="-9" cy="-9"/></svg>'
    )


def _upright(curve: Curve, *, zero: bool) -> Scale:
    """Return the scale of a curve's values."""
    low, high = curve.least[1], curve.greatest[1]
    if not zero and is_wide(curve):
        return Scale(low, high, HEIGHT - BOTTOM, TOP, log=True)
    low = min(0.0, low) if zero else low - (high - low) * 0.05
    return Scale(low, high if high > low else low + 1, HEIGHT - BOTTOM, TOP)


def _axes(x: Scale, y: Scale) -> str:
    """Return the numbers along both axes, and a line at each of the values."""
    rows = powers(y.low, y.high) if y.log else ticks(y.low, y.high)
    grid = (
        f'<path class="grid" d="M{LEFT} {y(value)}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 6}" y="{y(value) + 4}" text-anchor="end">{number(value)}</text>'
        for value in rows
    )
    columns = (
        f'<text x="{x(value)}" y="{HEIGHT - 6}" text-anchor="middle">{number(value)}</text>'
        for value in ticks(x.low, x.high)
    )
    return "".join([*grid, *columns])


def is_wide(curve: Curve) -> bool:
    """Return whether a curve's values differ so much that their powers of ten tell more."""
    return curve.least[1] > 0 and curve.greatest[1] / curve.least[1] > 20


def spoken(name: str, curve: Curve) -> str:
    """Return what a curve shows, in words."""
    (start, before), (end, after) = curve.first, curve.last
    told = [f"{name}: {number(before)} at iteration {start}, {number(after)} at {end}"]
    ends = (curve.first, curve.last)
    for what, (at, value) in (("least", curve.least), ("greatest", curve.greatest)):
        told += [f"{what} {number(value)} at {at}"] if (at, value) not in ends else []
    return ", ".join(told)


def bars(name: str, counts: Mapping[str, float], mark: str = "") -> str:
    """Return a bar for each count; `mark` is the label of a bar that stands out."""
    most, step = max(counts.values()), (WIDTH - LEFT - RIGHT) / len(counts)
    y = Scale(0, most, HEIGHT - BOTTOM, TOP + 12)
    drawn = "".join(
        f'<rect class="bar{" marked" if label == mark else ""}" '
        f'x="{LEFT + at * step + 2:.1f}" y="{y(count)}" '
        f'width="{max(1.0, step - 4):.1f}" height="{HEIGHT - BOTTOM - y(count):.1f}"/>'
        f'<text x="{LEFT + (at + 0.5) * step:.1f}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(label)}</text>"
        f'<text x="{LEFT + (at + 0.5) * step:.1f}" y="{y(count) - 4:.1f}" text-anchor="middle">'
        f"{number(count)}</text>"
        for at, (label, count) in enumerate(counts.items())
    )
    told = ", ".join(f"{label}: {count}" for label, count in counts.items())
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"{name}: {told}")}">{drawn}</svg>'
    )


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round numbers between two numbers, about so many."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    start = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(start, math.floor(high / step + 1e-9) + 1)]


def powers(low: float, high: float) -> list[float]:
    """Return the powers of ten between two numbers; where they are few, also 2 and 5 times them."""
    exponents = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(exponents) < 5 else (1,)
    found = [factor * 10.0**n for n in exponents for factor in factors]
    return [value for value in found if low <= value <= high]


def number(value: float) -> str:
    """Return a number as short as it can be read: 0.0291, 3e-05, 1.62k, 2.4M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"
