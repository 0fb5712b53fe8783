"""Whether a model holds up on local cases: each verdict where it is due, and what nobody may be told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from bus_mlops.consumer.acceptance import Acceptance, _triage, accept
from bus_mlops.consumer.client import Prediction
from bus_mlops.consumer.local_cases import LocalCases, LocalImage
from bus_mlops.consumer.package_format import JudgedNumber, sigmoid
from bus_mlops.consumer.refusal import Refusal, TriageRule
from bus_mlops.errors import SourceError

if TYPE_CHECKING:
    from bus_mlops.consumer.client import BusModel

CLAIMED = {"roc_auc": (0.93, 0.91, 0.95), "sensitivity": (0.88, 0.85, 0.91), "specificity": (0.84, 0.81, 0.87)}


@dataclass
class Judged:
    numbers: dict[str, JudgedNumber]


@dataclass
class Said:
    threshold: float = 0.5
    refusal: Refusal | None = None
    judged: Judged | None = field(
        default_factory=lambda: Judged(
            {name: JudgedNumber(estimate=e, low=low, high=high) for name, (e, low, high) in CLAIMED.items()}
        )
    )


@dataclass
class Model:
    """A model that gives an image the answer that its file is called by."""

    package: Said = field(default_factory=Said)
    name: str = "told"
    version: str | None = "1"
    digest: str = "d" * 64

    def stream(self, paths: Iterable[Path]) -> Iterator[Prediction]:
        for path in paths:
            told = None if path.name == "broken" else float(path.name)
            said = "it cannot be read" if told is None else None
            yield Prediction(
                str(path), told, 0.0, (), None, self.package.threshold, self.name, self.version, error=said
            )


def hospital(patients: int, separation: float = 3.3, shift: float = 0.0, seed: int = 0, broken: int = 0) -> LocalCases:
    """Two images of each patient, four in ten of whom are malignant."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(patients):
        label = int(number % 5 < 2)
        own = rng.normal() * 1.2
        for side in ("left", "right"):
            logit = separation * (label - 0.45) + own + shift + 0.6 * rng.normal()
            answer = str(sigmoid(np.array([logit]))[0])
            images.append(LocalImage(Path(answer), f"{number}-{side}", label, str(number), "AB"[number % 2]))
    images += [LocalImage(Path("broken"), f"broken-{i}", 0, f"broken-{i}") for i in range(broken)]
    return LocalCases(tuple(images), ("a note",))


def judged(cases: LocalCases, model: Model | None = None, **options: Any) -> Acceptance:
    return accept(cast("BusModel", model or Model()), cases, **options)


def test_a_model_that_is_as_claimed_holds():
    found = judged(hospital(400))
    assert found.verdict == "holds"
    assert [each.found for each in found.shipped] == ["holds"] * 3
    assert (found.images, found.cases, found.malignant, found.malignant_cases) == (800, 400, 320, 160)
    assert found.judged_with == 100


def test_a_model_whose_answers_are_shifted_holds_after_recalibration():
    found = judged(hospital(600, shift=2.0))
    assert {each.metric: each.found for each in found.shipped}["specificity"] == "falls"
    assert found.verdict == "holds after recalibration"
    logit = np.log(found.fitted["threshold"].median / (1 - found.fitted["threshold"].median))
    assert logit == pytest.approx(2.0, abs=0.5)
    for each in found.recalibrated:
        assert each.bands["brier_platt"].median < each.bands["brier"].median
    widths = [each.bands["threshold"].high - each.bands["threshold"].low for each in found.recalibrated]
    assert widths == sorted(widths, reverse=True)


def test_a_model_that_cannot_tell_the_labels_apart_does_not_hold():
    found = judged(hospital(400, separation=1.0))
    assert found.verdict == "does not hold"
    assert found.reasons[-1] == "it tells the labels apart less well here, which no threshold mends"


@pytest.mark.parametrize("patients", [12, 45])
def test_few_cases_tell_nothing(patients):
    found = judged(hospital(patients))
    assert found.verdict == "too few cases to tell"
    assert ("cases of the rarer label; 10 are needed" in found.reasons[0]) == (patients == 12)
    assert any("times as many cases would tell" in reason for reason in found.reasons)
    assert [each.why_not != "" for each in found.recalibrated][-1]


def test_a_package_that_was_never_judged_claims_nothing():
    found = judged(hospital(60), Model(Said(judged=None)))
    assert found.verdict == "no claim"
    assert found.fitted["threshold"].low < found.fitted["threshold"].median < found.fitted["threshold"].high
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["shipped"][0]["claimed"]["value"] is None


def test_images_patients_and_scanners_are_measured_apart():
    cases = hospital(100)
    found = judged(cases)
    units = {(each.unit, each.metric): each for each in found.measured}
    assert {unit for unit, _ in units} == {"image", "patient, maximum", "patient, mean", "scanner A", "scanner B"}
    answers = np.array([float(each.path.name) for each in cases.images]).reshape(100, 2)
    malignant = np.array([each.label for each in cases.images]).reshape(100, 2)[:, 0] == 1
    assert units["patient, maximum", "sensitivity"].here.value == (answers.max(axis=1)[malignant] >= 0.5).mean()
    assert units["patient, mean", "specificity"].here.value == (answers.mean(axis=1)[~malignant] < 0.5).mean()
    assert units["scanner A", "roc_auc"].images == 100


def test_images_without_an_answer_are_named_and_not_counted():
    found = judged(hospital(60, broken=3))
    assert found.failed == tuple((f"broken-{i}", "it cannot be read") for i in range(3))
    assert found.images == 120
    assert [probability for image, probability in found.answers if image.name.startswith("broken")] == [None] * 3
    only = [image for image in hospital(10, broken=2).images if image.label == 1 or image.path.name == "broken"]
    with pytest.raises(SourceError, match="are of one label; 2 got none, the first: it cannot be read"):
        judged(LocalCases(tuple(only)))


def test_nothing_but_the_asked_for_numbers_of_cases_is_drawn():
    found = judged(hospital(80), counts=(20, 20, 400))
    assert [each.cases for each in found.recalibrated] == [20, 400]
    assert found.judged_with == 20
    assert "must be left to judge by" in found.recalibrated[1].why_not


def test_a_model_that_learns_nothing_from_the_verdicts_labels():
    """Each image is called by thresholds of other cases alone: labels at random fit nothing."""
    cases, rng = hospital(200), np.random.default_rng(3)
    labels = rng.permutation([image.label for image in cases.images[::2]])
    drawn = [LocalImage(i.path, i.name, int(labels[n // 2]), i.patient) for n, i in enumerate(cases.images)]
    found = judged(LocalCases(tuple(drawn)))
    after = {each.metric: each.here.value for each in found.local}
    assert after["sensitivity"] + after["specificity"] == pytest.approx(1, abs=0.12)
    assert found.verdict == "does not hold"


def test_what_a_package_refused_and_ruled_out_is_told(tmp_path):
    found = _triage(
        [
            (LocalImage(tmp_path / "a", "a", 1, "p1"), "low"),
            (LocalImage(tmp_path / "b", "b", 0, "p2"), "low"),
            (LocalImage(tmp_path / "c", "c", 0, "p3"), "refused"),
            (LocalImage(tmp_path / "d", "d", 0, "p4"), "uncertain"),
        ]
    )
    assert {name: each.value for name, each in found.items()} == {
        "refused": 0.25,
        "uncertain": 0.25,
        "malignant called low": 1.0,
        "benign called high": 0.0,
        "benign among low": 0.5,
    }


def test_triage_calibrated_on_local_cases_is_judged_on_the_others():
    rule = TriageRule(
        miss_rate=0.05, false_alarm_rate=0.1, malignant_cases=40, benign_cases=60, low=0.01, high=0.99, nominal_npv=0.9
    )
    found = judged(hospital(300, shift=1.5), Model(Said(refusal=Refusal(triage=rule))), counts=[20, 100])
    few, many = (each.bands for each in found.recalibrated)
    assert not {"npv", "missed"} & few.keys()
    assert many["npv"].median == pytest.approx(many["nominal_npv"].median, abs=0.03)
    assert many["missed"].median <= 0.05
    assert found.local_triage is not None
    assert found.local_triage.malignant_cases == 120
    assert found.to_dict()["local_triage"]["malignant_cases"] == 120
    assert judged(hospital(30), counts=[20]).local_triage is None
