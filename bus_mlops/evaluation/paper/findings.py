"""What our own rows say to each statement of the paper: computed from the folds, tested, and put into a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.cells import CELL, ROW
from bus_mlops.evaluation.families import in_words
from bus_mlops.evaluation.paper import sentences
from bus_mlops.evaluation.paper.claims import COMPARISONS, Comparison, active_augmentations, positive_weight
from bus_mlops.evaluation.paper.contrasts import Contrast, contrasts
from bus_mlops.evaluation.paper.published import paper_claims, paper_sizes
from bus_mlops.evaluation.results import PlannedRow, resampling_ratio

if TYPE_CHECKING:
    import pandas as pd

# A slope over fewer doses is a difference, not a trend.
FEWEST_DOSES = 3


@dataclass(frozen=True)
class Finding:
    """One statement with its evidence; differences are fractions.

    Attributes:
        claim: The paper's statement in our words.
        verdict: `shown`, `not shown`, `opposite` (the reverse is significant) or `not tested` (no such rows, or one
            fold). The paper's choice of parameters is `shown` where ours is the same, and `opposite` where ours differs
            and is significantly better on test images.
        tests: Two-sided, one a network.
        overall: Two-sided, of the mean over networks.
        paper: What its own table says.
        note: What is wrong with the statement.
        needs_all: Every test must be significant, not their mean or one of them.
        by_equality: It is shown by being the same as the paper's, not by a test.
        p_adjusted: Holm's over all findings of a page, see `together`.
    """

    name: str
    strategy: str
    metric: str
    unit: str
    direction: int
    verdict: str
    statement: str
    table: int
    section: str
    claim: str
    paper: str
    note: str
    overall: Contrast | None
    tests: tuple[Contrast, ...]
    needs_all: bool = False
    by_equality: bool = False
    p_adjusted: float = float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what could not be tested is null."""
        values = asdict(self)
        values["p_adjusted"] = self.p_adjusted if self.p_adjusted == self.p_adjusted else None
        for test in [*values["tests"], *([values["overall"]] if self.overall else [])]:
            test.update({key: None if value != value else value for key, value in test.items()})
        return values


class Rows:
    """The classifying rows of one strategy with their metrics in each (fold, seed)."""

    def __init__(self, planned: Sequence[PlannedRow], metrics: pd.DataFrame) -> None:
        self.planned = [row for row in planned if row.classifies]
        self._cells = {key: frame.set_index(CELL).sort_index() for key, frame in metrics.groupby(ROW)}
        self._published = {row.model: row.paper[1] for row in planned if row.paper}

    def values(self, row: PlannedRow, metric: str) -> pd.Series[float]:
        """The metric (fraction) of a row, indexed by (fold, seed)."""
        return self._cells[row.strategy, row.model, row.variant][metric]

    def by_fold(self, row: PlannedRow, metric: str) -> pd.Series[float]:
        """The metric (fraction) of a row, the mean over seeds, indexed by fold."""
        return self.values(row, metric).groupby("fold").mean()

    def difference(self, treated: PlannedRow, baseline: PlannedRow, metric: str) -> pd.Series[float]:
        """Treated minus baseline in each (fold, seed).

        Raises:
            EvaluationError: The two were not trained on the same.
        """
        a, b = self.values(treated, metric), self.values(baseline, metric)
        if not a.index.equals(b.index):
            raise EvaluationError(
                f"{treated.strategy}: {treated.title} and {baseline.title} were trained on different folds or seeds: "
                f"run `dvc repro train@{treated.strategy}`."
            )
        return a - b

    def network(self, row: PlannedRow) -> str:
        """What rows of one network share, whatever the variant: its name in the paper, or ours."""
        return self._published.get(row.model, row.model)


Differences = dict[str, "pd.Series[float]"]


def find(plans: Mapping[str, Sequence[PlannedRow]], metrics: pd.DataFrame, folds: pd.DataFrame) -> list[Finding]:
    """Every finding of the planned strategies, in the paper's order.

    The test is Nadeau and Bengio's corrected resampled t-test over (fold, seed). `overall` is that of the mean over
    networks, which gives the verdict at 5 % before `together` adjusts it; the tests of single networks are adjusted by
    Holm's method. A single augmentation counts when its adjusted p does; MT-ESTAN must beat every other approach, each
    at 5 %. The number of networks with the expected sign is a count, not a test: networks share images and folds.

    Args:
        plans: Rows with their choice (`families.with_choice`), by strategy.
        metrics: `tables.fold_table`.
        folds: folds.csv.

    Raises:
        EvaluationError: Rows to compare were trained on different folds or seeds.
    """
    rows = {name: Rows(planned, metrics[metrics["strategy"] == name]) for name, planned in plans.items()}
    known = [each for each in COMPARISONS if each.strategy in plans]
    return [_finding(each, rows[each.strategy], rows, folds) for each in known]


def _finding(comparison: Comparison, rows: Rows, all_rows: Mapping[str, Rows], folds: pd.DataFrame) -> Finding:
    elsewhere = {name: all_rows[name] for name in comparison.elsewhere if name in all_rows}
    differences = (
        _ELSEWHERE[comparison.kind](comparison, rows, elsewhere)
        if comparison.elsewhere
        else _DIFFERENCES[comparison.kind](comparison, rows)
    )
    ratio = resampling_ratio(folds, rows.planned[0]) if differences else float("nan")
    tests = contrasts(differences, ratio)
    overall = None
    if differences and comparison.kind in ("networks", "trend", "choice", "within", "size"):
        mean = np.mean([each.to_numpy() for each in differences.values()], axis=0)
        (overall,) = contrasts({"all": mean}, ratio)
    verdict = _VERDICTS[comparison.kind](comparison, tests, overall)
    choices = _choices(comparison, rows) if comparison.kind == "choice" else []
    by_equality = False
    if choices and all(ours == printed for _, ours, printed in choices):
        verdict, by_equality = "shown", True
    claim = paper_claims()[comparison.name]
    return Finding(
        name=comparison.name,
        strategy=comparison.strategy,
        metric=comparison.metric,
        unit=sentences.unit(comparison),
        direction=comparison.direction,
        verdict=verdict,
        statement=sentences.statement(comparison, verdict, tests, overall, choices, _extreme(comparison, rows)),
        table=claim.table,
        section=claim.section,
        claim=claim.claim,
        paper=sentences.printed(comparison, claim.table),
        note=claim.note,
        overall=overall,
        tests=tuple(tests),
        needs_all=comparison.kind == "all",
        by_equality=by_equality,
    )


def _pairs(comparison: Comparison, rows: Rows) -> list[tuple[str, PlannedRow, PlannedRow]]:
    """(network, treated, baseline) for every treated row whose network also has a baseline."""
    baseline = {rows.network(row): row for row in rows.planned if comparison.sides.baseline(row)}
    treated = [(rows.network(row), row) for row in rows.planned if comparison.sides.treated(row)]
    return [(name, row, baseline[name]) for name, row in treated if name in baseline]


def _by_network(comparison: Comparison, rows: Rows) -> Differences:
    return {
        name: rows.difference(treated, baseline, comparison.metric)
        for name, treated, baseline in _pairs(comparison, rows)
        if treated is not baseline and set(treated.chosen_in.values()) != {baseline.variant}
    }


def _by_augmentation(comparison: Comparison, rows: Rows) -> Differences:
    found: dict[str, list[Any]] = {}
    for _, treated, baseline in _pairs(comparison, rows):
        name = active_augmentations(treated)[0].replace("_", " ")
        found.setdefault(name, []).append(rows.difference(treated, baseline, comparison.metric))
    return {name: sum(each) / len(each) for name, each in found.items()}


def _by_slope(comparison: Comparison, rows: Rows) -> Differences:
    doses: dict[str, dict[float, PlannedRow]] = {}
    for row in filter(comparison.sides.treated, rows.planned):
        doses.setdefault(rows.network(row), {})[positive_weight(row)] = row
    slopes = {}
    for name, each in doses.items():
        if len(each) >= FEWEST_DOSES:
            # Least squares: the metric's change per unit of weight, in each fold.
            centred = {dose: dose - sum(each) / len(each) for dose in each}
            total = sum(value**2 for value in centred.values())
            parts = [centred[dose] / total * rows.values(row, comparison.metric) for dose, row in each.items()]
            slopes[name] = sum(parts[1:], parts[0])
    return slopes


def _by_row(comparison: Comparison, rows: Rows) -> Differences:
    treated = next(filter(comparison.sides.treated, rows.planned), None)
    others = filter(comparison.sides.baseline, rows.planned) if treated else ()
    return {row.title: rows.difference(treated, row, comparison.metric) for row in others if treated}


def _by_metric(comparison: Comparison, rows: Rows) -> Differences:
    own = filter(comparison.sides.treated, rows.planned)
    return {row.title: rows.values(row, comparison.metric) - rows.values(row, comparison.minus) for row in own}


def _by_size(comparison: Comparison, rows: Rows) -> Differences:
    """Least squares over networks: the gain's change per tenfold parameters, in each fold and seed."""
    gains = {
        treated.network: rows.difference(treated, baseline, comparison.metric)
        for _, treated, baseline in _pairs(comparison, rows)
        if treated.network in paper_sizes()
    }
    if len(gains) < FEWEST_DOSES:
        return {}
    doses = {name: math.log10(paper_sizes()[name].parameters_millions) for name in gains}
    centred = {name: dose - sum(doses.values()) / len(doses) for name, dose in doses.items()}
    total = sum(value**2 for value in centred.values())
    parts = [centred[name] / total * gain for name, gain in gains.items()]
    return {f"{len(gains)} networks": sum(parts[1:], parts[0])}


def _by_factor(comparison: Comparison, rows: Rows, elsewhere: Mapping[str, Rows]) -> Differences:
    """How much each other strategy changes a network, minus how much this one does, over the networks of both."""
    own = _changes(comparison.metric, rows)
    found = {}
    for name, other in elsewhere.items():
        changes = _changes(comparison.metric, other)
        common = [network for network in own if network in changes]
        pairs = [(changes[network] - own[network]).dropna() for network in common]
        if pairs and all(len(pair) > 1 for pair in pairs):
            found[name.replace("_", " ")] = sum(pairs[1:], pairs[0]) / len(pairs)
    return found


def _changes(metric: str, rows: Rows) -> dict[str, pd.Series[float]]:
    """By network and fold: the metric of the row that is best on the other folds, minus that of the worst there."""
    import pandas as pd

    found = {}
    for network in dict.fromkeys(row.network for row in rows.planned):
        own = [row for row in rows.planned if row.network == network and (row.headline or row.paper)]
        table = pd.DataFrame({row.variant: rows.by_fold(row, metric) for row in own}).dropna()
        if table.shape[1] > 1 and len(table) > 1:
            # Named by the other folds, so that noise alone has no size on average.
            others = (table.sum() - table) / (len(table) - 1)
            best, worst = others.idxmax(axis=1), others.idxmin(axis=1)
            values = {fold: table.loc[fold, best[fold]] - table.loc[fold, worst[fold]] for fold in table.index}
            found[network] = pd.Series(values, dtype="float64")
    return found


def _by_row_elsewhere(comparison: Comparison, rows: Rows, elsewhere: Mapping[str, Rows]) -> Differences:
    """As `_by_row`, against other strategies' rows on the same images; the mean over seeds, which may be others."""
    treated = next(filter(comparison.sides.treated, rows.planned), None)
    if treated is None:
        return {}
    found = {}
    for other in elsewhere.values():
        for row in filter(comparison.sides.baseline, other.planned):
            if row.cohort == treated.cohort:
                pair = rows.by_fold(treated, comparison.metric) - other.by_fold(row, comparison.metric)
                if not pair.isna().any():
                    found[row.title] = pair
    return found


_ELSEWHERE: dict[str, Callable[[Comparison, Rows, Mapping[str, Rows]], Differences]] = {
    "factors": _by_factor,
    "all": _by_row_elsewhere,
}
_DIFFERENCES: dict[str, Callable[[Comparison, Rows], Differences]] = {
    "within": _by_metric,
    "size": _by_size,
    "networks": _by_network,
    "choice": _by_network,
    "each": _by_augmentation,
    "trend": _by_slope,
    "all": _by_row,
}


def _on_average(comparison: Comparison, tests: Sequence[Contrast], overall: Contrast | None) -> str:
    if overall is None or overall.p != overall.p:
        return "not tested"
    if overall.p >= sentences.ALPHA:
        return "not shown"
    return "shown" if comparison.direction * overall.difference > 0 else "opposite"


def _any(comparison: Comparison, tests: Sequence[Contrast], overall: Contrast | None) -> str:
    if not tests or tests[0].p != tests[0].p:
        return "not tested"
    signs = {comparison.direction * test.difference > 0 for test in tests if test.p_adjusted < sentences.ALPHA}
    return "shown" if True in signs else "opposite" if False in signs else "not shown"


def _every(comparison: Comparison, tests: Sequence[Contrast], overall: Contrast | None) -> str:
    if not tests or tests[0].p != tests[0].p:
        return "not tested"
    # That all are beaten needs no adjustment: the least significant test decides (an intersection-union test).
    if all(comparison.direction * test.difference > 0 and test.p < sentences.ALPHA for test in tests):
        return "shown"
    worse = any(comparison.direction * test.difference < 0 and test.p_adjusted < sentences.ALPHA for test in tests)
    return "opposite" if worse else "not shown"


def _ours_is_better(comparison: Comparison, tests: Sequence[Contrast], overall: Contrast | None) -> str:
    verdict = _on_average(comparison, tests, overall)
    return {"shown": "opposite", "opposite": "not shown"}.get(verdict, verdict)


_VERDICTS: dict[str, Callable[[Comparison, Sequence[Contrast], Contrast | None], str]] = {
    "networks": _on_average,
    "trend": _on_average,
    "choice": _ours_is_better,
    "each": _any,
    "all": _every,
    "factors": _every,
    "within": _on_average,
    "size": _on_average,
}


def _choices(comparison: Comparison, rows: Rows) -> list[tuple[str, str, str]]:
    """(network, our chosen variant or what was chosen for each fold, the paper's variant) of each network."""
    return [(name, _in_words(ours), printed.variant) for name, ours, printed in _pairs(comparison, rows)]


def _in_words(row: PlannedRow) -> str:
    variants = set(row.chosen_in.values()) or {row.variant}
    return variants.pop() if len(variants) == 1 else in_words(row.parameters)


def _extreme(comparison: Comparison, rows: Rows) -> tuple[str, float] | None:
    """Title and mean of the row that is furthest in the expected direction, for comparisons with all rows."""
    if comparison.kind != "all" or comparison.elsewhere or not rows.planned:
        return None
    means = {row.title: float(rows.values(row, comparison.metric).mean()) for row in rows.planned}
    title = max(means, key=lambda name: comparison.direction * means[name])
    return title, means[title]
