"""What the card says of the numbers that a package carries, and that packages without them are read as before."""

from __future__ import annotations

from typing import Any

import pytest

from bus_mlops.consumer.package_format import JudgedNumber, JudgedNumbers, Member, Package
from bus_mlops.packaging.model_card import model_card

NUMBERS = {
    "sensitivity": JudgedNumber(estimate=0.904, low=0.857, high=0.94, method="whole groups drawn"),
    "roc_auc": JudgedNumber(estimate=0.951),
}


def package(judged: JudgedNumbers | None) -> Package:
    return Package(
        name="bus-mt-estan",
        bus_mlops_version="0.1.0",
        input_size=256,
        color="gray",
        threshold=0.4,
        outputs=("malignancy",),
        members=(Member(keras="members/fold_1.keras", onnx="members/fold_1.onnx", max_difference=0),),
        phantom=False,
        trained_on="busi",
        judged=judged,
    )


def numbers(**changes: Any) -> JudgedNumbers:
    values: dict[str, Any] = {
        "construction": "ensemble",
        "images": 647,
        "malignant": 210,
        "cases": 640,
        "folds": 5,
        "networks": 3,
        "ships": 15,
        "answered": 647,
        "threshold": 0.4,
        "numbers": NUMBERS,
        "at_fold_thresholds": {"sensitivity": JudgedNumber(estimate=0.89, low=0.84, high=0.93)},
        "alone": {"roc_auc": 0.937},
    }
    return JudgedNumbers.model_validate(values | changes)


def test_the_card_prints_each_number_with_its_threshold_and_interval_and_says_what_they_are_of() -> None:
    card = model_card(package(numbers()))
    assert "| Sensitivity | 0.4000 | 0.904 | 0.857 to 0.940 |" in card
    assert "| Sensitivity | of each fold | 0.890 | 0.840 to 0.930 |" in card
    assert "| ROC AUC | none | 0.951 | no evidence |" in card
    assert "Judged on 647 test images (210 malignant; 640 cases) of 5 folds: answers of this package." in card
    assert "What answers is the mean of all 15" in card
    assert "One network alone has an ROC AUC of 0.937, the means that were judged have 0.951." in card


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"networks": 1, "ships": 5}, "Each is one network of the image's fold, which had not seen it. What answers"),
        ({"construction": "single", "ships": 1, "networks": 1}, "What answers is one of these, the best on validation"),
        ({"construction": "refit", "ships": 3}, "What answers is 3 refitted on all of these images, which were never"),
        ({"answered": 130}, "this package gave 130 and the others are as its networks recorded"),
        ({"ships": 3, "folds": 1}, "The same networks answer."),
    ],
)
def test_the_sentence_says_what_ships_instead(changes: dict[str, Any], said: str) -> None:
    assert said in numbers(**changes).sentence


def test_a_package_without_numbers_is_read_and_says_that_nothing_was_measured() -> None:
    earlier = package(None).model_dump(mode="json")
    del earlier["judged"]
    found = Package.model_validate(earlier)
    assert found.judged is None
    assert "Nothing was measured of what this package answers." in model_card(found)
    assert Package.model_validate(package(numbers()).model_dump(mode="json")).judged == numbers()
    assert numbers().in_words.endswith("the networks that answered: sensitivity 0.904 (0.857 to 0.940).")
