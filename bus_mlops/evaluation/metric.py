"""`Metric`: one number about predictions, how it is computed and resampled, and how people read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.resampling import GroupWeights

Array = npt.NDArray[Any]
# (labels, probabilities, threshold) -> value: (N,), (N,) and a number or (N,).
Compute = Callable[[Array, Array, Any], Any]
# (true negatives, false positives, false negatives, true positives) -> values, all of one shape.
ComputeRate = Callable[[Array, Array, Array, Array], Any]
Resample = Callable[[Array, Array, GroupWeights, Any], Array]


@dataclass(frozen=True)
class Metric:
    """A metric of probabilities, or of masks.

    One of masks is the mean of the predictions' column of its name. One of probabilities is computed by `compute`;
    `resample` does so for all resamples of a bootstrap at once, where that can be done faster than one by one.

    Attributes:
        name: In params.yaml, tables, MLflow and `metrics.json`, where values are fractions.
        heading: Of its column.
        unit: How people see it: a fraction with three digits, or in percent with one.
        direction: 1 where a higher value is better, -1 where a lower one is, 0 where the best lies between.
        interval: Tables give the 95 % intervals of its mean over folds, and of its value on the pooled predictions.
        phrase: What a sentence calls it.
        paper: Its heading in the paper's tables, empty where they do not print it.
        further: The report shows it in a table of its own, below the first.
        scale: On which an interval is symmetric: the logit of what lies between 0 and 1, or the number itself.
        undefined: Why it has no value where it has none.
    """

    name: str
    heading: str
    unit: Literal["percent", "fraction"] = "fraction"
    direction: Literal[1, -1, 0] = 1
    interval: bool = False
    phrase: str = ""
    paper: str = ""
    further: bool = False
    scale: Literal["logit", "identity"] = "identity"
    undefined: str = "such as one of a single class"
    compute: Compute | None = None
    resample: Resample | None = None

    @property
    def of_masks(self) -> bool:
        """Whether it needs a predicted mask, not a probability."""
        return self.compute is None

    @property
    def title(self) -> str:
        """The heading of its column, with the unit.

        >>> Metric("sensitivity", "Sensitivity", unit="percent").title
        'Sensitivity %'
        """
        return f"{self.heading} %" if self.unit == "percent" else self.heading

    def format(self, value: float) -> str:
        """A value (fraction) as people read it, without the unit.

        >>> Metric("f1", "F1").format(0.8414), Metric("sensitivity", "Sensitivity", unit="percent").format(0.8414)
        ('0.841', '84.1')
        """
        return f"{100 * value:.1f}" if self.unit == "percent" else f"{value:.3f}"

    def format_with_unit(self, value: float) -> str:
        """A value (fraction) for a sentence.

        >>> Metric("sensitivity", "Sensitivity", unit="percent").format_with_unit(0.8414)
        '84.1 %'
        """
        return f"{self.format(value)} %" if self.unit == "percent" else self.format(value)

    def format_published(self, value: float) -> str:
        """A value (fraction) that the paper prints, with its digits: two where it prints a fraction."""
        return self.format(value) if self.unit == "percent" else f"{value:.2f}"

    def format_spread(self, mean: float, deviation: float) -> str:
        """Mean and standard deviation as people read them; the latter may be NaN, of a single fold.

        >>> Metric("f1", "F1").format_spread(0.8414, 0.02)
        '0.841 ± 0.020'
        """
        return self.format(mean) if np.isnan(deviation) else f"{self.format(mean)} ± {self.format(deviation)}"

    def value(self, labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: npt.ArrayLike = 0.5) -> float:
        """The metric of one set of images; `labels` (N,) is 0 or 1, `probabilities` (N,) 0-1.

        Raises:
            EvaluationError: The inputs are not so, or the value is no number.
        """
        return self.of_validated(*validated(labels, probabilities), np.asarray(threshold, dtype=np.float64))

    def of_validated(self, labels: Array, probabilities: Array, threshold: Array) -> float:
        """`value` of what `validated` returned, at a threshold (0-1) for all images or one for each."""
        value = self.where_defined(labels, probabilities, threshold)
        if not np.isfinite(value):
            raise EvaluationError(
                f"metric {self.name!r} is {value} for {labels.size} images of both classes, so nothing can be judged "
                "by it: its function must return a number for them, or name another metric."
            )
        return value

    def where_defined(self, labels: Array, probabilities: Array, threshold: Array) -> float:
        """`of_validated` for a table or a run, which say that a metric is undefined (NaN) and go on."""
        try:
            value = float(self._computed(labels, probabilities, threshold))
        except EvaluationError:
            raise
        except Exception as error:  # the function may be a user's
            raise EvaluationError(
                f"metric {self.name!r} cannot be computed: {type(error).__name__}: {error}. Mend its function."
            ) from error
        return value if np.isfinite(value) else float("nan")

    def of_overlaps(self, values: Array, weights: GroupWeights) -> npt.NDArray[np.float64]:
        """The mean of Dice or IoU of each resample, (resamples,), over the images that have one; NaN where none has."""
        known = ~np.isnan(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(weights.totals(np.where(known, values, 0)) / weights.totals(known), dtype=np.float64)

    def resampled(
        self, labels: Array, probabilities: Array, weights: GroupWeights, threshold: npt.ArrayLike
    ) -> npt.NDArray[np.float64]:
        """The metric of each resample of validated predictions, (resamples,); NaN where it lacks a class it needs."""
        if self.resample is not None:
            return np.asarray(self.resample(labels, probabilities, weights, threshold), dtype=np.float64)
        thresholds = np.broadcast_to(np.asarray(threshold, dtype=np.float64), labels.shape)
        values = np.full(weights.resamples, np.nan)
        for number, drawn in enumerate(weights.images()):
            if np.ptp(labels[drawn]):
                values[number] = self._computed(labels[drawn], probabilities[drawn], thresholds[drawn])
        return values

    def _computed(self, labels: Array, probabilities: Array, threshold: Array) -> Any:
        if self.compute is None:
            raise EvaluationError(f"metric {self.name!r} is one of masks: it cannot be computed from probabilities.")
        return self.compute(labels, probabilities, threshold)


def validated(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Labels as integers and probabilities as floats, both (N,).

    Raises:
        EvaluationError: They are none, of different shapes, not 0 or 1, not within 0-1, or all of one class.
    """
    y = np.asarray(labels)
    p = np.asarray(probabilities, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise EvaluationError(
            f"labels and probabilities must be two lists of the same length but have shapes {y.shape} and {p.shape}."
        )
    if y.size == 0:
        raise EvaluationError("there are no predictions to evaluate: train the row's folds first (`dvc repro`).")
    if not np.isin(y, (0, 1)).all():
        bad = y[~np.isin(y, (0, 1))][0]
        raise EvaluationError(f"labels must be 0 (benign) or 1 (malignant) but one is {bad}.")
    if np.isnan(p).any():
        raise EvaluationError(
            f"{int(np.isnan(p).sum())} of {p.size} probabilities are NaN: the training diverged; "
            "lower its learning rate and train the row again."
        )
    if p.min() < 0 or p.max() > 1:
        raise EvaluationError(
            f"probabilities must lie between 0 and 1 but range from {p.min():g} to {p.max():g}: "
            "are they logits? Apply the sigmoid first."
        )
    if (y == y[0]).all():
        name = "malignant" if y[0] == 1 else "benign"
        raise EvaluationError(
            f"all {y.size} images are {name}, so sensitivity or specificity is undefined: "
            "use fewer folds or more images so that each test part holds both classes."
        )
    return y.astype(np.int64), p
