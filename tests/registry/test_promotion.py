"""Promotion on a real store: who competes, at which threshold, registered once, champion only after a pass."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from projects import tiny_values
from sklearn.metrics import roc_curve
from tiny_package import SIZE, speckle

from bus_mlops import profiles
from bus_mlops.config import Config, parse_config
from bus_mlops.dataset.assemble import assemble
from bus_mlops.dataset.folds import Folds
from bus_mlops.dataset.manifest import Benchmark
from bus_mlops.errors import EvaluationError, LedgerError, RegistryError
from bus_mlops.experiments.plan import read_plan, write_plans
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.registry.client import load_model
from bus_mlops.registry.promotion import (
    CHAMPION,
    Contender,
    _baseline,
    _rivals,
    _threshold,
    judge,
    register,
    registered_name,
)
from bus_mlops.sources.phantom import write_phantoms
from bus_mlops.tracking.ledger import MODEL, Ledger

IMAGES = 160
FOLDS = (1, 2)
DIGESTS = {"data_digest": "d" * 64, "folds_digest": "e" * 64}
# How well each network separates the labels; `resnet50` is the best one that is not MT-ESTAN.
SEPARATIONS = {"mobilenet": 0.3, "resnet50": 0.6, "mt_estan": 0.8}
NAME = "bus-mt-estan-phantom"


def fold_frame() -> pd.DataFrame:
    """Two folds over images that are each their own case and group."""
    rng = np.random.default_rng(0)
    ids = [f"busi/{i:03d}" for i in range(IMAGES)]
    frame = pd.DataFrame({"image_id": ids, "source": "busi", "label": (rng.random(IMAGES) < 0.4).astype(int)})
    frame = frame.assign(case_id=ids, group=ids)
    tested = np.arange(IMAGES) % 2 + 1
    for fold in FOLDS:
        others = np.where(np.arange(IMAGES) % 4 < 2, "train", "validation")
        frame[f"fold_{fold}"] = np.where(tested == fold, "test", others)
    return frame


def predictions(strategy: str, network: str, separation: float, seed: int) -> pd.DataFrame:
    """Validation and test parts of both folds, in the contract's columns that promotion reads."""
    rng = np.random.default_rng(seed)
    frames = []
    for fold in FOLDS:
        rows = fold_frame().rename(columns={f"fold_{fold}": "part"})
        rows = rows.loc[rows["part"] != "train", ["image_id", "case_id", "group", "source", "label", "part"]]
        logits = 2 * separation * (2 * rows["label"] - 1) + rng.normal(size=len(rows))
        rows = rows.assign(strategy=strategy, model=network.title(), variant="Multi", network=network, seed=0)
        rows = rows.assign(fingerprint=f"{strategy}-{network}", fold=fold, probability=1 / (1 + np.exp(-logits)))
        frames.append(rows)
    return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True)
class Store:
    """A project after its training stages: a ledger with finished runs, plans, predictions, a benchmark."""

    config: Config
    ledger: Ledger
    folds: Folds
    folder: Path
    benchmark: Benchmark

    def judge(self, **promotion: Any) -> Any:
        config = with_promotion(self.config, **promotion)
        return judge(config, self.ledger, self.folds, self.folder / "plan", self.folder / "predictions")

    def register(self, candidate: Contender, baseline: Contender, report: Any) -> dict[str, Any]:
        return register(self.config, self.ledger, self.benchmark, candidate, baseline, report)

    def versions(self) -> dict[str, str]:
        """Registered version -> the gate's verdict."""
        found = self.ledger.client.search_model_versions(f"name = '{NAME}'")
        return {str(version.version): version.tags["gate"] for version in found}

    def champion(self) -> str | None:
        version = self.ledger.client.get_registered_model(NAME).aliases.get(CHAMPION)
        return None if version is None else str(version)


def with_promotion(config: Config, **changes: Any) -> Config:
    return config.model_copy(update={"promotion": config.promotion.model_copy(update=changes)})


def record_run(ledger: Ledger, config: Config, frame: pd.DataFrame, fold: int, folder: Path) -> str:
    """A finished fold run as a worker leaves it, with whatever artifacts lie in the folder."""
    network = str(frame["network"].iloc[0])
    spec = make_spec(config, "mt_estan" if network == "mt_estan" else "mobilenet", "multitask", input_size=SIZE)
    fingerprint = str(frame["fingerprint"].iloc[0])
    parent = ledger.parent(spec, fingerprint, network, {})
    run_id = ledger.start(parent, network, spec, {**DIGESTS, "fingerprint": fingerprint, "fold": str(fold)})
    ledger.finish(run_id, {"roc_auc": 0.9}, folder, {})
    return run_id


@pytest.fixture(scope="module")
def store(tmp_path_factory, members) -> Store:
    folder = tmp_path_factory.mktemp("promotion")
    values = tiny_values(yaml.safe_load(profiles.text("demo")))
    values["data"].update(root=str(folder / "phantom"), sources=["busi"])
    values["phantom"].update(images={"busi": 4}, near_duplicates=0)
    values["tracking"].update(uri=f"sqlite:///{folder / 'mlflow.db'}", artifacts=str(folder / "artifacts"))
    values["promotion"]["bootstrap"] = 200
    values["strategies"] = ["approaches"]
    config = parse_config(values)
    write_plans(config, folder / "plan")
    write_phantoms(config, folder / "phantom")
    benchmark = assemble(config, [SIZE], folder / "benchmark", workers=1)

    ledger = Ledger(config.tracking)
    (folder / "predictions").mkdir()
    tuned = predictions("tuned", "mt_estan", 1.6, seed=9)
    tuned.to_parquet(folder / "predictions" / "tuned.parquet")
    approaches = [predictions("approaches", name, value, seed=i) for i, (name, value) in enumerate(SEPARATIONS.items())]
    pd.concat(approaches).to_parquet(folder / "predictions" / "approaches.parquet")
    for fold, member in zip(FOLDS, members, strict=True):
        for number, frame in enumerate((tuned, *approaches)):
            artifacts = folder / f"run-{fold}-{number}"
            artifacts.mkdir()
            if frame is tuned:
                shutil.copy(member, artifacts / MODEL)
            record_run(ledger, config, frame, fold, artifacts)
    return Store(config, ledger, Folds.checked(fold_frame(), "folds"), folder, benchmark)


@pytest.mark.parametrize(("kind", "name"), [("phantom", NAME), ("real", "bus-mt-estan")])
def test_a_model_of_phantoms_says_so_in_its_name(demo_values, kind, name):
    demo_values["data"]["kind"] = kind
    assert registered_name(parse_config(demo_values)) == name


def test_the_threshold_is_youdens_over_the_validation_parts_of_all_folds(store):
    candidate, _, _ = store.judge()
    chosen = _threshold(store.config, candidate)
    pooled = candidate.part("validation")
    assert set(pooled["fold"]) == set(FOLDS)
    false_positive, true_positive, _ = roc_curve(pooled["label"], pooled["probability"])
    called = pooled["probability"] >= chosen
    reached = called[pooled["label"] == 1].mean() - called[pooled["label"] == 0].mean()
    assert reached == pytest.approx((true_positive - false_positive).max())

    spoilt = candidate.predictions.assign(
        probability=lambda f: f["probability"].where(f["part"] == "validation", 1 - f["probability"])
    )
    other = Contender(candidate.title, spoilt, candidate.runs, candidate.lineage)
    assert _threshold(store.config, other) == chosen  # the test parts have no say
    assert _threshold(with_promotion(store.config, threshold="half"), candidate) == 0.5


def baseline_of(store: Store, folder: Path | None = None, **promotion: Any) -> Contender:
    config = with_promotion(store.config, **promotion)
    return _baseline(config, store.ledger, store.ledger.finished(), folder or store.folder / "predictions")


@pytest.mark.parametrize("metric", ["roc_auc", "balanced_accuracy", "accuracy", "f1"])
def test_the_baseline_is_the_best_network_that_is_not_mt_estan(store, metric):
    assert baseline_of(store, metric=metric).title == "Resnet50 Multi"


def test_the_metric_of_the_test_parts_decides_which_one_is_best(store, tmp_path):
    frame = pd.read_parquet(store.folder / "predictions" / "approaches.parquet")
    mobilenet = frame["network"] == "mobilenet"
    # A perfect ranking, but all on one side of 0.5: best by area, worst by accuracy.
    perfect = mobilenet & (frame["part"] == "test")
    frame.loc[perfect, "probability"] = 0.1 + 0.1 * frame.loc[perfect, "label"]
    frame.to_parquet(tmp_path / "approaches.parquet")
    assert baseline_of(store, tmp_path, metric="roc_auc").title == "Mobilenet Multi"
    assert baseline_of(store, tmp_path, metric="balanced_accuracy").title == "Resnet50 Multi"
    validation = mobilenet & (frame["part"] == "validation")
    frame.loc[perfect | validation, "probability"] = 0.5
    frame.loc[validation, "probability"] = frame.loc[validation, "label"].astype(float)
    frame.to_parquet(tmp_path / "approaches.parquet")
    assert baseline_of(store, tmp_path, metric="roc_auc").title == "Resnet50 Multi"


def test_a_named_baseline_is_taken_though_another_one_is_better(store):
    named = baseline_of(store, baseline="mobilenet")
    assert (named.title, named.fingerprint) == ("Mobilenet Multi", "approaches-mobilenet")
    assert sorted(named.runs) == list(FOLDS)
    assert (named.lineage.data_digest, named.lineage.folds_digest) == tuple(DIGESTS.values())


def test_rivals_come_from_both_tables_and_name_a_class(store, tmp_path):
    frame = pd.read_parquet(store.folder / "predictions" / "approaches.parquet")
    masks_only = frame[frame["network"] == "resnet50"].assign(network="estan", probability=float("nan"))
    pd.concat([frame, masks_only]).to_parquet(tmp_path / "approaches.parquet")
    better = frame[frame["network"] == "resnet50"].assign(network="vgg16", strategy="multitask")
    better["probability"] = better["label"].astype(float)
    better.to_parquet(tmp_path / "multitask.parquet")
    config = store.config.model_copy(update={"strategies": ("multitask", "approaches")})
    rivals = _rivals(config, tmp_path)
    assert set(rivals["network"]) == {*frame["network"], "vgg16"}
    assert set(_rivals(store.config, tmp_path)["network"]) == set(frame["network"])  # multitask is not planned


def test_a_baseline_without_predictions_is_named(store, tmp_path):
    frame = pd.read_parquet(store.folder / "predictions" / "approaches.parquet")
    frame[frame["network"] == "mt_estan"].to_parquet(tmp_path / "approaches.parquet")
    with pytest.raises(EvaluationError, match="nothing to compare MT-ESTAN with"):
        baseline_of(store, tmp_path)
    with pytest.raises(EvaluationError, match="no predictions of mobilenet"):
        baseline_of(store, tmp_path, baseline="mobilenet")


@pytest.mark.parametrize("missing", ["tuned", "approaches"])
def test_missing_predictions_are_an_error_that_names_the_file(store, tmp_path, missing):
    for path in (store.folder / "predictions").iterdir():
        if path.stem != missing:
            shutil.copy(path, tmp_path)
    with pytest.raises(EvaluationError, match=rf"{missing}\.parquet is missing: run `dvc repro`"):
        judge(store.config, store.ledger, store.folds, store.folder / "plan", tmp_path)


def test_predictions_that_the_ledger_does_not_know_are_refused(store, tmp_path):
    shutil.copytree(store.folder / "predictions", tmp_path, dirs_exist_ok=True)
    frame = pd.read_parquet(tmp_path / "tuned.parquet").assign(fingerprint="of another database")
    frame.to_parquet(tmp_path / "tuned.parquet")
    with pytest.raises(LedgerError, match="no finished run for fold 1 of mt_estan"):
        judge(store.config, store.ledger, store.folds, store.folder / "plan", tmp_path)


def test_candidate_and_counts_come_from_the_plan_and_the_folds(store):
    candidate, _, report = store.judge(candidate="approaches", alpha=0.9)
    assert candidate.fingerprint == "approaches-mt_estan"
    assert report.model_name == NAME
    assert report.rules[0].passed, report.to_markdown()
    assert report.rules[0].values["folds"] == len(read_plan(store.folder / "plan", "approaches").folds)
    assert report.rules[2].values["pairs"] == len(FOLDS)


def test_a_verdict_is_registered_once_and_only_a_pass_sets_the_alias(store):
    refused = store.judge(alpha=1e-9)
    assert [rule.id for rule in refused[2].failed] == ["G2"]
    for _ in range(2):
        record = store.register(*refused)
        assert (record["version"], record["alias"], record["passed"]) == (1, None, False)
    assert store.versions() == {"1": "refused"}
    assert store.champion() is None

    passed = store.judge(alpha=0.5)
    assert passed[2].passed, passed[2].to_markdown()
    for _ in range(2):
        record = store.register(*passed)
        assert (record["version"], record["alias"], record["passed"]) == (2, CHAMPION, True)
    assert store.versions() == {"1": "refused", "2": "passed"}
    assert store.champion() == "2"

    store.register(*refused)  # an earlier verdict again: nothing new, and the champion stays
    assert store.versions() == {"1": "refused", "2": "passed"}
    assert store.champion() == "2"

    candidate = passed[0]
    version = store.ledger.client.get_model_version(NAME, "2")
    run = store.ledger.client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["candidate.fingerprint"] == candidate.fingerprint
    evidence = store.ledger.client.list_artifacts(run.info.run_id, "gate")
    assert {"gate/gate.json", "gate/gate.md"} <= {item.path for item in evidence}
    model = load_model(f"models:/{NAME}@{CHAMPION}", store.config.tracking.uri)
    assert model.version == "2"
    assert model.package.threshold == pytest.approx(_threshold(store.config, candidate))
    assert model.package.phantom
    assert [model.package.lineage[f"run.fold_{fold}"] for fold in FOLDS] == [candidate.runs[fold] for fold in FOLDS]
    assert model.predict([speckle(50, 60)])[0].error is None


def test_a_registration_that_fails_leaves_a_failed_run_and_no_version(store, members, tmp_path):
    (tmp_path / MODEL).write_bytes(b"no network")
    candidate, baseline, report = store.judge(alpha=0.4)
    frame = candidate.predictions.assign(fingerprint="damaged")
    runs = {fold: record_run(store.ledger, store.config, frame, fold, tmp_path) for fold in FOLDS}
    damaged = Contender("damaged", frame, runs, candidate.lineage)
    before = store.ledger.client.search_model_versions(f"name = '{NAME}'")
    with pytest.raises(RegistryError, match="cannot be loaded"):
        store.register(damaged, baseline, report)
    assert len(store.ledger.client.search_model_versions(f"name = '{NAME}'")) == len(before)
    experiment = store.ledger.client.get_experiment_by_name("promotions").experiment_id
    runs_left = store.ledger.client.search_runs([experiment], "tags.candidate = 'damaged'")
    assert [run.info.status for run in runs_left] == ["FAILED"]
