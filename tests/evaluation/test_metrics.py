"""Metrics against scikit-learn over generated cases, and the messages of what cannot be evaluated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as reference

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.calibration import tells_slope
from bus_mlops.evaluation.metrics import METRICS, classification_metrics, mask_overlap, mean_overlap
from bus_mlops.evaluation.roc import roc_curve, weighted_roc_auc, youden_threshold


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels with both classes, and probabilities with many ties."""
    n = draw(st.integers(2, 60))
    labels = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 1)))
    labels[0], labels[-1] = 0, 1
    values = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1))
    return labels, draw(hnp.arrays(np.float64, n, elements=values))


# Without a reference in scikit-learn: test_ranking.py and test_calibration.py.
OTHERS = (
    *("sensitivity_at_specificity_90", "specificity_at_sensitivity_90"),
    *("calibration_error", "calibration_excess", "calibration_slope", "calibration_intercept"),
)


@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from([0.25, 0.5, 0.9]))
def test_metrics_equal_scikit_learn(case, threshold):
    labels, probabilities = case
    predicted = (probabilities >= threshold).astype(int)
    ours = classification_metrics(labels, probabilities, threshold)
    tn, fp, fn, tp = reference.confusion_matrix(labels, predicted, labels=[0, 1]).ravel()
    expected = pytest.approx(
        {
            "accuracy": reference.accuracy_score(labels, predicted),
            "sensitivity": reference.recall_score(labels, predicted),
            "specificity": reference.recall_score(labels, predicted, pos_label=0),
            "f1": reference.f1_score(labels, predicted, zero_division=0),
            "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
            "false_positive_rate": fp / (fp + tn),
            "false_negative_rate": fn / (fn + tp),
            "roc_auc": reference.roc_auc_score(labels, probabilities),
            "average_precision": reference.average_precision_score(labels, probabilities),
            "brier": reference.brier_score_loss(labels, probabilities),
        }
    )
    assert {name: value for name, value in ours.items() if name not in OTHERS} == expected
    undefined = {name for name in OTHERS if not np.isfinite(ours[name])}
    assert undefined == (set() if tells_slope(labels, probabilities) else {"calibration_slope"})


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(0, 2**31))
def test_weighted_area_equals_scikit_learn(case, seed):
    labels, probabilities = case
    weights = np.random.default_rng(seed).integers(1, 4, size=(3, labels.size))
    expected = [reference.roc_auc_score(labels, probabilities, sample_weight=row) for row in weights]
    assert weighted_roc_auc(labels, probabilities, weights) == pytest.approx(expected)


def test_the_papers_auc_is_balanced_accuracy_and_not_the_roc_area():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    probabilities = np.clip(0.3 * labels + 0.7 * rng.random(200), 0, 1)
    values = classification_metrics(labels, probabilities)
    thresholded = reference.roc_auc_score(labels, probabilities >= 0.5)
    assert values["balanced_accuracy"] == pytest.approx(thresholded)
    assert abs(values["roc_auc"] - thresholded) > 0.01


def test_a_threshold_for_each_image():
    values = classification_metrics([0, 1, 1], [0.4, 0.4, 0.4], threshold=[0.5, 0.3, 0.5])
    assert values["sensitivity"] == 0.5
    assert values["specificity"] == 1.0


def test_roc_curve_runs_from_corner_to_corner():
    false_positive, true_positive, thresholds = roc_curve([0, 1, 0, 1], [0.1, 0.4, 0.35, 0.8])
    assert (false_positive[0], true_positive[0]) == (0, 0)
    assert (false_positive[-1], true_positive[-1]) == (1, 1)
    assert np.isinf(thresholds[0])


@settings(max_examples=60, deadline=None)
@given(cases())
@example((np.array([0, 1]), np.array([0.0, 5e-324])))
def test_no_threshold_has_a_larger_youden_index(case):
    labels, probabilities = case

    def index(threshold: float) -> float:
        # These two alone, since there are up to sixty thresholds.
        return sum(METRICS[name].value(labels, probabilities, threshold) for name in ("sensitivity", "specificity"))

    best = index(youden_threshold(labels, probabilities))
    assert all(best >= index(t) - 1e-9 for t in {*probabilities, 0.5, 1.1})


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([1, 1], [0.2, 0.8], "all 2 images are malignant"),
        ([0, 0], [0.2, 0.8], "all 2 images are benign"),
        ([0, 1], [0.2, np.nan], "1 of 2 probabilities are NaN"),
        ([0, 1], [0.2, 1.5], "between 0 and 1 but range from 0.2 to 1.5"),
        ([0, 1], [-3.0, 0.5], "are they logits"),
        ([0, 2], [0.2, 0.5], "but one is 2"),
        ([0, 1, 1], [0.2, 0.5], "the same length"),
        ([], [], "no predictions"),
    ],
)
def test_what_cannot_be_evaluated_says_why(labels, probabilities, message):
    with pytest.raises(EvaluationError, match=message):
        classification_metrics(labels, probabilities)


def test_mask_overlap_by_hand_and_its_relation():
    truth = np.zeros((3, 4, 4), np.uint8)
    truth[0, :2] = 1  # 8 pixels
    truth[1, 0] = 1
    predicted = np.zeros_like(truth)
    predicted[0, 1:3] = 1  # 8 pixels, 4 shared
    predicted[2, 0, 0] = 1  # no ground truth
    dice, iou = mask_overlap(truth, predicted)
    assert dice[:2].tolist() == [0.5, 0.0]
    assert iou[:2] == pytest.approx([1 / 3, 0.0])
    assert np.isnan(dice[2])
    assert mean_overlap(dice) == 0.25
    assert dice[0] == pytest.approx(2 * iou[0] / (1 + iou[0]))
    assert np.isnan(mean_overlap([np.nan]))


def test_masks_of_different_size_are_an_error():
    with pytest.raises(EvaluationError, match="but are"):
        mask_overlap(np.zeros((1, 2, 2)), np.zeros((1, 3, 3)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=2, max_size=30))
def test_youdens_threshold_is_the_lowest_of_the_best_halfway_points(drawn):
    """On a score itself an image would sit on the fence; of equal thresholds the more sensitive one is taken."""
    labels = np.array([int(malignant) for malignant, _ in drawn])
    scores = np.array([score for _, score in drawn]) / 16  # halves of sixteenths are exact
    if labels.min() == labels.max():
        return
    steps = np.unique(scores)
    candidates = [steps[0], *((steps[1:] + steps[:-1]) / 2)]

    def youden(cut: float) -> float:
        called = scores >= cut
        return round(float(called[labels == 1].mean() + (~called[labels == 0]).mean()), 12)

    best = max(youden(cut) for cut in candidates)
    assert youden_threshold(labels, scores) == min(cut for cut in candidates if youden(cut) == best)
