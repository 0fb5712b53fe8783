"""What the gate judges: candidate, baseline and rivals on the same images, calibrated and paired once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.cells import CELL, ROW, by_cell
from bus_mlops.evaluation.comparison import paired_bootstrap_difference
from bus_mlops.evaluation.intervals import Interval
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.roc import youden_threshold
from bus_mlops.gate.calibration import fit_calibration
from bus_mlops.gate.look import Look
from bus_mlops.spec import CellKey

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95
NO_LEAKS = "0 groups"
NOT_RECORDED = "not recorded"
Threshold = Literal["youden", "half"]


@dataclass(frozen=True)
class Lineage:
    """Where a model comes from: digests of its images and folds, what its runs say of leaks and of git.

    Attributes:
        leaks: The tag of its runs (`0 groups`): groups torn between test and the rest; `validation_leaks` likewise
            those torn between validation and train.
        git_clean: yes, no or unknown; where runs differ, the worst.
        git_reason: Why it is unknown, as git said when a run began; "" where that is not on record.
        chosen: How its parameters were chosen: `fixed` (in params.yaml), `nested` (by a search, for each fold on images
            outside its test part), `flat` (by a search, on images that are tested on), or `not recorded`.
        search: The name of that search.
        parameters: What it chose for each fold, in words.
        choice_problems: What of a nested choice is not as the runs of its trials say.
    """

    data_digest: str
    folds_digest: str
    folds_kind: str = "grouped"
    leaks: str = NO_LEAKS
    validation_leaks: str = NO_LEAKS
    git_clean: str = "yes"
    commits: tuple[str, ...] = ()
    git_reason: str = ""
    chosen: str = NOT_RECORDED
    search: str = ""
    parameters: str = ""
    choice_problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class GateContext:
    """What the gate must know besides the predictions.

    Attributes:
        n_train: Images of each fold (1-based) in the models' cohort without the validation part.
        n_test: The same of the test part.
        leak_check: What the leakage check of the folds finds now: "passed" or anything else.
        look: What this judgement may spend of the budget of alpha; None where nobody keeps one.
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
    look: Look | None = None


@dataclass(frozen=True)
class PackageCheck:
    """What a package did in a process that has the consumer's install and nothing more.

    Attributes:
        difference: Of its example from the stored probability (0-1).
        forbidden: What that install has not.
        importable: What of it could be imported there.
        unsigned: The parts that the signature lacks.
        error: Why it did not load; empty if it did.
    """

    forbidden: tuple[str, ...] = ()
    unsigned: tuple[str, ...] = ()
    importable: tuple[str, ...] = ()
    members: int = 0
    difference: float = float("nan")
    error: str = ""


@dataclass(frozen=True)
class Judged:
    """The test part of one model as consumers will see it: calibrated `probability` (0-1) and a column `threshold`.

    One row an image, fold and seed, with `image_id`, `case_id`, `group`, `source` and `label` (1 is malignant).
    """

    title: str
    test: pd.DataFrame

    def metric_by_cell(self, metric: str) -> dict[CellKey, float]:
        """A metric (fraction) of each (fold, seed)."""
        return {
            key: METRICS.get_known(metric).value(
                cell["label"].to_numpy(), cell["probability"].to_numpy(), cell["threshold"].to_numpy()
            )
            for key, cell in by_cell(self.test)
        }


@dataclass(frozen=True)
class Pair:
    """Candidate and baseline on the same images, in the same order; all (N,)."""

    labels: npt.NDArray[np.int64]
    candidate: npt.NDArray[np.float64]
    baseline: npt.NDArray[np.float64]
    groups: npt.NDArray[np.object_]
    candidate_threshold: npt.NDArray[np.float64]
    baseline_threshold: npt.NDArray[np.float64]

    def difference(self, metric: str) -> float:
        """Candidate minus baseline (fraction), turned round where a lower value is better: above 0 is better."""
        known = METRICS.get_known(metric)
        first = known.value(self.labels, self.candidate, self.candidate_threshold)
        return known.direction * (first - known.value(self.labels, self.baseline, self.baseline_threshold))

    def interval(self, metric: str, resamples: int, seed: int) -> Interval:
        """The 95 % interval of `difference` (fraction); draws whole leakage groups."""
        found = paired_bootstrap_difference(
            metric,
            self.labels,
            self.candidate,
            self.baseline,
            self.groups,
            candidate_threshold=self.candidate_threshold,
            baseline_threshold=self.baseline_threshold,
            resamples=resamples,
            confidence=CONFIDENCE,
            seed=seed,
        )
        if METRICS.get_known(metric).direction > 0:
            return found
        return replace(found, estimate=-found.estimate, low=-found.high, high=-found.low)


@dataclass(frozen=True)
class Comparison:
    """Everything that a rule may look at; made by `compare`.

    Attributes:
        rivals: Other candidates of the same decision, with whom alpha is shared.
        metric: The primary one.
        threshold: The kind in force.
        resamples: Of a bootstrap.
        notes: Sentences for the report.
        package: Is there once the candidate is packaged.
    """

    candidate: Judged
    baseline: Judged
    rivals: tuple[Judged, ...]
    context: GateContext
    metric: str
    threshold: str
    resamples: int
    notes: tuple[str, ...] = ()
    package: PackageCheck | None = None

    @property
    def seed(self) -> int:
        """Of every bootstrap."""
        return self.context.seed

    @cached_property
    def pair(self) -> Pair:
        """Candidate and baseline image by image.

        Raises:
            EvaluationError: One of the two did not predict an image.
        """
        return pair_of(self.paired)

    @cached_property
    def paired(self) -> pd.DataFrame:
        """The candidate's rows with `probability_baseline` and `threshold_baseline`.

        Raises:
            EvaluationError: As in `pair`.
        """
        ours, theirs = self.candidate.test, self.baseline.test
        columns = [*CELL, "image_id", "probability", "threshold"]
        pair = ours.merge(theirs[columns], on=[*CELL, "image_id"], suffixes=("", "_baseline"))
        if len(pair) != len(ours) or len(pair) != len(theirs):
            raise EvaluationError("the models did not predict the same images")
        return pair

    def interval(self, metric: str) -> Interval:
        """The 95 % interval of `Pair.difference` on all images."""
        return self.pair.interval(metric, self.resamples, self.seed)


def compare(
    models: Sequence[pd.DataFrame],
    context: GateContext,
    *,
    metric: str,
    threshold: Threshold = "youden",
    resamples: int = 2000,
    titles: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Comparison:
    """Calibrate out-of-fold predictions of candidate, baseline and rivals, in this order, for the gate.

    Probabilities are calibrated, and with `threshold` "youden" thresholds chosen, on the validation part of each
    (fold, seed), if all models hold one; otherwise raw probabilities are judged at 0.5, and a note says so.

    Args:
        models: A frame each, one table row's predictions of any seeds, test and validation parts.
        context: What the gate must know besides.
        metric: The primary metric, by its name in `evaluation.metrics`.
        threshold: "youden" or "half" (0.5).
        resamples: Of each bootstrap.
        titles: What reports call the models; by default strategy, model and variant of their rows.
        notes: Sentences to put into the report.

    Raises:
        EvaluationError: A model has no test predictions.
    """
    for frame in models:
        if frame.empty or not (frame["part"] == "test").any():
            raise EvaluationError("the gate got no test predictions: train candidate and baseline first.")
    calibrated = [_calibrated(frame, threshold) for frame in models]
    tests = [frame for frame in calibrated if frame is not None]
    kind, said = str(threshold), tuple(notes)
    if len(tests) < len(models):
        tests = [frame[frame["part"] == "test"].assign(threshold=0.5) for frame in models]
        kind = "half"
        raw = "No validation predictions were given: probabilities are not calibrated, thresholds are 0.5."
        said = (raw, *said)
    named = zip(titles or map(_title, tests), tests, strict=True)
    candidate, baseline, *rivals = [Judged(title, test) for title, test in named]
    return Comparison(candidate, baseline, tuple(rivals), context, metric, kind, resamples, said)


def pair_of(rows: pd.DataFrame) -> Pair:
    """Rows of `Comparison.paired`, such as those of one source, as arrays."""
    names = ("label", "probability", "probability_baseline", "group", "threshold", "threshold_baseline")
    return Pair(*(rows[name].to_numpy() for name in names))


def _calibrated(predictions: pd.DataFrame, threshold: Threshold) -> pd.DataFrame | None:
    """The test part with calibrated probabilities and thresholds; None where a (fold, seed) has no validation part."""
    import pandas as pd

    test = predictions[predictions["part"] == "test"]
    validation = dict(by_cell(predictions[predictions["part"] == "validation"]))
    cells = []
    for key, cell in by_cell(test):
        if key not in validation:
            return None
        known = validation[key]
        labels, raw = known["label"].to_numpy(), known["probability"].to_numpy()
        calibration = fit_calibration(labels, raw)
        chosen = youden_threshold(labels, calibration.apply(raw)) if threshold == "youden" else 0.5
        cells.append(cell.assign(probability=calibration.apply(cell["probability"].to_numpy()), threshold=chosen))
    return pd.concat(cells)


def _title(frame: pd.DataFrame) -> str:
    return "/".join(str(frame[column].iloc[0]) for column in ROW)
