"""Evidence of an earlier version of the platform: what was registered with it can still be verified."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from promotion_store import NAME, Store

from bus_mlops.gate.rule import RULES
from bus_mlops.promotion import judgement
from bus_mlops.promotion.evidence import EVIDENCE_FILE, FOLDER
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
    "test": "resampled_t",
    "alpha": 0.5,
    "sensitivity_margin": 0.15,
    "source_margin": 0.15,
    "source_margins": {},
    "source_malignant": 30,
    "calibration_margin": 0.15,
    "example_tolerance": 0.0001,
}


def test_a_version_registered_with_earlier_evidence_is_verified(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody asked then how parameters had been chosen.
    monkeypatch.setattr(judgement, "_told", lambda _, model, search=None: model)
    assert store.promote(alpha=0.5).version == "1"
    run = store.ledger.client.get_run(store.history()[0].record)
    path = Path(run.info.artifact_uri.removeprefix("file://")) / FOLDER / EVIDENCE_FILE
    present = json.loads(path.read_text())
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
    assert {"evidence", "gate"}.isdisjoint(check.what for check in checks)
    beside_the_rules = [check.what for check in checks][: -len(RULES)]
    predictions = ["predictions of the candidate", "predictions of the baseline", "predictions made anew"]
    assert beside_the_rules[-3:] == predictions
    assert len(beside_the_rules) == 8
    unseen = {check.what: check.found for check in checks if not check.checked}
    assert "`bus-mlops promote` decides on the same runs anew" in unseen["version and its model folder"]

    earlier["promotion"] = PROMOTION | {"alpha": 1e-9}
    path.write_text(json.dumps(earlier))
    failed = [check.what for check in verify_version(store.ledger, NAME, "1") if not check.holds]
    assert failed == ["G2 superiority"]
