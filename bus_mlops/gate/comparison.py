"""What the gate judges: candidate, baseline and rivals as they would ship, on the same images, paired once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from bus_mlops.consumer.package_format import Calibration
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.cells import ROW, by_cell
from bus_mlops.evaluation.clustered_test import Difference, Network, PairedImages, Trainings, clustered_difference
from bus_mlops.evaluation.comparison import paired_bootstrap_difference
from bus_mlops.evaluation.intervals import Interval
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.gate.ensemble import (
    SPECIFICITY,
    Construction,
    Threshold,
    Thresholds,
    answered,
    best_networks,
    calibrated,
    calibrations_of,
    ensemble_of,
    of_cells,
    thresholds_of,
)
from bus_mlops.gate.intent import Intended
from bus_mlops.gate.look import Look
from bus_mlops.spec import CellKey

if TYPE_CHECKING:
    import pandas as pd

    from bus_mlops.gate.external import ExternalCohort

CONFIDENCE = 0.95
NO_LEAKS = "0 groups"
NOT_RECORDED = "not recorded"
PLACE = ["fold", "image_id"]
THRESHOLDS = ["threshold", "threshold_at_specificity"]


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
        baseline_choice: Where the baseline is the best of several, network -> its metric (fraction) on the validation
            parts, the best first.
        n_train: Images of each fold (1-based) in the models' cohort without the validation part.
        n_test: The same of the test part.
        leak_check: What the leakage check of the folds finds now: "passed" or anything else.
        look: What this judgement may spend of the budget of alpha; None where nobody keeps one.
        intended: Whether these are the terms of the candidate's first run.
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
    intended: Intended = field(default_factory=Intended)
    baseline_choice: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PackageCheck:
    """What a package did in a process that has the consumer's install and nothing more.

    Attributes:
        difference: Of its example from the stored probability (0-1).
        asked: Answers of its members to test images that were held against what their runs recorded.
        distance: The greatest of their differences (0-1); NaN where one has no counterpart.
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
    asked: int = 0
    distance: float = float("nan")


@dataclass(frozen=True)
class Judged:
    """The test part of one model as consumers will see it: calibrated `probability` (0-1), `threshold` to hold it to.

    Attributes:
        title: What reports call the model.
        test: One row an image and fold: what the model answers there (`gate.ensemble`), with `image_id`, `case_id`,
            `group`, `source`, `label` (1 is malignant), `threshold` (of the kind that ships) and
            `threshold_at_specificity` (reaches 90 % specificity on the fold's validation part); `networks` counts those
            behind an answer.
        members: One row an image, fold and seed: what each network answers alone, at thresholds of its own.
    """

    title: str
    test: pd.DataFrame
    members: pd.DataFrame

    @property
    def seeds(self) -> int:
        """Trainings of each fold."""
        return int(self.members["seed"].nunique())

    def metric_by_fold(self, metric: str) -> dict[int, float]:
        """A metric (fraction) of what the model answers in each fold (1-based)."""
        return {int(str(fold)): _value(metric, rows) for fold, rows in self.test.groupby("fold", sort=True)}

    def metric_by_cell(self, metric: str, threshold: str = "threshold") -> dict[CellKey, float]:
        """A metric (fraction) of each network alone, at its threshold in a column."""
        return {key: _value(metric, cell, threshold) for key, cell in by_cell(self.members)}

    def trainings(self, metric: str, threshold: str = "threshold") -> Trainings:
        """What `clustered_difference` asks of the model's networks."""
        alone = {}
        for key, cell in by_cell(self.members):
            rows = cell.sort_values("image_id")
            columns = (rows[name].to_numpy() for name in ("label", "probability", "group", threshold))
            alone[key] = Network(*columns)
        return Trainings(self.metric_by_cell(metric, threshold), int(self.test["networks"].min()), alone)


class Pair(PairedImages):
    """Candidate and baseline on the same images."""

    def difference(self, metric: str) -> float:
        """Candidate minus baseline (fraction), turned round where a lower value is better: above 0 is better."""
        known = METRICS.get_known(metric)
        first = known.value(self.labels, self.candidate, self.candidate_threshold)
        return known.direction * (first - known.value(self.labels, self.baseline, self.baseline_threshold))

    def interval(self, metric: str, resamples: int, seed: int) -> Interval:
        """The 95 % interval of `difference` (fraction); draws whole leakage groups within folds."""
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
            folds=self.folds,
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
        at_specificity: The specificity (fraction) that `threshold_at_specificity` reaches on validation parts.
        package: Is there once the candidate is packaged.
        external: The locked part and external sources, as far as there are any.
    """

    candidate: Judged
    baseline: Judged
    rivals: tuple[Judged, ...]
    context: GateContext
    metric: str
    threshold: str
    resamples: int
    notes: tuple[str, ...] = ()
    at_specificity: float = SPECIFICITY
    package: PackageCheck | None = None
    external: tuple[ExternalCohort, ...] = ()

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
        """The candidate's rows with `probability_baseline` and the baseline's thresholds, named likewise.

        Raises:
            EvaluationError: As in `pair`.
        """
        return _paired(self.candidate, self.baseline)

    def difference(self, metric: str, threshold: str = "threshold", of: Judged | None = None) -> Difference:
        """Of a model, the candidate unless another is named, from the baseline: above 0 is better.

        With one seed there is no variance between seeds, and only the error of cases is known.

        Args:
            metric: By its name.
            threshold: The column that holds it, for the metrics that need one.
            of: One of the rivals.

        Raises:
            EvaluationError: As in `pair` and in `evaluation.clustered_test.clustered_difference`.
        """
        model = of or self.candidate
        pair = pair_of(self.paired if of is None else _paired(of, self.baseline), threshold)
        both = (model, self.baseline)
        trainings = [each.trainings(metric, threshold) for each in both] if self.has_seeds else []
        return clustered_difference(metric, pair, trainings, self.resamples, self.seed)

    @property
    def has_seeds(self) -> bool:
        """Whether every fold of both models was trained with several seeds."""
        return min(self.candidate.seeds, self.baseline.seeds) > 1

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
    construction: Construction = "ensemble",
    answers: pd.DataFrame | None = None,
    at_specificity: float = SPECIFICITY,
) -> Comparison:
    """Candidate, baseline and rivals, in this order, from out-of-fold predictions as the gate judges them.

    What answers for an image is the mean over the networks of its fold, each calibrated on its own validation part,
    held to a threshold that is chosen for that mean on the fold's validation images, if all models hold some; otherwise
    raw probabilities are judged at 0.5, and a note says so.

    Args:
        models: A frame each, one table row's predictions of any seeds, test and validation parts.
        context: What the gate must know besides.
        metric: The primary metric, by its name in `evaluation.metrics`.
        threshold: "youden" or "half" (0.5).
        resamples: Of each bootstrap.
        titles: What reports call the models; by default strategy, model and variant of their rows.
        notes: Sentences to put into the report.
        construction: What ships of candidate and rivals; "single" is the network of a fold that is best on its
            validation part. The baseline is the mean over its networks whatever it is.
        answers: What the candidate's package answered to test images: fold, seed, image_id and calibrated probability.
            They take the place of what its networks recorded; calibrations and thresholds are not chosen on them.
        at_specificity: What `threshold_at_specificity` is to reach (fraction).

    Raises:
        EvaluationError: A model has no test predictions, or no threshold can be chosen.
    """
    for frame in models:
        if frame.empty or not (frame["part"] == "test").any():
            raise EvaluationError("the gate got no test predictions: train candidate and baseline first.")
    titles = titles or [_title(frame) for frame in models]
    fitted = [calibrations_of(frame) for frame in models]
    known = [each for each in fitted if each is not None]
    kind, said = str(threshold), tuple(notes)
    if len(known) == len(models):
        built = [construction if i != 1 else "ensemble" for i in range(len(models))]
        told = [answers if i == 0 else None for i in range(len(models))]
        made = zip(titles, models, known, built, told, strict=True)
        judged = [_judged(*each, metric, threshold, at_specificity) for each in made]
    else:
        judged = [_uncalibrated(*each) for each in zip(titles, models, strict=True)]
        kind = "half"
        raw = "No validation predictions were given: probabilities are not calibrated, thresholds are 0.5."
        said = (raw, *said)
    candidate, baseline, *rivals = judged
    return Comparison(candidate, baseline, tuple(rivals), context, metric, kind, resamples, said, at_specificity)


def pair_of(rows: pd.DataFrame, threshold: str = "threshold") -> Pair:
    """Rows of `Comparison.paired`, such as those of one source, as arrays, with the threshold of a column."""
    names = ("fold", "label", "probability", "probability_baseline", "group", threshold, f"{threshold}_baseline")
    return Pair(*(rows[name].to_numpy() for name in names))


def _judged(
    title: str,
    predictions: pd.DataFrame,
    calibrations: Mapping[CellKey, Calibration],
    construction: Construction,
    answers: pd.DataFrame | None,
    metric: str,
    kind: Threshold,
    at_specificity: float,
) -> Judged:
    import pandas as pd

    test, validation = (
        calibrated(predictions[predictions["part"] == part], calibrations) for part in ("test", "validation")
    )
    if answers is not None:
        test = answered(test, answers)
    alone = dict(by_cell(validation))
    members = pd.concat(
        [
            _held(cell, next(iter(thresholds_of(alone[key], kind, at_specificity).values())))
            for key, cell in by_cell(test)
        ]
    )
    if construction == "single":
        chosen = best_networks(predictions, metric).values()
        test, validation = of_cells(test, chosen), of_cells(validation, chosen)
    thresholds = thresholds_of(ensemble_of(validation), kind, at_specificity)
    answers = ensemble_of(test)
    folds = [_held(rows, thresholds[int(str(fold))]) for fold, rows in answers.groupby("fold", sort=True)]
    return Judged(title, pd.concat(folds), members)


def _uncalibrated(title: str, predictions: pd.DataFrame) -> Judged:
    test = predictions[predictions["part"] == "test"]
    held = Thresholds(0.5, 0.5)
    return Judged(title, _held(ensemble_of(test), held), _held(test, held))


def _held(rows: pd.DataFrame, thresholds: Thresholds) -> pd.DataFrame:
    return rows.assign(threshold=thresholds.shipped, threshold_at_specificity=thresholds.at_specificity)


def _paired(ours: Judged, theirs: Judged) -> pd.DataFrame:
    columns = [*PLACE, "probability", *THRESHOLDS]
    pair = ours.test.merge(theirs.test[columns], on=PLACE, suffixes=("", "_baseline"))
    if len(pair) != len(ours.test) or len(pair) != len(theirs.test):
        raise EvaluationError("the models did not predict the same images")
    return pair


def _value(metric: str, rows: pd.DataFrame, threshold: str = "threshold") -> float:
    columns = (rows[name].to_numpy() for name in ("label", "probability", threshold))
    return METRICS.get_known(metric).value(*columns)


def _title(frame: pd.DataFrame) -> str:
    return "/".join(str(frame[column].iloc[0]) for column in ROW)
