"""What is chosen on validation, against scikit-learn; the test part has no say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.families import with_choice
from bus_mlops.evaluation.paper.published import paper_table
from bus_mlops.evaluation.report.rows import table_rows
from bus_mlops.evaluation.results import PlannedRow
from bus_mlops.evaluation.tables import strategy_table

WEIGHTS = (2, 3, 4, 5)


def planned(variant: str, family: str | None) -> PlannedRow:
    paper = (6, "MobileNet", variant) if variant in ("BCE", "WBCE(w_z=3)") else None
    return PlannedRow("losses", "MobileNet", variant, ("busi",), (1, 2, 3, 4, 5), paper, family=family)


ROWS = [planned("BCE", "BCE"), *(planned(f"WBCE(w_z={w})", "WBCE") for w in WEIGHTS)]


@pytest.fixture(scope="module")
def frame(predictions):
    """The logits move by the logarithm of the weight, but weight 4 knows more than the others."""
    frames = [
        predictions(strategy="losses", variant=f"WBCE(w_z={w})", separation=3 if w == 4 else 1, shift=np.log(w), seed=w)
        for w in WEIGHTS
    ]
    return pd.concat([predictions(strategy="losses", variant="BCE"), *frames], ignore_index=True)


def test_the_highest_mean_validation_f1_is_chosen(frame):
    found = with_choice(frame, ROWS)
    assert [row.variant for row in found if row.chosen] == ["BCE", "WBCE(w_z=4)"]
    part = frame[(frame["variant"] == "WBCE(w_z=3)") & (frame["part"] == "validation")]
    scores = [reference.f1_score(cell["label"], cell["probability"] >= 0.5) for _, cell in part.groupby("fold")]
    assert found[2].validation == pytest.approx(np.mean(scores))


def test_the_test_part_has_no_say(frame):
    spoilt = frame.copy()
    spoilt.loc[(spoilt["part"] == "test") & (spoilt["variant"] == "WBCE(w_z=4)"), "probability"] = 0.0
    assert with_choice(spoilt, ROWS) == with_choice(frame, ROWS)


def test_rows_without_a_family_are_left_as_they_are(frame):
    alone = planned("BCE", None)
    assert with_choice(frame, [alone])[0].chosen is False
    assert alone.headline
    assert np.isnan(with_choice(frame, [alone])[0].validation)


def test_the_first_of_equals_is_chosen(frame):
    same = frame[frame["variant"] == "WBCE(w_z=2)"]
    both = pd.concat([same, same.assign(variant="WBCE(w_z=3)")])
    assert [row.chosen for row in with_choice(both, ROWS[1:3])] == [True, False]


def test_without_validation_predictions_nothing_can_be_chosen(frame):
    with pytest.raises(EvaluationError, match="no validation predictions to choose by"):
        with_choice(frame[frame["part"] == "test"], ROWS)
    with pytest.raises(EvaluationError, match=r"WBCE\(w_z=2\), validation part of fold 1: 40 of 40|are NaN"):
        with_choice(frame.assign(probability=np.nan), ROWS[1:])


def test_the_table_says_what_was_chosen_and_by_what(frame):
    table = strategy_table(frame, with_choice(frame, ROWS))
    assert table["chosen"].tolist() == [True, False, False, True, False]
    assert table["family"].tolist() == ["BCE", *["WBCE"] * 4]
    assert table["validation_f1"].idxmax() == 3
    assert table["paper_sensitivity"].notna().tolist() == [True, False, True, False, False]
    rows = table_rows(table)
    assert [row["headline"] for row in rows] == table["chosen"].tolist()
    assert rows[3]["choice"].endswith("; the paper's choice: WBCE(w_z=3)")
    assert rows[2]["choice"].endswith("; the paper's choice")
    assert rows[1]["choice"] == f"validation F1 {table['validation_f1'].iloc[1]:.3f}"
    assert rows[0]["choice"] == ""  # cross-entropy is alone in its family


def test_f1_is_the_one_metric_that_explains_the_papers_choice():
    """Weight 1 was in its grid; by accuracy, specificity or balanced accuracy no network would have left it."""
    rows = paper_table(6)
    for (model, variant), weighted in rows.items():
        if variant.startswith("WBCE"):
            plain = rows[model, "BCE"]
            assert all(weighted[name] < plain[name] for name in ("accuracy", "specificity", "balanced_accuracy"))
            assert weighted["f1"] >= plain["f1"]
