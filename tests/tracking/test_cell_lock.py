"""Of several drivers that want a cell at the same time exactly one gets it."""

from __future__ import annotations

import threading

import pytest
from made_once import store_in

from bus_mlops.experiments.strategies import make_spec
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking import cell_lock
from bus_mlops.tracking.ledger import Ledger


@pytest.fixture(scope="module")
def ledger(tmp_path_factory, empty_store):
    folder = tmp_path_factory.mktemp("locks")
    return Ledger(store_in(folder, empty_store))


@pytest.fixture
def announce(ledger, demo):
    spec = make_spec(demo, "mobilenet", "all")
    parent = ledger.parents.find_or_create(spec, "f" * 64, "title", {})

    def start(fold, driver, kind="fold"):
        tags = {"kind": kind, "fingerprint": "f" * 64, "fold": str(fold), "driver": driver}
        return ledger.start(parent, "title", spec, tags)

    return start


def test_of_drivers_that_come_together_one_wins(ledger, announce):
    won: list[str] = []

    def drive(driver: str) -> None:
        run_id = announce(1, driver)
        if cell_lock.rival(ledger, LedgerKey("f" * 64, 1), run_id, driver) is None:
            won.append(driver)

    threads = [threading.Thread(target=drive, args=(f"driver {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_who_comes_late_gives_way_even_with_the_lesser_run_id(ledger, announce):
    key = LedgerKey("f" * 64, 2)
    pair = sorted((announce(2, "early"), announce(2, "early")))
    # Both of one driver: a cell that its engine starts again has no rival in its own former life.
    assert cell_lock.rival(ledger, key, pair[1], "early") is None
    ledger.client.delete_run(pair[0])
    while (late := announce(2, "late")) > pair[1]:
        ledger.client.delete_run(late)
    assert "process" in (cell_lock.rival(ledger, key, late, "late") or "")
    assert ledger.elsewhere("late").keys() >= {key}


def test_a_finished_cell_is_not_taken_again(ledger, announce, tmp_path):
    ledger.finish(announce(3, "one"), {"roc_auc": 0.9}, tmp_path, {})
    assert "finished" in (cell_lock.rival(ledger, LedgerKey("f" * 64, 3), announce(3, "two"), "two") or "")


def test_a_dead_holder_is_no_rival(ledger, announce):
    holder = announce(4, "dead")
    ledger.writer.tag(holder, {"claim": "held", "process.place": "elsewhere", "process.heartbeat": "0"})
    assert cell_lock.rival(ledger, LedgerKey("f" * 64, 4), announce(4, "living"), "living") is None


def test_a_trial_at_work_is_waited_for_and_a_finished_one_only_by_trials(ledger, announce, tmp_path):
    key = LedgerKey("f" * 64, 5)
    trial = announce(5, "one", "tried")
    assert cell_lock.rival(ledger, key, trial, "one", tried=True) is None
    assert "process" in (cell_lock.rival(ledger, key, announce(5, "two"), "two") or "")
    ledger.finish(trial, {}, tmp_path, {})
    assert "finished" in (cell_lock.rival(ledger, key, announce(5, "two", "tried"), "two", tried=True) or "")
    tested = announce(5, "two")
    assert cell_lock.rival(ledger, key, tested, "two") is None
    assert "process" in (cell_lock.rival(ledger, key, announce(5, "one", "tried"), "one", tried=True) or "")
