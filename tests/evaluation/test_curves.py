"""Decision curves, reliability and scores: against dcurves and scikit-learn, and where they cannot say anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dcurves import dca
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.calibration import calibration_curve

from bus_mlops.evaluation.curves import (
    MODEL,
    THRESHOLDS,
    TREAT_ALL,
    TREAT_NONE,
    decision_curve,
    equal_count_bins,
    net_benefit,
    reliability,
    scores,
)
from bus_mlops.evaluation.resampling import GroupWeights
from bus_mlops.evaluation.results import PlannedRow
from bus_mlops.evaluation.tidy import Evaluated

FOLDS = (1, 2, 3, 4, 5)
SINGLE = PlannedRow("approaches", "MobileNet", "Single", ("busi",), FOLDS, None)
MASKS = PlannedRow("approaches", "ESTAN", "Mask only", ("busi",), FOLDS, None, "segmentation")
GRID = PlannedRow("approaches", "MobileNet", "BCE", ("busi",), FOLDS, None, family="BCE")


def evaluated(frame: pd.DataFrame, *rows: PlannedRow, strategy: str = "approaches") -> Evaluated:
    empty = pd.DataFrame()
    nowhere = Path("nowhere")
    return Evaluated({strategy: list(rows)}, {strategy: frame}, {}, empty, empty, nowhere, nowhere)


@pytest.fixture(scope="module")
def frame(predictions) -> pd.DataFrame:
    return predictions()


@pytest.fixture(scope="module")
def test(frame) -> pd.DataFrame:
    return frame[frame["part"] == "test"]


def test_net_benefit_is_that_of_dcurves(frame, test):
    table = decision_curve(evaluated(frame, SINGLE))
    reference = dca(
        data=test[["label", "probability"]], outcome="label", modelnames=["probability"], thresholds=THRESHOLDS
    )
    for ours, theirs in ((MODEL, "probability"), (TREAT_ALL, "all"), (TREAT_NONE, "none")):
        own = table[table["what"] == ours]
        expected = reference[reference["model"] == theirs].sort_values("threshold")
        assert own["threshold"].to_numpy() == pytest.approx(expected["threshold"].to_numpy())
        assert own["estimate"].to_numpy() == pytest.approx(expected["net_benefit"].to_numpy())
        assert (own["low"] <= own["estimate"]).all()
        assert (own["estimate"] <= own["high"]).all()
    assert len(table) == 3 * 99


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=20))
def test_net_benefit_with_ties_and_one_class_is_its_definition(drawn):
    labels = np.array([int(malignant) for malignant, _ in drawn])
    p = np.array([score / 4 for _, score in drawn])
    thresholds = np.array([0.25, 0.5, 0.75])
    (found,) = net_benefit(labels, p, GroupWeights.identity(labels.size), thresholds)
    for value, threshold in zip(found, thresholds, strict=True):
        tp, fp = (np.sum((p >= threshold) & (labels == label)) for label in (1, 0))
        assert value == pytest.approx(tp / labels.size - fp / labels.size * threshold / (1 - threshold))


def test_reliability_is_that_of_scikit_learn(frame, test):
    table = reliability(evaluated(frame, SINGLE))
    bins = table[table["metric"] == "observed"]
    observed, mean = calibration_curve(test["label"], test["probability"], n_bins=10, strategy="quantile")
    assert bins["estimate"].to_numpy() == pytest.approx(observed)
    assert bins["mean_probability"].to_numpy() == pytest.approx(mean)
    assert (bins["images"] == 20).all()
    for low, value, high in (("low", "estimate", "high"), ("from_consistent", "mean_probability", "to_consistent")):
        assert (bins[low] <= bins[value] + 0.05).all()
        assert (bins[value] <= bins[high] + 0.05).all()
    error = table.set_index("metric").loc["calibration_error", "estimate"]
    assert error == pytest.approx(np.mean(np.abs(observed - mean)))


def test_what_no_image_of_a_bin_shows_may_be_there_all_the_same(frame, test):
    sure = frame.assign(probability=0.05 + 0.9 * frame["label"])
    groups = test.groupby("label")["group"].nunique()
    unseen = [stats.binomtest(0, int(groups[label])).proportion_ci(method="wilson").high for label in (0, 1)]
    bins = reliability(evaluated(sure, SINGLE)).query("metric == 'observed'")
    assert bins["estimate"].tolist() == [0, 1]
    assert bins["high"].tolist() == pytest.approx([unseen[0], 1])
    assert bins["low"].tolist() == pytest.approx([0, 1 - unseen[1]])
    table = scores(evaluated(sure, SINGLE))
    for label, name in enumerate(("benign", "malignant")):
        own = table[table["label"] == name]
        assert own.loc[own["estimate"] == 0, "high"].to_numpy() == pytest.approx(unseen[label])
        assert own.loc[own["estimate"] == 1, "low"].to_numpy() == pytest.approx(1 - unseen[label])


def test_right_probabilities_have_no_excess_error_and_wrong_ones_do(frame):
    """A perfect model has an error all the same: that is what is taken off."""
    rng = np.random.default_rng(1)
    right = frame.assign(probability=rng.random(len(frame)))
    right["label"] = (rng.random(len(frame)) < right["probability"]).astype(int)
    wrong = right.assign(probability=right["probability"] ** 3)
    for given_, sure in ((right, False), (wrong, True)):
        values = reliability(evaluated(given_, SINGLE)).set_index("metric")
        error, if_right = values.loc["calibration_error"], values.loc["calibration_error_if_right"]
        assert values.loc["excess_calibration_error", "estimate"] == pytest.approx(
            error["estimate"] - if_right["estimate"]
        )
        assert if_right["estimate"] > 0.03
        assert (error["estimate"] > if_right["high"]) == sure


def test_bins_of_equal_probabilities_are_one(frame):
    flat = frame.assign(probability=0.4)
    table = reliability(evaluated(flat, SINGLE))
    bins = table[table["metric"] == "observed"]
    assert bins[["bin", "images", "mean_probability"]].to_numpy().tolist() == [[1, 200, pytest.approx(0.4)]]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.integers(1, 10))
def test_bins_follow_the_probabilities_and_keep_ties_together(drawn, most):
    p = np.array(drawn) / 8
    bins = equal_count_bins(p, most)
    assert set(bins) == set(range(bins.max() + 1))
    assert bins.max() < most
    order = np.argsort(p, kind="stable")
    assert (np.diff(bins[order]) >= 0).all()
    assert all(len(set(bins[p == value])) == 1 for value in p)


def test_scores_are_shares_of_each_class(frame, test):
    table = scores(evaluated(frame, SINGLE))
    for label, name in enumerate(("benign", "malignant")):
        own = table[table["label"] == name]
        counts, edges = np.histogram(test.loc[test["label"] == label, "probability"], bins=20, range=(0, 1))
        assert own["estimate"].to_numpy() == pytest.approx(counts / counts.sum())
        assert own["from_probability"].to_numpy() == pytest.approx(edges[:-1])
        assert own["low"].between(0, own["estimate"]).all()


def test_certain_probabilities_are_in_the_last_bin(frame):
    table = scores(evaluated(frame.assign(probability=frame["label"].astype(float)), SINGLE))
    filled = table[table["estimate"] > 0]
    assert filled[["label", "from_probability", "estimate"]].to_numpy().tolist() == [
        ["benign", 0, 1],
        ["malignant", 0.95, 1],
    ]


@pytest.mark.parametrize("table", [decision_curve, reliability, scores])
def test_one_case_or_one_class_leaves_estimates(frame, table):
    one = table(evaluated(frame.assign(group="g"), SINGLE))
    several = table(evaluated(frame, SINGLE))
    known = ~one["metric"].isin(["calibration_error_if_right", "excess_calibration_error"])  # these rest on groups
    assert one.loc[known, "estimate"].to_numpy() == pytest.approx(several.loc[known, "estimate"].to_numpy())
    drawn = one["method"] == "one leakage group: no interval"
    assert drawn.any()
    assert one.loc[drawn, ["low", "high"]].isna().all(axis=None)
    benign = table(evaluated(frame.assign(label=0), SINGLE))
    assert benign["estimate"].notna().all()
    assert "malignant" not in set(benign.get("label", ()))


@pytest.mark.parametrize("table", [decision_curve, reliability, scores])
def test_drawn_are_headline_rows_of_candidates_that_classify(frame, predictions, table):
    masks = predictions(model="ESTAN", variant="Mask only", task="segmentation")
    every = pd.concat([frame, masks, predictions(model="MobileNet", variant="BCE")])
    assert set(table(evaluated(every, SINGLE, MASKS, GRID))["variant"]) == {"Single"}
    assert not table(evaluated(frame, SINGLE, strategy="tuned-focal")).empty
    nothing = table(evaluated(frame, SINGLE, strategy="optimizers"))
    assert nothing.empty
    assert {"strategy", "metric", "estimate", "low", "high", "method"} <= set(nothing.columns)
