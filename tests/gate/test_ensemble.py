"""What is judged is the mean over a fold's calibrated networks at its own threshold: by hand, and as properties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.cells import by_cell
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.roc import threshold_at_specificity, youden_threshold
from bus_mlops.gate.calibration import fit_calibration
from bus_mlops.gate.comparison import GateContext, Judged, Lineage, compare
from bus_mlops.gate.ensemble import best_networks
from bus_mlops.gate.gate import run_gate

LINEAGE = Lineage("d" * 64, "f" * 64)
CONTEXT = GateContext(
    model_name="bus-mt-estan",
    is_phantom=False,
    expected_folds=(1, 2),
    candidate=LINEAGE,
    baseline=LINEAGE,
    n_train={1: 40, 2: 40},
    n_test={1: 30, 2: 30},
    leak_check="passed",
)
SEEDS = (3, 5, 8)


def predictions(seed: int = 0, seeds: tuple[int, ...] = SEEDS) -> pd.DataFrame:
    """Two folds of 30 test and 20 validation images, each network with a luck and a scale of its own."""
    rng = np.random.default_rng(seed)
    rows = []
    for fold in (1, 2):
        for each in seeds:
            scale, offset = np.exp(0.3 * rng.normal()), rng.normal()
            for part, images in (("test", range(30 * fold, 30 * fold + 30)), ("validation", range(100, 120))):
                for i in images:
                    label = i % 2
                    p = 1 / (1 + np.exp(-(scale * (2 * label - 1 + rng.normal()) + offset)))
                    rows.append((fold, each, part, f"busi/{i}", f"g{i // 4}", label, p))
    frame = pd.DataFrame(rows, columns=["fold", "seed", "part", "image_id", "group", "label", "probability"])
    return frame.assign(case_id=frame["image_id"], source="busi", strategy="s", model="m", variant="")


def judged(frame: pd.DataFrame, construction: str = "ensemble") -> Judged:
    return compare([frame, frame], CONTEXT, metric="roc_auc", construction=construction).candidate  # type: ignore[arg-type]


def parts(frame: pd.DataFrame, fold: int, part: str) -> list[pd.DataFrame]:
    rows = frame[(frame["fold"] == fold) & (frame["part"] == part)]
    return [own.sort_values("image_id") for _, own in rows.groupby("seed")]


def test_the_answer_is_the_mean_of_the_calibrated_networks_at_a_threshold_chosen_for_that_mean() -> None:
    frame = predictions()
    found = judged(frame).test
    assert len(found) == 60
    assert set(found["networks"]) == {3}
    for fold in (1, 2):
        validation = parts(frame, fold, "validation")
        fits = [fit_calibration(own["label"], own["probability"]) for own in validation]
        means = {
            part: np.mean([fit.apply(own["probability"]) for fit, own in zip(fits, of_part, strict=True)], axis=0)
            for part, of_part in (("test", parts(frame, fold, "test")), ("validation", validation))
        }
        labels = validation[0]["label"].to_numpy()
        own = found[found["fold"] == fold].sort_values("image_id")
        assert own["probability"].to_numpy() == pytest.approx(means["test"], abs=1e-15)
        assert set(own["threshold"]) == {youden_threshold(labels, means["validation"])}
        at = threshold_at_specificity(labels, means["validation"], 0.9)
        assert set(own["threshold_at_specificity"]) == {at}
        assert (means["validation"][labels == 0] < at).mean() >= 0.9


def test_metrics_are_those_of_folds_and_of_networks_alone() -> None:
    frame = predictions()
    found = judged(frame)
    assert list(found.metric_by_fold("sensitivity")) == [1, 2]
    assert list(found.metric_by_cell("sensitivity")) == [(fold, seed) for fold in (1, 2) for seed in SEEDS]
    alone = {
        key: METRICS["roc_auc"].value(c["label"], c["probability"])
        for key, c in by_cell(frame[frame["part"] == "test"])
    }
    assert found.metric_by_cell("roc_auc") == pytest.approx(alone)
    assert np.mean(list(found.metric_by_fold("roc_auc").values())) > np.mean(list(alone.values()))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.permutations(SEEDS), st.permutations((1, 2)), st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_the_names_of_seeds_or_folds_change_an_answer(seed, seeds, folds, random) -> None:
    frame = predictions(seed)
    order = list(range(len(frame)))
    random.shuffle(order)
    renamed = frame.assign(
        seed=frame["seed"].map(dict(zip(SEEDS, seeds, strict=True))),
        fold=frame["fold"].map(dict(zip((1, 2), folds, strict=True))),
    ).iloc[order]
    columns = ["probability", "threshold", "threshold_at_specificity", "label"]
    one, other = (judged(each).test.set_index("image_id")[columns].sort_index() for each in (frame, renamed))
    pd.testing.assert_frame_equal(one, other, check_exact=False, rtol=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_the_ensemble_of_one_seed_is_its_network(seed: int) -> None:
    found = judged(predictions(seed, seeds=(3,)))
    columns = ["fold", "image_id", "probability", "threshold", "threshold_at_specificity"]
    one, other = (each[columns].sort_values(columns[:2]).reset_index(drop=True) for each in (found.test, found.members))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=30), st.sampled_from([0.5, 0.9, 1.0])
)
def test_the_threshold_at_a_specificity_is_the_lowest_that_reaches_it(rows, specificity) -> None:
    labels, p = np.array([r[0] for r in rows]), np.array([r[1] for r in rows]) / 6
    if labels.min() == labels.max():
        return
    found = threshold_at_specificity(labels, p, specificity)
    reached = lambda cut: (p[labels == 0] < cut).mean()  # noqa: E731
    assert reached(found) >= specificity
    lower = [cut for cut in np.unique(p) if cut < found]
    # A cut above the next lower score calls the same images malignant as `found` does.
    assert all(reached(cut) < specificity for cut in lower)


def test_a_single_network_is_the_one_that_validation_prefers_and_the_baseline_stays_a_mean() -> None:
    frame = predictions(4)
    comparison = compare([frame, frame], CONTEXT, metric="roc_auc", construction="single")
    chosen = best_networks(frame, "roc_auc")
    for fold in (1, 2):
        rows = comparison.candidate.test[comparison.candidate.test["fold"] == fold]
        members = comparison.candidate.members
        alone = members[(members["fold"] == fold) & (members["seed"] == chosen[fold].seed)]
        assert (
            rows.sort_values("image_id")["probability"].tolist()
            == alone.sort_values("image_id")["probability"].tolist()
        )
        values = {
            int(own["seed"].iloc[0]): METRICS["roc_auc"].value(own["label"], own["probability"])
            for own in parts(frame, fold, "validation")
        }
        assert values[chosen[fold].seed] == max(values.values())
    assert set(comparison.candidate.test["networks"]) == {1}
    assert set(comparison.baseline.test["networks"]) == {3}


def test_thresholds_of_seeds_that_validate_other_images_are_chosen_on_those_that_all_validate() -> None:
    frame = predictions()
    lost = (frame["part"] == "validation") & (frame["seed"] == 5) & frame["image_id"].isin(["busi/100", "busi/101"])
    kept = frame[(frame["part"] != "validation") | ~frame["image_id"].isin(["busi/100", "busi/101"])]
    found, without = judged(frame[~lost]).test, judged(kept).test
    assert len(found) == len(without) == 60
    # Calibrations still rest on all that each seed validated.
    assert found["probability"].tolist() != without["probability"].tolist()
    torn = (
        (frame["part"] == "validation")
        & (frame["seed"] == 5)
        & (frame["label"] == 1)
        & (frame["image_id"] > "busi/101")
    )
    other = frame.assign(image_id=frame["image_id"].where(~torn, frame["image_id"] + "x"))
    only = (other["part"] == "validation") & (other["seed"] == 8) & (other["image_id"] == "busi/101")
    with pytest.raises(EvaluationError, match="no threshold can be chosen for fold 1 on the"):
        judged(other[~only])


def test_seeds_that_were_tested_on_other_images_and_a_fold_that_lacks_one_are_refused() -> None:
    frame = predictions()
    lost = (frame["part"] == "test") & (frame["seed"] == 5) & (frame["image_id"] == "busi/31")
    torn = frame[~lost]
    rule = run_gate(compare([torn, torn], CONTEXT, metric="roc_auc", resamples=50), {}).rules[0]
    assert not rule.passed
    assert "the candidate's seeds of fold 1 were not tested on the same images" in rule.sentence.lower()
    lacking = frame[(frame["fold"] == 1) | (frame["seed"] != 5)]
    report = run_gate(compare([lacking, frame], CONTEXT, metric="roc_auc", resamples=50), {})
    assert "lacks fold 2 of seed 5" in report.rules[0].sentence


def test_a_network_without_an_answer_makes_none_of_the_others() -> None:
    frame = predictions()
    row = frame.index[(frame["part"] == "test") & (frame["seed"] == 8)][3]
    diverged = frame.copy()
    diverged.loc[row, "probability"] = np.nan
    found = judged(diverged).test
    assert found["probability"].isna().sum() == 1
    report = run_gate(compare([diverged, frame], replace(CONTEXT), metric="roc_auc", resamples=50), {})
    assert {"G1", "G3", "G4", "G5"} <= {rule.id for rule in report.failed}
    masks_only = frame.assign(probability=np.nan)
    with pytest.raises(EvaluationError, match="NaN"):
        judged(masks_only)
