"""Who beats whom: baycomp's test, scipy's t, Holm's adjustment, and what cannot be compared."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import baycomp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bus_mlops.evaluation.comparison import holm
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.pairwise import PAIR_METRICS, pairwise_table, practical_probabilities
from bus_mlops.evaluation.report.pairwise_section import pairwise_section
from bus_mlops.evaluation.results import PlannedRow
from bus_mlops.evaluation.tidy import Evaluated

FOLDS = (1, 2, 3, 4, 5)


@pytest.mark.parametrize("rope", [0.0, 0.01, 0.03])
def test_the_probabilities_are_baycomps(rope):
    rng = np.random.default_rng(3)
    first, other = 0.85 + rng.normal(0, 0.02, 10), 0.83 + rng.normal(0, 0.02, 10)
    # baycomp's correlation is one fold in ten: n_test / n_train = 1 / 9.
    test = baycomp.CorrelatedTTest(first, other, rope=rope, runs=1)
    left, equal, right = (*test.probs(), None)[:3] if rope else (test.probs()[0], 0.0, test.probs()[1])
    better, same, worse = practical_probabilities(first - other, 1 / 9, rope)
    assert (better, same, worse) == pytest.approx((left, equal, right), abs=1e-9)


@given(st.lists(st.floats(-0.5, 0.5, width=32), min_size=2, max_size=15), st.floats(0.05, 1))
def test_the_probabilities_are_of_three_cases_and_turn_round_with_the_sides(values, ratio):
    better, equal, worse = practical_probabilities(values, ratio)
    assert better + equal + worse == pytest.approx(1)
    assert min(better, equal, worse) >= 0
    assert practical_probabilities([-each for each in values], ratio) == pytest.approx((worse, equal, better), abs=1e-9)


def test_differences_that_are_all_alike_leave_no_doubt():
    assert practical_probabilities([0.02] * 5, 0.25) == (1.0, 0.0, 0.0)
    assert practical_probabilities([0.0] * 5, 0.25) == (0.0, 1.0, 0.0)


def row(variant: str, **changes: Any) -> PlannedRow:
    values: dict[str, Any] = {
        "strategy": "approaches",
        "model": "M",
        "cohort": ("busi",),
        "folds": FOLDS,
        "paper": None,
    }
    return PlannedRow(variant=variant, **{**values, **changes})


def evaluated(rows: list[PlannedRow], cells: dict[str, list[float]]) -> Evaluated:
    frames = [
        pd.DataFrame(
            {
                **{name: getattr(each, name) for name in ("strategy", "model", "variant")},
                "fold": each.folds,
                "seed": 1,
                **{name: cells[each.variant][: len(each.folds)] for name in METRICS},
            }
        )
        for each in rows
    ]
    fold = np.arange(50) % 5 + 1
    parts = {f"fold_{k}": np.where(fold == k, "test", "train") for k in FOLDS}
    folds = pd.DataFrame({"image_id": [f"i{i}" for i in range(50)], "source": "busi", **parts})
    nowhere = Path("nowhere")
    return Evaluated({"approaches": rows}, {}, {}, pd.concat(frames), folds, nowhere, nowhere)


CELLS = {
    "a": [0.90, 0.92, 0.91, 0.93, 0.90],
    "b": [0.80, 0.81, 0.79, 0.84, 0.80],
    "c": [0.80, 0.82, 0.78, 0.84, 0.81],
}


def test_every_pair_is_tested_and_adjusted_over_all_pairs():
    table = pairwise_table(evaluated([row(name) for name in CELLS], CELLS))
    assert list(table["metric"]) == [name for name in PAIR_METRICS for _ in range(3)]
    chosen = table[table["metric"] == "roc_auc"]
    p = []
    for first, other in combinations("abc", 2):
        line = chosen[(chosen["variant"] == first) & (chosen["other_variant"] == other)].iloc[0]
        values = np.subtract(CELLS[first], CELLS[other])
        assert line["difference"] == pytest.approx(values.mean())
        t = values.mean() / (values.std(ddof=1) * np.sqrt(1 / 5 + 10 / 40))
        p.append(2 * stats.t.sf(abs(t), 4))
        assert line["p"] == pytest.approx(p[-1])
        assert line["low"] < line["difference"] < line["high"]
    assert chosen["p_adjusted"].tolist() == pytest.approx(holm(p))


def test_rows_on_other_images_folds_or_without_a_class_are_no_pair():
    rows = [row("a"), row("b", cohort=("busis",)), row("c", folds=(1, 2)), row("a", task="segmentation", model="N")]
    assert pairwise_table(evaluated(rows, CELLS)).empty
    single = [row("a", folds=(1,)), row("b", folds=(1,))]
    empty = pairwise_table(evaluated(single, CELLS))
    assert empty.empty
    assert "p_adjusted" in empty.columns


def test_the_matrix_shows_both_sides_of_a_pair(tmp_path):
    pairwise_table(evaluated([row(name) for name in CELLS], CELLS)).to_csv(tmp_path / "pairwise.csv", index=False)
    section = pairwise_section(tmp_path)
    assert section is not None
    assert section.html.index("1. M a") < section.html.index("2. M ")  # who wins most stands first
    assert 'class="yes">+10.4*' in section.html
    assert 'class="no">−10.4*' in section.html
    assert pairwise_section(tmp_path / "nothing") is None
