"""Who may train a cell when several drivers share a served store, without a lock that MLflow does not have.

A driver announces a run, lets `SETTLE_SECONDS` pass, and looks: of those that announced at the same time the least
run id wins, and writes `claim = held`, before which everybody who comes later gives way. It is Fischer's timed
mutual exclusion (Lamport, "A fast mutual exclusion algorithm", 1987): sound as long as a write takes less than
`SETTLE_SECONDS` to be seen, and one that took longer is withdrawn. An SQLite store needs none of it: there one
driver at a time holds a lock file.
"""

from __future__ import annotations

import time

from bus_mlops.spec import LedgerKey
from bus_mlops.tracking import processes
from bus_mlops.tracking.ledger import Ledger

SETTLE_SECONDS = 5.0
LOCK_TAG = "claim"
HELD = "held"


def rival(ledger: Ledger, key: LedgerKey, run_id: str, driver: str) -> str | None:
    """Lock a cell for a run that has just been started.

    A run of the same driver is no rival: its engine starts a cell again only after the death of its worker.

    Args:
        ledger: Where the run is.
        key: Of the cell.
        run_id: The run that wants it.
        driver: The one that gave it out.

    Returns:
        Who else has the cell, or None when it is locked.
    """
    while True:
        time.sleep(SETTLE_SECONDS)
        looked = time.monotonic()
        for run in ledger.runs_of(key):
            tags = run.data.tags
            if run.info.status == "FINISHED":
                return f"{processes.name(tags)}, which has finished it"
            if run.info.status != "RUNNING" or tags.get("driver") == driver or processes.is_dead(tags):
                continue
            if tags.get(LOCK_TAG) == HELD or run.info.run_id < run_id:
                return processes.name(tags)
        ledger.writer.tag(run_id, {LOCK_TAG: HELD})
        if time.monotonic() - looked < SETTLE_SECONDS:
            return None
        ledger.writer.tag(run_id, {LOCK_TAG: "withdrawn"})
