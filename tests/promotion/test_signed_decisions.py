"""Who made a version champion: with plain MLflow calls anybody can, and consumers notice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from promotion_store import NAME, Store
from signing_keys import write_key
from typer.testing import CliRunner

from bus_mlops.cli.app import app
from bus_mlops.consumer import export as bundle
from bus_mlops.consumer import resolve as resolving
from bus_mlops.consumer.client import load_model
from bus_mlops.consumer.package_format import SIGNATURE_FILE
from bus_mlops.consumer.signatures import SIGNATURE_TAG
from bus_mlops.errors import RegistryError, UntrustedError
from bus_mlops.packaging.signing import read_signer
from bus_mlops.promotion import records
from bus_mlops.promotion.consistency import contradictions
from bus_mlops.promotion.rollback import roll_back
from bus_mlops.promotion.signatures import located, sign_decisions_anew
from bus_mlops.promotion.verification import verify_version

CHAMPION = f"models:/{NAME}@champion"


@pytest.fixture(scope="module")
def key(tmp_path_factory) -> Path:
    return write_key(tmp_path_factory.mktemp("keys"), "maker")


@pytest.fixture(scope="module")
def promoted(store: Store, key: Path) -> Store:
    """Version 1 was promoted and then version 2, both past the gate and signed."""
    store.promote(force_reason="the first", signing_key=str(key))
    store.promote("all", force_reason="asked for", signing_key=str(key))
    return store


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch, key) -> None:
    monkeypatch.setenv("BUS_MLOPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("BUS_MLOPS_TRUSTED_KEYS", str(key.with_suffix(".pub")))


@pytest.fixture
def store_of_mine(promoted: Store, tmp_path, monkeypatch) -> Store:
    """The same store, whose aliases and records a test may change; what it changes is put back."""
    from dataclasses import replace

    from bus_mlops.tracking.ledger import Ledger

    database = tmp_path / "mlflow.db"
    shutil.copy(promoted.folder / "mlflow.db", database)
    tracking = promoted.config.tracking.model_copy(update={"uri": f"sqlite:///{database}"})
    # MLflow asks the store of the process for what a version is made of.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", tracking.uri)
    return replace(promoted, config=promoted.config.model_copy(update={"tracking": tracking}), ledger=Ledger(tracking))


def load(store: Store, uri: str = CHAMPION):
    return load_model(uri, store.config.tracking.uri)


def test_signed_decisions_explain_the_champion_and_each_version(promoted, monkeypatch, tmp_path):
    champion = load(promoted)
    assert (champion.version, champion.standing.state, champion.standing.signed) == ("2", "forced", "trusted")
    assert load(promoted, f"models:/{NAME}/1").standing.state == "replaced"
    assert load(promoted, f"models:/{NAME}@previous").version == "1"
    assert [each for each in contradictions(promoted.ledger.client, NAME) if "sign" in each] == []
    signature = next(c for c in verify_version(promoted.ledger, NAME, "2") if c.what == "signature")
    assert (signature.holds, "maker.pub" in signature.found) == (True, True)
    bundle.export(CHAMPION, str(tmp_path / "copy"), promoted.config.tracking.uri)
    told = load_model(tmp_path / "copy")
    assert (told.version, told.standing.state) == ("2", "forced")
    # What is said of a copy is believed where it is signed, and never of another version.
    origin = json.loads((tmp_path / "copy/registry.json").read_text())
    for change, said in (({"version": "9"}, "is on"), ({"name": "other"}, "is on"), ({"decision": None}, None)):
        (tmp_path / "copy/registry.json").write_text(json.dumps({**origin, **change}))
        if said is None:
            again = load_model(tmp_path / "copy")
            assert (again.version, "no signed decision does" in str(again.standing)) == (None, True)
        else:
            with pytest.raises(UntrustedError, match=said):
                load_model(tmp_path / "copy")


def test_an_alias_moved_by_a_plain_call_is_noticed_and_refused_where_keys_are_trusted(store_of_mine, monkeypatch):
    client = store_of_mine.ledger.client
    client.set_registered_model_alias(NAME, "champion", "1")
    with pytest.raises(UntrustedError, match=r"points to version 1, and the latest decision .* left it at version 2"):
        load(store_of_mine)
    client.set_registered_model_alias(NAME, "ours", "2")
    with pytest.raises(UntrustedError, match="the alias ours"):
        load(store_of_mine, f"models:/{NAME}@ours")
    monkeypatch.delenv("BUS_MLOPS_TRUSTED_KEYS")
    said = str(load(store_of_mine).standing)
    assert "UNEXPLAINED: the alias champion points to version 1" in said
    assert any("alias champion" in each for each in contradictions(client, NAME))


def record_of(store: Store, number: str) -> str:
    found = records.latest(store.ledger.client, NAME, number)
    assert found is not None
    return found.record


def forge(store: Store, **changes: str) -> str:
    """A record as a promotion would leave it, by plain calls: that of version 1, with changes, made now."""
    client = store.ledger.client
    former = record_of(store, "1")
    tags = {**client.get_run(former).data.tags, "when": records.now(), "champion_before": "2", **changes}
    experiment = client.get_run(former).info.experiment_id
    run = client.create_run(experiment, tags={k: v for k, v in tags.items() if not k.startswith("mlflow.")}).info.run_id
    client.set_terminated(run, "FINISHED")
    client.set_registered_model_alias(NAME, "champion", "1")
    return run


@pytest.mark.parametrize(
    "changes",
    [
        {},  # the signature of another record
        {SIGNATURE_TAG: ""},
        {SIGNATURE_TAG: "{}"},
        {"decision": records.ROLLBACK, "aliases": json.dumps({"champion": "1", "previous": "2", "candidate": None})},
    ],
)
def test_a_forged_record_explains_nothing(store_of_mine, changes, monkeypatch):
    aliases = json.dumps({"champion": "1", "previous": "2", "candidate": None})
    record = forge(store_of_mine, **{"aliases": aliases, **changes})
    with pytest.raises(UntrustedError, match="points to version 1"):
        load(store_of_mine)
    problems = contradictions(store_of_mine.ledger.client, NAME)
    assert any(record[:12] in each and ("not signed" in each or "signature" in each) for each in problems)


def test_a_stranger_who_signs_with_a_key_of_his_own_is_not_believed(store_of_mine, tmp_path):
    signer = read_signer(write_key(tmp_path / "keys", "stranger"))
    record = forge(store_of_mine, aliases=json.dumps({"champion": "1", "previous": "2", "candidate": None}))
    client = store_of_mine.ledger.client
    client.set_tag(record, SIGNATURE_TAG, signer.sign_decision(client.get_run(record).data.tags, record))
    with pytest.raises(UntrustedError, match="points to version 1"):
        load(store_of_mine)
    assert any("which is not trusted here" in each for each in contradictions(client, NAME))


def test_a_record_whose_tags_were_changed_and_one_of_another_name_do_not_count(store_of_mine):
    client = store_of_mine.ledger.client
    record = record_of(store_of_mine, "2")
    client.set_tag(record, "why", "something else")
    with pytest.raises(UntrustedError, match=r"2 in .*points to version 2, and the latest decision"):
        load(store_of_mine)
    # A name of somebody's own, with the records of ours.
    version = client.get_model_version(NAME, "1")
    client.create_registered_model("another")
    client.create_model_version("another", version.source, version.run_id, tags=dict(version.tags))
    client.set_registered_model_alias("another", "champion", "1")
    client.set_tag(record_of(store_of_mine, "1"), "model", "another")
    with pytest.raises(UntrustedError, match="no decision on record set it"):
        load(store_of_mine, "models:/another@champion")


def test_an_older_signed_version_under_a_newer_number_is_refused(store_of_mine):
    client = store_of_mine.ledger.client
    version = client.get_model_version(NAME, "1")
    new = client.create_model_version(NAME, version.source, version.run_id, tags=dict(version.tags))
    with pytest.raises(UntrustedError, match="no decision on it is signed"):
        load(store_of_mine, f"models:/{NAME}/{new.version}")
    client.set_model_version_tag(NAME, "2", "package.sha256", version.tags["package.sha256"])
    client.delete_model_version(NAME, str(new.version))
    with pytest.raises(RegistryError):
        load(replaced_source(store_of_mine, "2", version.source))


def replaced_source(store: Store, number: str, source: str) -> Store:
    """The package of another version behind a number, as who can write to the database does it."""
    import sqlite3

    connection = sqlite3.connect(store.config.tracking.uri.removeprefix("sqlite:///"))
    with connection:
        connection.execute(
            "UPDATE model_versions SET source = ?, storage_location = ? WHERE version = ?", (source, source, number)
        )
    connection.close()
    return store


def test_a_rollback_is_signed_and_a_record_set_back_is_noticed(store_of_mine, key, monkeypatch):
    client, tracking = store_of_mine.ledger.client, store_of_mine.config.tracking
    monkeypatch.setattr(records, "now", lambda: "2999-01-01T00:00:00+00:00")
    done = roll_back(client, tracking, NAME, "worse", "1", read_signer(key))
    assert load(store_of_mine).version == "1"
    # Whoever deletes the rollback and sets the aliases back has signed records alone, of before.
    client.delete_run(done.record)
    client.set_registered_model_alias(NAME, "champion", "2")
    client.set_registered_model_alias(NAME, "previous", "1")
    with pytest.raises(UntrustedError, match="was seen here before and is gone"):
        load(store_of_mine)
    client.restore_run(done.record)
    client.set_registered_model_alias(NAME, "champion", "1")
    client.set_registered_model_alias(NAME, "previous", "2")
    assert load(store_of_mine).version == "1"
    monkeypatch.setattr(records, "now", lambda: "2999-01-02T00:00:00+00:00")
    roll_back(client, tracking, NAME, "better")
    with pytest.raises(UntrustedError, match="points to version 2, and the latest decision"):
        load(store_of_mine)  # decided without the key


def test_a_key_is_exchanged_by_signing_anew(store_of_mine, key, tmp_path, monkeypatch):
    new = write_key(tmp_path / "new", "next")
    uri = store_of_mine.config.tracking.uri
    for number in ("1", "2"):
        folder, client, version = located(f"models:/{NAME}/{number}", uri)
        assert folder.is_dir()
        assert sign_decisions_anew(client, version, read_signer(new)) == 1
    monkeypatch.setenv("BUS_MLOPS_TRUSTED_KEYS", str(new.with_suffix(".pub")))
    monkeypatch.setattr(resolving, "PAUSE_SECONDS", 0)
    with pytest.raises(UntrustedError, match="which is not trusted here"):  # of the package, whose folder others share
        load(store_of_mine)
    assert [each for each in contradictions(client, NAME) if "sign" in each] == []


def test_registered_versions_are_signed_anew_by_the_command(store_of_mine, key, tmp_path, monkeypatch):
    new = write_key(tmp_path / "new", "next")
    uri = store_of_mine.config.tracking.uri
    folders = [located(f"models:/{NAME}/{number}", uri)[0] for number in ("1", "2")]
    before = {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
    try:
        for number in ("1", "2"):
            command = ["sign", f"models:/{NAME}/{number}", "--key", str(new), "--tracking-uri", uri]
            done = CliRunner().invoke(app, command, catch_exceptions=False)
            assert done.exit_code == 0, done.output
            assert f"{NAME} version {number}: 1 decisions signed anew" in " ".join(done.output.split())
        changed = {path.name for path, content in before.items() if path.read_bytes() != content}
        assert changed == {SIGNATURE_FILE}
        monkeypatch.setenv("BUS_MLOPS_TRUSTED_KEYS", str(new.with_suffix(".pub")))
        champion = load(store_of_mine)
        assert (champion.version, champion.standing.signed) == ("2", "trusted")
        monkeypatch.setenv("BUS_MLOPS_TRUSTED_KEYS", str(key.with_suffix(".pub")))
        monkeypatch.setattr(resolving, "PAUSE_SECONDS", 0)
        with pytest.raises(UntrustedError, match=r"no decision on record .* signed by a key that is trusted here"):
            load(store_of_mine)
    finally:  # the packages are the other tests', too
        for path, content in before.items():
            path.write_bytes(content)


def test_a_copy_that_was_pulled_is_checked_without_the_store(promoted, monkeypatch, tmp_path):
    uri = promoted.config.tracking.uri
    bundle.pull(CHAMPION, uri)
    from bus_mlops.errors import StoreError

    def away(_: str) -> None:
        raise StoreError("away")

    monkeypatch.setattr(resolving, "open_registry", away)
    assert load(promoted).standing.signed == "trusted"
    cache = tmp_path / "cache/pulled.json"
    entries = json.loads(cache.read_text())
    cache.write_text(json.dumps([{**each, "decision": None} for each in entries]))
    with pytest.raises(UntrustedError, match="has no signed decision"):
        load(promoted)
