"""Evidence of an earlier version of the platform: what was registered with it can still be verified."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from promotion_store import IMAGES, NAME, Store

from bus_mlops.consumer.client import BusModel, load_model
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import Folds
from bus_mlops.evaluation.cells import CELL
from bus_mlops.promotion import candidate_package, contenders
from bus_mlops.promotion.answers import ANSWERS_FILE, Answers, read_answers
from bus_mlops.promotion.evidence import EVIDENCE_FILE, FOLDER, JUDGING, REPORT_FILE
from bus_mlops.promotion.trained_model import TrainedModel
from bus_mlops.promotion.verification import verify_version

# The keys of `promotion` before there was a candidate network, when limits were no rules' own; as they were written.
PROMOTION: dict[str, Any] = {
    "candidates": ["tuned"],
    "baseline": "champion",
    "threshold": "youden",
    "bootstrap": 200,
    "require_clean_git": True,
    "minimum_sensitivity": 0.5,
    "minimum_specificity": 0.5,
    "metric": "roc_auc",
    "test": "clustered",
    "alpha": 0.5,
    "sensitivity_margin": 0.15,
    "source_margin": 0.15,
    "source_margins": {},
    "source_malignant": 30,
    "at_specificity": 0.9,
    "calibration_margin": 0.15,
    "example_tolerance": 0.0001,
}


def test_a_version_registered_with_earlier_evidence_is_verified(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody asked then how parameters had been chosen.
    monkeypatch.setattr(contenders, "_told", lambda _, model, search=None: model)
    # The package is asked about other images than the runs recorded in this store, so its answers are made up.
    monkeypatch.setattr(candidate_package, "ask", made_up)
    assert store.promote("all", alpha=0.5, answer_tolerance=0.9).version == "1"
    run = store.ledger.client.get_run(store.history()[0].record)
    path = Path(run.info.artifact_uri.removeprefix("file://")) / FOLDER / EVIDENCE_FILE
    present = json.loads(path.read_text())
    check_answers(store, path.parent, present)
    earlier: dict[str, Any] = {
        "model": NAME,
        "phantom": True,
        "seed": 2021,
        "expected_folds": [1, 2],
        "folds_kind": "grouped",
        "promotion": PROMOTION,
        "candidate": {"title": "Mt_Estan", "predictions": present["candidate"]["predictions"]},
        "baseline": {"title": "Resnet50", "predictions": present["baseline"]["predictions"]},
        "rivals": [],
        "champion": None,
    }
    path.write_text(json.dumps(earlier, indent=2))
    # Nor did records have digests of their files, nor registrations written down.
    with closing(sqlite3.connect(store.folder / "mlflow.db")) as database, database:
        database.execute("delete from params where run_uuid = ?", [run.info.run_id])
    checks = verify_version(store.ledger, NAME, "1")
    assert [check for check in checks if not check.holds] == []
    unseen = {check.what: check.found for check in checks if not check.checked}
    assert "judged in the way 1 of earlier versions" in unseen["gate"]
    assert "`bus-mlops promote` judges the same runs in today's way (2)" in unseen["gate"]
    predictions = ["predictions of the candidate", "predictions of the baseline", "predictions made anew"]
    assert [check.what for check in checks][-4:] == [*predictions, "gate"]
    assert len(checks) == 10
    assert "`bus-mlops promote` decides on the same runs anew" in unseen["version and its model folder"]


def made_up(package: BusModel, candidate: TrainedModel, folds: Folds, benchmark: Benchmark) -> Answers:
    """Answers for every judged image, less sure than what was recorded: calibrated probabilities, 0.2 to 0.8."""
    rows = candidate.part("test")
    return Answers(rows[[*CELL, "image_id"]].assign(probability=0.2 + 0.6 * rows["probability"]))


def check_answers(store: Store, gate: Path, evidence: dict[str, Any]) -> None:
    """What the package answered is what was judged: report, card and verification hold its numbers and not others."""
    assert (evidence["judging"], evidence["members"]) == (JUDGING, "all")
    # Chosen on validation parts, the second named with its number.
    (first, best), (second, value) = evidence["baseline_choice"].items()
    assert (first, second) == ("resnet50", "mobilenet")
    assert 0.5 < value < best < 1
    report = json.loads((gate / REPORT_FILE).read_text())
    notes = "\n".join(report["notes"])
    assert f"resnet50 has the best roc_auc of 2 networks there ({best:.4f}" in notes
    assert f"second was mobilenet with {value:.4f}" in notes
    assert (
        "Judged: the mean of the fold's 2 networks (one a seed), on its test part; ships: the mean of all 4." in notes
    )
    assert f"by what its package answered to {IMAGES} of {IMAGES} test images" in notes
    assert report["rules"][0]["values"]["second"] == "mobilenet"
    # The same by hand: the mean over the two seeds of what was answered, and the rank statistic of each fold.
    answers = read_answers(gate)
    assert answers is not None
    assert answers["probability"].between(0.2, 0.8).all()
    labels = store.folds.frame.set_index("image_id")["label"]
    means = answers.groupby(["fold", "image_id"])["probability"].mean().reset_index()
    brier = float(((means["probability"] - labels.reindex(means["image_id"]).to_numpy()) ** 2).mean())
    package = load_model(f"models:/{NAME}@champion", store.config.tracking.uri).package
    assert package.judged is not None
    assert package.judged.numbers["brier"].estimate == pytest.approx(brier)
    assert (package.judged.networks, package.judged.ships, package.judged.answered) == (2, 4, IMAGES)
    assert package.judged.threshold == package.threshold
    holds = {check.what: check.holds for check in verify_version(store.ledger, NAME, "1")}
    assert all(holds.values()), holds
    # Another answer in the file: neither its sha256 nor the rules hold any more.
    path = gate / ANSWERS_FILE
    before = path.read_bytes()
    answers.assign(probability=1 - answers["probability"]).to_csv(path, index=False)
    assert not next(check for check in verify_version(store.ledger, NAME, "1") if check.what == "evidence").holds
    path.write_bytes(before)
