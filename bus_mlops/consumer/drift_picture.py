"""What `drift` found as a picture: shares by bin, and how the evidence grew. SVG by hand, for the base install."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bus_mlops.consumer.drift import Drift
from bus_mlops.consumer.package_format import ScoreBins

WIDTH, HEIGHT, LEFT, GAP = 640, 180, 60, 70
HERE, JUDGED, LIMIT = "#00796b", "#9e9e9e", "#c62828"


def picture(found: Drift, reference: ScoreBins) -> str:
    """The picture, as the text of an SVG file."""
    parts = [*_shares(found, reference), *_evidence(found, GAP + HEIGHT + GAP)]
    height = 2 * (GAP + HEIGHT) + 50
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 20} {height}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{text}</text>'


def _shares(found: Drift, reference: ScoreBins) -> Iterator[str]:
    rows: list[tuple[str, Sequence[float]]] = [
        (HERE, [n / max(1, found.counted) for n in found.here.tolist()]),
        (JUDGED, [n / max(1, sum(reference.counts)) for n in reference.counts]),
    ]
    most = max(max(shares) for _, shares in rows) or 1.0
    step = WIDTH / len(reference.counts)
    yield _text(LEFT, 20, f"Share of answers by probability: {found.counted} here, {sum(reference.counts)} judged")
    for place, (colour, shares) in enumerate(rows):
        yield _text(LEFT + 90 * place, 38, ("here", "judged")[place], f'fill="{colour}"')
        for k, share in enumerate(shares):
            x, size = LEFT + k * step + place * step * 0.45, HEIGHT * share / most
            yield (
                f'<rect x="{x:.1f}" y="{GAP + HEIGHT - size:.1f}" width="{step * 0.4:.1f}" height="{size:.1f}" '
                f'fill="{colour}"><title>{share:.1%}</title></rect>'
            )
    for k, edge in enumerate((0.0, *reference.edges, 1.0)):
        if k % 4 == 0 or k == len(reference.counts):
            yield _text(LEFT + k * step, GAP + HEIGHT + 16, f"{edge:.2f}", 'text-anchor="middle"')
    yield _text(LEFT - 6, GAP + 10, f"{most:.0%}", 'text-anchor="end"')


def _evidence(found: Drift, top: float) -> Iterator[str]:
    logs = np.log10(np.maximum(found.evidence, 1e-3)) if found.counted else np.zeros(1)
    limit = float(-np.log10(found.alpha))
    low, high = min(-0.5, float(logs.min())), max(limit * 1.1, float(logs.max()))

    def y(value: float) -> float:
        return top + HEIGHT * (high - value) / (high - low)

    drawn = np.unique(np.linspace(0, len(logs) - 1, min(len(logs), WIDTH)).astype(int))
    points = " ".join(f"{LEFT + WIDTH * (i + 1) / len(logs):.1f},{y(float(logs[i])):.1f}" for i in drawn)
    yield _text(LEFT, top - 20, f"Evidence of drift after each answer; an alarm from {1 / found.alpha:g} on")
    for value, colour in ((0.0, JUDGED), (limit, LIMIT)):
        yield f'<path d="M{LEFT} {y(value):.1f}h{WIDTH}" stroke="{colour}" stroke-dasharray="4"/>'
        yield _text(LEFT - 6, y(value) + 4, f"{10**value:g}", 'text-anchor="end"')
    yield f'<polyline points="{points}" fill="none" stroke="{HERE}" stroke-width="2"/>'
    yield _text(LEFT + WIDTH, top + HEIGHT + 20, f"{found.counted} answers", 'text-anchor="end"')
