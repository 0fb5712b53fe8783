"""What was decided about a model goes with it: from the store's record, into every copy, and past what contradicts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bus_mlops.consumer import export as bundle
from bus_mlops.consumer.client import load_model
from bus_mlops.consumer.package_files import write_sums
from bus_mlops.consumer.standing import CONFLICT, FORCED, PROMOTED, REFUSED, ROLLBACK, Standing, of_version, reconciled
from bus_mlops.errors import StoreError

WHEN = "2026-01-02T03:04:05+00:00"
UNREACHABLE = StoreError("the store is away")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("BUS_MLOPS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def decided(decision: str, version: str, after: str, why: str = "") -> dict[str, str]:
    record = f"{decision} {version}"
    return {
        "decision": decision,
        "version": version,
        "champion_after": after,
        "when": WHEN,
        "why": why,
        "record": record,
    }


FORCE = "refused by G2; forced: asked for"
LIFE = [
    decided(REFUSED, "1", "", "refused by G2"),
    decided(FORCED, "1", "1", FORCE),
    decided(PROMOTED, "2", "2", "passed G0"),
    decided(REFUSED, "3", "2", "refused by G2"),
    decided(CONFLICT, "4", "2"),
    decided(ROLLBACK, "1", "1", "worse"),
    decided(ROLLBACK, "2", "2", "better again"),
]


@pytest.mark.parametrize(
    ("until", "version", "gate", "said"),
    [
        (0, "1", "refused", "REFUSED by the gate; no decision is known (failed: G2)."),
        (0, "1", "", "No gate's decision known."),
        (1, "1", "refused", "REFUSED by the gate (failed: G2) on 2026-01-02 03:04 UTC (decision refused 1)."),
        (2, "1", "refused", f"REFUSED by the gate and promoted all the same ({FORCE}) on 2026-01-02 03:04 UTC"),
        (3, "1", "refused", "REFUSED by the gate; was champion until it was replaced (by version 2) on"),
        (3, "2", "passed", "Promoted by the gate on 2026-01-02 03:04 UTC (decision promoted 2)."),
        (5, "3", "refused", "REFUSED by the gate (failed: G2) on"),
        (5, "4", "passed", "Passed the gate; no decision is known."),
        (5, "2", "passed", "Promoted by the gate on"),
        (6, "2", "passed", "Was champion until it was rolled back (to version 1: worse) on"),
        (6, "1", "refused", "REFUSED by the gate and promoted all the same"),
        (7, "2", "passed", "Promoted by the gate on 2026-01-02 03:04 UTC (decision promoted 2)."),
        (7, "1", "refused", "REFUSED by the gate; was champion until it was rolled back (to version 2: better again)"),
    ],
)
def test_every_turn_of_a_models_life_has_its_words(until, version, gate, said):
    tags = {"gate": gate, "gate.failed": "G2"} if gate else {}
    told = of_version(version, tags, LIFE[:until])
    assert str(told).startswith(said)
    assert told.is_refused == (gate == "refused")
    assert Standing(**told.model_dump()) == told


def test_a_record_that_its_package_contradicts_is_not_believed():
    promoted = Standing(state="promoted", gate="passed", when=WHEN)
    assert reconciled(promoted, "passed G0, G1") == promoted
    told = reconciled(promoted, "refused by G2")
    assert (told.state, told.is_refused) == ("refused", True)
    assert "a record that says promoted contradicts it" in str(told)


def test_a_copy_takes_along_what_was_decided_and_a_later_export_brings_it_up_to_date(
    tiny_registry, scans, tmp_path, monkeypatch
):
    uri, copy = "models:/tiny-phantom/1", tmp_path / "copy"
    bundle.export(uri, str(copy), tiny_registry.uri)
    bundle.pull(uri, tiny_registry.uri)
    told = load_model(copy).standing
    assert str(told).startswith("REFUSED by the gate; no decision is known. As of ")
    again = tmp_path / "again"
    bundle.export(str(copy), str(again))
    assert load_model(again).standing == told  # of the time at which the record was read
    with monkeypatch.context() as patch:
        patch.setattr("bus_mlops.consumer.resolve.open_registry", _raise)
        pulled = load_model(uri, tiny_registry.uri)
    assert "REFUSED" in repr(pulled)
    assert pulled.standing.as_of
    assert pulled.predict(scans[:1])[0].standing == pulled.standing
    forced = decided(FORCED, "1", "1", FORCE)
    monkeypatch.setattr("bus_mlops.consumer.resolve._decisions", lambda client, name: iter([forced]))
    bundle.export(uri, str(copy), tiny_registry.uri)
    assert load_model(copy).standing.state == "forced"


def test_an_account_that_may_not_read_the_record_is_told_so_and_served(tiny_registry, monkeypatch):
    monkeypatch.setattr("bus_mlops.consumer.resolve._decisions", _raise)
    told = str(load_model("models:/tiny-phantom/1", tiny_registry.uri).standing)
    assert told == (
        "REFUSED by the gate; no decision is known (the record of decisions cannot be read: the store is away). "
        "UNSIGNED: who made it is not known."
    )


def test_copies_of_earlier_versions_and_folders_without_a_record_say_what_they_can(
    tiny_registry, package_folder, tmp_path
):
    copy = tmp_path / "copy"
    bundle.export("models:/tiny-phantom/1", str(copy), tiny_registry.uri)
    origin = json.loads((copy / "registry.json").read_text())
    del origin["standing"]
    (copy / "registry.json").write_text(json.dumps(origin))
    assert (
        str(load_model(copy).standing) == "Passed the gate; no decision is known. UNSIGNED: who made it is not known."
    )
    for verdict, said in (
        (None, "No gate's decision known."),
        ("refused by G2", "REFUSED by the gate; no decision is"),
    ):
        folder = shutil.copytree(package_folder, tmp_path / str(verdict))
        values = json.loads((folder / "package.json").read_text())
        (folder / "package.json").write_text(json.dumps({**values, "gate": verdict}))
        write_sums(folder)
        assert str(load_model(folder).standing).startswith(said)


def _raise(*_: object) -> None:
    raise UNREACHABLE
