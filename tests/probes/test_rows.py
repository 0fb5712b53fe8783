"""Which rows are probed, which images, which failures; a network that is gone is told with a remedy."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bus_mlops.config import ProbesConfig
from bus_mlops.errors import EvaluationError, LedgerError
from bus_mlops.evaluation.results import PlannedRow
from bus_mlops.probes.probe import nearest, sample, worst_failures
from bus_mlops.probes.rows import Trained, find_rows, with_runs


def planned(strategy: str, network: str) -> PlannedRow:
    row = PlannedRow(strategy, network.title(), "Multi", ("busi",), (1, 2), None, network=network)
    return replace(row, task="multitask")


@pytest.fixture(scope="module")
def trained(recorded) -> Trained:
    """The rows of the recorded project, whose plans its predictions stand for."""
    names = {"approaches": ("mobilenet", "resnet50", "mt_estan"), "tuned-mt_estan_loss": ("mt_estan",)}
    plans = {name: [planned(name, network) for network in networks] for name, networks in names.items()}
    return Trained(plans, {name: pd.read_parquet(recorded.predictions / f"{name}.parquet") for name in plans})


def test_the_candidates_row_and_the_best_other_by_validation_are_probed(recorded, trained):
    rows = find_rows(recorded.config, ProbesConfig(), trained)
    assert [(row.strategy, row.network) for row in rows] == [
        ("tuned-mt_estan_loss", "mt_estan"),
        ("approaches", "resnet50"),
    ]
    again = ProbesConfig(rows=("approaches/resnet50", "rival"))
    assert [row.network for row in find_rows(recorded.config, again, trained)] == ["resnet50"]
    with pytest.raises(EvaluationError, match=r"approaches/vgg16.*there are approaches/mobilenet"):
        find_rows(recorded.config, ProbesConfig(rows=("approaches/vgg16",)), trained)


def test_the_runs_are_those_of_the_first_seed(recorded, trained):
    found = with_runs(planned("tuned-mt_estan_loss", "mt_estan"), trained, recorded.ledger)
    assert sorted(found.runs) == [1, 2]
    assert [recorded.ledger.spec(run).seed for run in found.runs.values()] == [2021, 2021]
    assert set(found.test["seed"]) == {2021}
    assert set(found.test["part"]) == {"test"}


def test_a_network_that_is_gone_is_told_with_a_remedy(recorded, trained):
    with pytest.raises(LedgerError, match=re.escape("has no model.keras, though its predictions are here. Bring")):
        with_runs(planned("approaches", "resnet50"), trained, recorded.ledger)
    frame = trained.predictions["approaches"].assign(fingerprint="lost")
    other = replace(trained, predictions={**trained.predictions, "approaches": frame})
    with pytest.raises(LedgerError, match="the run of fold 1 is not in the store"):
        with_runs(planned("approaches", "mt_estan"), other, recorded.ledger)


def test_a_sample_has_both_labels_and_does_not_depend_on_the_order():
    test = pd.DataFrame({"image_id": [f"busi/{i}" for i in range(50)], "label": [int(i < 8) for i in range(50)]})
    chosen = sample(test, 20)
    assert chosen["label"].sum() == 8
    assert len(chosen) == 20
    pd.testing.assert_frame_equal(chosen, sample(test.sample(frac=1, random_state=1), 20))
    assert sample(chosen, 10)["label"].sum() == 5
    assert len(sample(test, None)) == 50


def test_the_worst_failures_are_the_surest_ones_on_the_wrong_side():
    test = pd.DataFrame({"image_id": list("abcdef"), "label": [1, 1, 1, 0, 0, 0]})
    found = worst_failures(test.assign(probability=[0.1, 0.4, 0.9, 0.5, 0.95, 0.2]), 1)
    assert list(zip(found["image_id"], found["kind"], found["rank"], strict=True)) == [
        ("a", "false negative", 1),
        ("e", "false positive", 1),
    ]
    assert worst_failures(test.assign(probability=[1.0, 1, 1, 0, 0, 0]), 4).empty


def test_the_nearest_is_by_direction_not_by_length():
    known = np.array([[10, 0], [0, 0.1], [0, 0]], np.float32)
    found, likeness = nearest(np.array([[0, 3], [1, 0.5], [0, 0]], np.float32), known)
    assert list(found[:2]) == [1, 0]
    assert likeness == pytest.approx([1, 2 / 5**0.5, 0], abs=1e-6)
