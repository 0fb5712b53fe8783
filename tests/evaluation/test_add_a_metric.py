"""docs/how-to/add-a-metric.md, executed: one file brings a metric into tables, report, ledger, search and gate."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import blocks
from projects import ROOT, run_stage_here
from sklearn import metrics as reference

from bus_mlops.errors import ConfigError, EvaluationError, ExtensionError
from bus_mlops.evaluation.intervals import bootstrap_interval, bootstrap_values
from bus_mlops.evaluation.metrics import (
    METRICS,
    RESERVED_NAMES,
    RESERVED_SUFFIXES,
    classification_metrics,
    judging_metrics,
    metric,
    probability_metrics,
)
from bus_mlops.evaluation.report.page import read_inputs, render_report
from bus_mlops.evaluation.resampling import group_weights
from bus_mlops.evaluation.results import CURVE_COLUMNS, PREDICTION_COLUMNS, seal
from bus_mlops.experiments.cell_predictions import cell_metrics
from bus_mlops.extensions import load_extensions
from bus_mlops.project import load_config, parse_config

PAGE = "add-a-metric.md"
MATTHEWS, COST, PARAMS = "extensions/matthews.py", "extensions/cost.py", "params.yaml"
ROWS = [("MobileNet", "Single", {"table": 8, "model": "MobileNet", "variant": "Single"}), ("MT-ESTAN", "Multi", None)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with the page's files in their places."""
    folder = tmp_path_factory.mktemp("metric")
    (folder / "extensions").mkdir()
    page = blocks(PAGE)
    for name in (MATTHEWS, COST):
        (folder / name).write_text(page[name])
    values = yaml.safe_load((ROOT / PARAMS).read_text())
    for section, chosen in yaml.safe_load(page[PARAMS]).items():
        for key, value in chosen.items():
            present = values[section].get(key)
            values[section][key] = {**present, **value} if isinstance(present, dict) else value
    (folder / PARAMS).write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture(scope="module")
def project(folder: Path, predictions: Callable[..., pd.DataFrame]) -> Path:
    """With predictions that know nothing of the metric, evaluated and reported by the stages themselves."""
    for name in ("results/plan", "results/predictions", "data/folds", "data/benchmark"):
        (folder / name).mkdir(parents=True)
    frame = pd.concat([predictions(model=m, variant=v, images=120, folds=3, task="multitask") for m, v, _ in ROWS])
    frame.to_parquet(folder / "results/predictions/approaches.parquet")
    seal(folder / "results/predictions", "approaches", {})
    spec = {"cohort": ["busi"], "task": "multitask", "training": {}}
    rows = [{"model": m, "variant": v, "paper": p, "spec": {**spec, "network": m.lower()}} for m, v, p in ROWS]
    heading = {"strategy": "approaches", "title": "Approaches", "explanation": "Made up.", "order": 1}
    plan = {**heading, "folds": [1, 2, 3], "seeds": [2021], "rows": rows}
    (folder / "results/plan/approaches.json").write_text(json.dumps(plan))
    test = frame[frame["part"] == "test"].drop_duplicates("image_id")
    parts = {f"fold_{k}": np.where(test["fold"] == k, "test", "train") for k in (1, 2, 3)}
    images = test[["image_id", "source", "label", "case_id", "group"]].assign(**parts)
    images.to_csv(folder / "data/folds/folds.csv", index=False)
    benchmark = {"kind": "phantom", "flow": {"busi": {"kept": 120}}, "label_conflicts": []}
    (folder / "data/benchmark/benchmark.json").write_text(json.dumps(benchmark))
    for stage in ("evaluate", "report"):
        done = run_stage_here(stage, folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def loaded(folder: Path) -> Iterator[Path]:
    """The folder with its metrics registered; they are forgotten afterwards."""
    load_extensions(folder / "extensions")
    yield folder
    load_extensions(folder / "nothing")


def test_the_page_is_one_file_a_metric_and_two_lines():
    page = blocks(PAGE)
    assert set(page) == {MATTHEWS, COST, PARAMS}
    assert all(page[name].count("metric(") == 1 and len(page[name].splitlines()) <= 14 for name in (MATTHEWS, COST))


def test_the_files_are_formatted_and_import_what_they_use(folder):
    pytest.importorskip("ruff", reason="style is looked at on one set of versions")
    for action in (("check", "--select", "E,F,W,B"), ("format", "--check")):
        arguments = [sys.executable, "-m", "ruff", *action, "--config", str(ROOT / "pyproject.toml"), MATTHEWS, COST]
        done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.1, 0.4, 0.5, 0.6, 1.0])), max_size=30))
def test_the_first_is_scikit_learns(cases):
    labels, probabilities = np.array([(0, 0.4), (1, 0.6), *cases]).T
    namespace: dict[str, Callable[..., float]] = {}
    # Not the decorator's: hypothesis would register it again and again.
    exec(re.sub(r"@metric.*\n", "", blocks(PAGE)[MATTHEWS]), namespace)
    expected = reference.matthews_corrcoef(labels, probabilities >= 0.5)
    assert namespace["matthews"](labels, probabilities, 0.5) == pytest.approx(expected)


def test_each_fold_table_and_summary_has_it(project):
    frame = pd.read_parquet(project / "results/predictions/approaches.parquet")
    part = frame[(frame["model"] == "MobileNet") & (frame["part"] == "test")]
    ours = [reference.matthews_corrcoef(c["label"], c["probability"] >= 0.5) for _, c in part.groupby("fold")]
    table = pd.read_csv(project / "results/tables/approaches.csv").iloc[0]
    assert table["matthews_mean"] == pytest.approx(np.mean(ours))
    assert table["matthews_std"] == pytest.approx(np.std(ours, ddof=1))
    pooled = reference.matthews_corrcoef(part["label"], part["probability"] >= 0.5)
    assert table["matthews_pooled"] == pytest.approx(pooled)
    assert table["matthews_pooled_low"] < pooled < table["matthews_pooled_high"]
    assert table["matthews_low"] < table["matthews_mean"] < table["matthews_high"]
    summary = json.loads((project / "results/metrics.json").read_text())["approaches"]["MobileNet Single"]
    for name in ("matthews", "matthews_std", "matthews_low", "matthews_pooled_low", "cost", "cost_high"):
        column = name if "_" in name else f"{name}_mean"
        assert summary[name] == pytest.approx(table[column], abs=1e-6)
    by_fold = pd.read_csv(project / "results/plots/folds.csv")
    assert by_fold.loc[by_fold["model"].str.contains("MobileNet"), "matthews"].tolist() == pytest.approx(ours, abs=1e-6)


def test_the_report_has_a_column_with_its_interval(project):
    text = (project / "results/report.html").read_text()
    table = pd.read_csv(project / "results/tables/approaches.csv").iloc[0]
    assert '<th title="matthews">MCC<br>95 % interval</th>' in text
    assert f"<td>{table['matthews_mean']:.3f} ± {table['matthews_std']:.3f}<small>" in text
    assert f"<small>{table['matthews_low']:.3f} to {table['matthews_high']:.3f}</small>" in text
    assert '<th title="dice">Dice %<br>95 % interval</th><th title="iou">IoU %<br>95 % interval</th>' in text


def test_a_table_from_before_it_is_an_error_that_says_what_to_run(project, tmp_path, loaded):
    (tmp_path / "later.py").write_text(blocks(PAGE)[COST].replace("def cost", "def later"))
    load_extensions(tmp_path)
    with pytest.raises(EvaluationError, match="lacks the metric 'later', which was added since: run `dvc repro eval"):
        read_inputs(project / "data", project / "results", {})
    load_extensions(project / "nothing")
    assert "MCC" not in render_report(read_inputs(project / "data", project / "results", {}))


def test_a_cell_records_it_for_both_parts(loaded, predictions):
    frame = predictions(images=80)
    values = cell_metrics(frame[frame["fold"] == 1])
    assert {"matthews", "cost", "validation_best_matthews", "validation_best_cost"} <= set(values)


def test_search_and_gate_may_use_it(loaded, monkeypatch):
    monkeypatch.chdir(loaded)
    config = load_config()
    assert (config.searches["weighted_cross_entropy"].objective, config.promotion.metric) == (("matthews",), "matthews")
    load_extensions(loaded / "nothing")
    values = yaml.safe_load((loaded / PARAMS).read_text())
    known = ", ".join(judging_metrics())
    with pytest.raises(ConfigError, match=rf"promotion.metric = 'matthews': no such metric .*there are: {known}"):
        parse_config(values)


def test_both_ways_to_resample_agree(loaded, predictions):
    part = predictions(images=90).query("part == 'test'")
    labels, probabilities = part["label"].to_numpy(), part["probability"].to_numpy()
    weights = group_weights(part["group"], 30, seed=1)
    metric(heading="Cost")(cost_of_images)
    try:
        one_by_one = bootstrap_values("cost_of_images", labels, probabilities, weights, np.full(labels.size, 0.4))
    finally:
        METRICS.forget(__name__)
    at_once = bootstrap_values("cost", labels, probabilities, weights, 0.4)
    assert one_by_one == pytest.approx(at_once)


def cost_of_images(labels: np.ndarray, probabilities: np.ndarray, threshold: np.ndarray) -> float:
    called = probabilities >= threshold
    return float(np.mean(np.where(labels == 1, 10 * ~called, called)))


def test_a_resample_without_one_of_the_classes_is_undefined(loaded):
    labels, probabilities = np.array([0, 0, 1]), np.array([0.1, 0.2, 0.9])
    weights = group_weights(["a", "b", "c"], 200, seed=0)
    values = bootstrap_values("matthews", labels, probabilities, weights)
    lacking = [np.ptp(labels[drawn]) == 0 for drawn in weights.images()]
    assert 0 < sum(lacking) < 200
    assert np.isnan(values).tolist() == lacking
    with pytest.raises(EvaluationError, match="lack one of the classes"):
        bootstrap_interval("matthews", labels, probabilities, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (("(10 * fn + fp)", "(10 * missed + fp)"), "metric 'cost' cannot be computed: NameError: name 'missed'"),
        (("return (10", "return float('nan') * (10"), "metric 'cost' is nan for 4 images of both classes"),
        (("def cost", "def brier"), "metric 'brier' is registered twice"),
        (
            ("def cost", "def loss"),
            "metric 'loss' is the name of something else in predictions, tables or runs: rename",
        ),
        (("def cost", "def fold"), "metric 'fold' is the name of something else"),
        (("def cost", "def leaks"), "metric 'leaks' is the name of something else"),
        (("def cost", "def seconds"), "metric 'seconds' is the name of something else"),
        (("def cost", "def validation_loss"), "metric 'validation_loss' is the name of something else"),
        (("def cost", "def validation_best_f1"), "metric 'validation_best_f1' begins with 'validation_', which"),
        (("def cost", "def paper_f1"), "metric 'paper_f1' begins with 'paper_', which tables and runs put before"),
        (("def cost", "def f1_std"), "metric 'f1_std' ends in '_std', which tables and runs put behind the name"),
        (("direction=-1", 'paper="AUC"'), "metric 'cost' has paper='AUC', but the paper prints no metric but ours"),
    ],
)
def test_a_function_that_does_not_work_is_named_at_once(tmp_path, spoil, message):
    (tmp_path / "cost.py").write_text(blocks(PAGE)[COST].replace(*spoil))
    with pytest.raises(ExtensionError, match=re.escape(f"cost.py cannot be run: EvaluationError: {message}")):
        load_extensions(tmp_path)
    assert "cost" not in METRICS


def test_what_stands_beside_metrics_in_tables_is_reserved(project):
    by_fold = pd.read_csv(project / "results/plots/folds.csv")
    summary = json.loads((project / "results/metrics.json").read_text())["approaches"]["MobileNet Single"]
    beside = {
        *PREDICTION_COLUMNS,
        *CURVE_COLUMNS,
        *by_fold.columns,
        *(name for name in summary if not name.endswith(RESERVED_SUFFIXES)),
    }
    assert {"model", "fold", "seed", "leaks"} <= beside - set(METRICS) - {"matthews", "cost"} <= RESERVED_NAMES


def test_they_are_forgotten_with_their_files(loaded):
    assert {"matthews", "cost"} <= set(classification_metrics([0, 1], [0.2, 0.8]))
    load_extensions(loaded / "nothing")
    assert tuple(classification_metrics([0, 1], [0.2, 0.8])) == probability_metrics()
    assert "matthews" not in METRICS
