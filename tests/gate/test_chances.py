"""What verdicts say of their power, against simulation."""

from __future__ import annotations

import numpy as np
import pytest

from bus_mlops.evaluation.intervals import bootstrap_interval
from bus_mlops.gate.chances import chance_over_floor


@pytest.mark.parametrize(("images", "floor"), [(210, 0.85), (60, 0.8)])
def test_a_floor_is_reached_as_often_as_it_is_said(images, floor):
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [2, images])
    lows = []
    for seed in range(200):
        right = np.concatenate([[0, 0], rng.random(images) < 0.904])
        groups = np.concatenate([["a", "b"], np.arange(images).astype(str)])
        malignant = labels == 1
        answers = np.where(malignant, right, 0.0)
        drawn = bootstrap_interval("accuracy", labels, answers, groups, resamples=300, seed=seed)
        lows.append((drawn.low * labels.size - 2) / images)
    assert np.mean(np.array(lows) >= floor) == pytest.approx(chance_over_floor(0.904, floor, images), abs=0.12)
