"""The ranking on top of the report: rows of all strategies by ROC AUC, each once, with the interval of its mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from bus_mlops.evaluation.metric import Metric
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.report.rows import is_headline
from bus_mlops.evaluation.report.svg import SOFT, ticks

if TYPE_CHECKING:
    import pandas as pd

METRIC = METRICS["roc_auc"]
# What is printed beside; where no row classifies, they are ranked by Dice.
BESIDE = {"roc_auc": ("sensitivity", "specificity"), "dice": ("iou",)}
SHOWN = 10
WIDTH, HEIGHT = 150, 18


@dataclass(frozen=True)
class Ranked:
    """A row of the ranking; `strategies` are all that it stands in, `trained` the trainings that it is made of."""

    record: Mapping[Any, Any]
    strategies: tuple[str, ...]
    trained: frozenset[Any]
    names: frozenset[str]
    """What the gate calls it, in each of these tables."""


def ranked_by(tables: Iterable[pd.DataFrame]) -> Metric:
    """The metric of the ranking."""
    classify = any(table["roc_auc_mean"].notna().any() for table in tables)
    return METRIC if classify else METRICS["dice"]


def ranking(metric: Metric, tables: Iterable[tuple[str, pd.DataFrame, pd.DataFrame]]) -> list[Ranked]:
    """The headline rows that have the metric, best first; rows of the same trainings are one.

    Args:
        metric: As `ranked_by` gives it.
        tables: Name, table and predictions of each strategy.
    """
    mean = f"{metric.name}_mean"
    found: dict[frozenset[Any], Ranked] = {}
    for strategy, table, predictions in tables:
        cells = predictions[["model", "variant", "fingerprint", "fold", "seed"]].drop_duplicates()
        trained = dict(iter(cells.groupby(["model", "variant"], sort=False)))
        for record in table.to_dict("records"):
            own = trained.get((record["model"], record["variant"]))
            if own is None or not is_headline(record) or record[mean] != record[mean]:
                continue
            key = frozenset(own[["fingerprint", "fold", "seed"]].itertuples(index=False, name=None))
            before = found.get(key)
            strategies = (*before.strategies, strategy) if before else (strategy,)
            names = {f"{record['strategy']}: {record['model']} {record['variant']}", *(before.names if before else ())}
            found[key] = Ranked(before.record if before else record, strategies, key, frozenset(names))
    return sorted(found.values(), key=lambda each: -float(each.record[mean]))


def leaderboard(metric: Metric, ranked: list[Ranked], roles: Mapping[str, str], first: int = 1) -> dict[str, Any]:
    """What the template prints: lines with a bar each, and the axis above them.

    Args:
        metric: Of the ranking.
        ranked: As `ranking` gives them.
        roles: What a row is to the gate (`champion`, `baseline` ...), by the gate's name for it.
        first: The rank of the first of them.
    """
    values = [_values(metric, each.record) for each in ranked]
    known = [value for each in values for value in each if value == value]
    beside = BESIDE[metric.name]
    room = 0.06 * (1 - min([0.9, *known]))
    ends = min([0.9, *known]) - room, 1 + room
    return {
        "axis": _axis(ends),
        "lines": [
            {
                "place": place,
                "model": each.record["model"],
                "variant": each.record["variant"],
                "strategies": ", ".join(_spoken(name) for name in each.strategies),
                "anchor": each.record["strategy"],
                "roles": [role for name, role in roles.items() if name in each.names],
                "value": metric.format(value[0]),
                "interval": _interval(metric, *value[1:]),
                "bar": _bar(*value, ends),
                "beside": [METRICS[name].format(float(each.record[f"{name}_mean"])) for name in beside],
                "images": int(each.record["images"]),
            }
            for place, (each, value) in enumerate(zip(ranked, values, strict=True), start=first)
        ],
        "beside": [f"{METRICS[name].heading[:4]}. %" for name in beside],
    }


def _spoken(strategy: str) -> str:
    search = strategy.startswith("tuned-")
    return f"{'search ' if search else ''}{strategy.removeprefix('tuned-').replace('_', ' ')}"


def _values(metric: Metric, record: Mapping[Any, Any]) -> tuple[float, float, float]:
    mean, low, high = (float(record[f"{metric.name}_{part}"]) for part in ("mean", "low", "high"))
    return mean, low, high


def _interval(metric: Metric, low: float, high: float) -> str:
    return f"{metric.format(low)} to {metric.format(high)}" if low == low else "no interval"


def _at(value: float, ends: tuple[float, float]) -> str:
    return f"{WIDTH * (value - ends[0]) / (ends[1] - ends[0]):.1f}"


def _axis(ends: tuple[float, float]) -> Markup:
    """The scale of the bars."""
    marks = "".join(f'<text x="{_at(t, ends)}" y="12" text-anchor="middle">{t:g}</text>' for t in ticks(ends, 5))
    return _svg(marks, 16)


def _bar(mean: float, low: float, high: float, ends: tuple[float, float]) -> Markup:
    """Mean and interval of a row upon the lines of the scale."""
    lines = "".join(f'<path class="g" d="M{_at(t, ends)} 0V{HEIGHT}"/>' for t in ticks(ends, 5))
    half = HEIGHT / 2
    if low == low:
        lines += f'<path d="M{_at(low, ends)} {half}H{_at(high, ends)}" stroke-width="2" style="stroke:{SOFT}"/>'
    dot = f'<circle class="dot" cx="{_at(mean, ends)}" cy="{half}" r="4"/>'
    return _svg(lines + dot, HEIGHT)


def _svg(marks: str, height: int) -> Markup:
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return Markup(f'<svg {box} aria-hidden="true">{marks}</svg>')  # noqa: S704 - made of numbers
