"""Refusal and triage: what an answer says of itself, and that the cuts are those of split conformal prediction."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from tiny_package import oddity

from bus_mlops.consumer.client import BusModel, load_model
from bus_mlops.consumer.package_format import Package
from bus_mlops.consumer.refusal import Refusal, TriageRule, conformal_cut
from bus_mlops.images.picture_statistics import STATISTICS_VERSION, picture_statistics


def triage(**changes: object) -> TriageRule:
    values = {
        "miss_rate": 0.05,
        "false_alarm_rate": 0.1,
        "malignant_cases": 40,
        "benign_cases": 40,
        "low": 0.2,
        "high": 0.7,
    }
    return TriageRule.model_validate(values | changes)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("count", [1, 5, 19, 20, 200])
def test_the_cuts_rule_out_what_a_reference_rules_out(rate, count):
    from crepes import ConformalClassifier  # type: ignore[import-untyped]

    rng = np.random.default_rng(count)
    scores = rng.random(count).round(3)
    new = rng.random(300).round(3)
    reference = ConformalClassifier().fit(1 - scores, seed=0)
    p_values = reference.predict_p((1 - new)[:, None], smoothing=False).ravel()
    cut = conformal_cut(scores, rate)
    mine = np.zeros(len(new), bool) if cut is None else new < cut
    np.testing.assert_array_equal(mine, p_values <= rate + 1e-12)


def test_the_nominal_rate_holds_over_calibration_sets():
    rng = np.random.default_rng(0)
    missed = []
    for _ in range(2000):
        cut = conformal_cut(rng.random(39), 0.1)
        assert cut is not None
        missed.append(rng.random() < cut)
    assert 0.08 < np.mean(missed) < 0.12


@pytest.mark.parametrize(
    ("probability", "cuts", "said"),
    [
        (0.1, {}, "low"),
        (0.2, {}, "uncertain"),
        (0.7, {}, "uncertain"),
        (0.9, {}, "high"),
        (0.5, {"low": 0.7, "high": 0.3}, "uncertain"),
        (0.1, {"low": None}, "uncertain"),
        (0.9, {"low": None}, "high"),
        (0.9, {"low": None, "high": None, "malignant_cases": 0}, "uncertain"),
    ],
)
def test_triage_says_only_what_one_cut_allows(probability, cuts, said):
    rule = triage(**cuts)
    assert rule.of(probability) == said
    assert rule.reason(probability).endswith(".")


@pytest.mark.parametrize(
    "wrong",
    [
        {"center": [0.0] * 70},
        {"scale": [0.0] * 71},
        {"bias": float("nan")},
        {"statistics_version": STATISTICS_VERSION + 1},
        {"more": 1},
    ],
)
def test_a_rule_that_cannot_be_computed_is_none(wrong):
    with pytest.raises(ValidationError):
        oddity(**wrong)


@pytest.mark.parametrize("size", [(16, 16), (96, 96), (96, 96, 3), (300, 300)])
@pytest.mark.parametrize("value", [0, 255, "noise", "small"])
def test_statistics_of_any_picture_are_numbers(size, value):
    rng = np.random.default_rng(0)
    picture = np.zeros(size, np.uint8)
    if value == "noise":
        picture = rng.integers(0, 256, size, dtype=np.uint8)
    elif value == "small":
        picture[4:9, 4:9] = 200
    else:
        picture[:] = value
    found = picture_statistics(picture)
    assert found.shape == (71,)
    assert np.isfinite(found).all()


def with_refusal(model: BusModel, refusal: Refusal | None) -> BusModel:
    package = Package.model_validate(model.package.model_dump() | {"refusal": refusal})
    # Of its own: a model lets go of the bytes of a network that it has opened.
    opened = dataclasses.replace(model.opened, package=package, contents=dict(model.opened.contents))
    return BusModel(model.folder, package, opened=opened)


def scans() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 200, (60, 80), dtype=np.uint8)
    white = dark.copy()
    white[20:] = 255
    return [dark, white]


def test_an_odd_picture_gets_no_answer_but_its_reason(package_folder):
    model = with_refusal(load_model(package_folder), Refusal(oddity=oddity()))
    answered, refused = model.predict(scans(), masks=model.package.has_mask)
    assert (answered.status, answered.reasons, refused.status) == ("answered", (), "refused")
    assert answered.probability is not None
    assert (refused.probability, refused.label, refused.members, refused.mask, refused.error) == (None,) * 5
    assert answered.oddness is not None
    assert refused.oddness is not None
    assert refused.oddness > 1 >= answered.oddness
    assert f"oddness {refused.oddness:.2f}" in refused.reasons[0]
    asked = model.predict(scans(), refuse=False)
    assert [row.probability is None for row in asked] == [False, False]
    assert asked[1].oddness == refused.oddness


def colored(share: float) -> np.ndarray:
    """A gray picture seen through one tint, of which the upper part is painted in a second colour."""
    gray = np.repeat(scans()[0][..., None], 3, axis=-1).astype(np.float64)
    tinted = gray * (1.0, 0.85, 0.6)
    rows = round(share * len(gray))
    tinted[:rows] = gray[:rows] * (0.3, 0.6, 1.0) + (0, 0, 60)
    return np.clip(tinted, 0, 255).astype(np.uint8)


def test_a_coloured_picture_gets_no_answer_and_a_tint_is_no_colour(package_folder, tmp_path: Path):
    model = with_refusal(load_model(package_folder), Refusal(most_color=0.05))
    Image.fromarray(colored(0.3)).save(tmp_path / "doppler.png")
    tint, marked, painted, read = model.predict(
        [colored(0), colored(0.02), colored(0.3), tmp_path / "doppler.png"], masks=model.package.has_mask
    )
    assert [row.status for row in (tint, marked)] == ["answered"] * 2
    for row in (painted, read):
        assert (row.status, row.probability, row.mask, row.error) == ("refused", None, None, None)
        assert re.match(r"(29|30|31) % of it is coloured, and the model learnt from gray images", row.reasons[0])
    assert model.predict([colored(0.3)], refuse=False)[0].probability is not None
    (before,) = with_refusal(load_model(package_folder), Refusal()).predict([colored(0.3)])
    assert before.status == "answered"


def test_what_neither_cut_rules_out_is_uncertain_and_keeps_its_probability(package_folder):
    (known,) = with_refusal(load_model(package_folder), None).predict(scans()[:1])
    assert (known.status, known.triage, known.oddness) == ("answered", None, None)
    for cuts, said, status in (
        ({"low": 0.0, "high": 1.0}, "uncertain", "uncertain"),
        ({"low": 1.0, "high": 1.0}, "low", "answered"),
        ({"low": 0.0, "high": 0.0}, "high", "answered"),
    ):
        (row,) = with_refusal(load_model(package_folder), Refusal(triage=triage(**cuts))).predict(scans()[:1])
        assert (row.status, row.triage, row.probability) == (status, said, known.probability)
        assert bool(row.reasons) == (status == "uncertain")


def test_the_same_picture_is_as_odd_however_it_was_saved(package_folder, tmp_path: Path):
    model = with_refusal(load_model(package_folder), Refusal(oddity=oddity()))
    gray = scans()[0]
    forms = {
        "gray.png": Image.fromarray(gray),
        "rgba.png": Image.fromarray(gray).convert("RGBA"),
        "deep.png": Image.fromarray(gray.astype(np.uint16) * 257),
    }
    for name, picture in forms.items():
        picture.save(tmp_path / name)
    stream = io.BytesIO()
    forms["gray.png"].save(stream, format="BMP")
    rows = model.predict([*(tmp_path / name for name in forms), stream.getvalue(), gray])
    assert {row.status for row in rows} == {"answered"}
    odd = [row.oddness for row in rows if row.oddness is not None]
    assert len(odd) == len(rows)
    assert np.ptp(odd) < 0.05
