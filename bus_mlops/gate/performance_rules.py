"""G1, G3, G4, G5: floors, sensitivity, sources and calibration, each by a bootstrap over whole leakage groups."""

from __future__ import annotations

import pandas as pd

from bus_mlops.config import PromotionConfig
from bus_mlops.evaluation.comparison import paired_bootstrap_difference
from bus_mlops.evaluation.intervals import Interval, bootstrap_interval
from bus_mlops.evaluation.metrics import classification_metrics
from bus_mlops.gate.calibration_error import calibration_difference, calibration_error
from bus_mlops.gate.inputs import CONFIDENCE, GateContext, columns_of, paired
from bus_mlops.gate.report import GateRule

Values = dict[str, float | int | str]


def check_floors(candidate: pd.DataFrame, promotion: PromotionConfig, context: GateContext) -> GateRule:
    """G1: the clustered 95 % intervals of sensitivity and specificity lie above their floors."""
    values: Values = {}
    passed, said = True, []
    floors = {"sensitivity": promotion.minimum_sensitivity, "specificity": promotion.minimum_specificity}
    for name, floor in floors.items():
        interval = bootstrap_interval(
            name,
            candidate["label"].to_numpy(),
            candidate["probability"].to_numpy(),
            candidate["group"].to_numpy(),
            threshold=candidate["threshold"].to_numpy(),
            resamples=promotion.bootstrap,
            confidence=CONFIDENCE,
            seed=context.seed,
        )
        values |= {name: interval.estimate, f"{name}_low": interval.low, f"{name}_floor": floor}
        passed = passed and interval.low >= floor
        said.append(
            f"{name} {interval.estimate:.3f}, lower 95 % bound {interval.low:.3f}, "
            + (f"floor {floor:.3f}" if floor > 0 else "no floor set")
        )
    limit = "lower 95 % bounds: " + ", ".join(f"{name} >= {floor:g}" for name, floor in floors.items())
    sentence = "; ".join(said)
    return GateRule("G1", "floors", values, limit, passed, sentence[0].upper() + sentence[1:] + ".")


def check_sensitivity(
    candidate: pd.DataFrame, baseline: pd.DataFrame, promotion: PromotionConfig, context: GateContext
) -> GateRule:
    """G3: sensitivity is not worse than the baseline's by the margin (clustered paired bootstrap)."""
    interval = _difference("sensitivity", paired(candidate, baseline), promotion, context)
    margin = promotion.sensitivity_margin
    passed = interval.low > -margin
    sentence = (
        f"The difference in sensitivity is {_with_interval(interval)}; "
        f"a loss of {margin:g} or more is {'ruled out' if passed else 'not ruled out'}."
    )
    values: Values = {
        "difference": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "margin": margin,
    }
    return GateRule("G3", "non-inferior sensitivity", values, f"lower bound > {-margin:g}", passed, sentence)


def check_sources(
    candidate: pd.DataFrame, baseline: pd.DataFrame, promotion: PromotionConfig, context: GateContext
) -> GateRule:
    """G4: in no source does the metric fall by more than the source's margin.

    The point estimate decides: one source is too small to rule a fall out. A source with few malignant (or few
    benign) cases is reported only.
    """
    pair = paired(candidate, baseline)
    values: Values = {}
    said, fallen = [], []
    for source, rows in pair.groupby("source", sort=True):
        name = str(source)
        margin = promotion.source_margins.get(name, promotion.source_margin)
        cases = {label: int(rows.loc[rows["label"] == label, "case_id"].nunique()) for label in (0, 1)}
        values |= {f"{name}_malignant": cases[1], f"{name}_benign": cases[0]}
        if min(cases.values()) < promotion.source_malignant:
            said.append(f"{name} has too few cases to decide ({cases[1]} malignant, {cases[0]} benign)")
            if min(cases.values()) < 2:
                continue
            values[f"{name}_difference"] = _difference(promotion.metric, rows, promotion, context, few=True).estimate
            said[-1] += f", seen {values[f'{name}_difference']:+.3f}"
            continue
        interval = _difference(promotion.metric, rows, promotion, context)
        values |= {f"{name}_difference": interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
        values[f"{name}_margin"] = margin
        said.append(f"{name} {_with_interval(interval)}")
        if interval.estimate < -margin:
            fallen.append(f"{name} falls by more than {margin:g}")
    sentence = f"Difference in {promotion.metric}: " + "; ".join(said + (fallen or ["no source falls by more"])) + "."
    margins = [f"{name} >= {-margin:g}" for name, margin in sorted(promotion.source_margins.items())]
    limit = "; ".join([f"each source >= {-promotion.source_margin:g}", *margins])
    return GateRule("G4", "every source", values, limit, not fallen, sentence)


def check_calibration(
    candidate: pd.DataFrame, baseline: pd.DataFrame, promotion: PromotionConfig, context: GateContext
) -> GateRule:
    """G5: the expected calibration error is not higher than the baseline's by the margin."""
    labels, ours, theirs, groups, *_ = columns_of(paired(candidate, baseline))
    interval = calibration_difference(labels, ours, theirs, groups, promotion.bootstrap, CONFIDENCE, context.seed)
    errors = calibration_error(labels, ours), calibration_error(labels, theirs)
    margin = promotion.calibration_margin
    passed = interval.high < margin
    sentence = (
        f"Expected calibration error {errors[0]:.3f} against {errors[1]:.3f}: a difference of "
        f"{_with_interval(interval)}; a rise of {margin:g} or more is {'ruled out' if passed else 'not ruled out'}."
    )
    values: Values = {
        "candidate": errors[0],
        "baseline": errors[1],
        "difference": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "margin": margin,
    }
    return GateRule("G5", "calibration", values, f"upper bound < {margin:g}", passed, sentence)


def _difference(
    metric: str, pair: pd.DataFrame, promotion: PromotionConfig, context: GateContext, few: bool = False
) -> Interval:
    """Candidate minus baseline on a pair; with `few` images only the estimate, which needs no resamples."""
    labels, ours, theirs, groups, threshold, threshold_baseline = columns_of(pair)
    if few:
        first = classification_metrics(labels, ours, threshold)[metric]
        second = classification_metrics(labels, theirs, threshold_baseline)[metric]
        return Interval(first - second, float("nan"), float("nan"), CONFIDENCE, 0)
    return paired_bootstrap_difference(
        metric,
        labels,
        ours,
        theirs,
        groups,
        candidate_threshold=threshold,
        baseline_threshold=threshold_baseline,
        resamples=promotion.bootstrap,
        confidence=CONFIDENCE,
        seed=context.seed,
    )


def _with_interval(interval: Interval) -> str:
    return f"{interval.estimate:+.3f} (95 % interval {interval.low:+.3f} to {interval.high:+.3f})"
