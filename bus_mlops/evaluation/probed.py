"""Tables of what the stage `probe` found: where networks look, what they bear, where they fail, what they cost.

Intervals (95 %): of levels as everywhere (`mean_of_folds_interval`). Those of paired differences and of means over
images are percentiles of the bootstrap over leakage groups within folds: they cover which images were tested, not how
trainings differ, since of each fold one network is probed. Where no resample differs they have Wilson's ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.intervals import (
    FoldInterval,
    mean_of_folds_interval,
    opened,
    percentiles,
    rarer_groups,
    unseen_share,
)
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.resampling import GroupWeights, group_weights
from bus_mlops.evaluation.tidy import Evaluated

if TYPE_CHECKING:
    import pandas as pd

INTERVAL = ("estimate", "low", "high", "method")
ROBUSTNESS = (*ROW, "corruption", "strength", "parameter", "metric", "what", *INTERVAL, "images")
EXPLANATIONS = (*ROW, "metric", *INTERVAL, "images")
COST = (*ROW, "network", "architecture", "metric", "estimate", "threads", "machine")
FAILURES = (
    *("strategy", "model", "variant", "kind", "rank", "fold", "image_id", "source", "label", "probability"),
    *("has_mask", "neighbour", "neighbour_label", "similarity"),
)
# Measured at each strength.
MEASURED = ("roc_auc", "sensitivity")
UNCHANGED = "none"
LEVEL, DROP = "level", "drop"
RESAMPLES = 2000
CONFIDENCE = 0.95
IMAGES_ONLY = "groups drawn within folds; one network a fold as it is"


def robustness_table(evaluated: Evaluated) -> pd.DataFrame:
    """ROC area and sensitivity at 0.5 at each strength of each corruption, and how far each lies below none of it."""
    return robustness_of(read_probed(evaluated.probes / "robustness.parquet"))


def robustness_of(frame: pd.DataFrame) -> pd.DataFrame:
    """`robustness_table` of the rows that are given."""
    lines = []
    for row, own in _rows(frame):
        clean = own[own["corruption"] == UNCHANGED]
        for (corruption, strength), part in own.groupby(["corruption", "strength"], sort=False):
            about = {**row, "corruption": corruption, "strength": strength, "parameter": part["parameter"].iloc[0]}
            for metric in MEASURED:
                counted = {"metric": metric, "images": len(part)}
                level = mean_of_folds_interval(metric, part, resamples=RESAMPLES)
                lines.append({**about, **counted, "what": LEVEL, **_values(level)})
                if corruption != UNCHANGED:
                    drop = paired_drop(metric, clean, part)
                    lines.append({**about, **counted, "what": DROP, **_values(drop)})
    return _frame(lines, ROBUSTNESS)


def explanation_table(evaluated: Evaluated) -> pd.DataFrame:
    """Pointing game and energy in the lesion beside chance and the image's centre, and ROC area of the same images."""
    return explanations_of(read_probed(evaluated.probes / "explanations.parquet"))


def explanations_of(frame: pd.DataFrame) -> pd.DataFrame:
    """`explanation_table` of the rows that are given."""
    lines = []
    for row, own in _rows(frame):
        counted = {**row, "images": len(own)}
        measured = {
            "pointing": own["hit"],
            "energy": own["energy"],
            "chance": own["chance"],
            "centre": own["centre"],
            "pointing_above_chance": own["hit"] - own["chance"],
            "energy_above_chance": own["energy"] - own["chance"],
            "pointing_own_mask": own["hit_own_mask"],
            "chance_own_mask": own["chance_own_mask"],
        }
        for metric, values in measured.items():
            if values.notna().any():
                found = mean_over_images(own, values.to_numpy(np.float64))
                lines.append({**counted, "metric": metric, **_values(found)})
        lines.append({**counted, "metric": "roc_auc", **_values(mean_of_folds_interval("roc_auc", own))})
    return _frame(lines, EXPLANATIONS)


def failure_table(evaluated: Evaluated) -> pd.DataFrame:
    """The most confident misses and false alarms of each probed row, in the order of their pictures."""
    import pandas as pd

    path = evaluated.probes / "failures.csv"
    return pd.read_csv(path)[list(FAILURES)] if path.is_file() else pd.DataFrame(columns=list(FAILURES))


def cost_table(evaluated: Evaluated) -> pd.DataFrame:
    """Parameters, multiply-accumulates, latency (ms) and peak memory (MB) of the network of each row; no intervals."""
    import pandas as pd

    path = evaluated.probes / "cost.csv"
    if not path.is_file():
        return pd.DataFrame(columns=list(COST))
    costs = pd.read_csv(path)
    measured = ["parameters", "multiply_accumulates", "latency_ms", "peak_memory_mb"]
    kept = [name for name in COST if name not in ("metric", "estimate")]
    tidy = costs.melt(id_vars=kept, value_vars=measured, var_name="metric", value_name="estimate")
    return tidy.dropna(subset=["estimate"])[list(COST)].sort_values([*ROW], kind="stable").reset_index(drop=True)


def paired_drop(metric: str, clean: pd.DataFrame, changed: pd.DataFrame) -> FoldInterval:
    """How far a metric falls from one set of probabilities to another of the same images; positive is worse.

    Args:
        metric: Of probabilities, a name in `METRICS`.
        clean: image_id, label, probability, group, fold.
        changed: The same images.

    Raises:
        EvaluationError: They are other images.
    """
    known = METRICS.get_known(metric)
    pairs = clean.merge(changed[["image_id", "probability"]], on="image_id", suffixes=("", "_changed"))
    if not len(pairs) == len(clean) == len(changed):
        raise EvaluationError("an image lacks one of its corruptions: run `dvc repro --force probe`.")

    def fall(part: pd.DataFrame, weights: GroupWeights) -> npt.NDArray[np.float64]:
        labels = part["label"].to_numpy(np.int64)
        before, after = (
            known.resampled(labels, part[name].to_numpy(np.float64), weights, 0.5)
            for name in ("probability", "probability_changed")
        )
        return known.direction * (before - after)

    found = _over_folds(pairs, fall)
    if found.high - found.low > 1e-12 or pairs["probability"].equals(pairs["probability_changed"]):
        return found
    # No resample differs: what so few groups do not show may be there all the same.
    reach = unseen_share(rarer_groups(pairs["label"].to_numpy(), pairs["group"]))
    return replace(found, low=max(found.low - reach, -1.0), high=min(found.high + reach, 1.0))


def mean_over_images(frame: pd.DataFrame, values: npt.NDArray[np.float64]) -> FoldInterval:
    """The mean over folds of the mean over images of a value, (N,), with the interval of which images there were."""

    def mean(part: pd.DataFrame, weights: GroupWeights) -> npt.NDArray[np.float64]:
        groups = weights.counts.shape[1]
        sums = weights.counts @ np.bincount(weights.member, part["_value"].to_numpy(np.float64), minlength=groups)
        drawn: npt.NDArray[np.float64] = sums / (weights.counts @ np.bincount(weights.member, minlength=groups))
        return drawn

    found = _over_folds(frame.assign(_value=values), mean)
    if not np.isin(values, (0, 1)).all():
        return found
    low, high = opened(found.estimate, found.low, found.high, frame["group"].nunique())
    return replace(found, low=low, high=high)


def _over_folds(
    frame: pd.DataFrame, statistic: Callable[[pd.DataFrame, GroupWeights], npt.NDArray[np.float64]]
) -> FoldInterval:
    parts = [part for _, part in frame.groupby("fold")]
    estimate = float(np.mean([statistic(part, GroupWeights.identity(len(part)))[0] for part in parts]))
    try:
        weights = [group_weights(part["group"], RESAMPLES, seed) for seed, part in enumerate(parts)]
        drawn = np.mean([statistic(part, each) for part, each in zip(parts, weights, strict=True)], axis=0)
        low, high, valid = percentiles(drawn, CONFIDENCE)
    except EvaluationError:
        return FoldInterval(estimate, float("nan"), float("nan"), "too few groups for an interval", 0)
    return FoldInterval(estimate, low, high, IMAGES_ONLY, valid)


def _rows(frame: pd.DataFrame) -> Iterator[tuple[Mapping[str, Any], pd.DataFrame]]:
    for key, own in frame.groupby(list(ROW), sort=False):
        yield dict(zip(ROW, key, strict=True)), own


def _values(interval: FoldInterval) -> dict[str, Any]:
    return {name: getattr(interval, name) for name in INTERVAL}


def read_probed(path: Path) -> pd.DataFrame:
    """What the stage `probe` wrote; without rows where it wrote nothing."""
    import pandas as pd

    return pd.read_parquet(path) if path.is_file() else pd.DataFrame(columns=[*ROW, "corruption", "strength"])


def _frame(lines: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(lines, columns=list(columns))
