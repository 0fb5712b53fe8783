"""From the outputs of (made-up) networks to the answer: calibrated, averaged, compared with the threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bus_mlops.consumer.client import BusModel
from bus_mlops.consumer.package_format import Calibration, Member, Package

SIZE = 32
PLAIN = Calibration()
STEEP = Calibration(slope=2, intercept=0)


class Network:
    """Answers every image with one probability, and a mask of it but for the upper half, where it is 0."""

    name = "image"

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def get_inputs(self) -> list[Network]:
        return [self]

    def run(self, wanted: list[str], feed: dict[str, Any]) -> list[np.ndarray]:
        batch = len(feed[self.name])
        mask = np.full((batch, SIZE, SIZE, 1), self.probability, np.float32)
        mask[:, : SIZE // 2] = 0
        return [np.full((batch, 1), self.probability, np.float32), mask][: len(wanted)]


def model_of(*answers: float, threshold: float = 0.5, calibration: Calibration = PLAIN) -> BusModel:
    names = [f"members/fold_{number}" for number in range(1, len(answers) + 1)]
    package = Package(
        name="made-up",
        bus_mlops_version="0",
        input_size=SIZE,
        color="gray",
        threshold=threshold,
        outputs=("malignancy", "mask"),
        members=tuple(
            Member(keras=f"{name}.keras", onnx=f"{name}.onnx", calibration=calibration, max_difference=0)
            for name in names
        ),
        phantom=True,
        trained_on="nothing",
    )
    model = BusModel(Path("nowhere"), package)
    model.__dict__["_networks"].__dict__["_sessions"] = {place: Network(answer) for place, answer in enumerate(answers)}
    return model


def scan(height: int = 40, width: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)


@pytest.mark.parametrize(("threshold", "label"), [(0.25, "malignant"), (0.2501, "benign"), (0.0, "malignant")])
def test_the_threshold_itself_is_malignant(threshold, label):
    assert model_of(0.25, threshold=threshold).predict([scan()])[0].label == label


def test_the_answer_is_the_mean_of_the_members_and_the_spread_their_range():
    row = model_of(0.125, 0.25, 0.75).predict([scan()])[0]
    assert row.members == (0.125, 0.25, 0.75)
    assert row.probability == pytest.approx(0.375)
    assert row.spread == pytest.approx(0.625)
    assert row.label == "benign"


def test_members_are_calibrated_before_they_are_averaged():
    row = model_of(0.75, 0.25, calibration=STEEP).predict([scan()])[0]
    assert row.members == pytest.approx((0.9, 0.1))


@pytest.mark.parametrize("answer", [1.01, -0.01, float("nan"), float("inf")])
def test_of_what_is_no_probability_no_answer_is_made(answer):
    good, bad = model_of(0.5, 0.5).predict([scan()])[0], model_of(0.5, answer).predict([scan()])[0]
    assert good.error is None
    assert (bad.probability, bad.label, bad.members) == (None, None, None)
    assert bad.error_type == "ModelOutputError"


def test_the_mask_is_that_of_the_members_mean():
    """Two of three members see a lesion; the mean of 0.75, 0.75 and 0.125 is above a half, that of the last is not."""
    above, below = (
        model_of(*answers).predict([scan()], masks=True)[0].mask
        for answers in ((0.125, 0.75, 0.75), (0.75, 0.125, 0.125))
    )
    assert above is not None
    assert below is not None
    assert above[25:].all()
    assert not above[:15].any()
    assert not below.any()


@pytest.mark.parametrize(("height", "width"), [(20, 80), (80, 20)])
def test_the_mask_lies_where_the_lesion_is_in_the_image(height, width):
    mask = model_of(0.9).predict([scan(height, width)], masks=True)[0].mask
    assert mask is not None
    assert mask.shape == (height, width)
    middle = height // 2
    assert mask[middle + 2 :].all()
    assert not mask[: middle - 2].any()


def test_answers_stay_with_their_images_beside_one_that_cannot_be_read():
    rows = model_of(0.25).predict([scan(), b"no image", scan(20, 80), scan(80, 20)], masks=True)
    assert [row.error is None for row in rows] == [True, False, True, True]
    assert [row.mask.shape for row in rows if row.mask is not None] == [(40, 40), (20, 80), (80, 20)]
