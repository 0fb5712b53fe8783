"""The clustered test of two ensembles: references, size and power as stated, and its edges."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.formula.api as smf
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.clustered_test import (
    Difference,
    Network,
    PairedImages,
    Trainings,
    chance_to_find,
    clustered_difference,
)
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.spec import CellKey


def images(seed: int = 0, count: int = 120, folds: int = 3, size: int = 1) -> PairedImages:
    rng = np.random.default_rng(seed)
    group = np.arange(count) // size
    labels = rng.integers(0, 2, count)[group]
    shown = labels + 1.5 * rng.normal(size=count)
    ours, theirs = (1 / (1 + np.exp(-(shown + 0.5 * rng.normal(size=count)))) for _ in range(2))
    half = np.full(count, 0.6)
    return PairedImages(group % folds + 1, labels, ours, theirs, group.astype(object), half, half)


def trainings(values: list[list[float]], networks: int) -> Trainings:
    return Trainings({CellKey(f, s): v for f, row in enumerate(values) for s, v in enumerate(row)}, networks)


def test_the_error_of_cases_is_the_textbooks_where_there_is_one():
    """Of a mean over independent images (accuracy) it is the paired standard error of each fold."""
    pair = images(count=600)
    found = clustered_difference("accuracy", pair, [], resamples=4000)
    right = [((p >= 0.6) == pair.labels).astype(float) for p in (pair.candidate, pair.baseline)]
    errors = [stats.sem((right[0] - right[1])[pair.folds == fold]) for fold in (1, 2, 3)]
    assert found.case_error == pytest.approx(math.hypot(*errors) / 3, rel=0.05)
    assert found.estimate == pytest.approx(np.mean([(right[0] - right[1])[pair.folds == f].mean() for f in (1, 2, 3)]))


def test_copies_of_images_tell_nothing_new():
    one, twice = images(count=300), images(count=300)
    doubled = PairedImages(*(np.repeat(getattr(twice, name), 2) for name in PairedImages.__dataclass_fields__))
    errors = [clustered_difference("roc_auc", each, []).case_error for each in (one, doubled)]
    assert errors[0] == pytest.approx(errors[1])


def test_the_variance_between_seeds_is_that_of_an_analysis_of_variance():
    rng = np.random.default_rng(3)
    values = (rng.normal(size=(4, 1)) + 0.1 * rng.normal(size=(4, 3))).tolist()
    import pandas as pd

    frame = pd.DataFrame([(v, f) for f, row in enumerate(values) for v in row], columns=["value", "fold"])
    reference = smf.ols("value ~ C(fold)", frame).fit()
    variance, degrees = trainings(values, 3).variance()
    assert degrees == reference.df_resid == 8
    assert variance == pytest.approx(reference.mse_resid / (4 * 3))


def test_one_part_alone_has_its_own_degrees_of_freedom():
    """Satterthwaite: as Welch's test where there is nothing but two variances between seeds."""
    pair = images()
    same = replace(pair, baseline=pair.candidate)
    ours, theirs = [[0.1, 0.3, 0.2]] * 3, [[0.1, 0.5, 0.0]] * 3
    found = clustered_difference("roc_auc", same, [trainings(ours, 3), trainings(theirs, 3)])
    a, b = (np.var(values[0], ddof=1) / 9 for values in (ours, theirs))
    assert found.case_error == 0
    assert found.degrees_of_freedom == pytest.approx((a + b) ** 2 / (a**2 / 6 + b**2 / 6))
    assert (found.estimate, found.t, found.p_one_sided) == (0, 0, 0.5)


@given(st.integers(0, 1000), st.sampled_from(["roc_auc", "brier", "false_negative_rate"]))
def test_turned_round_it_is_the_other_way(seed, metric):
    pair = images(seed)
    turned = replace(pair, candidate=pair.baseline, baseline=pair.candidate)
    one, other = (clustered_difference(metric, each, [], resamples=20) for each in (pair, turned))
    assert one.estimate == pytest.approx(-other.estimate)
    assert one.case_error == pytest.approx(other.case_error)
    direct = [
        METRICS[metric].value(pair.labels[r], p[r], 0.6)
        for p in (pair.candidate, pair.baseline)
        for r in [pair.folds == f for f in (1, 2, 3)]
    ]
    assert one.estimate == pytest.approx(METRICS[metric].direction * (np.mean(direct[:3]) - np.mean(direct[3:])))


def test_ties_are_no_evidence():
    pair = images()
    flat = replace(pair, candidate=np.full(120, 0.5), baseline=np.full(120, 0.5))
    found = clustered_difference("roc_auc", flat, [])
    assert (found.estimate, found.standard_error, found.p_one_sided) == (0, 0, 0.5)
    assert found.interval() == (0, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"candidate": np.full(120, np.nan)}, "NaN"),
        ({"labels": np.zeros(120, dtype=int)}, "all 40 images are benign"),
        ({"groups": np.full(120, "one", dtype=object)}, "two groups"),
        ({"labels": np.repeat([1, 0], [3, 117])}, "lack one of the classes"),
    ],
)
def test_what_has_no_answer_says_why(change, said):
    with pytest.raises(EvaluationError, match=said):
        clustered_difference("roc_auc", replace(images(), **change), [])


@pytest.mark.parametrize("values", [[[0.1], [0.2]], [[0.1, float("nan")], [0.1, 0.2]]])
def test_trainings_without_a_variance_say_so(values):
    with pytest.raises(EvaluationError, match="between seeds"):
        trainings(values, 2).variance()


def test_a_fold_of_one_seed_tells_nothing_of_what_seeds_share():
    _, (whole, _) = alone(networks=3, own=0.3, case_noise=0.5)
    kept = {cell for cell in whole.alone if cell.fold != 3 or cell.seed == 0}
    lacking = replace(
        whole,
        values={cell: value for cell, value in whole.values.items() if cell in kept},
        alone={cell: network for cell, network in whole.alone.items() if cell in kept},
    )
    without = replace(whole, alone={cell: each for cell, each in whole.alone.items() if cell.fold != 3})
    shared = [each.shared_with_cases("roc_auc", 50, 0) for each in (lacking, without)]
    assert shared[0] == pytest.approx(shared[1])
    assert shared[0] > 0
    with pytest.raises(EvaluationError, match="needs two or more seeds of every fold"):
        clustered_difference("roc_auc", alone(3, 0.3, 0.5)[0], [lacking], resamples=20)


@pytest.mark.parametrize("gain", [0.0, 0.02, 0.05])
def test_the_stated_power_is_the_share_that_is_found(gain):
    """Of a difference whose standard error is estimated from eight degrees of freedom."""
    rng = np.random.default_rng(7)
    estimates = gain + 0.02 * rng.normal(size=4000)
    errors = 0.02 * np.sqrt(rng.chisquare(8, 4000) / 8)
    found = [Difference(d, e, 0.0, 8).p_one_sided < 0.05 for d, e in zip(estimates, errors, strict=True)]
    assert chance_to_find(gain, 0.02, 8, 0.05) == pytest.approx(np.mean(found), abs=0.025)
    assert chance_to_find(gain, 0.02, 20_000, 0.05) == pytest.approx(chance_to_find(gain, 0.02, 9_999, 0.05), abs=1e-3)


def alone(networks: int, own: float, case_noise: float, count: int = 600) -> tuple[PairedImages, list[Trainings]]:
    """Two ensembles of one procedure on three folds: networks differ in whole (`own`) and by image (`case_noise`)."""
    rng = np.random.default_rng([networks, int(100 * own), int(100 * case_noise)])
    fold, labels = np.arange(count) % 3 + 1, rng.integers(0, 2, count)
    shown, group, half = labels + rng.normal(size=count), np.arange(count).astype(object), np.full(count, 0.5)
    answers, models = [], []
    for _ in range(2):
        apart = own * rng.normal(size=(3, networks))[fold - 1].T
        logits = (shown - 0.5) * (1 + apart) + case_noise * rng.normal(size=(networks, count))
        said = 1 / (1 + np.exp(-logits))
        cells = {
            CellKey(f, s): Network(labels[fold == f], said[s, fold == f], group[fold == f], half[fold == f])
            for f in (1, 2, 3)
            for s in range(networks)
        }
        values = {cell: METRICS["roc_auc"].value(each.labels, each.probabilities) for cell, each in cells.items()}
        models.append(Trainings(values, networks, cells))
        answers.append(said.mean(axis=0))
    return PairedImages(fold, labels, answers[0], answers[1], group, half, half), models


def test_what_cases_change_already_is_not_counted_twice():
    """Networks that differ by image alone have no variance between seeds of their own, whatever their metrics do."""
    pair, models = alone(networks=40, own=0.0, case_noise=1.0)
    for model in models:
        whole, _ = model.variance()
        shared = model.shared_with_cases("roc_auc", 400, 0)
        assert whole * 3 * 40 == pytest.approx(shared, rel=0.35)
    found, twice = (
        clustered_difference("roc_auc", pair, each) for each in (models, [replace(model, alone={}) for model in models])
    )
    assert found.case_error == twice.case_error
    assert found.seed_error < 0.5 * twice.seed_error
    assert found.standard_error < twice.standard_error


def test_networks_that_are_better_or_worse_on_the_whole_keep_their_variance():
    _, (model, _) = alone(networks=6, own=0.0, case_noise=0.0)
    shifted = {cell: value + 0.02 * (cell.seed % 3 - 1) for cell, value in model.values.items()}
    trainings_apart = replace(model, values=shifted)
    assert model.shared_with_cases("roc_auc", 100, 0) == pytest.approx(0, abs=1e-12)
    assert trainings_apart.variance(0.0)[0] == pytest.approx(0.02**2 * (2 / 3) * (6 / 5) / (3 * 6))
