"""What the progress says of a finished cell."""

from __future__ import annotations

from bus_mlops.experiments.progress.display import _results


def finished(**values: float) -> dict[str, float]:
    return {"seconds_training": 12.4, **values}


def test_a_classifier_has_the_three_numbers_of_its_table():
    text = _results(finished(roc_auc=0.8312, sensitivity=0.75, specificity=0.9, dice=0.6))
    assert text == "ROC AUC 0.831, sensitivity 75 %, specificity 90 %, 12 s"


def test_a_network_that_only_draws_masks_has_its_dice():
    assert _results(finished(dice=0.625)) == "Dice 62 %, 12 s"


def test_a_trial_has_the_same_of_its_validation_part():
    values = {"roc_auc": 0.8312, "sensitivity": 0.75, "specificity": 0.9}
    of_trial = {f"validation_best_{name}": value for name, value in values.items()}
    assert _results(finished(**of_trial)) == f"on validation {_results(finished(**values))}"
    assert _results(finished(validation_best_dice=0.625)) == "on validation Dice 62 %, 12 s"
    assert _results(finished(**of_trial, **values)) == _results(finished(**values))


def test_a_refit_has_nothing_but_its_time():
    assert _results(finished(best_epoch=3)) == "12 s"
