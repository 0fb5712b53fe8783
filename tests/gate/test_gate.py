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

from bus_mlops.errors import EvaluationError
from bus_mlops.gate.comparison import Comparison, GateContext, Lineage, PackageCheck, compare
from bus_mlops.gate.gate import run_gate
from bus_mlops.gate.report import GateReport

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
LIMITS = {"minimum_sensitivity": 0.0, "minimum_specificity": 0.0, "source_margin": 0.2, "calibration_margin": 0.2}
SETTINGS: dict[str, Any] = {"metric": "roc_auc", "threshold": "half"}


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
                        "case_id": [f"g{i // 2}" for i in index],
                        "source": np.where(index % 4 < 2, "busi", "busis"),
                        "label": labels[index],
                        "probability": 1 / (1 + np.exp(-2 * logits)),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def judge(candidate: pd.DataFrame, baseline: pd.DataFrame, **changes: Any) -> GateReport:
    """The report on two models, with limits, settings or parts of the context changed."""
    return run_gate(compared(candidate, baseline, **changes), {**LIMITS, **changes})


def compared(candidate: pd.DataFrame, *others: pd.DataFrame, **changes: Any) -> Comparison:
    context = replace(CONTEXT, **{k: v for k, v in changes.items() if hasattr(CONTEXT, k)})
    settings: Any = {**SETTINGS, **{k: v for k, v in changes.items() if k in SETTINGS}}
    return compare([candidate, *others], context, resamples=300, **settings)


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
    assert [rule.id for rule in report.rules] == ["G0", "G1", "G2", "G3", "G4", "G5"]
    assert (report.candidate, report.baseline) == ("approaches/better/Multi", "approaches/baseline/Multi")


def test_a_model_is_not_better_than_itself(better):
    report = judge(better, better)
    assert failed(report) == ["G2"]
    superiority = report.rules[2]
    assert superiority.values["difference"] == 0
    assert superiority.values["p_one_sided"] == 0.5


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"baseline": Lineage("e" * 64, "f" * 64)}, "Data digests differ"),
        ({"baseline": Lineage("d" * 64, "e" * 64)}, "Folds digests differ"),
        ({"expected_folds": (1, 2, 3, 4, 5, 6)}, "lacks fold 6"),
        ({"model_name": "bus-mt-estan"}, "Trained on phantoms"),
        ({"leak_check": "failed"}, "leakage check of the folds is 'failed'"),
        ({"candidate": replace(LINEAGE, leaks="3 groups", folds_kind="official")}, "tagged with leaks: 3 groups"),
        ({"candidate": replace(LINEAGE, validation_leaks="3 groups")}, "tagged with validation leaks: 3 groups"),
        ({"baseline": replace(LINEAGE, git_clean="no")}, "The baseline's runs are of uncommitted changes"),
        ({"candidate": replace(LINEAGE, git_clean="unknown")}, "code that git does not know"),
        ({"candidate": replace(LINEAGE, git_clean="unknown", git_reason="of another user")}, "(of another user)"),
    ],
)
def test_integrity_can_fail(better, baseline, changes, sentence):
    context = replace(CONTEXT, **changes)
    report = run_gate(compare([better, baseline], context, resamples=300, **SETTINGS), LIMITS)
    assert failed(report) == ["G0"]
    assert sentence in report.rules[0].sentence


def test_the_kind_of_the_folds_is_named_as_it_is(better, baseline):
    by_source = replace(LINEAGE, folds_kind="source")
    report = run_gate(compare([better, baseline], replace(CONTEXT, candidate=by_source), **SETTINGS), LIMITS)
    assert "folds (source, no leak)" in report.rules[0].sentence
    assert "folds (grouped, no leak)" in judge(better, baseline).rules[0].sentence


def test_uncommitted_code_may_be_allowed(better, baseline):
    changed = replace(LINEAGE, git_clean="no")
    context = replace(CONTEXT, candidate=changed)
    report = run_gate(compare([better, baseline], context, **SETTINGS), {**LIMITS, "require_clean_git": False})
    assert report.passed
    assert "git uncommitted changes" in report.rules[0].sentence


def test_a_model_of_real_images_needs_no_phantom_in_its_name(better, baseline):
    assert judge(better, baseline, is_phantom=False, model_name="bus-mt-estan").passed


def test_a_missing_fold_and_other_images_are_refused_and_never_an_exception(better, baseline):
    report = judge(better[better["fold"] != 3], baseline)
    assert failed(report) == ["G0", "G2", "G3", "G4", "G5"]
    assert "the candidate lacks fold 3" in report.rules[0].sentence.lower()
    assert "Could not be computed" in report.rules[2].sentence
    other = baseline.assign(image_id=baseline["image_id"] + "x")
    assert failed(judge(better, other)) == ["G0", "G3", "G4", "G5"]


def test_the_same_images_under_other_labels_are_no_pair(better, baseline):
    """The models must have been judged by the same truth, image by image."""
    row = baseline.index[0]
    relabelled = baseline.copy()
    relabelled.loc[row, "label"] = 1 - relabelled.loc[row, "label"]
    report = judge(better, relabelled)
    assert "G0" in failed(report)
    assert "2 test predictions have no counterpart in the other model" in report.rules[0].sentence


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


def uncalibrated(frame: pd.DataFrame) -> pd.DataFrame:
    """Only the test part, so that probabilities are judged as they are, at 0.5."""
    return frame[frame["part"] == "test"]


def test_a_loss_of_sensitivity_is_refused_even_when_the_area_is_larger(better, baseline):
    cautious = uncalibrated(better.assign(probability=better["probability"] * 0.52))
    report = judge(cautious, uncalibrated(baseline))
    assert failed(report) == ["G3"]
    values = values_of(report, 3)
    assert values["low"] <= -values["margin"]
    assert "not ruled out" in report.rules[3].sentence
    assert judge(cautious, uncalibrated(baseline), sensitivity_margin=0.9).passed


def test_calibration_and_threshold_come_from_the_validation_part(better, baseline):
    cautious = better.assign(probability=better["probability"] * 0.52)
    for threshold in ("youden", "half"):
        report = judge(cautious, baseline, threshold=threshold)
        assert report.passed, report.to_markdown()
        assert report.threshold == threshold
    noted = judge(uncalibrated(cautious), uncalibrated(baseline), threshold="youden")
    assert failed(noted) == ["G3"]
    assert noted.threshold == "half"
    assert "not calibrated" in noted.notes[0]


def test_the_test_part_does_not_choose_its_own_threshold(better, baseline):
    flipped = better.copy()
    chosen = flipped["part"] == "validation"
    flipped.loc[chosen, "probability"] = 0.001 * flipped.loc[chosen, "probability"]
    specificity = values_of(judge(flipped, baseline, threshold="youden"), 1)["specificity"]
    assert specificity < values_of(judge(better, baseline, threshold="youden"), 1)["specificity"]


def test_a_fall_in_one_source_is_refused_though_another_one_is_better(better, baseline):
    one = better["source"] == "busis"
    assert judge(better, baseline, source_malignant=20).passed
    torn = better.copy()
    rng = np.random.default_rng(3)
    torn.loc[one, "probability"] = 0.05 * torn.loc[one, "probability"] + 0.95 * rng.random(int(one.sum()))
    report = judge(torn, baseline, source_malignant=20, source_margin=0.02)
    rule = report.rules[4]
    assert not rule.passed
    assert values_of(report, 4)["busi_difference"] > 0 > values_of(report, 4)["busis_difference"]
    assert "busis falls by more than 0.02" in rule.sentence
    spared = judge(torn, baseline, source_malignant=20, source_margin=0.02, source_margins={"busis": 0.5})
    assert spared.rules[4].passed
    assert "busis >= -0.5" in spared.rules[4].limit
    few = judge(torn, baseline, source_malignant=10_000, source_margin=0.02).rules[4]
    assert few.passed
    assert "busis has too few cases to decide" in few.sentence
    assert few.values["busis_difference"] == pytest.approx(values_of(report, 4)["busis_difference"])


def test_worse_calibration_is_refused_though_every_other_number_is_better(better, baseline):
    timid = better.copy()
    test = timid["part"] == "test"
    # The same order of images and the same side of 0.5, but no probability says how sure it is.
    timid.loc[test, "probability"] = 0.5 + 0.01 * (timid.loc[test, "probability"] - 0.5)
    pair = uncalibrated(timid), uncalibrated(baseline)
    report = judge(*pair, calibration_margin=0.1)
    assert failed(report) == ["G5"]
    values = values_of(report, 5)
    assert values["candidate"] > values["baseline"] + values["margin"]
    assert "not ruled out" in report.rules[5].sentence
    assert judge(*pair, calibration_margin=0.9).passed


def test_several_candidates_share_alpha(better, baseline):
    alone = values_of(judge(better, baseline), 2)
    comparison = compared(better, baseline, baseline, baseline)
    together = run_gate(comparison, LIMITS)
    values = values_of(together, 2)
    assert values["candidates"] == 3
    assert values["p_adjusted"] == pytest.approx(3 * alone["p_one_sided"])
    assert "Holm, 3 candidates" in together.rules[2].sentence
    between = {"alpha": 2 * alone["p_one_sided"]}
    assert judge(better, baseline, **between).passed
    assert failed(run_gate(comparison, {**LIMITS, **between})) == ["G2"]


def test_the_bayesian_reading_gives_the_same_verdict_in_other_words(better, baseline):
    rule = judge(better, baseline, test="bayesian").rules[2]
    assert rule.passed
    assert rule.limit == "P(better) > 0.95"
    assert f"P(better) = {rule.values['p_better']:.3f}" in rule.sentence


def test_seeds_add_pairs_and_a_missing_one_is_named(better, baseline):
    ours, theirs = (
        pd.concat([f, frame(separation, seed=seed, name=f["model"].iloc[0]).assign(seed=7)])
        for f, separation, seed in ((better, 1.6, 11), (baseline, 0.7, 12))
    )
    report = judge(ours, theirs)
    assert report.passed, report.to_markdown()
    values = report.rules[2].values
    assert (values["folds"], values["seeds"], values["method"]) == (5, 2, "clustered")
    lacking = ours[(ours["seed"] != 7) | (ours["fold"] != 4)]
    assert "lacks fold 4 of seed 7" in judge(lacking, theirs).rules[0].sentence


@pytest.mark.parametrize("metric", ["roc_auc", "balanced_accuracy", "accuracy", "f1"])
def test_every_metric_of_the_configuration_works(better, baseline, metric):
    report = judge(better, baseline, metric=metric)
    assert report.rules[2].passed
    assert metric in report.rules[2].sentence


def test_where_a_lower_value_is_better_the_lower_one_wins(better, baseline):
    report, reverse = (judge(*models, metric="brier") for models in ((better, baseline), (baseline, better)))
    values, reversed_values = values_of(report, 2), values_of(reverse, 2)
    assert values["candidate"] < values["baseline"]
    assert values["difference"] == pytest.approx(values["baseline"] - values["candidate"])
    assert reversed_values["difference"] == pytest.approx(-values["difference"])
    assert report.rules[2].passed
    assert not reverse.rules[2].passed
    assert "lower is better, an improvement of +" in report.rules[2].sentence
    source = values_of(report, 4)
    assert 0 < source["busi_low"] < source["busi_difference"] < source["busi_high"]
    assert report.rules[4].passed
    assert not judge(baseline, better, metric="brier", source_margin=0.001).rules[4].passed
    assert report.rules[4].sentence.startswith("Improvement in brier: busi +")


def test_unknown_fold_sizes_are_a_failed_rule_with_a_reason(better, baseline):
    report = judge(better, baseline, n_train={1: 154})
    assert failed(report) == ["G2"]
    assert "of fold 2 is not known" in report.rules[2].sentence


def test_the_report_can_be_stored_and_read(better):
    report = judge(better, better)
    values = json.loads(report.to_json())
    assert values["passed"] is False
    assert values["failed"] == ["G2"]
    assert values["rules"][2]["values"]["folds"] == 5
    text = report.to_markdown()
    assert text.startswith("# Gate of bus-mt-estan-phantom: REFUSED by G2")
    assert text.count("\n| G") == 6
    assert "\n  G2 superiority: FAILED" in "\n".join(report.to_lines())


def test_an_infinite_statistic_is_valid_json(better, baseline):
    perfect = better.assign(probability=better["label"].astype(float))
    constant = better.assign(probability=0.5)
    report = judge(perfect, constant)
    assert values_of(report, 2)["t"] == np.inf
    assert values_of(report, 2)["p_better"] == 1
    text = report.to_json()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["rules"][2]["values"]["t"] == "inf"


def test_no_predictions_is_an_error(better, baseline):
    with pytest.raises(EvaluationError, match="no test predictions"):
        judge(better[better["part"] == "validation"], baseline)


CHECK = PackageCheck(forbidden=("tensorflow", "keras"), members=5, difference=2e-6)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Loads with 5 members in a process without TensorFlow, has a signature, and repeats its stored"),
        ({"difference": 0.01}, "Its example comes out 0.01 away from the stored prediction."),
        ({"difference": float("nan")}, "Its example comes out nan away from the stored prediction."),
        ({"unsigned": ("outputs",)}, "Its signature has no outputs."),
        (
            {"asked": 40, "distance": 2e-3},
            "Its members answer test images up to 0.002 away from what their runs",
        ),
        ({"asked": 40}, "Its members answer test images up to nan away from what their runs recorded."),
        ({"importable": ("keras",)}, "The clean process could import keras."),
        ({"error": "it does not load", "unsigned": ("inputs",)}, "Its signature has no inputs; it does not load."),
    ],
)
def test_a_package_adds_its_rule_to_the_report_and_changes_no_other(better, baseline, changes, sentence):
    comparison = compared(better, baseline)
    before = run_gate(comparison, LIMITS)
    after = run_gate(replace(comparison, package=replace(CHECK, **changes)), LIMITS, before)
    *others, added, external = after.rules
    assert tuple(others) == before.rules
    assert not external.judged
    assert (added.id, added.title, added.passed) == ("G6", "package", not changes)
    assert added.sentence.startswith(sentence)
    assert added.limit == "signature; example within 0.0001, answers within 0.001, without tensorflow, keras"


def test_the_gate_needs_no_mlflow():
    code = "import sys, bus_mlops.gate.gate; print('mlflow' in sys.modules, 'tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
