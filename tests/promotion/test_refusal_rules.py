"""What a package knows of what it cannot answer: fitted, held out, measured; and of too little, nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from bus_mlops.images.picture_statistics import picture_statistics
from bus_mlops.promotion import refusal
from bus_mlops.promotion.odd_pictures import DRAWN, drawn, speckle
from bus_mlops.promotion.refusal import fit_oddity, fit_triage, measured_triage, odd_statistics


def scans(count: int) -> np.ndarray:
    """Layers with speckle, 64 px."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        layers = gaussian_filter(rng.normal(0, 12, (64, 1)), 4) * 6 + np.linspace(-15, -35, 64)[:, None]
        found.append(np.clip(255 * (1 + (layers + speckle(rng, (64, 64), 0.8, 1.4)) / 55), 0, 255).astype(np.uint8))
    return np.array(found)


def test_drawn_pictures_are_the_same_each_time():
    one, two = (list(drawn(1, seed=3)) for _ in range(2))
    assert list(dict.fromkeys(kind for kind, _, _ in one)) == list(DRAWN)
    assert all(np.array_equal(a, b) for (_, _, a), (_, _, b) in zip(one, two, strict=True))


def test_the_rule_answers_its_own_and_refuses_other_pictures(monkeypatch):
    monkeypatch.setattr(refusal, "PICTURES", 6)
    odd_statistics.cache_clear()
    images = scans(120)
    sources = np.repeat(["a", "b"], 60)
    rule = fit_oddity(images[:120], np.arange(120) // 2, sources, 0.02)
    assert rule is not None
    own, other = rule.refused["training images, held out"], rule.refused["drawn pictures of other things"]
    assert own.share is not None
    assert own.share <= 0.05
    assert other.share is not None
    assert other.share >= 0.9
    assert {"a, when it was left out", "b, when it was left out"} <= set(rule.refused)
    again = type(rule).model_validate_json(rule.model_dump_json())
    statistics = np.array([picture_statistics(image) for image in images[:5]])
    np.testing.assert_array_equal(again.of(statistics), rule.of(statistics))
    assert again.of_square(np.repeat(images[0][..., None], 3, axis=-1)) == pytest.approx(rule.of(statistics)[0])
    odd_statistics.cache_clear()


def test_too_few_groups_give_no_rule():
    assert fit_oddity(scans(30), np.arange(30) // 2, np.full(30, "a"), 0.02) is None


def answers(labels: list[int], probabilities: list[float], groups: list[str] | None = None) -> pd.DataFrame:
    names = [str(i) for i in range(len(labels))]
    return pd.DataFrame(
        {"image_id": names, "group": groups or names, "label": labels, "probability": probabilities}, index=names
    )


@pytest.mark.parametrize(
    ("rows", "low", "high"),
    [
        (answers([1] * 5, [0.9] * 5), None, None),
        (answers([0, 0, 1, 1, 1], [0.1, 0.2, 0.7, 0.8, 0.9]), None, None),
        (answers([0] * 19, [0.1] * 18 + [float("nan")]), None, 0.1),
    ],
    ids=["one class", "five cases", "one class, one answer missing"],
)
def test_too_few_cases_rule_nothing_out(rows, low, high):
    rule = fit_triage(rows, 0.05, 0.1)
    assert (rule.low, rule.high) == (low, high)
    assert rule.of(0.5) in ("uncertain", "high")


def test_a_case_counts_once_by_its_worst_image():
    labels, groups = [1] * 40, [f"case {i // 2}" for i in range(40)]
    probabilities = [0.5 + 0.01 * i for i in range(40)]
    rule = fit_triage(answers(labels, probabilities, groups), 0.1, 0.1)
    assert rule.malignant_cases == 20
    # The second least of the least images of 20 cases: floor(.1 * 21) = 2.
    assert rule.low == pytest.approx(0.52)
    measured = measured_triage(rule, answers([1, 0, 1, 0], [0.4, 0.3, 0.9, 0.95]))
    assert measured["malignant called low"].share == 0.5
    assert measured["benign among low"].share == 0.5
    assert measured["uncertain"].share == 0.5
