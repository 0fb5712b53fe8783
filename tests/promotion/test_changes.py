"""Every change to a registered package, its version, the registered model or its records is noticed, and named."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from promotion_store import NAME, Store, copy_store

from bus_mlops.consumer.package_files import write_sums
from bus_mlops.errors import RegistryError
from bus_mlops.gate.comparison import PackageCheck
from bus_mlops.promotion import promote, records, verification
from bus_mlops.promotion.aliases import LOCK_TAG, locked
from bus_mlops.promotion.consistency import contradictions
from bus_mlops.promotion.verification import verify_version
from bus_mlops.tracking.ledger import PREDICTIONS, Ledger

Undo = Callable[[], object]


@dataclass(frozen=True)
class World:
    """A champion, version 1, and where what it rests on lies."""

    store: Store

    @property
    def client(self) -> Any:
        return self.store.ledger.client

    @property
    def version(self) -> Any:
        return self.client.get_model_version(NAME, "1")

    @property
    def record(self) -> str:
        return str(self.version.run_id)

    @property
    def model(self) -> Path:
        return Path(self.client.get_model_version_download_uri(NAME, "1").removeprefix("file://"))

    def run_folder(self, run: str) -> Path:
        return Path(self.client.get_run(run).info.artifact_uri.removeprefix("file://"))

    @property
    def run(self) -> str:
        return str(json.loads(self.version.tags["lineage.runs"])[0])

    @property
    def baseline_run(self) -> str:
        return str(json.loads(self.version.tags["baseline.runs"])[0])

    def failed(self) -> dict[str, str]:
        """What `verify` found, by check."""
        checks = verify_version(Ledger(self.store.config.tracking), NAME, "1")
        return {check.what: check.found for check in checks if not check.holds}


@pytest.fixture(scope="module")
def world(store):
    """The checks in a clean process are another test's."""
    clean = PackageCheck(members=1, difference=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "check_package", lambda _: clean)
        patch.setattr("bus_mlops.promotion.candidate_package.check_package", lambda _: clean)
        assert store.promote(alpha=0.5).is_champion
        yield World(store)


def text(
    path: Callable[[World], Path], change: Callable[[str], str] = lambda old: old + " "
) -> Callable[[World], Undo]:
    def apply(world: World) -> Undo:
        file = path(world)
        before = file.read_bytes()
        file.write_text(change(before.decode()), encoding="utf-8")
        return lambda: file.write_bytes(before)

    return apply


def added(path: Callable[[World], Path]) -> Callable[[World], Undo]:
    def apply(world: World) -> Undo:
        file = path(world)
        file.write_text("print('hello')")
        return file.unlink

    return apply


def removed(path: Callable[[World], Path]) -> Callable[[World], Undo]:
    def apply(world: World) -> Undo:
        file = path(world)
        before = file.read_bytes()
        file.unlink()
        return lambda: file.write_bytes(before)

    return apply


def version_tag(name: str, value: str | None) -> Callable[[World], Undo]:
    def apply(world: World) -> Undo:
        before = world.version.tags.get(name)
        if value is None:
            world.client.delete_model_version_tag(NAME, "1", name)
        else:
            world.client.set_model_version_tag(NAME, "1", name, value)
        if before is None:
            return lambda: world.client.delete_model_version_tag(NAME, "1", name)
        return lambda: world.client.set_model_version_tag(NAME, "1", name, before)

    return apply


def run_tag(which: str, name: str, value: str | None) -> Callable[[World], Undo]:
    def apply(world: World) -> Undo:
        run = getattr(world, which)
        before = world.client.get_run(run).data.tags.get(name)
        if value is None:
            world.client.delete_tag(run, name)
        else:
            world.client.set_tag(run, name, value)
        return lambda: world.client.delete_tag(run, name) if before is None else world.client.set_tag(run, name, before)

    return apply


def deleted_run(which: str) -> Callable[[World], Undo]:
    def apply(world: World) -> Undo:
        run = getattr(world, which)
        world.client.delete_run(run)
        return lambda: world.client.restore_run(run)

    return apply


def alias(name: str) -> Callable[[World], Undo]:
    def apply(world: World) -> Undo:
        world.client.set_registered_model_alias(NAME, name, "1")
        return lambda: world.client.delete_registered_model_alias(NAME, name)

    return apply


def no_champion(world: World) -> Undo:
    world.client.delete_registered_model_alias(NAME, "champion")
    return lambda: world.client.set_registered_model_alias(NAME, "champion", "1")


def model_tag(world: World) -> Undo:
    world.client.set_registered_model_tag(NAME, "reviewed", "yes")
    return lambda: world.client.delete_registered_model_tag(NAME, "reviewed")


def model_description(world: World) -> Undo:
    before = world.client.get_registered_model(NAME).description
    assert "`champion`" in before  # it says what aliases mean
    world.client.update_registered_model(NAME, "approved for patients")
    return lambda: world.client.update_registered_model(NAME, before)


def version_description(world: World) -> Undo:
    before = world.client.get_model_version(NAME, "1").description
    assert "| G2 superiority |" in before  # the gate's table
    world.client.update_model_version(NAME, "1", "approved for patients")
    return lambda: world.client.update_model_version(NAME, "1", before)


def resummed(world: World) -> Undo:
    """A file changed together with the package's own sums."""
    package = world.model / "artifacts/package"
    before = {name: (package / name).read_bytes() for name in ("MODEL_CARD.md", "SHA256SUMS")}
    (package / "MODEL_CARD.md").write_text("better than it is")
    write_sums(package)
    return lambda: [(package / name).write_bytes(content) for name, content in before.items()]


def within(path: str) -> Callable[[World], Path]:
    return lambda world: world.model / path


def recorded(path: str) -> Callable[[World], Path]:
    return lambda world: world.run_folder(world.record) / path


PACKAGE, VERSION, RECORD, MODEL = "package files", "version and its model folder", "record", "registered model"
CHANGES: dict[str, tuple[Callable[[World], Undo], str, str]] = {
    "model card": (text(within("artifacts/package/MODEL_CARD.md")), PACKAGE, "MODEL_CARD.md was changed"),
    "package.json": (text(within("artifacts/package/package.json")), PACKAGE, "package.json was changed"),
    "example": (text(within("artifacts/package/example_prediction.json")), PACKAGE, "prediction.json was changed"),
    "sums": (text(within("artifacts/package/SHA256SUMS")), PACKAGE, "not the file that was registered"),
    "file and sums": (resummed, PACKAGE, "not the file that was registered"),
    "file lost": (removed(within("artifacts/package/example.png")), PACKAGE, "example.png is missing"),
    "file added": (added(within("artifacts/package/run.py")), PACKAGE, "run.py is not listed"),
    "origin added": (added(within("artifacts/package/registry.json")), VERSION, "registry.json was added"),
    "beside the package": (added(within("artifacts/other.py")), VERSION, "artifacts/other.py was added"),
    "signature": (text(within("MLmodel"), lambda t: t.replace("probability", "risk")), VERSION, "MLmodel was changed"),
    "MLmodel": (text(within("MLmodel"), lambda t: t + "flavour: {}\n"), VERSION, "MLmodel was changed"),
    "served code": (text(within("pyfunc_model.py"), lambda t: t + "\n#"), VERSION, "pyfunc_model.py was changed"),
    "requirements": (text(within("requirements.txt")), VERSION, "requirements.txt was changed"),
    "environment": (removed(within("conda.yaml")), VERSION, "conda.yaml is missing"),
    "added code": (added(within("sitecustomize.py")), VERSION, "sitecustomize.py was added"),
    "digest tag": (version_tag("package.sha256", "0" * 64), PACKAGE, "not the file that was registered"),
    "no digest tag": (version_tag("package.sha256", None), PACKAGE, "has lost its tag package.sha256"),
    "no evidence tag": (version_tag("evidence", None), RECORD, "its tag evidence is missing"),
    "evidence tag": (version_tag("evidence", "0" * 64), RECORD, "its tag evidence is 0000"),
    "report tag": (version_tag("gate.sha256", "0" * 64), "gate report", "gate.json was changed"),
    "no report tag": (version_tag("gate.sha256", None), "gate report", "has lost its tag gate.sha256"),
    "verdict": (version_tag("gate", "refused"), VERSION, "its tag gate is 'refused' and was 'passed'"),
    "phantom": (version_tag("phantom", "false"), VERSION, "its tag phantom is 'false'"),
    "lineage": (version_tag("training.commits", None), VERSION, "its tag training.commits is missing"),
    "extra tag": (version_tag("approved", "yes"), VERSION, "its tag approved was added"),
    "forced tag": (version_tag("forced", "no reason"), VERSION, "its tag forced was added"),
    "description": (version_description, VERSION, "its description is 'approved for patients'"),
    "model's description": (model_description, MODEL, "approved for patients"),
    "model's tag": (model_tag, MODEL, "'reviewed': 'yes'"),
    "candidate alias": (alias("candidate"), MODEL, "the alias candidate points to version 1"),
    "another alias": (alias("production"), MODEL, "the alias production points to version 1, but"),
    "no champion": (no_champion, MODEL, "the alias champion points to none, but"),
    "report": (text(recorded("gate/gate.json")), "evidence", "gate/gate.json is changed"),
    "report's text": (text(recorded("gate/gate.md")), "evidence", "gate/gate.md is changed"),
    "evidence": (text(recorded("gate/evidence.json")), "evidence", "evidence.json is changed"),
    "folds": (text(recorded("gate/folds.csv")), "evidence", "folds.csv is changed"),
    "added evidence": (added(recorded("gate/more.json")), "evidence", "gate/more.json is not recorded"),
    "registration": (text(recorded("registration/registration.json")), VERSION, "registration.json is changed"),
    "decision": (text(recorded("decision.json")), RECORD, "decision.json is changed"),
    "lost decision": (removed(recorded("decision.json")), RECORD, "decision.json is missing"),
    "added to the record": (added(recorded("note.txt")), RECORD, "note.txt is not recorded"),
    "why": (run_tag("record", "why", "because"), RECORD, "were changed after the decision: why"),
    "who": (run_tag("record", "who", None), RECORD, "were changed after the decision: who"),
    "record's runs": (run_tag("record", "lineage.runs", "[]"), RECORD, "after the decision: lineage.runs"),
    "record's note": (run_tag("record", "mlflow.note.content", "fine"), RECORD, "mlflow.note.content"),
    "record's digest": (run_tag("record", "decision.sha256", "0" * 64), RECORD, "was changed after the decision"),
    "record's digest lost": (run_tag("record", "decision.sha256", None), RECORD, "no decision was made, or its tag"),
    "record deleted": (deleted_run("record"), RECORD, "was deleted: `mlflow runs restore"),
    "run deleted": (deleted_run("run"), "predictions of the candidate", "was deleted: `mlflow runs restore"),
    "baseline's run deleted": (deleted_run("baseline_run"), "predictions of the baseline", "was deleted"),
    "predictions": (
        text(lambda w: w.run_folder(w.run) / PREDICTIONS, lambda t: t.replace("0.", "0.1", 40)),
        "predictions of the candidate",
        "predictions.csv is changed",
    ),
    "lost predictions": (
        removed(lambda w: w.run_folder(w.baseline_run) / PREDICTIONS),
        "predictions of the baseline",
        "predictions.csv is missing",
    ),
    "network of a run": (
        added(lambda w: w.run_folder(w.baseline_run) / "surprise.keras"),
        "predictions of the baseline",
        "surprise.keras is not recorded",
    ),
}


def test_nothing_is_noticed_where_nothing_was_changed(world):
    checks = verify_version(world.store.ledger, NAME, "1")
    assert [check for check in checks if not check.holds] == []
    assert contradictions(world.client, NAME) == []


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_noticed(world, name):
    change, check, found = CHANGES[name]
    undo = change(world)
    try:
        failed = world.failed()
    finally:
        undo()
    assert found in failed.get(check, ""), failed


def test_a_deleted_and_a_recreated_version_are_noticed(world, tmp_path):
    # Of another database, whose artifacts are those of this one.
    copied = copy_store(world.store, tmp_path)
    client, version = copied.ledger.client, world.version
    client.delete_model_version(NAME, "1")
    with pytest.raises(RegistryError, match=r"has no version 1: it was promoted \(record .*\) and deleted since"):
        verify_version(copied.ledger, NAME, "1")
    assert any("version 1 was decided on, but is not" in each for each in contradictions(client, NAME))
    client.delete_registered_model(NAME)
    client.create_registered_model(NAME)
    client.create_model_version(NAME, world.model.as_uri(), version.run_id, tags=version.tags)
    client.set_registered_model_alias(NAME, "champion", "1")
    failed = {check.what: check.found for check in verify_version(copied.ledger, NAME, "1") if not check.holds}
    assert "its created is" in failed[VERSION]


def test_a_source_that_points_elsewhere_is_noticed(world, tmp_path):
    copied = copy_store(world.store, tmp_path)
    elsewhere = Path(shutil.copytree(world.model, tmp_path / "elsewhere"))
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("update model_versions set source = ?, storage_location = ?", [elsewhere.as_uri()] * 2)
    failed = {check.what: check.found for check in verify_version(copied.ledger, NAME, "1") if not check.holds}
    assert "its source is" in failed[VERSION]


def test_a_decision_that_is_gone_for_good_is_named_by_the_one_after_it(world, tmp_path):
    copied = copy_store(world.store, tmp_path)
    client = copied.ledger.client
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promote, "package_candidate", pytest.fail)  # registered before: nothing is packaged anew
        assert not copied.promote(alpha=0.5).fresh
    first = copied.history()[0].record
    client.set_registered_model_alias(NAME, "candidate", "1")
    said = contradictions(client, NAME)
    assert [each for each in said if "the alias candidate points to version 1" in each]
    client.delete_registered_model_alias(NAME, "candidate")
    client.set_registered_model_tag(NAME, f"{LOCK_TAG}x", "no JSON")  # a damaged lock of somebody who died
    second = records.open_record(client, copied.config.tracking, "promotion", "another", {"model": NAME})
    with locked(client, NAME) as lock:
        lock.move(lock.expect("1"), second, {"model": NAME, "version": "1", "decision": "refused", "when": "2026"})
    assert contradictions(client, NAME) == []
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("delete from tags where run_uuid = ?", [first])
    assert any(f"the record {first} of a decision is gone" in each for each in contradictions(client, NAME))
