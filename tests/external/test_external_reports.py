"""Recorded networks on a cohort that no fold touches: what they answer, once, on record, and what it closes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from projects import small_profile, tiny_values
from tiny_package import SIZE

from bus_mlops.config.external_reports import ExternalReports
from bus_mlops.consumer.client import BusModel
from bus_mlops.dataset.assemble import assemble
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.dataset.folds.make import make_folds
from bus_mlops.errors import EvaluationError, LedgerError
from bus_mlops.evaluation.metrics import classification_metrics
from bus_mlops.evaluation.report.external_section import external_section
from bus_mlops.evaluation.results import PlannedRow
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.external import reports
from bus_mlops.external.reports import ExternalInputs, report_cohorts
from bus_mlops.external.rows import recorded_row
from bus_mlops.files import read_json
from bus_mlops.paths import BENCHMARK, PARAMS
from bus_mlops.probes.network import NetworkOpener
from bus_mlops.probes.rows import Trained
from bus_mlops.project import parse_config
from bus_mlops.promotion.external_cohorts import cohorts_of, looks_of
from bus_mlops.promotion.recomputation import predict_with_keras
from bus_mlops.promotion.trained_model import TrainedModel, find_trained_model
from bus_mlops.sources.phantoms.write import write_phantoms
from bus_mlops.tracking.ledger import MODEL, PREDICTIONS

NAME = "bus-mt-estan-phantom"
COUNT = 44
RELATED = "busis/"
TABLES = ("metrics", "matrix", "recalibration", "left_out")


@dataclass(frozen=True)
class Project:
    """Two recorded rows of two networks each; `other` is a model that no table holds."""

    inputs: ExternalInputs
    other: str
    left_out: str


def record(inputs: ExternalInputs, network: str, members: list[Path], folder: Path) -> pd.DataFrame:
    """Finished runs of both folds, which recorded what their networks say."""
    ledger, frame, benchmark = inputs.ledger, inputs.folds.frame, inputs.benchmark
    spec = make_spec(inputs.config, "mt_estan" if network == "mt_estan" else "mobilenet", "multitask", input_size=SIZE)
    spec = spec.model_copy(update={"network": network})
    split = inputs.folds.digest(frame.loc[frame["source"] == "busi", "image_id"])
    tags = {"data_digest": "d" * 64, "folds_digest": split, "leaks": "0 groups", "folds_kind": "grouped"}
    parent = ledger.parents.find_or_create(spec, network, network.title(), tags)
    frames = []
    for fold, member in enumerate(members, start=1):
        rows = frame[frame[f"fold_{fold}"].isin(["validation", "test"])].rename(columns={f"fold_{fold}": "part"})
        index = benchmark.frame.set_index("image_id")["index"].loc[rows["image_id"]].to_numpy()
        told = predict_with_keras(member, benchmark.images(SIZE), index)
        rows = rows[["part", "image_id", "case_id", "group", "source", "label"]]
        rows = rows.assign(fold=fold, probability=told, dice=np.nan, iou=np.nan)
        own = folder / f"{network}-{fold}"
        own.mkdir()
        rows.to_csv(own / PREDICTIONS, index=False)
        shutil.copy(member, own / MODEL)
        named = {"git_clean": "yes", "network": network, "fingerprint": network, "fold": str(fold)}
        run = ledger.start(parent, network, spec, {**tags, **named})
        ledger.finish(run, {"roc_auc": 0.9}, own, {})
        about = {"strategy": "multitask", "model": network, "variant": "Multi", "network": network}
        frames.append(rows.assign(fingerprint=network, seed=spec.seed, **about))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory, members, empty_store) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("outside")
    shutil.copy(empty_store, folder)
    values = tiny_values(small_profile())
    values["data"].update(root=str(folder / "phantom"), sources=["busi", "busis"])
    values["phantom"].update(images={"busi": 70, "busis": COUNT}, near_duplicates=0)
    values["cohorts"] = {"all": ["busi"], "multitask": ["busi"], "external": ["busis"]}
    values["tracking"].update(uri=f"sqlite:///{folder / 'mlflow.db'}", artifacts=str(folder / "artifacts"))
    values["external_reports"] = {"rows": ["multitask", "approaches"], "local_cases": [10, 1000], "draws": 20}
    (folder / PARAMS).write_text(yaml.safe_dump(values))
    config = parse_config(values)
    write_phantoms(config, folder / "phantom")
    benchmark = assemble(config, [SIZE], folder / BENCHMARK, workers=1)
    ids = benchmark.frame["image_id"]
    groups = pd.DataFrame({"image_id": ids, "group": ids})
    # One image of the external source is a near-duplicate of one that is trained on, and another of that.
    busi, first, second = ids[ids.str.startswith("busi/")].iloc[0], *ids[ids.str.startswith("busis/")].iloc[:2]
    groups.loc[ids.isin([first, second]), "group"] = busi
    pairs = pd.DataFrame([(busi, first, "mirrored", 0.99)], columns=["image", "other", "found", "similarity"])
    frame = make_folds(benchmark.frame, groups, config.folds, config.seed, config.external)
    inputs = ExternalInputs(config, benchmark, Folds.checked(frame, "made"), Trained({}, {}), pairs)
    names = ("mt_estan", "mobilenet")
    frames = [record(inputs, name, members, folder) for name in (*names, "other")]
    rows = [PlannedRow("multitask", name, "Multi", ("busi",), (1, 2), None, "multitask", name) for name in names]
    trained = Trained({"multitask": rows}, {"multitask": pd.concat(frames[:2], ignore_index=True)})
    run = next(run for key, run in inputs.ledger.finished().items() if key.fingerprint == "other")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Project(replace(inputs, trained=trained), run, first)


def reported(project: Project, folder: Path, **changes: Any) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    report_cohorts(replace(project.inputs, **changes), folder, lambda _: None)
    return {name: pd.read_csv(folder / f"{name}.csv") for name in TABLES}, read_json(folder / "external.json")


def model(project: Project, fingerprint: str) -> TrainedModel:
    ledger = project.inputs.ledger
    run = next(run for key, run in ledger.finished().items() if key.fingerprint == fingerprint)
    return find_trained_model(ledger, run)


def test_a_report_is_right_is_asked_once_and_is_a_look(project, tmp_path, members, monkeypatch):
    inputs = project.inputs
    tables, about = reported(project, tmp_path / "first")

    # Which images: those of the source without the near-duplicates, which are named.
    (cohort,) = about["cohorts"]
    assert (cohort["name"], cohort["images"], cohort["related"]) == ("busis", COUNT - 2, 2)
    left_out = tables["left_out"].set_index("image_id")
    assert left_out.loc[project.left_out, ["found", "similarity"]].tolist() == ["mirrored", 0.99]
    assert set(left_out["found"]) == {"mirrored", "in its leakage group"}
    assert set(left_out["related_source"]) == {"busi"}

    # What they say: the networks' own answers, calibrated and cut on validation parts alone.
    row = recorded_row(inputs.trained.plans["multitask"][0], inputs.trained, inputs.ledger, "youden")
    assert not isinstance(row, str)
    frame = inputs.benchmark.frame
    outside = frame[(frame["source"] == "busis") & ~frame["image_id"].isin(left_out.index)]
    raw = [predict_with_keras(each, inputs.benchmark.images(SIZE), outside["index"].to_numpy()) for each in members]
    told = [row.calibrations[cell].apply(values) for cell, values in zip(row.runs, raw, strict=True)]
    expected = classification_metrics(outside["label"], np.mean(told, axis=0), row.threshold)
    metrics = tables["metrics"]
    own = metrics[(metrics["model"] == "mt_estan") & (metrics["unit"] == "image")]
    together = own[own["answer"] == "together"].set_index("metric")["estimate"]
    for metric in ("roc_auc", "sensitivity", "specificity", "brier"):
        assert together[metric] == pytest.approx(expected[metric], abs=1e-6)
    each = [
        classification_metrics(outside["label"], values, row.thresholds[cell])
        for cell, values in zip(row.runs, told, strict=True)
    ]
    alone = own[own["answer"] == "alone"].set_index("metric")["estimate"]
    assert alone["sensitivity"] == pytest.approx(np.mean([values["sensitivity"] for values in each]))
    assert alone["roc_auc"] == pytest.approx(np.mean([values["roc_auc"] for values in each]), abs=1e-6)

    # From where to where.
    matrix = tables["matrix"]
    assert set(matrix["train"]) == {"busi"}
    assert set(zip(matrix["test"], matrix["how"], strict=True)) == {("busi", "out of fold"), ("busis", "external")}
    recalibration = tables["recalibration"].set_index("local_cases")
    assert set(recalibration.index) == {0, 10, 1000}
    assert recalibration.loc[[1000], "note"].str.startswith("not drawn").all()

    # A second report asks no network, says the same, and is no further look.
    (look,) = looks_of(inputs.ledger.client, NAME)
    assert (look.cohort, look.images, look.reported) == ("busis", COUNT - 2, 2)
    monkeypatch.setattr(NetworkOpener, "__call__", lambda *_: pytest.fail("a network was opened again"))
    again, _ = reported(project, tmp_path / "second")
    for name in TABLES:
        pd.testing.assert_frame_equal(again[name], tables[name])
    assert len(looks_of(inputs.ledger.client, NAME)) == 1

    # The page says it.
    section = external_section(tmp_path / "results" / "tables")
    assert section is None
    shutil.copytree(tmp_path / "first", tmp_path / "results" / "external")
    section = external_section(tmp_path / "results" / "tables")
    assert section is not None
    assert "2 more are near-duplicates of images that are not external, and left out" in section.html


def test_a_candidate_that_a_report_did_not_show_needs_a_reason(project, tmp_path):
    inputs = project.inputs
    reported(project, tmp_path / "first")
    arguments = (inputs.ledger.client, NAME)
    shown = cohorts_of(
        *arguments, [model(project, "mt_estan"), model(project, "mobilenet")], inputs.folds, inputs.benchmark
    )
    assert [(each.name, each.closed) for each in shown] == [("busis", "")]
    other = [model(project, "other"), model(project, "mobilenet")]
    # Its networks recorded the same predictions as those that were shown: nobody can tell them apart.
    assert cohorts_of(*arguments, other, inputs.folds, inputs.benchmark)[0].closed == ""
    changed = replace(other[0], digests=dict.fromkeys(other[0].digests, "f" * 64))
    (closed,) = cohorts_of(*arguments, [changed, other[1]], inputs.folds, inputs.benchmark)
    assert "was reported on" in closed.closed
    assert "the candidate's not among them" in closed.closed
    (amended,) = cohorts_of(*arguments, [changed, other[1]], inputs.folds, inputs.benchmark, "a new scanner")
    assert (amended.closed, amended.note) == ("", "read once more, since: a new scanner")


def test_nothing_is_asked_where_nothing_is_external(project, tmp_path, monkeypatch):
    monkeypatch.setattr(reports, "Ledger", lambda _: pytest.fail("the store was opened"))
    frame = project.inputs.folds.frame
    inside = Folds.checked(frame[frame["source"] == "busi"].reset_index(drop=True), "inside")
    tables, about = reported(project, tmp_path / "none", folds=inside)
    assert all(table.empty for table in tables.values())
    assert about["note"] == "Nothing was asked: `cohorts.external` is empty in params.yaml."


def test_rows_that_cannot_be_asked_are_named(project, tmp_path):
    inputs = project.inputs
    lost = inputs.trained.predictions["multitask"].assign(fingerprint="forgotten")
    _, about = reported(project, tmp_path / "lost", trained=replace(inputs.trained, predictions={"multitask": lost}))
    assert len(about["left_unasked"]) == 2
    assert "its run is not in the store" in about["left_unasked"][0]
    rows = ExternalReports(rows=("multitask/vgg16",))
    config = inputs.config.model_copy(update={"external_reports": rows})
    with pytest.raises(
        EvaluationError, match=r"names multitask/vgg16, .* there are multitask/mobilenet, multitask/mt_est"
    ):
        reported(project, tmp_path / "named", config=config)


def test_a_network_that_says_something_else_than_it_recorded_is_not_asked(project, tmp_path, monkeypatch):
    inputs = project.inputs
    frame = inputs.trained.predictions["multitask"]
    edited = replace(inputs.trained, predictions={"multitask": frame.assign(probability=1 - frame["probability"])})
    monkeypatch.setattr("bus_mlops.external.answers.VERSION", 99)
    with pytest.raises(LedgerError, match="recorded other probabilities than its network gives"):
        reported(project, tmp_path / "edited", trained=edited)


def test_a_shipped_model_answers_at_its_own_threshold_unless_it_was_trained_there(
    project, tmp_path, package_folder, monkeypatch
):
    opened = BusModel(package_folder, load_package(package_folder))
    inside = BusModel(package_folder, load_package(package_folder).model_copy(update={"trained_on": "busi, busis"}))
    monkeypatch.setattr(reports, "_shipped", lambda *_: [opened, inside])
    tables, about = reported(project, tmp_path / "shipped")
    own = tables["metrics"][tables["metrics"]["answer"] == "shipped"]
    assert set(own["threshold"]) == {opened.package.threshold}
    assert set(own["networks"]) == {2}
    assert "was trained on busis, which is not outside for it" in about["left_unasked"][0]
    look = looks_of(project.inputs.ledger.client, NAME)[-1]
    assert look.reported > 0
    reported(project, tmp_path / "again")
    assert looks_of(project.inputs.ledger.client, NAME)[-1] == look


def load_package(folder: Path) -> Any:
    from bus_mlops.consumer.package_files import read_package

    return read_package(folder)
