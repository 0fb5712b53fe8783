"""The refit: which spec and how long, trained once through the real engine, packaged, and out of everyone's way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from bus_mlops.cli.app import app
from bus_mlops.config import Config
from bus_mlops.consumer.client import load_model
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.errors import LedgerError, RegistryError
from bus_mlops.experiments.cell import REFIT
from bus_mlops.experiments.digests import digests_of
from bus_mlops.experiments.driver import open_runner
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.gate.calibration import fit_calibration
from bus_mlops.paths import BENCHMARK, FOLDS
from bus_mlops.project import parse_config
from bus_mlops.promotion.candidate_package import calibration_of
from bus_mlops.promotion.inputs import PromotionInputs
from bus_mlops.promotion.promote import promote
from bus_mlops.promotion.refit import refit_epochs, spec_of
from bus_mlops.promotion.trained_model import TrainedModel, find_trained_model
from bus_mlops.promotion.verification import verify_version
from bus_mlops.spec import CellKey, RunSpec
from bus_mlops.tracking.ledger import CURVES, MODEL, PREDICTIONS, Ledger

NAME = "bus-mt-estan-phantom"
SEEDS = (7, 2021)
# Of both folds of both seeds; the median is 1.5.
BEST_EPOCHS = {CellKey(1, 7): 1, CellKey(2, 7): 3, CellKey(1, 2021): 1, CellKey(2, 2021): 2}


@dataclass(frozen=True)
class Project:
    """A project with data and folds, and recorded fold runs of MT-ESTAN and of MobileNet."""

    config: Config
    ledger: Ledger
    benchmark: Benchmark
    folds: Folds
    candidate: TrainedModel
    baseline: TrainedModel


def record(ledger: Ledger, spec: RunSpec, benchmark: Benchmark, folds: Folds, separation: float, folder: Path) -> str:
    """Finished runs of both folds, as workers leave them but for the networks; returns the parent's id."""
    data, split = digests_of(benchmark, folds, spec.cohort, spec.network)
    tags = {"data_digest": data, "folds_digest": split, "leaks": "0 groups", "git_clean": "yes"}
    fingerprint = spec.fingerprint(data, split)
    parent = ledger.parents.find_or_create(spec, fingerprint, spec.network, tags)
    for fold in (1, 2):
        rng = np.random.default_rng([spec.seed, fold])
        rows = folds.frame[folds.frame["source"].isin(spec.cohort)].rename(columns={f"fold_{fold}": "part"})
        rows = rows.loc[rows["part"] != "train", ["part", "image_id", "case_id", "group", "source", "label"]]
        logits = separation * (2 * rows["label"] - 1) + rng.normal(size=len(rows))
        frame = rows.assign(fold=fold, probability=1 / (1 + np.exp(-logits)), dice=np.nan, iou=np.nan)
        frame.to_csv(folder / PREDICTIONS, index=False)
        own = {"fingerprint": fingerprint, "fold": str(fold), "network": spec.network}
        run = ledger.start(parent, spec.network, spec, {**tags, **own})
        ledger.finish(run, {"best_epoch": BEST_EPOCHS[CellKey(fold, spec.seed)]}, folder, {})
    return parent


@pytest.fixture(scope="module")
def project(tiny_data, empty_store, tmp_path_factory) -> Iterator[Project]:
    folder, artifacts = tmp_path_factory.mktemp("refit") / "project", tmp_path_factory.mktemp("artifacts")
    shutil.copytree(tiny_data, folder)
    shutil.copy(empty_store, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield lay_out(folder, artifacts)


def lay_out(folder: Path, artifacts: Path) -> Project:
    """Record the fold runs of both networks in the store of a project, which is the working folder."""
    values = yaml.safe_load((folder / "params.yaml").read_text())
    # Absolute: MLflow keeps a store per URI, and a relative one would stay with the first test's project.
    values["tracking"].update(uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "mlartifacts"))
    values["promotion"]["bootstrap"] = 100
    values["package"]["members"] = "refit"
    values["engine"]["workers"] = 1
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    config = parse_config(values)
    ledger = Ledger(config.tracking)
    benchmark, folds = Benchmark.open(BENCHMARK), Folds.open(FOLDS / "folds.csv")
    found = []
    for network, separation in (("mt_estan", 2.0), ("mobilenet_multitask", 1.0)):
        spec = make_spec(config, network, "multitask")
        parents = [
            record(ledger, spec.model_copy(update={"seed": seed}), benchmark, folds, separation, artifacts)
            for seed in SEEDS
        ]
        found.append(find_trained_model(ledger, parents[0]))
    return Project(config, ledger, benchmark, folds, *found)


def refit_runs(ledger: Ledger) -> list[str]:
    return [str(run.info.run_id) for run in ledger.runs(f"tags.fold = '{REFIT}'")]


def runs_of(model: TrainedModel) -> list[str]:
    return list(model.runs.values())


def test_the_recorded_spec_is_refitted_for_the_median_best_epoch(project):
    assert refit_epochs(project.ledger, project.candidate) == 2
    trained = refit_runs(project.ledger)
    with open_runner(project.config) as runner:
        specs = [spec_of(runner, project.candidate, seed) for seed in SEEDS]
        assert specs == [
            make_spec(project.config, "mt_estan", "multitask").model_copy(update={"seed": s}) for s in SEEDS
        ]
    with open_runner(project.config) as runner:
        runner.folds = replace(runner.folds, frame=runner.folds.frame.assign(group="another"))
        with pytest.raises(RegistryError, match=r"images, folds or code are not those .* package\.members to all"):
            spec_of(runner, project.candidate, 7)
    assert refit_runs(project.ledger) == trained


def test_calibration_of_a_refit_pools_the_validation_parts_of_its_seed(project):
    candidate = project.candidate
    parts = pd.concat([candidate.part("validation", CellKey(fold, 7)) for fold in (1, 2)])
    assert calibration_of(candidate, CellKey(REFIT, 7)) == fit_calibration(parts["label"], parts["probability"])
    assert calibration_of(candidate, CellKey(REFIT, 7)) != calibration_of(candidate, CellKey(REFIT, 2021))


@pytest.mark.slow
def test_a_refit_is_trained_once_packaged_and_meets_no_comparison(project):
    ledger, candidate = project.ledger, project.candidate
    before = ledger.finished()

    def decide(alpha: float):
        config = project.config.model_copy(
            update={"promotion": project.config.promotion.model_copy(update={"alpha": alpha})}
        )
        names = runs_of(candidate)[:1], runs_of(project.baseline)[0]
        inputs = PromotionInputs(config, ledger, project.benchmark, project.folds, Path("no predictions"))
        return promote(inputs, *names, "a test")

    outcome = decide(0.05)
    gate = {rule.id: rule for rule in outcome.report.rules}
    assert gate["G6"].passed, gate["G6"].sentence
    assert "2 members" in gate["G6"].sentence

    # One run a seed, of all images of its sources, without a part to test.
    runs = refit_runs(ledger)
    assert len(runs) == 2
    cohort = project.folds.frame["source"].isin(project.config.cohorts["multitask"])
    for run in (ledger.client.get_run(each) for each in runs):
        metrics = run.data.metrics
        assert run.info.status == "FINISHED"
        assert run.data.params["training.epochs"] == "2"
        assert metrics["images_per_second"] * metrics["seconds_training"] == pytest.approx(2 * cohort.sum())
        assert metrics["best_epoch"] == 2
        assert {item.path for item in ledger.client.list_artifacts(run.info.run_id)} == {MODEL, CURVES}
        assert run.info.run_name == "mt_estan, refit / all images"

    # The package holds them, and its card says what they are.
    model = load_model(f"models:/{NAME}/{outcome.version}", project.config.tracking.uri)
    lineage = model.package.lineage
    assert {lineage["run.seed_7.refit"], lineage["run.seed_2021.refit"]} == set(runs)
    calibrations = [calibration_of(candidate, CellKey(REFIT, seed)) for seed in SEEDS]
    assert [member.calibration for member in model.package.members] == calibrations
    card = (model.folder / "MODEL_CARD.md").read_text()
    assert "the refitted network itself, trained on their test images too, was never tested" in card
    assert "calibration and threshold come from the validation predictions of the networks of the folds" in card

    # Nobody else sees them: neither the fold cells of the ledger nor a comparison.
    after = ledger.finished()
    assert {key: run for key, run in after.items() if key.fold != REFIT} == before
    assert set(after.values()) - set(before.values()) == set(runs)
    assert find_trained_model(ledger, runs_of(candidate)[0]).runs == candidate.runs
    with pytest.raises(LedgerError, match="is no training on folds"):
        find_trained_model(ledger, runs[0])

    # Another decision on the same candidate takes them as they are.
    again = decide(0.04)
    assert again.version != outcome.version
    assert sorted(refit_runs(ledger)) == sorted(runs)
    command = ["gate", "--candidate", runs_of(candidate)[0], "--baseline", runs_of(project.baseline)[0], "--json"]
    answer = CliRunner().invoke(app, command)
    assert [rule["id"] for rule in json.loads(answer.stdout)["rules"]][-1] == "G7"  # and nothing but JSON
    assert "[refit] 2 runs, 2 of them recorded already, 0 to train" in answer.stderr
    checks = verify_version(ledger, NAME, again.version)
    assert all(check.holds for check in checks), [check for check in checks if not check.holds]
