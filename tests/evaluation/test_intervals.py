"""The clustered bootstrap against a plain loop with scikit-learn, its coverage, width and reproducibility."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as reference

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.intervals import (
    bootstrap_interval,
    bootstrap_values,
    mean_of_folds_interval,
    percentiles,
    spread,
    subset_interval,
)
from bus_mlops.evaluation.resampling import group_weights


def sample(images: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, images)
    probabilities = np.round(np.clip(0.35 * labels + 0.65 * rng.random(images), 0, 1), 2)
    return labels, probabilities, rng.integers(0, images // 2, images)


def test_spread_is_numpys_with_one_degree_less():
    values = [0.71, 0.74, 0.69, 0.8]
    result = spread(values)
    assert (result.mean, result.deviation) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert np.isnan(spread([0.5]).deviation)
    with pytest.raises(EvaluationError, match="each fold"):
        spread([0.5, np.nan])


@pytest.mark.parametrize(
    ("metric", "score"),
    [
        ("roc_auc", reference.roc_auc_score),
        ("brier", reference.brier_score_loss),
        ("sensitivity", lambda y, p: reference.recall_score(y, p >= 0.5)),
        ("specificity", lambda y, p: reference.recall_score(y, p >= 0.5, pos_label=0)),
        ("f1", lambda y, p: reference.f1_score(y, p >= 0.5)),
        ("accuracy", lambda y, p: reference.accuracy_score(y, p >= 0.5)),
        ("balanced_accuracy", lambda y, p: reference.balanced_accuracy_score(y, p >= 0.5)),
    ],
)
def test_each_resample_equals_the_metric_of_the_repeated_images(metric, score):
    labels, probabilities, groups = sample()
    weights = group_weights(groups, 20, seed=3)
    values = bootstrap_values(metric, labels, probabilities, weights)
    for counts, value in zip(weights.counts, values, strict=True):
        drawn = np.repeat(np.arange(labels.size), counts[weights.member].astype(int))
        assert value == pytest.approx(score(labels[drawn], probabilities[drawn]))


def test_percentiles_are_those_of_scipys_bootstrap_where_each_image_is_a_group():
    labels, probabilities, _ = sample(300)
    ours = bootstrap_interval("brier", labels, probabilities, np.arange(300), resamples=8000)
    errors = ((probabilities - labels) ** 2,)
    drawn = stats.bootstrap(errors, np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(1))
    assert (ours.low, ours.high) == pytest.approx(tuple(drawn.confidence_interval), abs=0.05 * (ours.high - ours.low))
    assert ours.estimate == pytest.approx(reference.brier_score_loss(labels, probabilities))


def test_every_resample_draws_as_many_groups_as_there_are():
    weights = group_weights(["a", "a", "b", "c"], 50, seed=0)
    assert (weights.counts.sum(axis=1) == 3).all()
    assert weights.member.tolist() == [0, 0, 1, 2]


def test_every_group_is_drawn_as_often_as_any_other():
    counts = group_weights(np.arange(20), 4000, seed=0).counts
    assert counts.mean(axis=0) == pytest.approx(np.ones(20), abs=0.1)  # of a standard error of 0.016


def test_the_same_seed_gives_the_same_interval_and_another_does_not():
    labels, probabilities, groups = sample()
    first, again, other = (
        bootstrap_interval("roc_auc", labels, probabilities, groups, resamples=300, seed=s) for s in (1, 1, 2)
    )
    assert first == again
    assert first.low != other.low
    assert first.low < first.estimate < first.high


def test_interval_of_accuracy_is_near_the_binomial_one():
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 400)
    probabilities = np.where(rng.random(400) < 0.8, labels, 1 - labels).astype(float)
    ours = bootstrap_interval("accuracy", labels, probabilities, np.arange(400))
    exact = stats.binomtest(round(ours.estimate * 400), 400).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((exact.low, exact.high), abs=0.012)


def test_what_all_are_right_about_has_wilsons_end():
    labels = np.repeat([0, 1], [30, 8])
    found = bootstrap_interval("sensitivity", labels, labels.astype(float), np.arange(38), resamples=100)
    missed = bootstrap_interval("false_negative_rate", labels, labels.astype(float), np.arange(38), resamples=100)
    exact = stats.binomtest(8, 8).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((exact.low, 1))
    assert (missed.low, missed.high) == pytest.approx((0, 1 - exact.low))


def test_images_of_one_case_widen_the_interval():
    labels, probabilities, _ = sample(100)
    copies = 4
    args = (np.repeat(labels, copies), np.repeat(probabilities, copies))
    clustered = bootstrap_interval("accuracy", *args, np.repeat(np.arange(100), copies))
    naive = bootstrap_interval("accuracy", *args, np.arange(100 * copies))
    ratio = (clustered.high - clustered.low) / (naive.high - naive.low)
    assert ratio == pytest.approx(2, abs=0.35)  # four identical images a case: sqrt(4)


def test_coverage_is_about_nominal():
    rng = np.random.default_rng(11)
    hits, repetitions = 0, 200
    for _ in range(repetitions):
        labels = np.r_[np.zeros(60, int), np.ones(60, int)]
        scores = 1 / (1 + np.exp(-rng.normal(loc=labels, size=120)))
        interval = bootstrap_interval("roc_auc", labels, scores, np.arange(120), resamples=300)
        hits += interval.low <= stats.norm.cdf(1 / np.sqrt(2)) <= interval.high
    assert 0.89 <= hits / repetitions <= 0.985


def test_too_few_cases_of_a_class_is_an_error():
    labels = np.r_[1, np.zeros(9, int)]
    with pytest.raises(EvaluationError, match="too few cases"):
        bootstrap_interval("roc_auc", labels, np.linspace(0, 1, 10), np.arange(10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "auc"}, "unknown metric 'auc'"),
        ({"resamples": 0}, "but got 0"),
        ({"groups": ["a"] * 4}, "two groups"),
        ({"groups": ["a", "b"]}, "4 predictions but 2 groups"),
        ({"confidence": 1.0}, "but got 1.0"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"metric": "accuracy", "groups": list("abcd"), "resamples": 10, **change}
    with pytest.raises(EvaluationError, match=message):
        bootstrap_interval(labels=[0, 0, 1, 1], probabilities=[0.1, 0.6, 0.4, 0.9], **arguments)


def test_percentiles_leave_out_what_is_undefined():
    drawn = np.r_[np.linspace(0, 1, 101), [np.nan]]
    assert percentiles(drawn, 0.9) == pytest.approx((0.05, 0.95, 101))


def trained(folds: int = 3, seeds: int = 2, images: int = 240) -> pd.DataFrame:
    """Predictions of a row: two images a group, one network a fold and seed."""
    rng = np.random.default_rng(2)
    labels = np.repeat(rng.integers(0, 2, images // 2), 2)
    scores = rng.normal(size=images) + 1.3 * labels
    number = np.arange(images)
    columns = {"label": labels, "group": number // 2, "fold": number // 2 % folds + 1, "dice": rng.uniform(size=images)}
    noisy = [scores + rng.normal(size=images) / 2 for _ in range(seeds)]
    frames = [pd.DataFrame({**columns, "seed": s, "probability": 1 / (1 + np.exp(-p))}) for s, p in enumerate(noisy)]
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("metric", ["roc_auc", "sensitivity", "brier", "dice"])
def test_the_mean_of_folds_lies_within_its_own_interval(metric):
    frame = trained()
    found = mean_of_folds_interval(metric, frame, resamples=300)
    cells = [cell for _, cell in frame.groupby(["fold", "seed"])]
    own = {
        "roc_auc": lambda c: reference.roc_auc_score(c["label"], c["probability"]),
        "sensitivity": lambda c: reference.recall_score(c["label"], c["probability"] >= 0.5),
        "brier": lambda c: reference.brier_score_loss(c["label"], c["probability"]),
        "dice": lambda c: c["dice"].mean(),
    }[metric]
    assert found.estimate == pytest.approx(np.mean([own(cell) for cell in cells]))
    assert 0 < found.low < found.estimate < found.high < 1
    assert found.method == "groups drawn in 3 folds, and the variance between folds and seeds"
    assert found == mean_of_folds_interval(metric, frame, resamples=300)
    assert found.low != mean_of_folds_interval(metric, frame, resamples=300, seed=1).low


def test_trainings_that_differ_widen_the_interval():
    frame = trained(seeds=2)
    worse = frame["seed"] == 1
    apart = frame.assign(probability=np.where(worse, 0.5 + (frame["probability"] - 0.5) / 1e6, frame["probability"]))
    apart.loc[worse, "probability"] = np.random.default_rng(0).uniform(size=worse.sum())
    same, other = (mean_of_folds_interval("roc_auc", each, resamples=300) for each in (frame, apart))
    assert other.high - other.low > 1.5 * (same.high - same.low)


def test_one_training_says_that_its_variance_is_not_known():
    found = mean_of_folds_interval("roc_auc", trained(folds=1, seeds=1), resamples=200)
    assert found.method == "groups drawn in 1 fold; one training: its variance is not known"


@pytest.mark.parametrize("metric", ["roc_auc", "sensitivity"])
def test_a_perfect_row_has_an_interval_below_one(metric):
    frame = trained().assign(probability=lambda f: 0.1 + 0.8 * f["label"])
    found = mean_of_folds_interval(metric, frame, resamples=200)
    assert (found.estimate, found.high) == (1, 1)
    assert 0.8 < found.low < 1


def test_what_cannot_be_had_is_nan_and_says_why():
    frame = trained()
    few = frame[(frame["label"] == 0) | (frame["group"] == frame.loc[frame["label"] == 1, "group"].min())]
    few = pd.concat([few.assign(fold=1), frame.assign(fold=2)])
    found = mean_of_folds_interval("roc_auc", few, resamples=200)
    assert np.isnan([found.low, found.high]).all()
    assert found.method == "a fold has too few groups of a class"
    one = mean_of_folds_interval("roc_auc", frame.assign(group="all"), resamples=200)
    assert (np.isnan(one.low), one.method) == (True, "a fold has one group of images only")


def test_a_subset_of_one_class_has_what_needs_no_other():
    malignant = trained().query("label == 1")
    found = subset_interval("sensitivity", malignant, resamples=300)
    assert found.estimate == pytest.approx((malignant["probability"] >= 0.5).mean())
    assert 0 < found.low < found.estimate < found.high < 1
    assert np.isnan(subset_interval("roc_auc", malignant, resamples=300).estimate)
