"""The tables beside the paper: values against scikit-learn, differences in points, and what is incomplete."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.metric import Metric
from bus_mlops.evaluation.metrics import METRICS, interval_metrics, probability_metrics
from bus_mlops.evaluation.report.rows import table_rows
from bus_mlops.evaluation.results import (
    PlannedRow,
    checked_predictions,
    read_headings,
    read_plans,
    resampling_ratio,
    select_row,
)
from bus_mlops.evaluation.tables import fold_metrics, fold_table, metrics_summary, strategy_table
from bus_mlops.evaluation.training_variance import ONE_SEED

SINGLE = PlannedRow("approaches", "MobileNet", "Single", ("busi",), (1, 2, 3, 4, 5), (8, "MobileNet", "Single"))
ESTAN = PlannedRow("approaches", "MT-ESTAN", "Multi", ("busi",), (1, 2, 3, 4, 5), None, "multitask")
MASKS = PlannedRow("approaches", "ESTAN", "Mask only", ("busi",), (1, 2, 3, 4, 5), None, "segmentation")


@pytest.fixture(scope="module")
def frame(predictions):
    estan = {"separation": 2.5, "seed": 4, "model": "MT-ESTAN", "variant": "Multi", "task": "multitask"}
    return pd.concat([predictions(), predictions(**estan)], ignore_index=True)


@pytest.fixture(scope="module")
def table(frame):
    return strategy_table(frame, [ESTAN, SINGLE])


def test_rows_follow_the_plan(table):
    assert table["model"].tolist() == ["MT-ESTAN", "MobileNet"]
    assert table[["folds", "seeds", "images", "groups"]].to_numpy().tolist() == [[5, 1, 200, 100]] * 2


def test_means_and_deviations_are_those_of_the_folds(table, frame):
    part = select_row(frame, "MobileNet", "Single")
    areas = [reference.roc_auc_score(cell["label"], cell["probability"]) for _, cell in part.groupby("fold")]
    recalls = [reference.recall_score(c["label"], c["probability"] >= 0.5) for _, c in part.groupby("fold")]
    row = table.iloc[1]
    assert row["roc_auc_mean"] == pytest.approx(np.mean(areas))
    assert row["roc_auc_std"] == pytest.approx(np.std(areas, ddof=1))
    assert row["sensitivity_mean"] == pytest.approx(np.mean(recalls))
    assert row["roc_auc_pooled"] == pytest.approx(reference.roc_auc_score(part["label"], part["probability"]))
    assert row["roc_auc_pooled_low"] < row["roc_auc_pooled"] < row["roc_auc_pooled_high"]
    assert row["interval"] == f"groups drawn in 5 folds, and the variance between folds; {ONE_SEED}"
    for name in interval_metrics():
        if not METRICS[name].of_masks:
            assert row[f"{name}_low"] < row[f"{name}_mean"] < row[f"{name}_high"]


def test_the_validation_part_never_counts(frame):
    spoilt = frame.copy()
    spoilt.loc[spoilt["part"] == "validation", "probability"] = 0.5
    pd.testing.assert_frame_equal(strategy_table(spoilt, [SINGLE]), strategy_table(frame, [SINGLE]))


def test_the_papers_auc_is_compared_with_balanced_accuracy(table):
    row = table.iloc[1]
    assert row["paper_table"] == 8
    assert row["paper_balanced_accuracy"] == 0.841
    assert row["difference_balanced_accuracy"] == pytest.approx(100 * (row["balanced_accuracy_mean"] - 0.841))
    assert "paper_roc_auc" not in table.columns
    assert "difference_roc_auc" not in table.columns


def test_rows_without_a_published_counterpart_have_empty_cells(table):
    row = table.iloc[0]
    assert row.filter(like="paper_").isna().all()
    assert row.filter(like="difference_").isna().all()
    assert row["contradiction"] == ""


def test_a_row_that_contradicts_itself_is_marked(frame):
    resnet = PlannedRow(**{**SINGLE.__dict__, "paper": (8, "ResNet50", "Multi")})
    assert 'its "AUC" 85.0' in strategy_table(frame, [resnet])["contradiction"].iloc[0]


def test_overlap_only_where_there_are_masks(table, frame):
    part = select_row(frame, "MT-ESTAN", "Multi")
    assert table["dice_mean"].iloc[0] == pytest.approx(part.groupby("fold")["dice"].mean().mean())
    assert np.isnan(table["dice_mean"].iloc[1])


def test_boundary_distances_are_shown_where_they_were_recorded(predictions):
    then = predictions(model="MT-ESTAN", variant="Multi", task="multitask")
    now = checked_predictions(then.drop(columns=["hd95", "nsd"], errors="ignore"), "a file of an earlier version")
    assert now[["hd95", "nsd"]].isna().all(axis=None)
    row = strategy_table(now, [ESTAN]).iloc[0]
    assert row[["hd95_mean", "nsd_mean"]].isna().all()
    assert "hd95" not in metrics_summary({"approaches": strategy_table(now, [ESTAN])})["approaches"]["MT-ESTAN Multi"]
    one = now["image_id"] == now["image_id"].iloc[0]
    measured = checked_predictions(now.assign(hd95=0.02, nsd=np.where(one, np.nan, 0.75)), "a file of this version")
    row = strategy_table(measured, [ESTAN]).iloc[0]
    assert row[["hd95_mean", "nsd_mean"]].tolist() == pytest.approx([0.02, 0.75])


def test_seeds_are_further_trainings(frame):
    second = frame.assign(seed=2022)
    both = strategy_table(pd.concat([frame, second]), [SINGLE])
    assert both[["folds", "seeds", "images"]].to_numpy().tolist() == [[5, 2, 200]]
    part = select_row(pd.concat([frame, second]), "MobileNet", "Single")
    assert len(fold_metrics(part, SINGLE)) == 10


def test_a_row_without_probabilities_has_dice_and_iou_only(predictions, frame):
    masks = predictions(model="ESTAN", variant="Mask only", task="segmentation")
    both = strategy_table(pd.concat([frame, masks]), [SINGLE, MASKS], folds_frame(frame))
    row = both.iloc[1]
    part = select_row(masks, "ESTAN", "Mask only")
    assert row["dice_mean"] == pytest.approx(part.groupby("fold")["dice"].mean().mean())
    unknown = [f"{name}_{over}" for name in probability_metrics() for over in ("mean", "std")]
    assert row[[*unknown, "roc_auc_pooled", "roc_auc_low", "roc_auc_high"]].isna().all()
    assert row[["task", "images", "leaks"]].tolist() == ["segmentation", 200, 0]
    known = metrics_summary({"approaches": both})["approaches"]["ESTAN Mask only"]
    assert {name.split("_")[0] for name in known} == {"dice", "iou", "leaks", "validation"}
    assert known["dice_low"] < known["dice"] < known["dice_high"]
    shown = table_rows(both)[1]
    assert shown["cells"][0]["interval"] == "masks only"
    assert {cell["ours"] for cell in shown["cells"]} == {""}
    assert shown["masks"][0]["ours"].startswith("70.")
    assert " to " in shown["masks"][0]["interval"]


def test_the_table_of_all_folds_is_that_of_each_row(frame):
    every = fold_table({"approaches": frame}, {"approaches": [SINGLE, ESTAN]})
    assert every[["strategy", "model", "variant"]].drop_duplicates().to_numpy().tolist() == [
        ["approaches", "MobileNet", "Single"],
        ["approaches", "MT-ESTAN", "Multi"],
    ]
    alone = fold_metrics(select_row(frame, "MT-ESTAN", "Multi"), ESTAN)
    pd.testing.assert_frame_equal(every.iloc[5:, 3:].reset_index(drop=True), alone)


def folds_frame(frame: pd.DataFrame) -> pd.DataFrame:
    test = frame[(frame["part"] == "test") & (frame["model"] == "MobileNet")]
    columns = {f"fold_{k}": np.where(test["fold"] == k, "test", "train") for k in range(1, 6)}
    return pd.DataFrame({"image_id": test["image_id"], "source": "busi", "group": test["group"], **columns})


def test_complete_predictions_pass_the_check_against_the_folds(frame, table):
    checked = strategy_table(frame, [ESTAN, SINGLE], folds_frame(frame))
    pd.testing.assert_frame_equal(checked.assign(leaks=np.nan, validation_leaks=np.nan), table)


def test_images_that_no_fold_tests_are_not_expected(frame):
    folds = folds_frame(frame)
    image = folds["image_id"].iloc[0]
    tested = folds.columns[(folds.iloc[0] == "test").to_numpy()]
    unused = folds.copy()
    unused.loc[unused["image_id"] == image, tested] = "unused"
    without = frame[(frame["image_id"] != image) | (frame["part"] != "test")]
    assert strategy_table(without, [SINGLE], unused)["images"].tolist() == [199]
    with pytest.raises(EvaluationError, match=f"{image}' is predicted but not in its test part"):
        strategy_table(frame, [SINGLE], unused)
    with pytest.raises(EvaluationError, match=f"{image}' has no prediction"):
        strategy_table(without, [SINGLE], folds)


def test_a_table_counts_the_groups_that_its_folds_tear_apart(frame):
    folds = folds_frame(frame)
    checked = strategy_table(frame, [SINGLE], folds)
    assert checked["leaks"].tolist() == [0]
    assert metrics_summary({"approaches": checked})["approaches"]["MobileNet Single"]["leaks"] == 0
    assert table_rows(checked)[0]["leaks"] == ""
    apart = folds.groupby("fold_1")["group"].first()
    torn = folds.assign(group=folds["group"].replace({apart["test"]: apart["train"]}))
    leaking = strategy_table(frame, [SINGLE], torn)
    assert leaking["leaks"].tolist() == [1]
    assert table_rows(leaking)[0]["leaks"] == "leaks: 1 group"
    elsewhere = pd.concat([folds, torn.assign(source="hmss", image_id="hmss/" + torn["image_id"])])
    assert strategy_table(frame, [SINGLE], elsewhere)["leaks"].tolist() == [0]
    assert leaking["validation_leaks"].tolist() == [0]


def test_a_group_in_train_and_validation_is_counted_apart(frame):
    folds = folds_frame(frame)
    pair = folds.index[folds["fold_1"] == "test"][:2]
    folds.loc[pair, "group"] = "busi/torn"
    folds.loc[pair[0], "fold_2"] = "validation"
    table = strategy_table(frame, [SINGLE], folds)
    assert table[["leaks", "validation_leaks"]].to_numpy().tolist() == [[0, 1]]
    assert metrics_summary({"approaches": table})["approaches"]["MobileNet Single"]["validation_leaks"] == 1
    shown = table_rows(table)[0]
    assert (shown["leaks"], shown["validation_leaks"]) == ("", "validation leaks: 1 group")


def test_rows_of_an_incomplete_source_are_marked(frame):
    table = strategy_table(frame, [SINGLE], incomplete={"hmss": "9 of 20 images", "busi": "200 of 647 images"})
    assert table["incomplete"].tolist() == ["busi: 200 of 647 images"]
    assert table_rows(table)[0]["incomplete"] == "incomplete: busi: 200 of 647 images"
    assert table_rows(strategy_table(frame, [SINGLE]))[0]["incomplete"] == ""


def test_cases_and_leakage_groups_are_counted_apart(frame, table):
    part = select_row(frame, "MobileNet", "Single")
    assert part["group"].nunique() < part["case_id"].nunique()
    row = table.iloc[1]
    assert (row["cases"], row["groups"]) == (part["case_id"].nunique(), part["group"].nunique())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f[f["fold"] != 2], "MobileNet Single lacks fold 2 .*train@approaches"),
        (lambda f: f.assign(fold=f["fold"].replace({5: 6})), "lacks fold 5"),
        (lambda f: f[f["model"] != "MobileNet"], "has no predictions"),
        (lambda f: pd.concat([f, f.head(1)]), "twice in one fold"),
        (lambda f: f.drop(index=f.index[0]), "has no prediction"),
        (
            lambda f: f.assign(image_id=f["image_id"].replace({f["image_id"].iloc[0]: "busi/x"})),
            "has no pred",
        ),
        (lambda f: f.assign(label=1), "approaches: MobileNet Single, fold 1: all"),
        (lambda f: f.assign(probability=np.nan), "are NaN"),
    ],
)
def test_incomplete_predictions_are_an_error_that_says_where(frame, spoil, message):
    with pytest.raises(EvaluationError, match=message):
        strategy_table(spoil(frame), [SINGLE], folds_frame(frame))


def test_a_metric_that_is_undefined_in_a_fold_stops_no_table(frame, monkeypatch):
    def undefined_where_none_is_called(labels, probabilities, threshold):
        return 0.5 if (probabilities >= threshold).any() else float("nan")

    shy = Metric("shy", "Shy", interval=True, compute=undefined_where_none_is_called)
    monkeypatch.setitem(METRICS, "shy", shy)
    low = frame.assign(probability=frame["probability"] * np.where(frame["fold"] == 2, 0.4, 1))
    record = strategy_table(low, [SINGLE]).iloc[0]
    assert record["undefined"].startswith("shy in fold 2 (")
    assert np.isnan([record["shy_mean"], record["shy_std"], record["shy_low"]]).all()
    assert np.isfinite([record[f"{name}_mean"] for name in probability_metrics() if name != "shy"]).all()
    assert "shy" not in metrics_summary({"approaches": strategy_table(low, [SINGLE])})["approaches"]["MobileNet Single"]
    with pytest.raises(EvaluationError, match="nothing can be judged by it"):
        shy.value([0, 1], [0.1, 0.2])


def test_a_seed_that_is_missing_in_one_fold_is_an_error(frame):
    seed = int(frame["seed"].iloc[0])
    twice = pd.concat([frame, frame[frame["fold"] != 3].assign(seed=seed + 1)])
    row = PlannedRow(**{**SINGLE.__dict__, "seeds": (seed, seed + 1)})
    with pytest.raises(EvaluationError, match=f"lacks fold 3 with seed {seed + 1}"):
        strategy_table(twice, [row])
    both = strategy_table(pd.concat([frame, frame.assign(seed=seed + 1)]), [row])
    assert both["seeds"].tolist() == [2]


def test_one_fold_too_many_is_an_error(frame):
    four = PlannedRow(**{**SINGLE.__dict__, "folds": (1, 2, 3, 4)})
    with pytest.raises(EvaluationError, match="has fold 5, which is not planned"):
        strategy_table(frame, [four])


def test_a_row_that_the_paper_does_not_have_is_an_error(frame):
    wrong = PlannedRow(**{**SINGLE.__dict__, "paper": (8, "MobileNet", "TL")})
    with pytest.raises(EvaluationError, match="Table 8 has no row MobileNet TL"):
        strategy_table(frame, [wrong])


def test_metrics_for_dvc_hold_no_nan_and_six_digits(table):
    summary = metrics_summary({"approaches": table})
    text = json.dumps(summary, allow_nan=False)
    assert json.loads(text) == summary
    values = summary["approaches"]["MobileNet Single"]
    assert values["roc_auc"] == round(table["roc_auc_mean"].iloc[1], 6)
    assert "dice" not in values
    assert "dice" in summary["approaches"]["MT-ESTAN Multi"]


def test_plans_are_told_from_other_files(tmp_path):
    spec = {"cohort": ["busi"], "task": "multitask", "network": "m", "training": {"epochs": 3}}
    row = {"model": "M", "variant": "S", "paper": {"table": 4, "model": "M", "variant": "S"}, "spec": spec}
    plan = {
        **{"strategy": "losses", "order": 6, "title": "Losses", "explanation": ""},
        "folds": [1, 2],
        "seeds": [7, 8],
        "rows": [row, {**row, "paper": None, "family": "WBCE"}],
    }
    (tmp_path / "losses.json").write_text(json.dumps(plan))
    (tmp_path / "sizes.json").write_text('{"sizes": [64]}')
    plans = read_plans(tmp_path)
    assert list(plans) == ["losses"]
    assert [each.paper for each in plans["losses"]] == [(4, "M", "S"), None]
    assert (plans["losses"][0].folds, plans["losses"][0].seeds) == ((1, 2), (7, 8))
    assert [each.family for each in plans["losses"]] == [None, "WBCE"]
    assert plans["losses"][0].task == "multitask"
    assert plans["losses"][0].training == {"epochs": 3}
    (tmp_path / "losses.json").write_text(json.dumps({**plan, "rows": [{"model": "M"}]}))
    with pytest.raises(EvaluationError, match="lacks 'paper'"):
        read_plans(tmp_path)


def test_plans_come_in_the_order_of_their_tables(tmp_path):
    row = {
        "model": "M",
        "variant": "S",
        "paper": None,
        "spec": {"cohort": [], "task": "", "network": "", "training": {}},
    }
    for name, order in {"approaches": 9, "mine": 10, "losses": 6, "also_mine": 10, "transfer_learning": 4}.items():
        heading = {"order": order, "title": name, "explanation": ""}
        plan = {"strategy": name, **heading, "folds": [1], "seeds": [1], "rows": [row]}
        (tmp_path / f"{name}.json").write_text(json.dumps(plan))
    assert list(read_plans(tmp_path)) == ["transfer_learning", "losses", "approaches", "also_mine", "mine"]
    assert list(read_headings(tmp_path)) == list(read_plans(tmp_path))


def test_the_ratio_of_test_to_train_images_is_the_mean_of_the_rows_folds(frame):
    folds = folds_frame(frame)
    ratios = [(folds[f"fold_{k}"] == "test").sum() / (folds[f"fold_{k}"] == "train").sum() for k in (1, 3)]
    row = PlannedRow(**{**SINGLE.__dict__, "folds": (1, 3)})
    assert resampling_ratio(folds, row) == pytest.approx(np.mean(ratios))
    elsewhere = pd.concat([folds, folds.assign(source="hmss", fold_1="train")])
    assert resampling_ratio(elsewhere, row) == pytest.approx(np.mean(ratios))
    own = PlannedRow(**{**row.__dict__, "training": {"validation": 0.5}})  # divides training images anew
    learnt = [folds[f"fold_{k}"].isin(["train", "validation"]).sum() for k in (1, 3)]
    tested = [(folds[f"fold_{k}"] == "test").sum() for k in (1, 3)]
    expected = np.mean([test / (part / 2) for test, part in zip(tested, learnt, strict=True)])
    assert resampling_ratio(folds.assign(label=np.arange(len(folds)) % 2), own) == pytest.approx(expected, rel=0.1)
    with pytest.raises(EvaluationError, match="a fold has no train image"):
        resampling_ratio(folds.assign(fold_3="test"), row)
