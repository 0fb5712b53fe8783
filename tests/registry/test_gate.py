"""The gate: equal models are refused, a clearly better one passes, and each rule can fail with numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bus_mlops.config import PromotionConfig
from bus_mlops.errors import EvaluationError
from bus_mlops.registry.gate import GateContext, GateReport, Lineage, run_gate

FOLDS = 5
IMAGES = 240
LINEAGE = Lineage("d" * 64, "f" * 64)
CONTEXT = GateContext(
    model_name="bus-mt-estan-phantom",
    is_phantom=True,
    expected_folds=(1, 2, 3, 4, 5),
    candidate=LINEAGE,
    baseline=LINEAGE,
    n_train=dict.fromkeys(range(1, 6), 154),
    n_test=dict.fromkeys(range(1, 6), 48),
    leak_check="passed",
    seed=7,
)
PROMOTION = PromotionConfig(bootstrap=300, threshold="half")


def frame(separation: float, seed: int, cohort_seed: int = 0, name: str = "model") -> pd.DataFrame:
    """Test and validation predictions; two models of one `cohort_seed` see the same images and folds."""
    cohort = np.random.default_rng(cohort_seed)
    labels = (cohort.random(IMAGES) < 0.45).astype(int)
    folds = np.arange(IMAGES) % FOLDS + 1
    difficulty = cohort.normal(size=IMAGES)
    noise = np.random.default_rng(seed)
    parts = []
    for fold in range(1, FOLDS + 1):
        for part, member in (("test", folds == fold), ("validation", folds == fold % FOLDS + 1)):
            index = np.flatnonzero(member)
            error = 0.7 * difficulty[index] + 0.7 * noise.normal(size=index.size)
            logits = separation * (2 * labels[index] - 1) + error
            parts.append(
                pd.DataFrame(
                    {
                        "strategy": "approaches",
                        "model": name,
                        "variant": "Multi",
                        "fold": fold,
                        "seed": 2021,
                        "part": part,
                        "image_id": [f"busi/{i}" for i in index],
                        "group": [f"g{i // 2}" for i in index],
                        "label": labels[index],
                        "probability": 1 / (1 + np.exp(-2 * logits)),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def judge(candidate: pd.DataFrame, baseline: pd.DataFrame, **changes: Any) -> GateReport:
    context = replace(CONTEXT, **{k: v for k, v in changes.items() if hasattr(CONTEXT, k)})
    promotion = PROMOTION.model_copy(update={k: v for k, v in changes.items() if k in type(PROMOTION).model_fields})
    return run_gate(candidate, baseline, promotion, context)


def values_of(report: GateReport, rule: int) -> dict[str, float]:
    return {name: value for name, value in report.rules[rule].values.items() if not isinstance(value, str)}


def failed(report: GateReport) -> list[str]:
    return [rule.id for rule in report.failed]


@pytest.fixture(scope="module")
def better() -> pd.DataFrame:
    return frame(1.6, seed=1, name="better")


@pytest.fixture(scope="module")
def baseline() -> pd.DataFrame:
    return frame(0.7, seed=2, name="baseline")


def test_a_clearly_better_model_passes(better, baseline):
    report = judge(better, baseline)
    assert report.passed, report.to_markdown()
    assert report.failed == ()
    assert [rule.id for rule in report.rules] == ["G0", "G1", "G2", "G3"]
    assert (report.candidate, report.baseline) == ("approaches/better/Multi", "approaches/baseline/Multi")


def test_a_model_is_not_better_than_itself(better):
    report = judge(better, better)
    assert failed(report) == ["G2"]
    superiority = report.rules[2]
    assert superiority.values["difference"] == 0
    assert superiority.values["p_one_sided"] == 0.5


def test_equal_models_are_hardly_ever_promoted():
    repetitions = 60
    rules = PROMOTION.model_copy(update={"bootstrap": 100})
    promoted = higher = 0
    for i in range(repetitions):
        pair = (frame(1.0, seed=1000 + i, cohort_seed=i), frame(1.0, seed=2000 + i, cohort_seed=i))
        report = run_gate(*pair, rules, CONTEXT)
        promoted += report.passed
        higher += values_of(report, 2)["difference"] > 0
    assert higher >= 0.3 * repetitions  # a higher mean alone would have promoted these
    assert promoted <= 0.1 * repetitions


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"baseline": Lineage("e" * 64, "f" * 64)}, "Data digests differ"),
        ({"baseline": Lineage("d" * 64, "e" * 64)}, "Folds digests differ"),
        ({"expected_folds": (1, 2, 3, 4, 5, 6)}, "lacks fold 6"),
        ({"model_name": "bus-mt-estan"}, "Trained on phantoms"),
        ({"leak_check": "failed"}, "leakage check of the folds is 'failed'"),
    ],
)
def test_integrity_can_fail(better, baseline, changes, sentence):
    context = replace(CONTEXT, **changes)
    report = run_gate(better, baseline, PROMOTION, context)
    assert failed(report) == ["G0"]
    assert sentence in report.rules[0].sentence


def test_a_model_of_real_images_needs_no_phantom_in_its_name(better, baseline):
    assert judge(better, baseline, is_phantom=False, model_name="bus-mt-estan").passed


def test_a_missing_fold_and_other_images_are_refused_and_never_an_exception(better, baseline):
    report = judge(better[better["fold"] != 3], baseline)
    assert failed(report) == ["G0", "G2", "G3"]
    assert "the candidate lacks fold 3" in report.rules[0].sentence.lower()
    assert "Could not be computed" in report.rules[2].sentence
    other = baseline.assign(image_id=baseline["image_id"] + "x")
    assert failed(judge(better, other)) == ["G0", "G3"]


def test_images_predicted_twice_are_refused(better, baseline):
    twice = pd.concat([better, better.head(1)])
    assert "twice" in judge(twice, baseline).rules[0].sentence


@pytest.mark.parametrize("floor", ["minimum_sensitivity", "minimum_specificity"])
def test_floors_are_held_against_the_lower_bound(better, baseline, floor):
    name = floor.removeprefix("minimum_")
    values = values_of(judge(better, baseline), 1)
    between = (float(values[name]) + float(values[f"{name}_low"])) / 2
    assert values[f"{name}_low"] < between < values[name]
    refused = judge(better, baseline, **{floor: between})
    assert failed(refused) == ["G1"]
    assert f"floor {between:.3f}" in refused.rules[1].sentence
    assert judge(better, baseline, **{floor: values[f"{name}_low"]}).passed


def test_a_loss_of_sensitivity_is_refused_even_when_the_area_is_larger(better, baseline):
    cautious = better.assign(probability=better["probability"] * 0.52)
    report = judge(cautious, baseline)
    assert failed(report) == ["G3"]
    values = values_of(report, 3)
    assert values["low"] <= -values["margin"]
    assert "not ruled out" in report.rules[3].sentence
    assert judge(cautious, baseline, sensitivity_margin=0.9).passed


def test_youden_thresholds_come_from_the_validation_part(better, baseline):
    cautious = better.assign(probability=better["probability"] * 0.52)
    report = judge(cautious, baseline, threshold="youden")
    assert report.passed, report.to_markdown()
    assert report.threshold == "youden"
    only_test = [f[f["part"] == "test"] for f in (cautious, baseline)]
    noted = judge(*only_test, threshold="youden")
    assert failed(noted) == ["G3"]
    assert noted.threshold == "half"
    assert "0.5" in noted.notes[0]


def test_the_test_part_does_not_choose_its_own_threshold(better, baseline):
    flipped = better.copy()
    chosen = flipped["part"] == "validation"
    flipped.loc[chosen, "probability"] = 0.001 * flipped.loc[chosen, "probability"]
    specificity = values_of(judge(flipped, baseline, threshold="youden"), 1)["specificity"]
    assert specificity < values_of(judge(better, baseline, threshold="youden"), 1)["specificity"]


@pytest.mark.parametrize("metric", ["roc_auc", "balanced_accuracy", "accuracy", "f1"])
def test_every_metric_of_the_configuration_works(better, baseline, metric):
    report = judge(better, baseline, metric=metric)
    assert report.rules[2].passed
    assert metric in report.rules[2].sentence


def test_unknown_fold_sizes_are_a_failed_rule_with_a_reason(better, baseline):
    report = judge(better, baseline, n_train={1: 154})
    assert failed(report) == ["G2"]
    assert "of fold 2 is not known" in report.rules[2].sentence


def test_the_report_can_be_stored_and_read(better):
    report = judge(better, better)
    values = json.loads(report.to_json())
    assert values["passed"] is False
    assert values["failed"] == ["G2"]
    assert values["rules"][2]["values"]["pairs"] == 5
    text = report.to_markdown()
    assert text.startswith("# Gate of bus-mt-estan-phantom: REFUSED by G2")
    assert text.count("\n| G") == 4


def test_an_infinite_statistic_is_valid_json(better, baseline):
    perfect = better.assign(probability=better["label"].astype(float))
    constant = better.assign(probability=0.5)
    report = judge(perfect, constant)
    assert values_of(report, 2)["t"] == np.inf
    text = report.to_json()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["rules"][2]["values"]["t"] == "inf"


def test_no_predictions_is_an_error(better, baseline):
    with pytest.raises(EvaluationError, match="no test predictions"):
        judge(better[better["part"] == "validation"], baseline)


def test_the_gate_needs_no_mlflow():
    code = "import sys, bus_mlops.registry.gate; print('mlflow' in sys.modules, 'tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
