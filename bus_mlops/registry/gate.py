"""The gate between a trained candidate and the alias `champion`: four rules, each with its numbers.

Pure: frames and context in, a report out. Refusal is a normal result, not an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from bus_mlops.config import PromotionConfig
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.comparison import corrected_resampled_test, paired_bootstrap_difference
from bus_mlops.evaluation.intervals import bootstrap_interval
from bus_mlops.evaluation.metrics import classification_metrics, youden_threshold
from bus_mlops.evaluation.results import CELL, ROW, by_cell
from bus_mlops.registry.gate_report import GateReport, GateRule

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Lineage:
    """The digests of the images and of the folds that a model was trained with."""

    data_digest: str
    folds_digest: str


@dataclass(frozen=True)
class GateContext:
    """What the gate must know besides the predictions.

    `n_train` and `n_test` count the images of each fold (1-based) in the models' cohort; training without the
    validation part. `leak_check` is what the leakage check of the folds found: "passed" or anything else.
    """

    model_name: str
    is_phantom: bool
    expected_folds: tuple[int, ...]
    candidate: Lineage
    baseline: Lineage
    n_train: Mapping[int, int]
    n_test: Mapping[int, int]
    leak_check: str
    seed: int = 0


def run_gate(
    candidate: pd.DataFrame, baseline: pd.DataFrame, promotion: PromotionConfig, context: GateContext
) -> GateReport:
    """Judge a candidate against a baseline on their out-of-fold predictions (one table row each).

    With `promotion.threshold` "youden" each (fold, seed) uses the threshold chosen on its validation part,
    if the frames hold one; otherwise 0.5, and a note says so. Only the test part is judged. A rule whose
    numbers cannot be computed fails and says why. Candidate better by chance alone: refused (G2).
    """
    ours, theirs, notes = _at_thresholds(candidate, baseline, promotion)
    integrity = check_integrity(ours, theirs, context)
    rules = [
        integrity,
        _attempt("G1", "floors", lambda: check_floors(ours, promotion, context)),
        _attempt("G2", "superiority", lambda: check_superiority(ours, theirs, promotion, context)),
        _attempt("G3", "sensitivity", lambda: check_sensitivity(ours, theirs, promotion, context)),
    ]
    return GateReport(
        candidate=_title(candidate),
        baseline=_title(baseline),
        model_name=context.model_name,
        metric=promotion.metric,
        threshold=promotion.threshold if not notes else "half",
        rules=tuple(rules),
        notes=tuple(notes),
    )


def check_integrity(candidate: pd.DataFrame, baseline: pd.DataFrame, context: GateContext) -> GateRule:
    """G0: both models saw the same data and folds, every fold is finished, and the name is honest."""
    problems = []
    for kind in ("data", "folds"):
        pair = [getattr(lineage, f"{kind}_digest") for lineage in (context.candidate, context.baseline)]
        if pair[0] != pair[1]:
            problems.append(f"{kind} digests differ ({pair[0][:12]} and {pair[1][:12]})")
    for who, frame in (("candidate", candidate), ("baseline", baseline)):
        missing = sorted(set(context.expected_folds) - {int(fold) for fold in frame["fold"].unique()})
        if missing:
            problems.append(f"the {who} lacks fold {', '.join(map(str, missing))}")
        if frame.duplicated([*CELL, "image_id"]).any():
            problems.append(f"the {who} predicts an image twice in one fold")
    keys = [set(map(tuple, f[[*CELL, "image_id", "label"]].to_numpy().tolist())) for f in (candidate, baseline)]
    if keys[0] != keys[1]:
        problems.append(f"{len(keys[0] ^ keys[1])} test predictions have no counterpart in the other model")
    if context.is_phantom and "phantom" not in context.model_name:
        problems.append(f"trained on phantoms, but the name {context.model_name!r} does not say so")
    if context.leak_check != "passed":
        problems.append(f"the leakage check of the folds is {context.leak_check!r}")
    images = int(candidate["image_id"].nunique())
    folds = int(candidate["fold"].nunique())
    found = "; ".join(problems) or f"same {images} images, same {folds} folds, same digests, all folds finished"
    return GateRule(
        id="G0",
        title="integrity",
        values={"images": images, "folds": folds, "problems": len(problems)},
        limit="no problem",
        passed=not problems,
        sentence=found[0].upper() + found[1:] + ".",
    )


def check_floors(candidate: pd.DataFrame, promotion: PromotionConfig, context: GateContext) -> GateRule:
    """G1: the clustered 95 % intervals of sensitivity and specificity lie above their floors."""
    values: dict[str, float | int | str] = {}
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


def check_superiority(
    candidate: pd.DataFrame, baseline: pd.DataFrame, promotion: PromotionConfig, context: GateContext
) -> GateRule:
    """G2: the metric is higher than the baseline's by the corrected resampled t-test over (fold, seed)."""
    ours, theirs = (_metric_by_cell(frame, promotion.metric) for frame in (candidate, baseline))
    if set(ours) != set(theirs):
        raise EvaluationError("the models were not evaluated on the same (fold, seed) pairs")
    cells = sorted(ours)
    unknown = [fold for fold, _ in cells if fold not in context.n_test or fold not in context.n_train]
    if unknown:
        raise EvaluationError(f"the number of training or test images of fold {unknown[0]} is not known")
    ratios = [context.n_test[fold] / context.n_train[fold] for fold, _ in cells]
    test = corrected_resampled_test(
        [ours[cell] for cell in cells],
        [theirs[cell] for cell in cells],
        test_to_train=sum(ratios) / len(ratios),
        confidence=CONFIDENCE,
    )
    passed = test.p_one_sided < promotion.alpha and test.difference > 0
    values: dict[str, float | int | str] = {
        "candidate": sum(ours.values()) / len(ours),
        "baseline": sum(theirs.values()) / len(theirs),
        **{key: value for key, value in asdict(test).items() if key != "confidence"},
    }
    sentence = (
        f"{promotion.metric} {values['candidate']:.3f} against {values['baseline']:.3f}: a difference of "
        f"{test.difference:+.3f} (95 % interval {test.low:+.3f} to {test.high:+.3f}) over {test.pairs} "
        f"trainings of each, one-sided p = {test.p_one_sided:.3f}; " + _why(passed, test.difference)
    )
    return GateRule("G2", "superiority", values, f"p < {promotion.alpha:g}", passed, sentence)


def check_sensitivity(
    candidate: pd.DataFrame, baseline: pd.DataFrame, promotion: PromotionConfig, context: GateContext
) -> GateRule:
    """G3: sensitivity is not worse than the baseline's by the margin (clustered paired bootstrap)."""
    columns = ["probability", "threshold"]
    pair = candidate.merge(
        baseline[[*CELL, "image_id", *columns]],
        on=[*CELL, "image_id"],
        suffixes=("", "_baseline"),
    )
    if len(pair) != len(candidate) or len(pair) != len(baseline):
        raise EvaluationError("the models did not predict the same images")
    interval = paired_bootstrap_difference(
        "sensitivity",
        pair["label"].to_numpy(),
        pair["probability"].to_numpy(),
        pair["probability_baseline"].to_numpy(),
        pair["group"].to_numpy(),
        candidate_threshold=pair["threshold"].to_numpy(),
        baseline_threshold=pair["threshold_baseline"].to_numpy(),
        resamples=promotion.bootstrap,
        confidence=CONFIDENCE,
        seed=context.seed,
    )
    margin = promotion.sensitivity_margin
    passed = interval.low > -margin
    sentence = (
        f"The difference in sensitivity is {interval.estimate:+.3f} (95 % interval {interval.low:+.3f} to "
        f"{interval.high:+.3f}); "
        + (f"a loss of {margin:g} or more is " + ("ruled out." if passed else "not ruled out."))
    )
    values: dict[str, float | int | str] = {
        "difference": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "margin": margin,
    }
    return GateRule("G3", "non-inferior sensitivity", values, f"lower bound > {-margin:g}", passed, sentence)


def with_thresholds(predictions: pd.DataFrame) -> pd.DataFrame | None:
    """The test part with a `threshold` column: Youden's on the validation part of each (fold, seed).

    None when a (fold, seed) of the test part has no validation part. Raises EvaluationError.
    """
    test = predictions[predictions["part"] == "test"]
    validation = predictions[predictions["part"] == "validation"]
    chosen = {
        key: youden_threshold(cell["label"].to_numpy(), cell["probability"].to_numpy())
        for key, cell in by_cell(validation)
    }
    keys = list(zip(test["fold"], test["seed"], strict=True))
    if any(key not in chosen for key in keys):
        return None
    return test.assign(threshold=[chosen[key] for key in keys])


def _at_thresholds(
    candidate: pd.DataFrame, baseline: pd.DataFrame, promotion: PromotionConfig
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    for frame in (candidate, baseline):
        if frame.empty or not (frame["part"] == "test").any():
            raise EvaluationError("the gate got no test predictions: train candidate and baseline first.")
    notes = []
    if promotion.threshold == "youden":
        ours, theirs = with_thresholds(candidate), with_thresholds(baseline)
        if ours is not None and theirs is not None:
            return ours, theirs, []
        notes.append("No validation predictions were given: sensitivity and specificity are those at 0.5.")
    halves = [frame[frame["part"] == "test"].assign(threshold=0.5) for frame in (candidate, baseline)]
    return halves[0], halves[1], notes


def _metric_by_cell(frame: pd.DataFrame, metric: str) -> dict[tuple[int, int], float]:
    return {
        key: classification_metrics(
            cell["label"].to_numpy(), cell["probability"].to_numpy(), cell["threshold"].to_numpy()
        )[metric]
        for key, cell in by_cell(frame)
    }


def _why(passed: bool, difference: float) -> str:
    if passed:
        return "more than chance explains."
    return "chance alone could explain it." if difference > 0 else "the candidate is not better."


def _title(frame: pd.DataFrame) -> str:
    return "/".join(str(frame[column].iloc[0]) for column in ROW)


def _attempt(identifier: str, title: str, rule: Callable[[], GateRule]) -> GateRule:
    # A rule that cannot be computed is a refusal with a reason, so that the report is always whole.
    try:
        return replace(rule(), id=identifier)
    except EvaluationError as error:
        return GateRule(identifier, title, {}, "computable", False, f"Could not be computed: {error}")
