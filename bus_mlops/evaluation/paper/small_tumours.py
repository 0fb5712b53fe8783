"""Small tumours, for which ESTAN and MT-ESTAN were made: what is lost on them, and whether MT-ESTAN loses less.

Statements of our own, tested as all others are: differences within each (fold, seed), the corrected resampled t-test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from bus_mlops.evaluation.cells import CELL
from bus_mlops.evaluation.lesions import THIRDS, cut_points, image_facts, third_of
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.paper.contrasts import Contrast, contrasts
from bus_mlops.evaluation.paper.findings import Finding
from bus_mlops.evaluation.paper.sentences import ALPHA, points, probability
from bus_mlops.evaluation.results import resampling_ratio, split_rows
from bus_mlops.evaluation.tidy import Evaluated

if TYPE_CHECKING:
    import pandas as pd

STRATEGY = "approaches"
NETWORK = "mt_estan"
SMALLEST, LARGEST = THIRDS[0], THIRDS[-1]
# From which probability on an image is called malignant, as in the tables.
THRESHOLD = 0.5

Metric = Literal["sensitivity", "dice"]
Values = dict[str, "pd.Series[float]"]


def small_tumours(evaluated: Evaluated) -> list[Finding]:
    """Four findings: sensitivity and Dice in the smallest third of lesions against the largest, and MT-ESTAN's there.

    Thirds are those of `subgroups`: of the test images with a mask, by the mask's share of the image. None where the
    strategy is not planned or no benchmark is there, hence no sizes. A (fold, seed) in which a third holds no malignant
    image, or no mask was drawn, has no difference; fewer than two leave nothing to test.
    """
    rows = [row for row in evaluated.plans.get(STRATEGY, ()) if row.headline]
    facts = image_facts(evaluated.benchmark) if rows else None
    if facts is None:
        return []
    select = split_rows(evaluated.predictions[STRATEGY])
    ratio = resampling_ratio(evaluated.folds, rows[0])
    found = []
    for metric in ("sensitivity", "dice"):
        values = {row.title: _in_thirds(select(row), facts["share"], metric) for row in rows}
        lost = {title: (each[SMALLEST] - each[LARGEST]).dropna() for title, each in values.items()}
        found.append(_finding(f"small_{metric}", metric, -1, _known(lost), ratio, _loss))
        own = [values[row.title][SMALLEST] for row in rows if row.network == NETWORK][:1]
        others = {row.title: values[row.title][SMALLEST] for row in rows if row.network != NETWORK}
        gains = {title: (ours - theirs).dropna() for ours in own for title, theirs in others.items()}
        found.append(_finding(f"mt_estan_small_{metric}", metric, 1, _known(gains), ratio, _gain))
    return found


def _in_thirds(part: pd.DataFrame, share: pd.Series[float], metric: Metric) -> Values:
    """A metric (fraction) of each (fold, seed) in the smallest and in the largest third; NaN where it has none."""
    shares = part["image_id"].map(share).to_numpy(dtype=float)
    thirds = third_of(shares, cut_points(shares[~part["image_id"].duplicated().to_numpy()]))
    values = part["dice"]
    if metric == "sensitivity":
        values = (part["probability"] >= THRESHOLD).astype(float)
        values = values.where((part["label"] == 1) & part["probability"].notna())
    cells = part[CELL].assign(value=values)
    every = cells.groupby(CELL)["value"].size().index
    return {third: cells[thirds == third].groupby(CELL)["value"].mean().reindex(every) for third in (SMALLEST, LARGEST)}


def _known(differences: Values) -> Values:
    return {name: each for name, each in differences.items() if len(each)}


def _finding(
    name: str,
    metric: Metric,
    direction: int,
    differences: Values,
    ratio: float,
    words: Callable[[str, Sequence[Contrast], Contrast | None], tuple[str, str]],
) -> Finding:
    tests = contrasts(differences, ratio)
    overall = _mean(differences, ratio) if direction < 0 else None
    verdict, statement = words(METRICS[metric].phrase or METRICS[metric].heading, tests, overall)
    return Finding(
        name=name,
        strategy=STRATEGY,
        metric=metric,
        unit="points",
        direction=direction,
        verdict=verdict,
        statement=statement,
        table=0,
        section="",
        claim="",
        paper="",
        note="Thirds of the test images with a mask, by the mask's share of the image (see Subgroups). ESTAN and "
        "MT-ESTAN were made for small tumours; the paper prints no number by size.",
        overall=overall,
        tests=tuple(tests),
        needs_all=direction > 0,
    )


def _mean(differences: Values, ratio: float) -> Contrast | None:
    """Of the mean over rows, in the (fold, seed) that all of them have."""
    import pandas as pd

    if not differences:
        return None
    mean = pd.DataFrame(differences).dropna().mean(axis=1)
    return contrasts({"all": mean}, ratio)[0] if len(mean) else None


def _loss(metric: str, tests: Sequence[Contrast], overall: Contrast | None) -> tuple[str, str]:
    """Verdict and sentence on all rows: lower in the smallest third?"""
    what = f"{metric} is lower on the smallest third of lesions than on the largest"
    if not tests or overall is None:
        return "not tested", f"Not tested: this run has no rows or folds in which {metric} of both thirds is known."
    lower = [test for test in tests if test.difference < 0]
    count = f"lower for {len(lower)} of {len(tests)} networks; on average {_sized(overall)}"
    if np.isnan(overall.p):
        return "not tested", f"Not tested: one fold allows no test: {count}."
    if overall.p >= ALPHA:
        return "not shown", f"It does not show that {what}: {count}."
    verdict = "shown" if overall.difference < 0 else "opposite"
    lead = what[0].upper() + what[1:] if verdict == "shown" else f"The opposite of “{what}” shows"
    return verdict, f"{lead}: {count}."


def _gain(metric: str, tests: Sequence[Contrast], _: Contrast | None) -> tuple[str, str]:
    """Verdict and sentence on MT-ESTAN: higher than every other row's in the smallest third?"""
    what = f"{metric} of MT-ESTAN on the smallest third of lesions is higher than that of all other approaches"
    if not tests:
        return "not tested", "Not tested: this run has no rows to compare with MT-ESTAN."
    closest = min(tests, key=lambda test: test.difference)
    higher = [test for test in tests if test.difference > 0]
    count = f"higher than {len(higher)} of {len(tests)} others; against {closest.name} {_sized(closest)}"
    if any(np.isnan(test.p) for test in tests):
        return "not tested", f"Not tested: one fold allows no test: {count}."
    # That all are beaten needs no adjustment: the least significant test decides (an intersection-union test).
    if all(test.difference > 0 and test.p < ALPHA for test in tests):
        return "shown", f"{what[0].upper()}{what[1:]}: {count}."
    if any(test.difference < 0 and test.p_adjusted < ALPHA for test in tests):
        return "opposite", f"The opposite of “{what}” shows: {count}."
    return "not shown", f"It does not show that {what}: {count}."


def _sized(test: Contrast) -> str:
    size = f"{points(test.difference)} points"
    if np.isnan(test.p):
        return size
    return f"{size} (95 % interval {points(test.low)} to {points(test.high)}, {probability(test.p)})"
