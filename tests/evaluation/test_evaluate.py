"""From files to tables, metrics, plot data, the report and the summary, on a small synthetic project."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from axe import axe_core, violations
from browser import chromium
from PIL import Image
from searched import make_result
from sklearn import metrics as reference

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation import dvc_plots
from bus_mlops.evaluation.evaluate import evaluate
from bus_mlops.evaluation.headline import headline
from bus_mlops.evaluation.report import plots
from bus_mlops.evaluation.report.page import read_inputs, render_report
from bus_mlops.evaluation.report.provenance import provenance
from bus_mlops.evaluation.results import COLLECTED, RUNS_FILE, read_curves, seal
from bus_mlops.evaluation.roc import evenly
from bus_mlops.evaluation.samples import read_samples
from bus_mlops.evaluation.search_words import words
from bus_mlops.evaluation.searched import SearchResult
from bus_mlops.gate.comparison import GateContext, Lineage, compare
from bus_mlops.gate.gate import run_gate

HEADINGS = {
    "approaches": {"order": 9, "title": "Approaches", "explanation": "Made for ultrasound."},
    "losses": {"order": 6, "title": "Losses", "explanation": "Three losses."},
}
WBCE = {2: "WBCE(w_z=2)", 3: "WBCE(w_z=3)"}
ROWS: dict[str, list[tuple[str, str, dict[str, Any] | None, str]]] = {
    "approaches": [
        ("MobileNet", "Single", {"table": 8, "model": "MobileNet", "variant": "Single"}, "classification"),
        ("ResNet50", "Multi", {"table": 8, "model": "ResNet50", "variant": "Multi"}, "multitask"),
        ("ESTAN", "Mask only", None, "segmentation"),
    ],
    "losses": [
        ("MobileNet", "BCE <b>", None, "classification"),
        ("MobileNet", WBCE[2], None, "classification"),
        ("MobileNet", WBCE[3], {"table": 6, "model": "MobileNet", "variant": WBCE[3]}, "classification"),
    ],
}


def family(strategy: str, variant: str) -> str:
    return ("WBCE" if variant.startswith("WBCE") else "BCE") if strategy == "losses" else ""


def spec(model: str, variant: str, task: str) -> dict[str, Any]:
    weights = {name: weight for weight, name in WBCE.items()}
    training = {
        "weights": "imagenet",
        "augmentation": {},
        "loss": {"positive_weight": weights.get(variant, 1)},
        "optimizer": {"name": "adam"},
    }
    return {"cohort": ["busi"], "network": model.lower(), "task": task, "training": training}


PNG = b"\x89PNG not looked into"
AUDIT = {
    "images": 200,
    "cases": 195,
    "groups": 190,
    "largest_group": 4,
    "exact_duplicate_pairs": 1,
    "clusters": {"count": 8, "images": 17, "fraction_of_images": 0.085},
    "conflicts": {"clusters": [], "cases": []},
}


def write_samples(path: Path, model: str) -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((6, 32, 32), np.uint8)
    masks[:, 8:20, 10:24] = 1
    np.savez_compressed(
        path,
        image=rng.integers(0, 255, (6, 32, 32)).astype(np.uint8),
        mask_true=masks,
        mask_predicted=np.roll(masks, 3, axis=1),
        image_id=np.array([f"busi/{i}" for i in range(6)]),
        label=np.array([0, 0, 0, 1, 1, 1]),
        probability=rng.random(6),
        model=np.full(6, model),
    )


def write_strategy(root: Path, strategy: str, predictions: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    frames, curves = [], []
    for i, (model, variant, _, task) in enumerate(ROWS[strategy]):
        row = {"strategy": strategy, "model": model, "variant": variant}
        separation = {WBCE[2]: 1.5, WBCE[3]: 0.8}.get(variant, 1 + i)
        frames.append(predictions(separation=separation, seed=i, task=task, **row))
        for fold in range(1, 6):
            epochs = np.arange(1, 4)
            values = {"fold": fold, "seed": 1, "epoch": epochs, "loss": 1 / epochs, "validation_loss": 1.1 / epochs}
            area = np.nan if task == "segmentation" else 0.5 + 0.1 * epochs
            curves.append(pd.DataFrame({**row, **values, "validation_roc_auc": area}))
    folder = root / "results" / "predictions"
    frame = pd.concat(frames, ignore_index=True)
    frame.to_parquet(folder / f"{strategy}.parquet")
    pd.concat(curves).to_csv(folder / f"{strategy}_curves.csv", index=False)
    planned = [
        {"model": m, "variant": v, "paper": paper, "family": family(strategy, v), "spec": spec(m, v, task)}
        for m, v, paper, task in ROWS[strategy]
    ]
    seeds = [int(seed) for seed in frame["seed"].unique()]
    plan = {"strategy": strategy, **HEADINGS[strategy], "folds": [1, 2, 3, 4, 5], "seeds": seeds, "rows": planned}
    (root / "results" / "plan" / f"{strategy}.json").write_text(json.dumps(plan))
    return frame


@pytest.fixture(scope="session")
def made(tmp_path_factory, predictions) -> Path:
    """A project folder after the `evaluate` stage."""
    root = tmp_path_factory.mktemp("project")
    for name in ("results/plan", "results/predictions", "data/folds", "data/audit", "data/benchmark"):
        (root / name).mkdir(parents=True)
    frame = pd.concat([write_strategy(root, strategy, predictions) for strategy in ROWS])
    folder = root / "results" / "predictions"
    write_samples(folder / "approaches_samples.npz", "ResNet50 Multi")
    np.savez_compressed(folder / "losses_samples.npz", image_id=np.array([], dtype=str))
    for strategy in ROWS:
        seal(folder, strategy, {})
    test = frame[frame["part"] == "test"].drop_duplicates("image_id")
    parts = {f"fold_{k}": np.where(test["fold"] == k, "test", "train") for k in range(1, 6)}
    pd.DataFrame({"image_id": test["image_id"], "source": "busi", "group": test["group"], **parts}).to_csv(
        root / "data" / "folds" / "folds.csv", index=False
    )
    counts = {"listed": 200, "excluded": {"no class": 3}, "kept": 197, "benign": 120, "malignant": 77}
    benchmark = {"kind": "phantom", "flow": {"busi": counts, "busis": counts}, "label_conflicts": []}
    (root / "data/benchmark/benchmark.json").write_text(json.dumps(benchmark))
    (root / "data/audit/audit.json").write_text(json.dumps(AUDIT))
    counted = {"images": 40, "groups": 30, "malignant_fraction": 0.4}
    leakage = {
        "kind": "grouped",
        "leaks": 0,
        "validation_leaks": 0,
        "folds": {"fold_1": dict.fromkeys(("train", "validation", "test"), counted)},
    }
    (root / "data/leakage.json").write_text(json.dumps(leakage))
    run_evaluate(root)
    return root


@pytest.fixture
def project(made, tmp_path) -> Path:
    """A copy of it, free to change."""
    return Path(shutil.copytree(made, tmp_path / "project"))


def run_evaluate(root: Path) -> list[str]:
    results = root / "results"
    benchmark = root / "data/benchmark"
    return evaluate(
        results / "plan", results / "predictions", root / "data/folds/folds.csv", results, benchmark=benchmark
    )


def write_gate(root: Path) -> None:
    frame = pd.read_parquet(root / "results/predictions/approaches.parquet")
    same = Lineage("d", "f")
    sizes = dict.fromkeys(range(1, 6), 128), dict.fromkeys(range(1, 6), 40)
    context = GateContext("bus-mt-estan-phantom", True, (1, 2, 3, 4, 5), same, same, *sizes, "passed")
    worse, better = (frame[frame["model"] == model] for model in ("MobileNet", "ResNet50"))
    report = run_gate(compare([worse, better], context, metric="roc_auc", resamples=200), {})
    (root / "results/promotion").mkdir()
    (root / "results/promotion/gate.json").write_text(report.to_json())


def page(root: Path) -> str:
    return render_report(read_inputs(root / "data", root / "results", {"seed": "2021"}))


@pytest.fixture(scope="session")
def shown(made) -> str:
    """The report of it."""
    return page(made)


def test_evaluate_writes_tables_metrics_and_plot_data(made):
    results = made / "results"
    table = pd.read_csv(results / "tables/approaches.csv")
    metrics = json.loads((results / "metrics.json").read_text())
    row = metrics["approaches"]["ResNet50 Multi"]
    assert row["roc_auc"] == pytest.approx(table["roc_auc_mean"].iloc[1], abs=1e-6)
    assert set(metrics) == {"approaches", "losses"}
    folds = pd.read_csv(results / "plots/folds.csv")
    assert len(folds) == 35  # of six rows, and of the one that stands for its family
    masks = folds[folds["model"] == "approaches: ESTAN Mask only"]
    assert masks["roc_auc"].isna().all()
    assert masks["dice"].between(0.6, 0.8).all()
    curves = pd.read_csv(results / "plots/curves.csv")
    assert curves.groupby("model").size().tolist() == [3] * 7


def test_roc_points_enclose_the_area(made):
    points = pd.read_csv(made / "results/plots/roc.csv")
    assert list(points.columns) == ["model", "false_positive_rate", "true_positive_rate"]
    table = pd.read_csv(made / "results/tables/approaches.csv")
    one = points[points["model"] == "approaches: ResNet50 Multi"]
    area = np.trapezoid(one["true_positive_rate"], one["false_positive_rate"])
    assert area == pytest.approx(table["roc_auc_pooled"].iloc[1], abs=1e-5)


def test_roc_curves_are_those_of_classifying_and_chosen_rows(made):
    points = pd.read_csv(made / "results/plots/roc.csv")
    assert sorted(points["model"].unique()) == [
        "approaches: MobileNet Single",
        "approaches: ResNet50 Multi",
        "losses: MobileNet BCE <b>",
        "losses: MobileNet WBCE, chosen per fold",
    ]
    assert evenly(5000).tolist() == sorted(set(evenly(5000).tolist()))
    assert (len(evenly(5000)), evenly(5000)[0], evenly(5000)[-1]) == (400, 0, 4999)
    assert evenly(7).tolist() == list(range(7))


def test_findings_are_written_and_printed(made, project):
    findings = json.loads((made / "results/findings.json").read_text())
    by_name = {each["name"]: each for each in findings}
    assert {each["strategy"] for each in findings} == {"losses", "approaches"}
    weighted = by_name["weighted_sensitivity"]
    table = pd.read_csv(made / "results/tables/losses.csv")
    difference = table["sensitivity_mean"].iloc[1] - table["sensitivity_mean"].iloc[0]
    assert weighted["overall"]["difference"] == pytest.approx(difference)
    assert by_name["mt_estan_balanced_accuracy"]["verdict"] == "not tested"
    assert f"{weighted['verdict']}: {weighted['statement']}" in run_evaluate(project)


def test_a_profile_that_only_draws_masks_is_evaluated_and_reported(project):
    path = project / "results/plan/approaches.json"
    plan = json.loads(path.read_text())
    path.write_text(json.dumps({**plan, "rows": plan["rows"][-1:]}))
    (project / "results/plan/losses.json").unlink()
    assert not any(line.startswith("best") for line in run_evaluate(project))
    for name in ("roc", "confusion"):
        assert pd.read_csv(project / f"results/plots/{name}.csv").empty
    assert list(json.loads((project / "results/metrics.json").read_text())["approaches"]) == ["ESTAN Mask only"]
    text = page(project)
    assert "<th>Dice %<br>95 % interval</th>" in section(text, "ranking")
    assert section(text, "ranking").count('class="dot"') == 1
    assert "best ROC AUC" not in text
    assert "Confusion matrices" not in text
    assert "Learning curves" in text


def test_confusion_data_is_the_best_rows(made):
    data = pd.read_csv(made / "results/plots/confusion.csv")
    assert set(data["model"]) == {"approaches: ResNet50 Multi"}
    frame = pd.read_parquet(made / "results/predictions/approaches.parquet")
    part = frame[(frame["model"] == "ResNet50") & (frame["part"] == "test")]
    expected = reference.confusion_matrix(part["label"], part["probability"] >= 0.5)
    ours = pd.crosstab(data["actual"], data["predicted"]).to_numpy()
    assert ours.tolist() == expected.tolist()


def test_evaluating_twice_gives_the_same_bytes(project):
    results = project / "results"
    files = [*sorted(results.glob("**/*.csv")), results / "metrics.json", results / "findings.json"]
    before = [path.read_bytes() for path in files]
    run_evaluate(project)
    assert [path.read_bytes() for path in files] == before


def test_predictions_without_a_plan_are_named_and_left_alone(project):
    folder = project / "results/predictions"
    shutil.copy(folder / "losses.parquet", folder / "augmentation.parquet")
    assert any("augmentation.parquet belongs to no planned strategy" in line for line in run_evaluate(project))
    assert not (project / "results/tables/augmentation.csv").exists()


def test_curves_without_a_plan_reach_neither_plots_nor_report(project, shown):
    before = (project / "results/plots/curves.csv").read_bytes()
    folder = project / "results/predictions"
    left = pd.read_csv(folder / "losses_curves.csv").assign(strategy="augmentation")
    left.to_csv(folder / "augmentation_curves.csv", index=False)
    pd.concat([left, left.assign(model="Gone")]).to_csv(folder / "tuned_curves.csv", index=False)
    run_evaluate(project)
    assert (project / "results/plots/curves.csv").read_bytes() == before
    assert page(project) == shown
    assert set(read_curves(folder, ["losses", "augmentation"])["strategy"]) == {"losses", "augmentation"}
    assert read_curves(folder, ["transfer_learning"]).empty


def test_a_planned_strategy_without_predictions_is_an_error(project):
    (project / "results/predictions/losses.parquet").unlink()
    with pytest.raises(EvaluationError, match="strategy 'losses' is trained"):
        run_evaluate(project)


@pytest.mark.parametrize("name", [*COLLECTED, RUNS_FILE])
@pytest.mark.parametrize("size", [None, 0, 60], ids=["gone", "emptied", "cut"])
def test_what_was_damaged_after_it_was_collected_is_named(project, name, size):
    path = project / "results/predictions" / name.format("approaches")
    path.unlink() if size is None else path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(EvaluationError, match=rf"{path.name} .*`dvc repro`"):
        run_evaluate(project)
    with pytest.raises(EvaluationError, match=rf"{path.name} .*`dvc repro`"):
        read_inputs(project / "data", project / "results", {})


def test_predictions_whose_values_were_changed_are_not_evaluated(project):
    path = project / "results/predictions/losses.parquet"
    frame = pd.read_parquet(path)
    frame.assign(probability=1 - frame["probability"]).to_parquet(path)
    with pytest.raises(EvaluationError, match=r"losses.parquet was changed or cut after it had been collected"):
        run_evaluate(project)


def test_a_missing_column_or_unknown_part_is_an_error(project):
    path = project / "results/predictions/losses.parquet"
    frame = pd.read_parquet(path)
    frame.drop(columns="group").to_parquet(path)
    seal(path.parent, "losses", {})
    with pytest.raises(EvaluationError, match="lacks the column 'group'"):
        run_evaluate(project)
    frame.assign(part="train").to_parquet(path)
    seal(path.parent, "losses", {})
    with pytest.raises(EvaluationError, match="has part 'train'"):
        run_evaluate(project)


def test_the_report_is_self_contained_and_honest_about_phantoms(made, shown):
    text = shown
    assert "<title>PHANTOMS: synthetic images; numbers say nothing about patients</title>" in text
    references = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]+)""", text)
    assert references
    beside = [each for each in references if not each.startswith(("data:image/", "#"))]
    assert {"tables/losses.csv", "findings.json"} <= set(beside)
    assert all((made / "results" / each).is_file() for each in beside)
    assert "http" not in re.sub(r"data:[^\"]+", "", text)
    assert len(text.encode()) < 5_000_000
    assert text.count("data:image/jpeg") == 6  # only one row of one strategy has masks
    assert page(made) == text


def test_a_report_on_real_images_does_not_mention_phantoms(project):
    path = project / "data/benchmark/benchmark.json"
    path.write_text(path.read_text().replace("phantom", "real"))
    (project / "results/tables/reproduced.csv").unlink()  # of the images before
    assert "phantom" not in re.sub(r"data:[^\"]+", "", page(project)).lower()


def test_the_report_shows_the_paper_beside_and_marks_contradictions(made, shown):
    table = pd.read_csv(made / "results/tables/approaches.csv")
    points = f"{table['difference_balanced_accuracy'].iloc[0]:+.1f}".replace("-", "−")
    assert f"84.1 ({points})" in shown.replace("&#43;", "+")
    assert "ResNet50 Multi: the paper's row contradicts itself" in shown
    assert "BCE &lt;b&gt;" in shown  # names are escaped
    assert "8 over 17 images (8.5 %)" in shown
    assert "No near-duplicates with both labels. No image was left out for that" in shown
    assert "40 / 30 / 40 %" in shown


def test_the_report_shows_findings_beside_the_papers_statements(made, shown):
    section = shown[shown.index('id="findings"') : shown.index('id="data"')]
    findings = json.loads((made / "results/findings.json").read_text())
    first, further = section.split("further: not claimed by the paper, or not tested in this run")
    assert "The paper prints no" not in first
    assert section.count('class="finding"') == len(findings)
    plain = html.unescape(section)
    assert all(each["statement"] in plain and each["claim"] in plain and each["note"] in plain for each in findings)
    assert "not for DenseNet121 (−1.5) and MobileNet (−0.4)" in plain
    assert further.count('class="not-tested"') == sum(each["verdict"] == "not tested" for each in findings)


def test_findings_on_leaking_folds_bear_the_mark(project):
    path = project / "results/tables/losses.csv"
    pd.read_csv(path).assign(leaks=2).to_csv(path, index=False)
    text = page(project)
    section = text[text.index('id="findings"') : text.index('id="data"')]
    assert section.count("leaks: 2 groups") == 1


def test_validation_leaks_have_a_sentence_of_their_own(project):
    path = project / "results/tables/losses.csv"
    pd.read_csv(path).assign(validation_leaks=3).to_csv(path, index=False)
    text = page(project)
    assert "These folds leak between train and validation." in text
    assert "These folds leak.<" not in text
    assert "validation leaks: 3 groups" in text
    assert "had seen neither" in text


def test_the_grid_is_folded_under_the_chosen_rows(shown):
    section = shown[shown.index('<section id="losses">') : shown.index('<section id="approaches">')]
    first, grid = section.split("<summary>All 4 rows of the grid</summary>")
    assert "WBCE, chosen per fold" in first
    assert "(2 choices in 5 folds); validation F1" in first
    assert "the paper's choice: WBCE(w_z=3)" in html.unescape(first)
    assert "87.6 (" not in first  # the paper's sensitivity stands beside its own parameters
    assert "87.6 (" in grid[: grid.index("</details>")]
    assert "of the grid" not in shown[shown.index('<section id="approaches">') :]


def test_the_report_needs_the_findings(project):
    (project / "results/findings.json").unlink()
    with pytest.raises(EvaluationError, match=r"findings.json is missing: run `dvc repro evaluate`"):
        page(project)


def test_the_report_shows_pictures_of_conflicts_and_what_was_left_out(made):
    inputs = read_inputs(made / "data", made / "results", {})
    conflict = [{"image_id": f"busi/{i}", "label": i, "picture": PNG} for i in (0, 1)]
    excluded = {"busi": {"conflicting labels": 2}}
    text = render_report(replace(inputs, conflicts=[conflict], excluded=excluded))
    section = text[text.index('id="conflicts"') :]
    section = section[: section.index("</section>")]
    assert section.count(f"data:image/png;base64,{base64.b64encode(PNG).decode()}") == 2
    assert section.index("busi/0") < section.index("benign") < section.index("busi/1") < section.index("malignant")
    assert "2 images were left out of the folds and of training (conflicting labels)" in section


def leave_search(root: Path, name: str, result: SearchResult) -> None:
    """Write what a search leaves, and its plan's file, by whose name it is known."""
    for path, values in (
        (root / f"results/plan/search-{name}.json", {}),
        (root / f"results/search/{name}/best.json", result.model_dump(mode="json")),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))


def section(text: str, name: str) -> str:
    begun = text[text.index(f'<section id="{name}">') :]
    return begun[: begun.index("</section>")]


def test_searches_and_gate_are_shown_only_when_they_ran(project, shown):
    assert 'id="gate"' not in shown
    assert 'id="search-' not in shown
    write_gate(project)
    nested = make_result(folds=(1, 2), trials=4, state=lambda number: "failed" if number == 3 else "complete")
    flat = make_result(
        folds=(0,),
        trials=2,
        networks=("vgg16", "mobilenet"),
        objective=("sensitivity", "specificity"),
        nested=False,
        constraint={"sensitivity": 0.9},
    )
    one = make_result(folds=(1,), trials=1)
    unknown = one.choices[0].model_copy(update={"best": 1, "standard_error": None, "difference": 0.0625})
    leave_search(project, "nested", nested)
    leave_search(project, "flat", flat)
    leave_search(project, "failed", make_result(folds=(1,), trials=2, state=lambda number: "failed"))
    leave_search(project, "one", one.model_copy(update={"choices": (unknown,)}))
    (project / "results/search/removed_since").mkdir()
    (project / "results/search/removed_since/best.json").write_text("of no plan")
    text = page(project)
    assert "Refused by" in text
    assert "G2 (superiority)" in text

    found = section(text, "search-nested")
    choice = nested.choices[1]
    assert f'<td>fold 2</td><td class="wrap">{words(choice.parameters)}' in found
    assert f"<td>{choice.value:.3f}</td><td>{choice.first_value:.3f}</td>" in found
    assert (f"<td>+{choice.difference:.3f} ± 0.004</td>" in found) == (choice.best > 0)
    assert "6 complete, 0 pruned, 2 failed" in found
    assert "failed: the loss diverged" in found
    assert "Over the folds: classification weight" in found
    assert found.count('src="data:image/png;base64,') == 4
    assert "Not nested" not in found

    found = section(text, "search-flat")
    assert "with Sensitivity of at least 90.0 %" in found
    assert "Not nested:" in found
    assert found.count("<details>") == found.count("<td>all folds</td>") == 2
    assert found.count('alt="Pareto front: flat, vgg16"') == 1
    sensitivity, specificity = flat.trials[flat.choices[0].trial].values
    assert f"<td>{100 * sensitivity:.1f} %, {100 * specificity:.1f} %</td>" in found

    assert "0 complete, 0 pruned, 2 failed" in section(text, "search-failed")
    assert "<img" not in section(text, "search-failed")
    assert section(text, "search-one").count("<img") == 1
    assert "<td>+0.062 ± unknown</td>" in section(text, "search-one")


def test_a_search_of_another_version_is_told(project):
    leave_search(project, "loss", make_result(trials=1))
    (project / "results/search/loss/best.json").write_text('{"best": {"gamma": 2}}')
    with pytest.raises(EvaluationError, match=r"of another version .*dvc repro --force search@loss"):
        page(project)


def test_a_search_and_a_promotion_that_had_nothing_to_do_are_notes(project):
    leave_search(project, "loss", SearchResult(search="loss", note="there is <no> network"))
    (project / "results/promotion").mkdir()
    record = {"passed": None, "note": "No promotion: there is <no> network."}
    (project / "results/promotion/promotion.json").write_text(json.dumps(record))
    text = page(project)
    assert 'id="search-' not in text
    assert 'id="gate"' not in text
    assert '<p class="note">Search loss: there is &lt;no&gt; network</p>' in text
    assert "<span>No promotion: there is &lt;no&gt; network.</span>" in text


def test_titles_and_order_are_those_of_the_plan(project):
    path = project / "results/plan/approaches.json"
    plan = json.loads(path.read_text())
    path.write_text(json.dumps({**plan, "order": 1, "title": "Ours first", "explanation": "And why."}))
    run_evaluate(project)
    text = page(project)
    assert text.index("<h2>Ours first</h2>") < text.index("<h2>Losses</h2>")
    assert "And why." in text
    path.write_text(json.dumps({key: value for key, value in plan.items() if key != "title"}))
    with pytest.raises(EvaluationError, match=r"approaches.json lacks 'title': run `dvc repro --force plan`"):
        page(project)


def test_a_table_that_stands_apart_is_neither_the_headline_nor_the_best_row(project):
    tables = project / "results" / "tables"
    before = headline(project / "results")
    path = tables / "losses.csv"
    better = pd.read_csv(path).assign(roc_auc_mean=0.9999, strategy="since_the_paper")
    better.to_csv(tables / "since_the_paper.csv", index=False)
    try:
        assert headline(project / "results") == before
        best = dvc_plots.best_row({"losses": pd.read_csv(path), "since_the_paper": better})
        assert best is not None
        assert best[0] == "losses"
    finally:
        (tables / "since_the_paper.csv").unlink()


def test_the_headline_has_what_the_profile_has(project):
    values = headline(project / "results")
    assert set(values) == {"best", "show"}
    best = max(pd.read_csv(project / f"results/tables/{name}.csv")["roc_auc_mean"].max() for name in ROWS)
    assert values["best"] == round(best, 3)
    write_gate(project)
    rules = json.loads((project / "results/promotion/gate.json").read_text())["rules"]
    floors, better = (next(r["values"] for r in rules if r["id"] == name) for name in ("G1", "G2"))
    judged = {"new": better["candidate"], "vs": better["baseline"], "p": better["p_adjusted"]}
    judged |= {"se": floors["sensitivity"], "sp": floors["specificity"], "gate": 0}
    assert headline(project / "results") == values | {name: round(value, 3) for name, value in judged.items()}
    (project / "results/findings.json").unlink()
    with pytest.raises(EvaluationError, match="run `dvc repro evaluate`"):
        headline(project / "results")


def test_the_report_needs_its_tables(project):
    (project / "results/tables/losses.csv").unlink()
    with pytest.raises(EvaluationError, match="run `dvc repro evaluate`"):
        page(project)


def test_samples_with_a_wrong_shape_are_an_error(tmp_path):
    path = tmp_path / "approaches_samples.npz"
    write_samples(path, "M")
    good = read_samples(path)
    assert good is not None
    assert [picture.shape for picture in good.image] == [(32, 32)] * 6
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, "label": arrays["label"][:2]})
    with pytest.raises(EvaluationError, match="label must be"):
        read_samples(path)
    path.write_bytes(b"no zip")
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_samples(path)


def test_both_outlines_are_drawn_on_a_sample(tmp_path):
    write_samples(tmp_path / "s.npz", "M")
    samples = read_samples(tmp_path / "s.npz")
    assert samples is not None
    pixels = np.asarray(Image.open(io.BytesIO(plots.outlined_picture(samples, 0))).convert("RGB")).astype(int)
    assert pixels.shape == (plots.SAMPLE_SIDE, plots.SAMPLE_SIDE, 3)
    for color in (plots.TRUE_MASK, plots.PREDICTED_MASK):
        assert (np.abs(pixels - color).sum(axis=2) < 90).sum() > 50


def test_a_sample_says_truth_and_answer_and_whether_it_is_wrong(tmp_path):
    write_samples(tmp_path / "s.npz", "M")
    samples = read_samples(tmp_path / "s.npz")
    assert samples is not None
    found = [
        plots.outlined(replace(samples, probability=[probability] * 6))[0][1][0]
        for probability in (0.9, 0.2, float("nan"))
    ]
    assert [(each["words"], each["wrong"]) for each in found] == [
        ("benign, p = 0.90", True),
        ("benign, p = 0.20", False),
        ("benign", False),
    ]


def test_many_rows_get_a_panel_for_each_model_and_the_areas_of_the_table(predictions):
    rows = {
        (model, variant): predictions(seed=i)[lambda f: f["part"] == "test"]
        for i, (model, variant) in enumerate((m, v) for m in ("A", "B", "C", "D") for v in ("S", "TL"))
    }
    few = dict(list(rows.items())[:2])
    areas = dict.fromkeys(rows, "0.777")
    assert plots.roc_figure(rows, areas, "").count("<div><svg") == 4
    assert plots.roc_figure(few, areas, "").count("<div><svg") == 1
    assert "A TL: 0.777" in plots.roc_figure(few, areas, "")
    assert plots.calibration_figure(rows, "").count("<div><svg") == 4


def test_provenance_names_what_computed_the_numbers(demo):
    facts = provenance(demo)
    assert facts["profile"] == "demo"
    assert facts["seed"] == "2021"
    assert facts["numpy"] == np.__version__


def test_the_page_is_for_everybody_and_begins_with_what_matters(made, tmp_path):
    """By light and by dark, wide and narrow, everything unfolded; without a log of errors."""
    axe = axe_core(tmp_path)
    path = tmp_path / "report.html"
    path.write_text(page(made), encoding="utf-8")
    with chromium(tmp_path) as browser:
        for width, colours in ((1440, "light"), (390, "dark")):
            browser.send(
                "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
            )
            browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": colours}])
            browser.open(path.as_uri())
            if width == 1440:
                assert browser.run("document.getElementById('findings').getBoundingClientRect().top") < 400
                assert browser.run("document.documentElement.scrollHeight") < 12_000
            assert browser.run("document.documentElement.scrollWidth") <= width  # tables are moved, not the page
            browser.run("document.querySelectorAll('details').forEach(each => each.open = true)")
            assert violations(browser, axe) == []
        browser.open(f"{path.as_uri()}#pairwise")
        assert browser.run("document.querySelector('#pairwise details').open")
        browser.run("dispatchEvent(new Event('beforeprint'))")
        assert not browser.run("document.querySelectorAll('details:not([open])').length")
        assert browser.problems == []


def test_verdicts_of_this_run_and_rows_that_were_left_out_are_said(project):
    write_gate(project)
    folder = project / "results/promotion/challengers"
    folder.mkdir()
    path = project / "results/promotion/gate.json"
    gate = json.loads(path.read_text())
    gate |= {"candidate": "approaches: ResNet50 Multi", "baseline": "approaches: MobileNet Single"}
    path.write_text(json.dumps(gate))
    record = {"passed": False, "decision": "refused", "alias": None, "candidate": "losses: X <S>", "baseline": "b: Y"}
    (folder / "weak_one.json").write_text(json.dumps(record))
    (folder / "weak_one").mkdir()
    shutil.copy(path, folder / "weak_one/gate.json")
    left_out = "strategy,network,variant,reason\nlosses,vgg16,TL,no <ImageNet> weights\n"
    (project / "results/plan/left_out.csv").write_text(left_out)
    text = render_report(read_inputs(project / "data", project / "results", {}, "mobilenet_multitask", "http://store/"))
    top = text[: text.index('<section id="ranking">')]
    assert '<div class="outcome refused"' in top
    assert "Refused: ResNet50 Multi</b>, judged against MobileNet Single" in top
    assert "G2 (superiority)" in top
    assert "Challenger weak one: refused; X &lt;S&gt; against Y" in top
    assert "the network mobilenet_multitask, which the profile names" in section(text, "gate")
    assert ">weak one</td>" in section(text, "gate")
    assert section(text, "gate").count("further rule") == 1  # why the challenger was refused
    assert "left out: no &lt;ImageNet&gt; weights" in section(text, "losses")
    assert "Left out: vgg16 TL" in section(text, "ranking")
    assert section(text, "ranking").count('class="role baseline"') == 1
    assert "/runs?" not in text  # nothing says which experiment the runs are in
    seal(project / "results/predictions", "losses", {}, experiment="7")
    inputs = read_inputs(project / "data", project / "results", {}, "", "http://store/")
    text = render_report(inputs)
    assert 'href="http://store/#/experiments/7/runs?' in section(text, "losses")
    assert "links to runs need" not in text
    started = render_report(replace(inputs, mlflow_starts="bus-mlops ui --port 7"))
    assert "links to runs need <code>bus-mlops ui --port 7</code>" in section(started, "losses")
    assert "links to runs need" not in section(started, "approaches")  # it has none
    assert "/runs?" not in section(text, "approaches")


def test_the_ranking_has_each_training_once(project):
    for name in ("approaches", "losses"):
        path = project / f"results/predictions/{name}.parquet"
        frame = pd.read_parquet(path)
        same = frame["model"].eq("MobileNet") & frame["variant"].isin(["Single", "BCE <b>"])
        frame.loc[same, "fingerprint"] = "the same"
        frame.to_parquet(path)
        seal(path.parent, name, {})
    found = section(page(project), "ranking")
    assert found.count("<td><a href=") == 3  # of four rows that classify
    assert "<small>losses, approaches</small>" in found
