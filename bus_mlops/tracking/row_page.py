"""What the run of a spec shows of its folds: rounded metrics with intervals, fold by fold and by source, note, figure.

All of it follows from the runs of its folds and from its own tags, so that every writer writes the same.
"""

from __future__ import annotations

import io
import logging
import math
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bus_mlops.errors import BusMlopsError
from bus_mlops.evaluation.intervals import FoldDraws
from bus_mlops.evaluation.metrics import METRICS, PAPER_METRICS, interval_metrics
from bus_mlops.evaluation.paper.published import paper_row
from bus_mlops.tracking.kinds import NOTE
from bus_mlops.tracking.views import page_of

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

    from bus_mlops.tracking.run_files import RunFiles
    from bus_mlops.tracking.run_writer import RunWriter

LOGGER = logging.getLogger(__name__)

STRATEGY, PAPER = "strategy.", "paper."
FOLDS_PLANNED = "folds_planned"
FIGURE = "test.png"
# Ends every note of ours: one that somebody has written stays.
SIGNED = "Written by bus-mlops; a note that does not end so is left alone."
VALIDATION = "validation_best_"
_TRAINING = {"seconds_training": "seconds", "epochs_trained": "epochs", "best_epoch": "best_epoch"}
_SHOWN = ("roc_auc", *PAPER_METRICS, "dice")
_BY_SOURCE = ("roc_auc", "sensitivity", "specificity", "dice")
# Enough to tell rows apart; the interface prints every digit that it is given.
DIGITS = 4


@dataclass
class RowPage:
    """The content of a parent run: metrics by name, those of folds as (name, value, fold), a note, and a figure (PNG).

    The figure is empty where there are no probabilities.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    steps: list[tuple[str, float, int]] = field(default_factory=list)
    note: str = ""
    figure: bytes = b""

    def write(self, writer: RunWriter, files: RunFiles, run: Run, tags: Mapping[str, str]) -> None:
        """Write all of it on a run, with further tags, in one call and another for the figure."""
        note = {NOTE: self.note} if self.note and may_write(run.data.tags.get(NOTE)) else {}
        writer.write(run.info.run_id, metrics=self.metrics, tags={**tags, **note}, steps=self.steps)
        if self.figure:
            with tempfile.TemporaryDirectory(prefix="bus-figure-") as folder:
                (Path(folder) / FIGURE).write_bytes(self.figure)
                files.store(run.info.run_id, Path(folder), "figures")


def read_page(
    parent: Run, folds: Mapping[int, Run], predictions: Callable[[str], pd.DataFrame] | None, experiment: str
) -> RowPage:
    """The page of a parent run, with what needs the predictions of its folds (by run id) if they can be read."""
    if predictions is not None:
        try:
            return make_page(parent, folds, {f: predictions(run.info.run_id) for f, run in folds.items()}, experiment)
        except (BusMlopsError, ValueError, KeyError) as error:  # what is damaged is told where it is collected
            LOGGER.warning("Parent run %s has no intervals: %s", parent.info.run_id, error)
    return make_page(parent, folds, None, experiment)


def make_page(
    parent: Run, folds: Mapping[int, Run], predictions: Mapping[int, pd.DataFrame] | None, experiment: str
) -> RowPage:
    """The page of a parent run.

    Args:
        parent: It, with its tags.
        folds: The finished runs with test predictions, by fold.
        predictions: What each fold's run recorded; None leaves out what needs them.
        experiment: The id of their experiment, for links.
    """
    values = {fold: run.data.metrics for fold, run in sorted(folds.items())}
    page = RowPage(steps=[(f"folds/{name}", value, fold) for fold, own in values.items() for name, value in test(own)])
    frame = None
    if predictions:
        import pandas as pd

        parts = [each[each["part"] == "test"].assign(fold=fold) for fold, each in predictions.items()]
        frame = pd.concat(parts, ignore_index=True)
    ends = intervals(frame) if frame is not None else {}
    if is_whole(parent.data.tags, folds):
        page.metrics = {**means(values.values()), **ends, "test/folds": float(len(folds))}
        if frame is not None:
            page.metrics |= {"test/images": float(len(frame)), **by_source(frame)}
    page.note = _note(parent, folds, ends, experiment) if folds else ""
    if frame is not None and len(frame) and frame["probability"].notna().all():
        page.figure = draw(frame, str(parent.info.run_name))
    return page


def is_whole(tags: Mapping[str, str], folds: Mapping[int, object]) -> bool:
    """Whether all folds of the cohort are there: a row that a search has tuned has a spec of its own for each."""
    planned = tags.get(FOLDS_PLANNED, "")
    return len(folds) >= len(planned.split(", ")) if planned else len(folds) > 1


def name_of(tags: Mapping[str, str]) -> str:
    """What rows call a spec, those of the approaches first; empty where only trials know it."""
    titles = {key.removeprefix(STRATEGY): value for key, value in tags.items() if key.startswith(STRATEGY)}
    return titles[min(titles, key=_order)] if titles else ""


def strategies_of(tags: Mapping[str, str]) -> str:
    """The strategies whose tables have a row of a spec."""
    return ", ".join(sorted((key.removeprefix(STRATEGY) for key in tags if key.startswith(STRATEGY)), key=_order))


def _order(strategy: str) -> tuple[bool, bool, str]:
    return strategy != "approaches", strategy.startswith("tuned"), strategy


def signed(text: str) -> str:
    """A note with the line by which it is known to be ours."""
    return f"{text.rstrip()}\n\n*{SIGNED}*"


def may_write(present: str | None) -> bool:
    """Whether a note is ours, or there is none."""
    return not (present or "").strip() or str(present).rstrip().endswith(f"*{SIGNED}*")


def test(metrics: Mapping[str, float]) -> Iterable[tuple[str, float]]:
    """Those of a fold's metrics that are of its test part, rounded."""
    return [(name, rounded(metrics[name])) for name in METRICS if not math.isnan(metrics.get(name, math.nan))]


def rounded(value: float) -> float:
    """A number for people."""
    return round(float(value), DIGITS)


def means(runs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The means over runs: `test/<metric>`, `validation/<metric>`, and `training/<seconds, epochs, best_epoch>`."""
    named = {name: f"test/{name}" for name in METRICS}
    named |= {f"{VALIDATION}{name}": f"validation/{name}" for name in METRICS}
    named |= {name: f"training/{shown}" for name, shown in _TRAINING.items()}
    every = list(runs)
    found: dict[str, float] = {}
    for name, shown in named.items():
        column = [own[name] for own in every if not math.isnan(own.get(name, math.nan))]
        if column and len(column) == len(every):  # else the mean would be of other folds than that of another row
            found[shown] = rounded(statistics.fmean(column))
    return found


def intervals(frame: pd.DataFrame) -> dict[str, float]:
    """`test/<metric>_low` and `test/<metric>_high`, the 95 % interval of the mean over folds, where there is one.

    Args:
        frame: The test predictions of all folds.
    """
    draws = FoldDraws.of(frame.drop(columns="seed", errors="ignore"))
    found: dict[str, float] = {}
    for name in interval_metrics():
        if METRICS[name].of_masks or frame["probability"].notna().all():
            interval = draws.interval(name)
            found |= {f"test/{name}_low": interval.low, f"test/{name}_high": interval.high}
    return {name: rounded(value) for name, value in found.items() if not math.isnan(value)}


def by_source(frame: pd.DataFrame) -> dict[str, float]:
    """`source/<source>/<metric>`, the mean over those folds whose test part has both classes of the source."""
    found: dict[str, float] = {}
    for source, own in frame.groupby("source"):
        cells = [cell for _, cell in own.groupby("fold")]
        for name in _BY_SOURCE:
            values = [value for cell in cells if not math.isnan(value := _of_cell(name, cell))]
            if values:
                found[f"source/{source}/{name}"] = rounded(statistics.fmean(values))
    return found


def _of_cell(name: str, cell: pd.DataFrame) -> float:
    if METRICS[name].of_masks:
        return float(cell[name].mean()) if name in cell else math.nan
    if cell["probability"].isna().any() or cell["label"].nunique() < 2:
        return math.nan
    return METRICS[name].where_defined(
        cell["label"].to_numpy(np.int64), cell["probability"].to_numpy(np.float64), np.asarray(0.5)
    )


def _note(parent: Run, folds: Mapping[int, Run], ends: Mapping[str, float], experiment: str) -> str:
    """The table of folds, the means with their intervals, and the paper's rows beside them."""
    tags = parent.data.tags
    shown = [name for name in _SHOWN if any(name in run.data.metrics for run in folds.values())]
    whole = is_whole(tags, folds)
    rows = []
    if whole and len(folds) > 1:
        over = means(run.data.metrics for run in folds.values())
        rows.append(("**mean over folds**", [_mean(name, over, ends) for name in shown]))
    for table, published in _published(tags):
        cells = [METRICS[name].format_published(published[name]) if name in published else "" for name in shown]
        rows.append((f"the paper, Table {table}", cells))
    for fold, run in sorted(folds.items()):
        link = f"[fold {fold}]({page_of(experiment, run.info.run_id)})"
        known = {name: run.data.metrics.get(name, math.nan) for name in shown}
        cells = ["" if math.isnan(value) else METRICS[name].format(value) for name, value in known.items()]
        rows.append((link, cells))
    table_lines = [
        f"| | {' | '.join(METRICS[name].title for name in shown)} |",
        f"|---|{'---|' * len(shown)}",
        *(f"| {title} | {' | '.join(cells)} |" for title, cells in rows),
    ]
    leaks = tags.get("leaks", "")
    count = f"{len(folds)} folds" if whole else f"{len(folds)} of the folds only"
    facts = [
        f"Strategies: {strategies_of(tags)}" if strategies_of(tags) else "",
        f"{count} ({tags.get('folds_kind', 'unknown')}{f', leaks: {leaks}' if leaks else ''})",
        "synthetic images, which say nothing about patients" if tags.get("data_kind") == "phantom" else "",
    ]
    said = (
        "Test images, threshold 0.5, 95 % intervals of the mean." if ends and whole else "Test images, threshold 0.5."
    )
    return signed("\n".join([f"{'; '.join(filter(None, facts))}. {said}", "", *table_lines]))


def _published(tags: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, float]]]:
    """The paper's own rows of a spec, with the number of their table, each once."""
    for place in sorted({value for key, value in tags.items() if key.startswith(PAPER)}):
        table, model, variant = [*place.split(" | "), "", ""][:3]
        found = paper_row(int(table), model, variant) if table.isdecimal() else None
        if found is not None:
            yield table, found


def _mean(name: str, over: Mapping[str, float], ends: Mapping[str, float]) -> str:
    if f"test/{name}" not in over:
        return ""
    mean = METRICS[name].format(over[f"test/{name}"])
    low, high = (ends.get(f"test/{name}_{end}") for end in ("low", "high"))
    if low is None or high is None:
        return f"**{mean}**"
    return f"**{mean}** ({METRICS[name].format(low)} to {METRICS[name].format(high)})"


def draw(frame: pd.DataFrame, title: str) -> bytes:
    """ROC curves by fold with the point at threshold 0.5, and the probabilities of both classes, as PNG."""
    from matplotlib.figure import Figure

    from bus_mlops.evaluation.roc import roc_curve

    figure = Figure(figsize=(8.4, 3.8))
    # Room for labels by measure: what lays them out draws everything twice.
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.14, top=0.9)
    curve, spread = figure.subplots(1, 2)
    figure.suptitle(title)
    curve.plot([0, 1], [0, 1], color="#C9D1D9", linewidth=0.8)
    for fold, cell in frame.groupby("fold"):
        if cell["label"].nunique() == 2:
            false_alarms, found, _ = roc_curve(cell["label"].to_numpy(), cell["probability"].to_numpy())
            curve.plot(false_alarms, found, linewidth=1.2, label=f"fold {fold}")
    called, malignant = frame["probability"] >= 0.5, frame["label"] == 1
    curve.plot((called & ~malignant).sum() / (~malignant).sum(), (called & malignant).sum() / malignant.sum(), "o")
    curve.lines[-1].set(color="#1B2430", label="all, at 0.5")
    curve.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    curve.legend(loc="lower right", fontsize=8)
    bins = np.linspace(0, 1, 21).tolist()
    for of_class, name, color in ((~malignant, "benign", "#8A94A0"), (malignant, "malignant", "#C8553D")):
        spread.hist(frame.loc[of_class, "probability"], bins, alpha=0.6, label=f"{name}, {of_class.sum()}", color=color)
    spread.set(xlabel="probability of malignancy", ylabel="test images")
    spread.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
