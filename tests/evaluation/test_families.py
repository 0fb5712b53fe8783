"""What is chosen for each fold on its validation part, against scikit-learn; the test part has no say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.families import compose, with_choice
from bus_mlops.evaluation.paper.published import paper_table
from bus_mlops.evaluation.report.rows import table_rows
from bus_mlops.evaluation.results import PlannedRow, seal, with_parameters
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


def f1(frame: pd.DataFrame, variant: str, fold: int, part: str = "validation") -> float:
    cell = frame[(frame["variant"] == variant) & (frame["fold"] == fold) & (frame["part"] == part)]
    return float(reference.f1_score(cell["label"], cell["probability"] >= 0.5))


def taking_the_best(rows: list[PlannedRow]) -> list[PlannedRow]:
    return [replace(row, standard_errors=0.0) for row in rows]


def test_each_fold_takes_the_highest_f1_of_its_own_validation_part(frame):
    found = with_choice(frame, taking_the_best(ROWS))
    assert [row.variant for row in found if row.chosen] == ["BCE", "WBCE, chosen per fold"]
    composite = found[1]
    for fold, variant in composite.chosen_in.items():
        scores = {f"WBCE(w_z={w})": f1(frame, f"WBCE(w_z={w})", fold) for w in WEIGHTS}
        assert scores[variant] == max(scores.values())
    assert set(composite.chosen_in) == {1, 2, 3, 4, 5}
    assert composite.validation == pytest.approx(np.mean([f1(frame, v, k) for k, v in composite.chosen_in.items()]))
    assert found[3].validation == pytest.approx(np.mean([f1(frame, "WBCE(w_z=3)", fold) for fold in range(1, 6)]))


def test_neither_the_test_part_nor_another_fold_has_a_say(frame):
    spoilt = frame.copy()
    spoilt.loc[(spoilt["part"] == "test") & (spoilt["variant"] == "WBCE(w_z=4)"), "probability"] = 0.0
    rows = taking_the_best(ROWS)
    assert with_choice(spoilt, rows) == with_choice(frame, rows)
    spoilt.loc[(spoilt["fold"] != 2) & (spoilt["variant"] == "WBCE(w_z=4)"), "probability"] = 0.0
    assert with_choice(spoilt, rows)[1].chosen_in[2] == with_choice(frame, rows)[1].chosen_in[2]
    assert "WBCE(w_z=4)" not in {v for k, v in with_choice(spoilt, rows)[1].chosen_in.items() if k != 2}


def test_the_papers_row_stays_unless_it_is_beaten_by_more_than_the_noise(frame):
    cautious = with_choice(frame, [replace(row, standard_errors=99.0) for row in ROWS])[1]
    assert set(cautious.chosen_in.values()) == {"WBCE(w_z=3)"}
    assert cautious.paper == ROWS[2].paper
    same = frame[frame["variant"] == "WBCE(w_z=2)"]
    both = pd.concat([same, same.assign(variant="WBCE(w_z=3)"), same.assign(variant="WBCE(w_z=4)")])
    assert set(with_choice(both, taking_the_best(ROWS[1:4]))[0].chosen_in.values()) == {"WBCE(w_z=3)"}
    unprinted = [replace(row, paper=None) for row in taking_the_best(ROWS[1:4])]
    assert set(with_choice(both, unprinted)[0].chosen_in.values()) == {"WBCE(w_z=2)"}


def test_all_seeds_of_a_fold_decide_together(frame):
    """A second seed in which weight 5 is perfect, and weight 4 no better than the others."""
    second = frame.assign(seed=7)
    perfect = second["variant"] == "WBCE(w_z=5)"
    second.loc[perfect, "probability"] = second.loc[perfect, "label"] * 0.8 + 0.1
    second.loc[second["variant"] == "WBCE(w_z=4)", "probability"] = 0.9
    found = with_choice(pd.concat([frame, second]), taking_the_best(ROWS))[1]
    assert set(found.chosen_in.values()) == {"WBCE(w_z=5)"}


def test_the_row_that_stands_for_a_family_is_composed_of_what_was_chosen(frame):
    rows = with_choice(frame, taking_the_best(ROWS))
    composed = compose(frame, rows)
    own = composed[composed["variant"] == "WBCE, chosen per fold"]
    assert len(composed) == len(frame) + len(own)
    for fold, variant in rows[1].chosen_in.items():
        theirs = frame[(frame["variant"] == variant) & (frame["fold"] == fold)].assign(variant=rows[1].variant)
        pd.testing.assert_frame_equal(own[own["fold"] == fold].reset_index(drop=True), theirs.reset_index(drop=True))


def test_rows_without_a_family_and_families_of_one_are_left_as_they_are(frame):
    alone = planned("BCE", None)
    assert with_choice(frame, [alone]) == [alone]
    assert alone.headline
    only = with_choice(frame, [ROWS[1]])
    assert [(row.variant, row.chosen) for row in only] == [("WBCE(w_z=2)", True)]
    assert compose(frame, only) is frame


def test_without_validation_predictions_nothing_can_be_chosen(frame):
    with pytest.raises(EvaluationError, match="no validation predictions to choose by in fold 1"):
        with_choice(frame[frame["part"] == "test"], ROWS)
    with pytest.raises(EvaluationError, match=r"WBCE\(w_z=3\), validation part of fold 1: 40 of 40|are NaN"):
        with_choice(frame.assign(probability=np.nan), ROWS[1:])


def test_the_table_says_what_was_chosen_and_by_what(frame):
    planned_rows = with_choice(frame, taking_the_best(ROWS))
    composed = compose(frame, planned_rows)
    table = strategy_table(composed, planned_rows)
    assert table["chosen"].tolist() == [True, True, False, False, False, False]
    assert table["family"].tolist() == ["BCE", *["WBCE"] * 5]
    assert table["paper_sensitivity"].notna().tolist() == [True, False, False, True, False, False]
    per_fold = [f1(composed, "WBCE, chosen per fold", fold, "test") for fold in range(1, 6)]
    assert table["f1_mean"].iloc[1] == pytest.approx(np.mean(per_fold))
    assert table["fingerprint"].iloc[1].split(", ") == list(
        dict.fromkeys(f"MobileNet-{variant}" for variant in planned_rows[1].chosen_in.values())
    )
    rows = table_rows(table)
    assert [row["headline"] for row in rows] == table["chosen"].tolist()
    weights = [variant[-2] for variant in planned_rows[1].chosen_in.values()]
    said = f"w_z {', '.join(weights)} ({len(set(weights))} choices in 5 folds)"
    if len(set(weights)) == 1:
        said = f"w_z {weights[0]} (the same in 5 folds)"
    value = table["validation_f1"].iloc[1]
    assert rows[1]["choice"] == f"{said}; validation F1 {value:.3f}; the paper's choice: WBCE(w_z=3)"
    assert rows[3]["choice"].endswith("; the paper's choice")
    assert rows[2]["choice"] == f"validation F1 {table['validation_f1'].iloc[2]:.3f}"
    assert rows[0]["choice"] == ""  # cross-entropy is alone in its family


@pytest.mark.parametrize(("how", "said"), [("nested", "chosen for each fold: "), ("flat", "FLAT choice: ")])
def test_a_row_that_a_search_tuned_says_how_it_was_chosen(frame, tmp_path, how, said):
    row = replace(planned("BCE", None), strategy="tuned-some", choice=how)
    values = {str(fold): {"loss.gamma": 2.0 if fold < 4 else 3.5} for fold in row.folds}
    seal(tmp_path, "tuned-some", {}, [{"model": row.model, "variant": "BCE", "choice": how, "parameters": values}])
    told = with_parameters([row, replace(row, variant="other", choice="")], tmp_path)
    assert told[1].choice == ""
    (shown, _) = table_rows(strategy_table(frame.assign(strategy="tuned-some"), [told[0], *ROWS[:1]]))
    assert shown["choice"] == f"{said}gamma 2, 2, 2, 3.5, 3.5 (2 choices in 5 folds)"
    assert shown["headline"]
    # What does not say it, as files of another version, or says otherwise than planned, is no fixed row.
    other = {"nested": "flat", "flat": "nested"}[how]
    for wrong, folder in ((row, tmp_path / "nowhere"), (replace(row, choice=other), tmp_path)):
        with pytest.raises(EvaluationError, match=r"does not say what was chosen .*run `dvc repro --force tuned@some`"):
            with_parameters([wrong], folder)


def test_f1_is_the_one_metric_that_explains_the_papers_choice():
    """Weight 1 was in its grid; by accuracy, specificity or balanced accuracy no network would have left it."""
    rows = paper_table(6)
    for (model, variant), weighted in rows.items():
        if variant.startswith("WBCE"):
            plain = rows[model, "BCE"]
            assert all(weighted[name] < plain[name] for name in ("accuracy", "specificity", "balanced_accuracy"))
            assert weighted["f1"] >= plain["f1"]
