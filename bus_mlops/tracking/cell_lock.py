"""Who may train a cell when several drivers share a served store, which has no locks.

A driver's announcement is the run that it has started; of those that come at the same time the least run id goes first
(`tag_lock`), and writes `claim = held`, before which everybody who comes later gives way. An SQLite store needs none of
it: there one driver at a time holds a lock file.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from bus_mlops.spec import LedgerKey
from bus_mlops.tracking import processes
from bus_mlops.tracking.kinds import kind_of, serving
from bus_mlops.tracking.ledger import Ledger
from bus_mlops.tracking.tag_lock import enter

POLL_SECONDS = 0.5
# The tag and its values of every version so far: drivers of two versions may share a store.
LOCK_TAG = "claim"
HELD, WITHDRAWN = "held", "withdrawn"
# Before every run id: who holds a cell, or has finished it, is never waited for.
FIRST = ""


def rival(ledger: Ledger, key: LedgerKey, run_id: str, driver: str, tried: bool = False) -> str | None:
    """Lock a cell for a run that has just been started.

    A run of the same driver is no rival: its engine starts a cell again only after the death of its worker.

    Args:
        ledger: Where the run is.
        key: Of the cell.
        run_id: The run that wants it.
        driver: The one that gave it out.
        tried: A finished trial is all that is asked for; else it is to be completed, and no rival. Whoever is still at
            work on the cell is one, trial or not.

    Returns:
        Who else has the cell, or None when it is locked.
    """
    holder = enter(_StartedRun(ledger, key, run_id, driver, tried), give_way=True)
    if holder is None:
        ledger.writer.tag(run_id, {LOCK_TAG: HELD})
    return holder


class _StartedRun:
    """A run as the announcement of its driver."""

    def __init__(self, ledger: Ledger, cell: LedgerKey, run_id: str, driver: str, tried: bool) -> None:
        self.ledger, self.cell, self.key, self.driver, self.tried = ledger, cell, run_id, driver, tried

    def announce(self) -> None:
        """The run stands already, with the tags of its cell."""

    def withdraw(self) -> None:
        """Say that nobody need wait for this run; its driver discards it next."""
        self.ledger.writer.tag(self.key, {LOCK_TAG: WITHDRAWN})

    def others(self) -> dict[str, str]:
        """The processes of other drivers at this cell, by run id, or `FIRST`."""
        found = {}
        for run in self.ledger.runs_of(self.cell):
            tags, process = run.data.tags, processes.name(run.data.tags)
            if run.info.status == "FINISHED" and kind_of(run) in serving(self.tried):
                found[FIRST] = f"{process}, which has finished it"
            elif run.info.status == "RUNNING" and tags.get(LOCK_TAG) != WITHDRAWN and self._is_rival(tags):
                found[FIRST if tags.get(LOCK_TAG) == HELD else str(run.info.run_id)] = process
        return found

    def _is_rival(self, tags: Mapping[str, str]) -> bool:
        return tags.get("driver") != self.driver and not processes.is_dead(tags)

    def pause(self) -> None:
        """Wait, and stay alive in the eyes of others."""
        time.sleep(POLL_SECONDS)
        self.ledger.alive(self.key)
