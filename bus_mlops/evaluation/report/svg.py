"""Small diagrams as SVG in the page itself: they take its colours, by light and by dark, and its letters.

A figure is a row of panels that wraps where the screen is narrow, and a key under them. Colours are those of
`PALETTE` (Okabe and Ito's, told apart by the colour-blind), `INK` and `SOFT`, as variables of the page.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

PALETTE = tuple(f"var(--c{k})" for k in range(8))
INK, SOFT, BAND = "var(--ink)", "var(--soft)", "var(--band)"
DASHES = ("", "5 2", "5 2 1 2", "1.5 2")

Range = tuple[float, float]
Values = Iterable[float]


class Key(NamedTuple):
    """What a line or a colour means; `kind` is `line`, `band`, `dot` or `square`."""

    label: str
    color: str
    dash: str = ""
    kind: str = "line"


@dataclass
class Panel:
    """One diagram of `width` x `height` pixels of the screen; data in, marks out.

    Attributes:
        x: Ends of the horizontal axis.
        y: Those of the vertical one; for names, with the first above, turned round.
        title: A line or more.
        names: (place, text, heading?) at the left instead of numbers.
        logarithmic: Whether `x` holds decimal logarithms.
        left: Pixels for what stands at the left of the axes.
        key: What its lines mean, under it.
    """

    x: Range
    y: Range
    title: str = ""
    xlabel: str = ""
    ylabel: str = ""
    width: int = 236
    height: int = 190
    names: Sequence[tuple[float, str, bool]] = ()
    logarithmic: bool = False
    left: int = 36
    key: list[Key] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)

    def line(self, xs: Values, ys: Values, color: str, width: float = 1.6, dash: str = "", opacity: float = 1) -> None:
        """A line through points; it is broken where a number is missing."""
        path, begun = [], False
        for px, py in self._points(xs, ys):
            if math.isnan(px) or math.isnan(py):
                begun = False
                continue
            path.append(f"{'L' if begun else 'M'}{_short(px)} {_short(py)}")
            begun = True
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        faint = f' opacity="{opacity:g}"' if opacity < 1 else ""
        self.marks.append(
            f'<path d="{"".join(path)}" style="stroke:{color}" stroke-width="{width:g}" fill="none"{dashed}{faint}/>'
        )

    def stairs(self, edges: Sequence[float], values: Sequence[float], color: str, dash: str = "") -> None:
        """A histogram's outline: one value between two edges each."""
        self.line(np.repeat(edges, 2)[1:-1], np.repeat(values, 2), color, dash=dash)

    def band(self, xs: Values, lows: Values, highs: Values, color: str) -> None:
        """An area between two lines; points without both ends are left out."""
        known = [each for each in zip(xs, lows, highs, strict=True) if not any(map(math.isnan, each))]
        if not known:
            return
        x, low, high = zip(*known, strict=True)
        around = [*self._points(x, low), *reversed(list(self._points(x, high)))]
        path = "L".join(f"{_short(px)} {_short(py)}" for px, py in around)
        self.marks.append(f'<path d="M{path}Z" style="fill:{color}" opacity=".2"/>')

    def dots(self, xs: Values, ys: Values, color: str, radius: float = 2.4, square: bool = False) -> None:
        """Points as discs or squares; those without a number are left out."""
        for px, py in self._points(xs, ys):
            if math.isnan(px) or math.isnan(py):
                continue
            at = (
                f'<rect x="{_short(px - radius)}" y="{_short(py - radius)}" width="{2 * radius:g}" '
                f'height="{2 * radius:g}"'
                if square
                else f'<circle cx="{_short(px)}" cy="{_short(py)}" r="{radius:g}"'
            )
            self.marks.append(f'{at} style="fill:{color}"/>')

    def text(self, x: float, y: float, words: str) -> None:
        """Small words that begin at a point."""
        ((px, py),) = self._points([x], [y])
        self.marks.append(f'<text x="{_short(px)}" y="{_short(py)}">{escape(words)}</text>')

    def drawn(self) -> str:
        """The panel as an `svg` element."""
        lines = [
            line
            for part in self.title.split("\n")
            for line in textwrap.wrap(part, (self.width - self.left) // 7)
            if part
        ]
        above = 8 + 13 * len(lines) + (13 if self.ylabel else 0)
        below = 20 + (14 if self.xlabel else 0)
        height = self.height + above + below
        parts = [
            f'<svg viewBox="0 0 {self.width} {height}" width="{self.width}" height="{height}" aria-hidden="true">',
            *(
                f'<text class="t" x="{self.left}" y="{12 + 13 * number}">{escape(line)}</text>'
                for number, line in enumerate(lines)
            ),
            f'<g transform="translate({self.left} {above})">',
        ]
        wide = self._wide
        for value in ticks(self.x, max(3, wide // 45)) if not self.logarithmic else _decades(self.x):
            ((at, _),) = self._points([value], [self.y[0]])
            label = f"{10**value:g}" if self.logarithmic else f"{value:g}"
            parts.append(f'<path class="g" d="M{_short(at)} 0V{self.height}"/>')
            parts.append(f'<text x="{_short(at)}" y="{self.height + 13}" text-anchor="middle">{_minus(label)}</text>')
        if self.names:
            for place, words, heading in self.names:
                ((_, at),) = self._points([self.x[0]], [place])
                kind = ' class="t"' if heading else ""
                parts.append(f'<text{kind} x="-6" y="{_short(at + 3.5)}" text-anchor="end">{escape(words)}</text>')
        elif self.left > 12:
            for value in ticks(self.y, max(3, self.height // 40)):
                ((_, at),) = self._points([self.x[0]], [value])
                parts.append(f'<path class="g" d="M0 {_short(at)}H{wide}"/>')
                parts.append(f'<text x="-5" y="{_short(at + 3.5)}" text-anchor="end">{_minus(f"{value:g}")}</text>')
        parts.append(f'<path class="a" d="M0 0V{self.height}H{wide}"/>')
        # What lies beyond the axes is cut off, a mark that stands on one is not.
        inner = f'x="-4" y="-4" width="{wide + 8}" height="{self.height + 8}"'
        parts += [f'<svg {inner} viewBox="-4 -4 {wide + 8} {self.height + 8}">', *self.marks, "</svg>"]
        if self.xlabel:
            parts.append(
                f'<text x="{wide / 2:g}" y="{self.height + 28}" text-anchor="middle">{escape(self.xlabel)}</text>'
            )
        if self.ylabel:
            parts.append(f'<text x="{6 - self.left}" y="-7">{escape(self.ylabel)}</text>')
        return "".join([*parts, "</g></svg>"])

    @property
    def _wide(self) -> int:
        return self.width - self.left - 10

    def _points(self, xs: Values, ys: Values) -> Iterable[tuple[float, float]]:
        (x0, x1), (y0, y1) = self.x, self.y
        for x, y in zip(xs, ys, strict=True):
            yield self._wide * (x - x0) / (x1 - x0), self.height * (y1 - y) / (y1 - y0)


def figure(panels: Sequence[Panel], alt: str, key: Sequence[Key] = ()) -> Markup:
    """Panels side by side, and under them what their lines and colours mean; `alt` says what there is to see.

    They wrap where the page is narrow, unless the first has the names of all: then the figure is moved under the page.
    """
    drawn = "".join(f"<div>{panel.drawn()}{_keys(panel.key)}</div>" for panel in panels)
    together = len(panels) > 1 and bool(panels[0].names)
    panel = f'<div class="panels{" together" * together}" role="img" aria-label="{escape(alt)}">{drawn}</div>'
    moved = ' tabindex="0"' * together
    return Markup(f'<figure class="drawn"{moved}>{panel}{_keys(key)}</figure>')  # noqa: S704 - every text in it was escaped


def _keys(key: Sequence[Key]) -> str:
    keys = "".join(f"<span>{_sign(each)}{escape(each.label)}</span>" for each in key)
    return f'<div class="keys">{keys}</div>' if keys else ""


def ticks(ends: Range, most: int) -> list[float]:
    """At most so many round numbers within two ends, ascending.

    >>> ticks((0, 1), 5)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    low, high = min(ends), max(ends)
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(
        size * power for size in (1, 2, 2.5, 5, 10, 20, 25, 50) if len(_multiples(low, high, size * power)) <= most
    )
    return [round(step * k, 10) for k in _multiples(low, high, step)]


def _multiples(low: float, high: float, step: float) -> range:
    return range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)


def _decades(ends: Range) -> list[float]:
    """Logarithms of 1, 2, 5, 10 ... within two ends; of powers of ten where those are many, of others where few."""
    every = [k + math.log10(m) for k in range(math.floor(ends[0]), math.ceil(ends[1]) + 1) for m in (1, 2, 5)]
    within = [value for value in every if ends[0] <= value <= ends[1]]
    if len(within) > 7:
        return [value for value in within if value == int(value)]
    return within if len(within) > 1 else [math.log10(value) for value in ticks((10 ** ends[0], 10 ** ends[1]), 4)]


def _sign(key: Key) -> str:
    dash = key.dash or "none"
    mark = {
        "line": f'<path d="M0 6H22" stroke-width="2" stroke-dasharray="{dash}" style="stroke:{key.color}"/>',
        "band": f'<rect y="1" width="22" height="10" style="fill:{key.color}" opacity=".5"/>',
        "dot": f'<circle cx="11" cy="6" r="4" style="fill:{key.color}"/>',
        "square": f'<rect x="7" y="2" width="8" height="8" style="fill:{key.color}"/>',
    }[key.kind]
    return f'<svg viewBox="0 0 22 12" width="22" height="12" aria-hidden="true">{mark}</svg>'


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _minus(number: str) -> str:
    return number.replace("-", "−")
