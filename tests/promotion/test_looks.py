"""The ledger of alpha on a real store: what a look spends, and what deleting, editing and raising come to."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bus_mlops.config import TrackingConfig
from bus_mlops.promotion import records
from bus_mlops.promotion.looks import (
    LOOK_DIGEST,
    Looks,
    Question,
    TakenLook,
    digest_of_ids,
    read_taken,
    tags_and_params,
    write_tested,
)
from bus_mlops.tracking.run_files import RunFiles

NAME, ALPHA, SHARE = "bus-test", 0.05, 0.6
IMAGES = frozenset(f"busi/{i}" for i in range(20))
LEVELS = [0.03, 0.012, 0.0048, 0.00192, 0.000768]


@dataclass(frozen=True)
class Ledger:
    """A store in which looks are taken as `promote` takes them, with nothing to judge."""

    folder: Path

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")

    @property
    def looks(self) -> Looks:
        return Looks(self.client, NAME)

    def take(
        self,
        key: str,
        decision: str = records.REFUSED,
        images: Collection[str] = IMAGES,
        alpha: float = ALPHA,
        amend: str = "",
        looks: Looks | None = None,
    ) -> TakenLook:
        """Look, and decide; without a decision the process dies on the way."""
        asked = Question(key, frozenset(images), alpha, SHARE)
        taken, raised = (looks or self.looks).take(asked, amended=bool(amend))
        client, tracking = self.client, TrackingConfig(uri="", artifacts=str(self.folder / "artifacts"))
        record = records.open_record(client, tracking, records.PROMOTION_KIND, key, {"model": NAME})
        tags, params = tags_and_params(taken)
        for name, value in tags.items():
            client.set_tag(record, name, value)
        write_tested(self.folder / key, images)
        for name, value in (params | RunFiles(client).store(record, self.folder / key)).items():
            client.log_param(record, name, value)
        if decision:
            said = {"amended": amend, "changes": json.dumps(raised)} if amend else {}
            records.close_record(client, record, {"model": NAME, "decision": decision, **tags, **said})
        return taken

    def record(self, number: int) -> str:
        return self.looks.history[number - 1].record

    def level(self, images: Collection[str] = IMAGES) -> float:
        return self.looks.coming(images, ALPHA, SHARE).level


@pytest.fixture
def ledger(tmp_path: Path, empty_store: Path) -> Ledger:
    shutil.copy(empty_store, tmp_path)
    return Ledger(tmp_path)


def test_looks_spend_alpha_the_same_one_is_free_and_one_that_promotes_gives_it_back(ledger):
    taken = [ledger.take(f"key-{i}") for i in range(3)]
    assert [each.level for each in taken] == pytest.approx(LEVELS[:3])
    assert [each.number for each in taken] == [1, 2, 3]
    assert ledger.take("key-1", records.FORCED) == taken[1]
    promoted = ledger.take("key-3", records.PROMOTED)
    assert promoted.level == pytest.approx(LEVELS[3])
    assert ledger.take("key-4").level == pytest.approx(LEVELS[3])
    assert ledger.take("key-5").level == pytest.approx(LEVELS[4])
    last = ledger.take("key-6")
    assert (last.number, last.level) == (7, 0)
    assert "nothing is left of alpha 0.05" in last.sentence
    assert "folds.locked" in last.sentence
    assert ledger.looks.disagreements() == []
    # A conflict is no promotion until the same evidence is decided on again.
    ledger.take("key-2", records.PROMOTED)
    assert ledger.level() == pytest.approx(SHARE * (ALPHA - sum(LEVELS) + LEVELS[2]))
    assert ledger.looks.disagreements() == []


def test_the_same_test_data_is_what_shares_half_of_its_images(ledger):
    ledger.take("key-0")
    more = {f"busi/{i}" for i in range(30)}
    most_are_new = {f"busi/{i}" for i in range(50)}
    assert ledger.level(more) == pytest.approx(LEVELS[1])
    assert ledger.level(most_are_new) == pytest.approx(LEVELS[0])
    assert ledger.take("key-1", images=more).number == 2
    assert ledger.take("key-2", images=most_are_new).number == 2  # of them `more` has tested 30
    assert ledger.take("key-3", images={"other/1", "other/2"}).number == 1
    assert ledger.looks.disagreements() == []


def test_a_look_whose_process_died_and_a_deleted_one_are_spent(ledger):
    ledger.take("key-0", decision="")
    ledger.take("key-1")
    ledger.client.delete_run(ledger.record(2))
    assert ledger.level() == pytest.approx(LEVELS[2])
    assert [each.deleted for each in ledger.looks.history] == [False, True]
    assert ledger.take("key-0").level == pytest.approx(LEVELS[0])
    assert ledger.looks.disagreements() == []


@pytest.mark.parametrize("edit", ["cheaper", "taken away"])
def test_an_edited_look_is_spent_all_the_same_and_noticed(ledger, edit):
    taken = ledger.take("key-0")
    ledger.take("key-1")
    record = ledger.record(1)
    if edit == "cheaper":
        cheaper = taken.model_copy(update={"level": 1e-6})
        ledger.client.set_tag(record, records.LOOK_TAG, cheaper.model_dump_json())
    else:
        ledger.client.delete_tag(record, records.LOOK_TAG)
    assert ledger.level() == pytest.approx(LEVELS[2])
    assert "look" in records.check_record(ledger.client, record)


def test_two_at_once_and_a_record_that_is_gone_for_good_are_noticed(ledger):
    before = ledger.looks
    ledger.take("key-0", looks=before)
    ledger.take("key-1", looks=before)
    (said,) = ledger.looks.disagreements()
    assert "is look 1 with the level 0.03, but the records before it lead to look 2 with the level 0.012" in said
    ledger.take("key-2")
    gone = ledger.record(1)
    with closing(sqlite3.connect(ledger.folder / "mlflow.db")) as database, database:
        for table in ("tags", "params", "runs"):
            database.execute(f"delete from {table} where run_uuid = ?", [gone])
    (said,) = ledger.looks.disagreements()
    assert "is look 3 with the level 0, but the records before it lead to look 2 with the level 0.012" in said


def test_a_budget_that_was_raised_holds_for_new_evidence_once_it_is_amended(ledger):
    for i in range(3):
        ledger.take(f"key-{i}")
    spent = sum(LEVELS[:3])
    asked = Question("key-3", IMAGES, 0.2, SHARE)
    unamended, raised = ledger.looks.take(asked)
    assert raised == ("promotion.alpha of this name on these images was 0.05 and is 0.2",)
    assert unamended.level == pytest.approx(LEVELS[3])
    amended = ledger.take("key-3", alpha=0.2, amend="a pilot with another risk")
    assert amended.level == pytest.approx(SHARE * (0.2 - spent))
    assert ledger.looks.take(asked) == (amended, raised)  # as it was then
    assert ledger.looks.take(Question("key-4", IMAGES, 0.2, SHARE))[1] == ()
    assert ledger.looks.disagreements() == []


def test_a_decision_of_an_earlier_version_counts_as_the_look_that_it_would_have_been(ledger):
    client = ledger.client
    tracking = TrackingConfig(uri="", artifacts=str(ledger.folder / "artifacts"))
    for number in range(2):
        record = records.open_record(client, tracking, records.PROMOTION_KIND, "old", {"model": NAME})
        gate = ledger.folder / f"old-{number}" / "gate"
        gate.mkdir(parents=True)
        rows = [f"{image},{'test' if i % 2 else 'train'}" for i, image in enumerate(sorted(IMAGES))]
        (gate / "folds.csv").write_text("image_id,fold_1\n" + "\n".join(rows) + "\n")
        (gate / "evidence.json").write_text(json.dumps({"expected_folds": [1], "promotion": {"alpha": ALPHA}}))
        for name, value in RunFiles(client).store(record, gate.parent).items():
            client.log_param(record, name, value)
        records.close_record(client, record, {"model": NAME, "decision": records.REFUSED})
    assert [each.stated for each in ledger.looks.history] == [False, False]
    assert ledger.level() == pytest.approx(LEVELS[2])
    assert ledger.level({"other/1"}) == pytest.approx(LEVELS[0])
    assert ledger.looks.disagreements() == []


def test_a_tag_holds_a_look_or_none():
    taken = TakenLook(
        number=1, budget=ALPHA, before=0, level=0.03, share=SHARE, key="k", tested=digest_of_ids(IMAGES), images=20
    )
    tags, params = tags_and_params(taken)
    assert read_taken(tags[records.LOOK_TAG]) == taken
    assert set(params) == {LOOK_DIGEST}
    assert read_taken("nothing") is None
    assert (
        "look 1 at 20 test images: no p, level 0.03; spent before 0 of 0.05, left unless it promotes 0.02" in taken.line
    )
