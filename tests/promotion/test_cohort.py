"""What a project will be judged with, from its folds and parameters; and what is said of it before training."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bus_mlops.config import NetworkChoice
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.project import profile_config
from bus_mlops.promotion.cohort import cohort_of, power_notes


def folds(images: int, malignant: int) -> Folds:
    """Three folds of BUSI, twins in every fifth group, and a source without masks that no gate judges."""
    rows = np.arange(images)
    group = np.where(rows % 10 == 1, rows - 1, rows)
    frame = pd.DataFrame(
        {
            "image_id": [f"busi/{i}" for i in rows],
            "source": "busi",
            "label": (group % images < malignant).astype(int),
            "case_id": [f"busi/{i}" for i in rows],
            "group": [f"g{g}" for g in group],
        }
    )
    for k in (1, 2, 3):
        parts = np.where(group % 3 == k - 1, "test", np.where(group % 3 == k % 3, "train", "validation"))
        frame[f"fold_{k}"] = parts
    other = frame.head(6).assign(source="hmss", image_id=[f"hmss/{i}" for i in range(6)])
    return Folds(pd.concat([frame, other], ignore_index=True), 3)


def test_a_cohort_is_what_the_folds_test_of_the_images_with_masks():
    config = profile_config("demo")
    cohort = cohort_of(config, folds(300, 100))
    seeds = config.strategy_settings.of("approaches", NetworkChoice).seeds
    assert (cohort.images, cohort.malignant, cohort.folds, cohort.seeds) == (300, 100, 3, seeds)
    assert list(cohort.sources) == ["busi"]
    assert cohort.sources["busi"].malignant_cases == 100
    assert cohort.group_size == pytest.approx(1.2)
    assert cohort.validation == pytest.approx(1 / 3, abs=0.05)


def test_before_training_it_is_said_which_rules_can_hardly_be_passed():
    config = profile_config("busi")
    few = power_notes(config, folds(120, 40))
    assert any(note.startswith("Before anything was trained: G1 (sensitivity >= 0.8) ") for note in few)
    assert any("80 % need about" in note for note in few)
    assert power_notes(profile_config("demo"), folds(120, 40)) == ()
    assert "cannot be told: 9 images, 3 of them malignant" in power_notes(config, folds(9, 3))[0]
