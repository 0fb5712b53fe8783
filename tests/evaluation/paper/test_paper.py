"""The published rows: complete, in fractions, and their contradictions recomputed."""

from __future__ import annotations

import csv
from importlib import resources

from bus_mlops.evaluation.metrics import PAPER_METRICS
from bus_mlops.evaluation.paper.published import PAPER_TABLES, _rows, contradictions, paper_row


def test_all_84_rows_have_the_seven_metrics_as_fractions():
    rows = _rows()
    assert len(rows) == 84
    assert {table for table, _, _ in rows} == set(PAPER_TABLES)
    for values in rows.values():
        assert tuple(values) == PAPER_METRICS
        assert all(0 < value < 1 for value in values.values())


def test_a_row_as_printed():
    assert paper_row(4, "MobileNet", "TL") == {
        "accuracy": 0.753,
        "sensitivity": 0.769,
        "specificity": 0.742,
        "f1": 0.76,
        "balanced_accuracy": 0.755,
        "false_positive_rate": 0.258,
        "false_negative_rate": 0.231,
    }
    assert paper_row(4, "MobileNet", "Aug") is None
    assert paper_row(3, "MobileNet", "TL") is None


def test_the_papers_auc_is_balanced_accuracy_in_all_rows_but_one():
    odd = [
        key
        for key, row in _rows().items()
        if abs(row["balanced_accuracy"] - (row["sensitivity"] + row["specificity"]) / 2) > 0.00051
    ]
    assert odd == [(8, "ResNet50", "Multi")]


def test_rows_that_contradict_themselves():
    flagged = {key for key in _rows() if contradictions(*key)}
    assert flagged == {(8, "ResNet50", "Multi"), (8, "VGG16", "Single")}
    first = contradictions(8, "ResNet50", "Multi")
    assert any('"AUC" 85.0' in sentence for sentence in first)
    assert any("+1.40 points from 100 - sensitivity" in sentence for sentence in first)
    assert contradictions(8, "nobody", "Multi") == []


def test_every_row_was_checked():
    text = resources.files("bus_mlops.evaluation.paper").joinpath("tables/consistency.csv").read_text()
    checked = {(int(r["table"]), r["model"], r["variant"]) for r in csv.DictReader(text.splitlines())}
    assert checked == set(_rows())
