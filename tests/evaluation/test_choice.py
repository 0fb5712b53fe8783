"""When a trial replaces the first: against a bootstrap that is written out, resample by resample."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation import choice
from bus_mlops.evaluation.choice import Candidate, choose, difference_error, mean_value
from bus_mlops.evaluation.metrics import METRICS


def step(seed: int, shift: float = 0.0, noise: float = 0.0, images: int = 80, prefix: str = "") -> pd.DataFrame:
    """A validation part: pairs of images of a case; `shift` separates the classes, `noise` is of this candidate."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(images) % 2)
    logit = rng.normal(1.5 * label, 1) + shift * label
    logit = logit + noise * np.random.default_rng([seed, 9]).normal(size=images)
    group = [f"{prefix or seed}-{i // 2}" for i in range(images)]
    return pd.DataFrame({"label": label, "probability": 1 / (1 + np.exp(-logit)), "group": group})


def candidate(number: int, steps: list[pd.DataFrame], objective: str = "roc_auc") -> Candidate:
    return Candidate(number, {"number": number}, mean_value(steps, objective), steps)


def wins(label: np.ndarray, p: np.ndarray) -> float:
    """How often a malignant image is above a benign one; these scores have no ties but of an image with itself."""
    return float((p[label == 1][:, None] > p[label == 0]).mean())


def f1(label: np.ndarray, p: np.ndarray) -> float:
    called = p >= 0.5
    return float(2 * (called & (label == 1)).sum() / (called.sum() + label.sum()))


def test_the_first_stays_unless_another_is_better_by_more_than_the_noise():
    first = candidate(0, [step(1), step(2)])
    better = candidate(1, [step(1, shift=0.2, noise=0.3), step(2, shift=0.2, noise=0.3)])
    much = candidate(2, [step(1, shift=3), step(2, shift=3)])
    found = choose([first, better], "roc_auc", 1e3)
    assert (found.number, found.best) == (0, 1)
    assert found.difference == pytest.approx(better.value - first.value)
    assert found.reason.startswith("the first: another is better by")
    ratio = found.difference / found.standard_error
    assert choose([first, better], "roc_auc", 0.99 * ratio).number == 1
    assert choose([first, better], "roc_auc", 1.01 * ratio).number == 0
    assert choose([first, better, much], "roc_auc", 2.0).number == 2
    assert choose([first, better], "roc_auc", 0).reason.startswith("the best value")


def test_equal_values_go_to_the_earliest():
    same = [candidate(number, [step(1)]) for number in (4, 2, 3)]
    assert choose(same, "roc_auc", 0).number == 4
    assert choose(same, "roc_auc", 0).standard_error == 0
    twins = [same[0], candidate(7, [step(1, shift=2)]), candidate(5, [step(1, shift=2)])]
    assert choose(twins, "roc_auc", 1).number == 7


def test_less_is_better_where_the_metric_says_so():
    first, worse = candidate(0, [step(1, shift=3)], "brier"), candidate(1, [step(1)], "brier")
    assert first.value < worse.value
    assert choose([first, worse], "brier", 0).number == 0
    assert choose([worse, first], "brier", 1).number == 0
    assert choose([worse, first], "brier", 1).difference > 0


@pytest.mark.parametrize("objective", ["roc_auc", "f1"])
def test_the_standard_error_is_that_of_a_bootstrap_over_groups(objective: str, monkeypatch):
    """Two seeds on one fold share their groups, a third step has its own."""
    monkeypatch.setattr(choice, "RESAMPLES", 4000)
    shapes = [(1, "a", 0.0), (2, "a", 0.1), (3, "b", 0.2)]
    labels = step(1)["label"]  # one fold, one truth
    steps = [[step(seed, shift, noise, prefix=prefix) for seed, prefix, shift in shapes] for noise in (0, 0.8)]
    for side in steps:
        for each in side:
            each["label"] = labels
    first, other = (candidate(number, side, objective) for number, side in enumerate(steps))
    score = wins if objective == "roc_auc" else f1
    truth, p = labels.to_numpy(), [[each["probability"].to_numpy() for each in side] for side in steps]
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(800):
        names = {prefix: rng.integers(0, 40, 40) for prefix in "ab"}
        rows = {prefix: np.concatenate([2 * name, 2 * name + 1]) for prefix, name in names.items()}
        differences = [
            score(truth[rows[prefix]], b[rows[prefix]]) - score(truth[rows[prefix]], a[rows[prefix]])
            for a, b, (_, prefix, _) in zip(*p, shapes, strict=True)
        ]
        drawn.append(np.mean(differences))
    # 800 resamples know a standard error to 2.5 %.
    assert difference_error(first, other, METRICS[objective]) == pytest.approx(np.std(drawn, ddof=1), rel=0.09)


def test_the_order_of_images_and_the_number_of_trials_do_not_matter():
    first, other = candidate(0, [step(1)]), candidate(1, [step(1, noise=0.5)])
    order = np.random.default_rng(0).permutation(80)
    mixed = [Candidate(c.number, {}, c.value, [c.validation[0].iloc[order]]) for c in (first, other)]
    metric = METRICS["roc_auc"]
    assert difference_error(mixed[0], mixed[1], metric) == pytest.approx(
        difference_error(first, other, metric), rel=1e-12
    )
    noisy = [candidate(number, [step(1, noise=0.1 * number)]) for number in range(2, 30)]
    many = [first, *noisy, candidate(99, [step(1, shift=2)])]
    assert choose(many, "roc_auc", 1).standard_error == choose([many[0], many[-1]], "roc_auc", 1).standard_error


def test_resamples_of_one_class_are_left_out():
    """Where each class is one group, half of the resamples have both; of twelve such steps hardly any."""
    frame = pd.DataFrame({"label": [0, 0, 1, 1], "probability": [0.1, 0.6, 0.5, 0.9], "group": list("aabb")})
    other = frame.assign(probability=[0.1, 0.2, 0.5, 0.9])
    assert choose([candidate(0, [frame]), candidate(1, [other])], "f1", 1).standard_error < 1e-12
    rare = [
        candidate(number, [part.assign(group=[f"{name}{k}" for name in "aabb"]) for k in range(12)])
        for number, part in enumerate((frame, other))
    ]
    assert "too small to tell" in choose(rare, "roc_auc", 1).reason
    assert [choose(rare, "roc_auc", errors).number for errors in (1, 0)] == [0, 1]


def test_what_cannot_be_compared_is_named():
    first = candidate(0, [step(1)])
    with pytest.raises(EvaluationError, match="no complete trial"):
        choose([], "roc_auc", 1)
    with pytest.raises(EvaluationError, match="trial 1 has 2 steps but the first, 0, has 1"):
        choose([first, candidate(1, [step(1, shift=2), step(2, shift=2)])], "roc_auc", 1)
    with pytest.raises(EvaluationError, match="step 1 of trial 3 was validated on other images"):
        choose([first, candidate(3, [step(2, shift=3)])], "roc_auc", 1)
    with pytest.raises(EvaluationError, match="metric of masks"):
        choose([first], "dice", 1)
