"""Findings as one family: Holm over the p that each verdict rests on, against statsmodels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bus_mlops.evaluation.paper.contrasts import Contrast, contrasts
from bus_mlops.evaluation.paper.findings import Finding
from bus_mlops.evaluation.paper.together import together

multitest = pytest.importorskip("statsmodels.stats.multitest", reason="a reference that only tests need")


def finding(verdict: str, overall: float | None = None, tests: tuple[float, ...] = (), **more: Any) -> Finding:
    def contrast(p: float) -> Contrast:
        return Contrast("x", 0.1, 0.0, 0.2, p, min(1.0, p * len(tests)))

    mean = None if overall is None else contrast(overall)
    words = ("name", "losses", "f1", "points", 1, verdict, "It rises.", 6, "", "", "", "")
    return Finding(*words, overall=mean, tests=tuple(contrast(p) for p in tests), **more)


def test_every_finding_counts_once_by_the_test_that_decides_it():
    found = together(
        [
            finding("shown", 0.001),
            finding("opposite", 0.03),
            finding("not shown", 0.4),
            finding("shown", None, (0.002, 0.01), needs_all=True),
            finding("shown", None, (0.004, 0.9)),
            finding("not tested", float("nan")),
            finding("shown", 0.04, by_equality=True),
        ]
    )
    expected = multitest.multipletests([0.001, 0.03, 0.4, 0.01, 0.008], method="holm")[1]
    assert [each.p_adjusted for each in found[:5]] == pytest.approx(expected)
    assert np.isnan([each.p_adjusted for each in found[5:]]).all()
    verdicts = ["shown", "not shown", "not shown", "shown", "shown", "not tested", "shown"]
    assert [each.verdict for each in found] == verdicts
    assert found[1].statement == "Not beyond chance among 5 findings (p = 0.060 after Holm), though alone: it rises."
    assert found[5].to_dict()["p_adjusted"] is None


def test_no_interval_reaches_beyond_a_hundred_points():
    (wide,) = contrasts({"a": [0.5, -0.4]}, 0.5)
    assert (wide.low, wide.high) == (-1, 1)
