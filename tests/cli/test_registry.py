"""`bus-mlops gate`, `promote`, `history`, `rollback`, `verify` in a project folder, as a user types them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from promotion_store import NAME, Store, copy_store
from typer.testing import CliRunner

from bus_mlops.cli.app import app
from bus_mlops.errors import LedgerError, RegistryError
from bus_mlops.promotion import records
from bus_mlops.promotion.aliases import Aliases
from bus_mlops.promotion.looks import TakenLook, tags_and_params
from bus_mlops.promotion.registration import check_files
from bus_mlops.spec import CellKey


@pytest.fixture(autouse=True)
def _in_the_project(store: Store, monkeypatch) -> None:
    monkeypatch.chdir(store.folder)


def run(*arguments: str, exit_code: int = 0) -> str:
    """Standard output of a command that ends with this exit code."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == exit_code, done.output
    return done.stdout


def refusal(*arguments: str) -> BaseException | None:
    return CliRunner().invoke(app, arguments).exception


def run_refused(*arguments: str) -> str:
    """What a command prints that takes no such options, on one line."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2, done.output
    return " ".join(done.output.replace("│", " ").split())


def set_promotion(store: Store, **changes: Any) -> None:
    path = store.folder / "params.yaml"
    values = yaml.safe_load(path.read_text())
    values["promotion"].update(changes)
    path.write_text(yaml.safe_dump(values))


def versions(store: Store) -> list[str]:
    found = store.ledger.client.search_model_versions(f"name = '{NAME}'")
    return sorted(str(each.version) for each in found)


def test_before_the_first_decision(store):
    assert f"no decision about {NAME} yet" in run("history")
    assert json.loads(run("history", "--json"))["decisions"] == []
    assert "no previous champion" in str(refusal("rollback", "--reason", "just so"))
    assert "has no version 1" in str(refusal("verify", "1"))


def test_a_look_is_listed_whose_command_was_killed_before_the_first_decision(store, tmp_path, monkeypatch):
    copied = copy_store(store, tmp_path)
    monkeypatch.chdir(tmp_path)
    client = copied.ledger.client
    taken = TakenLook(number=1, budget=0.05, before=0, level=0.03, share=0.6, key="k", tested="t" * 64, images=160)
    record = records.open_record(client, copied.config.tracking, records.LOOK_KIND, "look", {"model": NAME})
    tags, params = tags_and_params(taken)
    copied.ledger.writer.write(record, tags=tags, params=params)
    listed = run("history")
    assert f"no decision about {NAME} yet" in listed
    assert f"the record {record} came to no decision; its look counts: look 1 at 160 test images" in listed
    assert "0.02 of alpha 0.05 is left" in listed


def test_the_gate_judges_and_changes_nothing(store):
    judgement = store.judge()
    set_promotion(store, alpha=0.5)
    shown = run("gate", "--dry-run")
    assert shown.startswith(
        "would judge tuned-mt_estan_loss: Mt_Estan against approaches: Resnet50\non 160 test images"
    )
    assert "Look 1 of this name at these 160 test images: p must be below 0.3" in shown
    assert (json.loads(run("gate", "--dry-run", "--json"))["changes"], store.history()) == ([], [])
    passed = run("gate")
    assert [line.split()[0] for line in passed.splitlines() if line.startswith("  G")] == [f"G{i}" for i in range(8)]
    assert passed.splitlines()[-1] == "gate: passed G0, G1, G2, G3, G4, G5, G6; not judged: G7"
    set_promotion(store, alpha=1e-9)
    candidate, other = (
        judgement.candidate.runs[CellKey(1, 7)],
        store.judge(baseline="mobilenet").baseline.runs[CellKey(2, 2021)],
    )
    report = json.loads(run("gate", "--candidate", candidate, "--baseline", other, "--json", exit_code=1))
    assert (report["candidate"], report["baseline"]) == ("tuned-mt_estan_loss: Mt_Estan", "approaches: Mobilenet")
    assert (report["passed"], "G2" in report["failed"]) == (False, True)
    assert [rule["id"] for rule in report["rules"]] == [f"G{i}" for i in range(8)]
    assert all({"values", "limit", "sentence"} <= set(rule) for rule in report["rules"])
    assert isinstance(refusal("gate", "--candidate", "nobody"), LedgerError)
    assert versions(store) == []
    # Two looks, which are spent: the second is another comparison.
    assert [each.decision for each in store.history()] == ["looked", "looked"]
    listed = run("history")
    assert "today's 160 test images: " in listed
    assert listed.count("no version: LOOKED") == 2
    assert "look 1 at 160 test images: p = " in listed
    set_promotion(store, alpha=0.5)
    again = run("gate")
    assert "  note: Look 1 of this name at these 160 test images" in again
    assert len(store.history()) == 2


def test_the_terms_are_printed_with_their_digest():
    listed = run("protocol")
    assert 'promotion.metric: "roc_auc"' in listed
    printed = run("protocol", "--json").removesuffix("\n")
    digest = hashlib.sha256(printed.encode()).hexdigest()
    assert digest in listed


def test_power_is_told_of_the_images_of_the_folds_or_of_those_that_are_asked_about(store):
    own = json.loads(run("gate", "--power", "--json"))
    tested = store.folds.frame[store.folds.frame["source"].isin(store.config.cohorts["multitask"])]
    assert own["cohort"]["images"] == len(tested)
    assert own["cohort"]["malignant"] == int(tested["label"].sum())
    asked = run("gate", "--power", "--images", "647", "--malignant", "210", "--folds", "3", "--seeds", "1")
    assert asked.startswith("With 647 images (210 malignant), 3 folds x 1 seed, the gate finds")
    assert "--malignant belong together" in run_refused("gate", "--power", "--images", "647")
    assert "are for --power" in run_refused("gate", "--area", "0.9")


def test_a_reason_belongs_to_force_and_to_rollback(store):
    assert "needs --reason" in str(refusal("promote", "--force"))
    assert "needs --reason" in str(refusal("promote", "--force", "--reason", " "))
    assert "--reason is for --force" in str(refusal("promote", "--reason", "it is good"))
    assert "Missing option" in CliRunner().invoke(app, ["rollback"]).output
    assert versions(store) == []


def test_promoted_listed_rolled_back_and_verified(store):
    set_promotion(store, alpha=0.5, protocol="f" * 64)
    assert "needs --amend" in str(refusal("gate", "--amend", " "))
    forced = run("promote", "--force", "--reason", "a pilot on ward 3")
    assert "promotion.protocol pins the terms ffffffffffff" in forced
    assert "bus-mlops promote --amend REASON" in forced
    assert f"{NAME} version 1: forced; it is champion" in forced
    assert f"{NAME} version 2: promoted; it is champion" in run("promote", "--amend", "the pin was of a draft")
    assert "nothing was changed" in run("promote")  # what was amended stays so for the same evidence
    assert store.aliases() == Aliases(champion="2", previous="1")

    back = run("rollback", "--reason", "worse on the new scanner")
    assert back.strip() == f"{NAME}: version 1 is champion again, version 2 is previous"
    assert isinstance(refusal("rollback", "--to", "7", "--reason", "why not"), RegistryError)

    listed = run("history")
    assert listed.startswith(f"{NAME}: champion 1, previous 2, candidate none")
    decisions = [line.split("version ")[1].split("  ")[0] for line in listed.splitlines() if "  version " in line]
    assert decisions == ["1: ROLLED BACK", "2: PROMOTED", "1: FORCED"]
    assert "why: worse on the new scanner" in listed
    assert "forced: a pilot on ward 3" in listed
    assert "amended: the pin was of a draft (promotion.protocol pins the terms" in listed
    same = json.loads(run("history", "--json"))
    assert [each["decision"] for each in same["decisions"]][:3] == ["rolled back", "promoted", "forced"]
    assert same["aliases"] == {"champion": "1", "previous": "2", "candidate": None}

    # By a plain call to the registry, which no decision explains.
    store.ledger.client.set_registered_model_alias(NAME, "champion", "2")
    assert "CONTRADICTION: the alias champion points to version 2" in run("history")
    assert "the alias champion points to version 2" in run("verify", "2", exit_code=1)
    store.ledger.client.set_registered_model_alias(NAME, "champion", "1")
    assert "CONTRADICTION" not in run("history")

    held = run("verify", "2")
    assert held.splitlines()[-1] == "version 2: all that was checked still holds; NOT checked: predictions made anew"
    model = check_files(store.ledger.client, store.ledger.client.get_model_version(NAME, "2"))
    _spoil(model / "artifacts" / "package" / "members" / "fold_1.onnx")
    said = json.loads(run("verify", "2", "--json", exit_code=1))
    failed = {check["what"]: check["found"] for check in said["checks"] if not check["holds"]}
    assert said["holds"] is False
    assert "fold_1.onnx was changed" in failed["package files"]
    assert {"G0 integrity", "G2 superiority"}.isdisjoint(failed)
    assert "FAILED  package files" in run("verify", "2", exit_code=1)


def _spoil(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"x")
