"""G7: what is judged on images that no fold touches, what is not, and that the one is never taken for the other."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from pages import PAGES, blocks
from predictions import two_models
from scipy import stats

from bus_mlops.errors import ConfigError
from bus_mlops.evaluation.intervals import bootstrap_interval
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.gate.comparison import Comparison, GateContext, Lineage, PackageCheck, compare
from bus_mlops.gate.external import ExternalCohort
from bus_mlops.gate.gate import run_gate
from bus_mlops.gate.report import GateReport, RuleResult
from bus_mlops.gate.rule import RULES
from bus_mlops.gate.rules.external import ExternalLimits
from bus_mlops.project import parse_config

LINEAGE = Lineage("d" * 64, "f" * 64)
FOLDS = (1, 2, 3, 4, 5)
CONTEXT = GateContext(
    "bus-x", False, FOLDS, LINEAGE, LINEAGE, dict.fromkeys(FOLDS, 200), dict.fromkeys(FOLDS, 80), "passed"
)
HAIR = 1e-9


@pytest.fixture(scope="module")
def packaged() -> Comparison:
    """A candidate that every other rule passes, with limits that are none."""
    models = two_models(11, (0.97, 0.8), images=400, seeds=2)
    return replace(
        compare(models, CONTEXT, metric="roc_auc", resamples=200), package=PackageCheck(members=2, difference=0.0)
    )


def answers(gain: float, images: int = 240, seed: int = 0) -> pd.DataFrame:
    """Answers of two models of which the candidate separates by `gain` more than the baseline."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    shared = rng.normal(size=images)
    ours, theirs = ((2 * labels - 1) * (1 + add) + shared + 0.3 * rng.normal(size=images) for add in (gain, 0.0))
    groups = [f"busis/{i // 2}" for i in range(images)]
    columns = {
        "image_id": [f"busis/{i}" for i in range(images)],
        "case_id": groups,
        "group": groups,
        "source": "busis",
        "label": labels,
        "probability": 1 / (1 + np.exp(-ours)),
        "threshold": 0.5,
        "probability_baseline": 1 / (1 + np.exp(-theirs)),
        "threshold_baseline": 0.5,
    }
    return pd.DataFrame(columns)


def cohort(rows: pd.DataFrame | None, **changes: Any) -> ExternalCohort:
    return ExternalCohort(**{"name": "busis", "digest": "e" * 64, "images": 240, "answers": rows, **changes})


def judged(comparison: Comparison, *cohorts: ExternalCohort, **limits: Any) -> tuple[GateReport, RuleResult]:
    report = run_gate(
        replace(comparison, external=cohorts), {"minimum_sensitivity": 0, "minimum_specificity": 0, **limits}
    )
    return report, next(rule for rule in report.rules if rule.id == "G7")


def test_without_a_cohort_nothing_is_judged_and_no_report_calls_it_passed(packaged):
    report, rule = judged(packaged)
    assert report.passed
    assert (rule.passed, rule.judged, rule.outcome) == (True, False, "not judged")
    assert "No external cohort" in rule.sentence
    assert report.verdict == "passed G0, G1, G2, G3, G4, G5, G6; not judged: G7"
    assert "| G7 external | not judged |" in report.to_markdown()
    assert any("G7 external: not judged" in line for line in report.to_lines())


def test_without_a_package_it_is_not_asked(packaged):
    report = run_gate(replace(packaged, package=None, external=(cohort(None),)), {})
    assert "G7" not in [rule.id for rule in report.rules]


def test_a_candidate_that_other_rules_refuse_does_not_open_it(packaged):
    refused = replace(packaged, package=PackageCheck(error="it does not load"))
    report, rule = judged(refused, cohort(None))
    assert [each.id for each in report.failed] == ["G6"]
    assert (rule.passed, rule.judged) == (True, False)
    assert "no look is spent" in rule.sentence


def test_a_look_is_added_to_a_report_whose_other_results_stand(packaged):
    before, rule = judged(packaged, cohort(None))
    assert before.passed
    assert not rule.judged
    opened = replace(packaged, external=(cohort(answers(0.8)),), package=PackageCheck(error="gone since"))
    after = run_gate(opened, {}, before)
    assert after.rules[:-1] == before.rules[:-1]
    assert after.rules[-1].judged
    assert after.verdict == "passed G0, G1, G2, G3, G4, G5, G6, G7"


def test_what_may_not_be_opened_refuses_and_says_why(packaged):
    shut = cohort(None, closed="busis was read before")
    report, rule = judged(packaged, shut)
    assert (rule.passed, rule.judged) == (False, False)
    assert report.verdict == "refused by G7"
    assert "busis was read before" in rule.sentence


def test_no_fall_is_a_pass_with_numbers_intervals_and_power(packaged):
    report, rule = judged(
        packaged, cohort(answers(0.8), related=3, note="second look: a new scanner"), external_floors={"roc_auc": 0.7}
    )
    assert report.passed
    assert rule.judged
    rows = answers(0.8)
    values = rule.values
    assert values["busis_roc_auc"] == METRICS["roc_auc"].value(rows["label"].to_numpy(), rows["probability"].to_numpy())
    own = bootstrap_interval("roc_auc", rows["label"], rows["probability"], rows["group"], resamples=200, seed=0)
    assert (values["busis_roc_auc_low"], values["busis_roc_auc_high"]) == (own.low, own.high)
    assert values["busis_roc_auc_floor"] == 0.7
    assert (values["busis_images"], values["busis_related"]) == (240, 3)
    assert "a new scanner" in rule.sentence
    assert rule.power.startswith("A candidate as good as the baseline would have passed: on busis roc_auc in ")


@pytest.mark.parametrize("margin", ["external_margin", "external_sensitivity_margin"])
def test_each_margin_is_held_by_the_lower_bound(packaged, margin):
    wide = {"external_margin": 0.99, "external_sensitivity_margin": 0.99}
    _, rule = judged(packaged, cohort(answers(-0.1)), **wide)
    assert rule.passed
    what = "roc_auc" if margin == "external_margin" else "sensitivity"
    low = rule.values[f"busis_{what}_difference_low"]
    assert isinstance(low, float)
    assert low < 0
    for limit, passes in ((-low + HAIR, True), (-low, False)):
        _, rule = judged(packaged, cohort(answers(-0.1)), **{**wide, margin: limit})
        assert rule.passed is passes
        assert ("is not ruled out" in rule.sentence) is not passes


@pytest.mark.parametrize("metric", ["specificity", "brier"])
def test_a_floor_is_held_by_the_bound_on_its_side(packaged, metric):
    if metric not in METRICS:
        pytest.skip(f"no metric {metric}")
    _, rule = judged(
        packaged, cohort(answers(0.8)), external_floors={metric: 0.0 if METRICS[metric].direction > 0 else 1.0}
    )
    assert rule.passed
    side, step = ("low", 1) if METRICS[metric].direction > 0 else ("high", -1)
    bound = rule.values[f"busis_{metric}_{side}"]
    assert isinstance(bound, float)
    assert judged(packaged, cohort(answers(0.8)), external_floors={metric: bound})[1].passed
    assert not judged(packaged, cohort(answers(0.8)), external_floors={metric: bound + step * HAIR})[1].passed


def test_five_malignant_images_that_both_models_find_rule_no_fall_out(packaged):
    rows = answers(0.8).iloc[:80]
    rows = rows[(rows["label"] == 0) | (rows.index < 10)]
    right = rows["label"] == 1
    rows = rows.assign(
        group=rows["image_id"],
        probability=np.where(right, 0.9, rows["probability"]),
        probability_baseline=np.where(right, 0.8, rows["probability_baseline"]),
    )
    _, rule = judged(packaged, cohort(rows), external_floors={"sensitivity": 0.8}, external_margin=0.99)
    assert (rule.values["busis_malignant"], rule.values["busis_sensitivity"]) == (5, 1.0)
    unseen = stats.binomtest(0, 5).proportion_ci(method="wilson").high
    assert rule.values["busis_sensitivity_low"] == pytest.approx(1 - unseen)
    assert rule.values["busis_sensitivity_difference_low"] == pytest.approx(-unseen)
    assert not rule.passed
    assert "a fall of sensitivity by 0.05 or more is not ruled out" in rule.sentence
    assert "does not reach 0.8" in rule.sentence


def test_several_cohorts_must_all_hold(packaged):
    good = cohort(answers(0.8), name="locked")
    bad = cohort(answers(-0.7))
    _, rule = judged(packaged, good, bad)
    assert not rule.passed
    assert "on busis" in rule.sentence.rsplit(";", 1)[-1]
    assert {name.split("_")[0] for name in rule.values} == {"locked", "busis"}


def test_one_class_cannot_be_judged(packaged):
    _, rule = judged(packaged, cohort(answers(0.8).assign(label=0)))
    assert not rule.passed
    assert "no images of both labels" in rule.sentence


def test_an_image_without_an_answer_cannot_be_judged(packaged):
    rows = answers(0.8)
    rows.loc[7, "probability"] = np.nan
    _, rule = judged(packaged, cohort(rows))
    assert not rule.passed
    assert "busis: 1 images have no answer, the first is busis/7" in rule.sentence


def test_the_page_says_what_the_limits_are(demo_values):
    text = (PAGES / "judge-on-an-external-cohort.md").read_text("utf-8")
    defaults = {name: field.default for name, field in ExternalLimits.model_fields.items() if name != "external_floors"}
    assert {name: float(value) for name, value in re.findall(r"`promotion\.(\w+)` \(([\d.]+)\)", text)} == defaults
    for section, values in yaml.safe_load(blocks("judge-on-an-external-cohort.md")["params.yaml"]).items():
        demo_values[section].update(values)
    config = parse_config(demo_values)
    assert (config.external, config.folds.locked) == (("busis",), 0.15)


def test_its_numbers_are_exact_though_it_needs_a_package():
    assert RULES["G7"].exact
    assert RULES["G7"].needs_package
    assert not RULES["G6"].exact


def test_a_report_of_an_earlier_version_counts_as_judged():
    assert RuleResult("G1", "floors", {}, "", True, "").judged


def test_a_floor_outside_0_and_1_is_an_error(demo_values):
    demo_values["promotion"]["external_floors"] = {"sensitivity": 80}
    with pytest.raises(ConfigError, match="external_floors"):
        parse_config(demo_values)
