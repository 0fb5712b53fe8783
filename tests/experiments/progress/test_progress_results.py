"""What the progress says of a finished cell."""

from __future__ import annotations

from bus_mlops.experiments.cell import CellEvent
from bus_mlops.experiments.progress.display import _results


def finished(**values: float) -> CellEvent:
    return CellEvent("finished", "f", 1, values={"seconds_training": 12.4, **values})


def test_a_classifier_has_the_three_numbers_of_its_table():
    text = _results(finished(roc_auc=0.8312, sensitivity=0.75, specificity=0.9, dice=0.6))
    assert text == "ROC AUC 0.831, sensitivity 75 %, specificity 90 %, 12 s"


def test_a_network_that_only_draws_masks_has_its_dice():
    assert _results(finished(dice=0.625)) == "Dice 62 %, 12 s"


def test_a_refit_has_nothing_but_its_time():
    assert _results(finished(best_epoch=3)) == "12 s"
