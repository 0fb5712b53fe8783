"""Tables on external cohorts: units, clustered intervals, what is too few, and what local cases mend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bus_mlops.evaluation.external import Answered, matrix_lines, metric_lines, recalibration_lines
from bus_mlops.evaluation.intervals import subset_interval
from bus_mlops.evaluation.metrics import classification_metrics

NAMES = {"strategy": "s", "model": "m", "variant": "v", "network": "n"}


def answered(patients: int = 60, shift: float = 0.0, networks: int = 3) -> Answered:
    """Two images of each patient; the networks differ a little, and together are their mean."""
    rng = np.random.default_rng(0)
    cases = np.repeat(np.arange(patients), 2)
    label = (np.arange(patients) % 3 == 0).astype(int)[cases]
    logits = 3 * label - 1.5 + shift + rng.normal(size=patients)[cases] + 0.4 * rng.normal(size=cases.size)
    frame = pd.DataFrame(
        {
            "image_id": [f"x/{i}" for i in range(cases.size)],
            "case_id": [f"x/case{case}" for case in cases],
            "group": [f"x/case{case}" for case in cases],
            "source": "x",
            "label": label,
        }
    )
    told = [1 / (1 + np.exp(-(logits + 0.3 * rng.normal(size=cases.size)))) for _ in range(networks)]
    alone = pd.concat([frame.assign(probability=p, threshold=0.5, seed=i) for i, p in enumerate(told)])
    return Answered(NAMES, "x", frame.assign(probability=np.mean(told, axis=0)), 0.4, networks, alone, (0.8, 0.8))


def test_units_are_images_cases_scanners_and_networks_alone():
    given = answered()
    frame: Any = given.together
    scanners = {image: "A" if place < 80 else "B" for place, image in enumerate(frame["image_id"])}
    lines: Any = pd.DataFrame(metric_lines(given, scanners)).set_index(["answer", "unit", "metric"])
    whole = classification_metrics(frame["label"], frame["probability"], 0.4)
    for metric in ("roc_auc", "sensitivity", "specificity", "balanced_accuracy", "brier"):
        assert lines.loc[("together", "image", metric), "estimate"] == pytest.approx(whole[metric])
    interval = subset_interval("sensitivity", frame, 0.4)
    own = lines.loc[("together", "image", "sensitivity")]
    assert (own["low"], own["high"]) == (interval.low, interval.high)
    cases = frame.groupby("case_id").agg(
        label=("label", "max"), top=("probability", "max"), mean=("probability", "mean")
    )
    for unit, column in (("case, maximum", "top"), ("case, mean", "mean")):
        expected = classification_metrics(cases["label"], cases[column], 0.4)["sensitivity"]
        assert lines.loc[("together", unit, "sensitivity"), "estimate"] == expected
        assert lines.loc[("together", unit, "sensitivity"), "images"] == 60
    assert lines.loc[("together", "scanner A", "specificity"), "images"] == 80
    few = lines.loc[("together", "scanner B", "sensitivity")]
    assert np.isnan(few["estimate"])
    assert few["method"] == "too small: 6 leakage groups with malignant images, 10 are needed"
    assert given.alone is not None
    each = [
        classification_metrics(part["label"], part["probability"])["roc_auc"] for _, part in given.alone.groupby("seed")
    ]
    assert lines.loc[("alone", "image", "roc_auc"), "estimate"] == pytest.approx(np.mean(each))
    assert "the variance between networks" in lines.loc[("alone", "image", "roc_auc"), "method"]


def test_a_shipped_model_has_no_networks_alone_and_unnamed_scanners_no_lines():
    given = answered()
    lines = pd.DataFrame(metric_lines(Answered(NAMES, "x", given.together, 0.4, 5), {}))
    assert set(lines["answer"]) == {"shipped"}
    assert set(lines["unit"]) == {"image", "case, maximum", "case, mean"}


def test_a_line_of_the_matrix_is_the_mean_over_networks_at_their_own_thresholds():
    given = answered()
    assert given.alone is not None
    frame: Any = given.alone.assign(fold=1)
    lines: Any = pd.DataFrame(matrix_lines({**NAMES, "train": "a + b", "test": "x", "how": "external"}, frame))
    assert set(lines["networks"]) == {3}
    values = [
        classification_metrics(p["label"], p["probability"], 0.5)["specificity"] for _, p in frame.groupby("seed")
    ]
    assert lines.set_index("metric").loc["specificity", "estimate"] == pytest.approx(np.mean(values))


def test_local_cases_mend_what_is_shifted():
    lines: Any = pd.DataFrame(recalibration_lines(answered(150, shift=2.0), (20, 50, 500), 30, 1))
    table: Any = lines.set_index(["local_cases", "what", "metric"])
    assert table.loc[(0, "as it is", "specificity"), "median"] < 0.5
    for count in (20, 50):
        assert table.loc[(count, "threshold", "specificity"), "median"] > 0.7
        before, after = (table.loc[(count, what, "brier"), "median"] for what in ("as it is", "platt"))
        assert after < before
        assert table.loc[(count, "platt", "intercept"), "median"] < -0.5
        assert abs(table.loc[(count, "platt", "calibration_intercept"), "median"]) < 0.5
    widths = [np.ptp(table.loc[(count, "threshold", "threshold"), ["low", "high"]]) for count in (20, 50)]
    assert widths[1] < widths[0]
    (refused,) = lines.loc[lines["local_cases"] == 500, "note"]
    assert refused.startswith("not drawn: of 50 malignant cases")
