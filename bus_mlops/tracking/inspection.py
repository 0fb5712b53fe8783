"""Looking at the files of all finished runs of a ledger, forgetting runs, and recording digests of runs without any."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops.errors import LedgerError
from bus_mlops.files import sha256_file
from bus_mlops.tracking.kinds import CELLS
from bus_mlops.tracking.ledger import MODEL, Ledger, key_of
from bus_mlops.tracking.params import DIGEST_PREFIX
from bus_mlops.tracking.parents import FOLDS_FINISHED, FOLDS_TRIED
from bus_mlops.tracking.run_files import (
    ELSEWHERE,
    EXTRA,
    LEFT_BEHIND,
    RECORDED_LATER,
    TAGS,
    UNRECORDED,
    Damage,
    digests_of,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

# Called with the number of runs that were looked at and of all runs.
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Inspection:
    """What was found in a ledger.

    Attributes:
        runs: How many finished runs there are.
        files: How many files they have on record.
        later: How many of them were recorded after they had ended.
        damages: Everything that is wrong.
        unreachable: Why some runs could not be looked at; nothing is known of them.
    """

    runs: int = 0
    files: int = 0
    later: int = 0
    damages: list[Damage] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)

    def of_kind(self, *kinds: str) -> list[Damage]:
        """The damages of these kinds."""
        return [damage for damage in self.damages if damage.kind in kinds]

    @property
    def lost(self) -> list[str]:
        """The runs that cannot be used any more, each once: those with another damage than a file too many."""
        return list(dict.fromkeys(damage.run_id for damage in self.damages if damage.kind != EXTRA))

    @property
    def sentence(self) -> str:
        """How much was looked at, for people."""
        later = f" ({self.later} runs recorded after they had ended)" if self.later else ""
        state = f"{len(self.damages)} damages" if self.damages else "all as recorded"
        return f"{self.runs} runs with {self.files} files: {state}{later}"


def inspect(ledger: Ledger, advance: Advance = lambda *_: None, networks: bool = False) -> Inspection:
    """Compare every file of every finished run, of search trials and refits too, with what the runs recorded.

    Args:
        ledger: Of the project.
        advance: Told how far it is.
        networks: Whether it counts as damage that a run was imported without its network.
    """
    runs = [run for kind in CELLS for run in ledger.runs(f"attributes.status = 'FINISHED' and tags.kind = '{kind}'")]
    damages, unreachable = [], []
    with tempfile.TemporaryDirectory(prefix="bus-inspect-") as folder:
        for number, run in enumerate(runs):
            advance(number, len(runs))
            if key_of(run) is None:
                damages.append(Damage(run.info.run_id, str(run.info.run_name), "", TAGS, "fingerprint or fold"))
                continue
            if networks and LEFT_BEHIND in run.data.tags and MODEL not in digests_of(run):
                damages.append(Damage(run.info.run_id, str(run.info.run_name), MODEL, ELSEWHERE))
                continue
            try:
                damages += ledger.files.damages(run, Path(folder))
            except LedgerError as error:
                unreachable.append(str(error))
    advance(len(runs), len(runs))
    files = sum(len(ledger.files.digests(run.info.run_id)) for run in runs)
    later = sum(RECORDED_LATER in run.data.tags for run in runs)
    return Inspection(len(runs), files, later, damages, unreachable)


def forget(ledger: Ledger, run_ids: Sequence[str], reason: str) -> None:
    """Take runs out of the ledger, so that their cells are trained anew; MLflow can restore what is deleted so.

    The parent runs, whose means count these runs, are to be summarised anew.
    """
    from mlflow.exceptions import MlflowException

    parents = set()
    for run_id in run_ids:
        parents.add(ledger.client.get_run(run_id).data.tags.get("mlflow.parentRunId"))
        ledger.writer.discard(run_id, reason)
        ledger.files.forget(run_id)
    for parent in filter(None, parents):
        with suppress(MlflowException):  # one that was deleted is made anew with its first cell
            ledger.writer.tag(parent, {FOLDS_FINISHED: "", FOLDS_TRIED: ""})
            ledger.client.update_run(parent, status="SCHEDULED")


def remove_extra(ledger: Ledger, damages: Iterable[Damage]) -> None:
    """Delete files that runs have not recorded."""
    for damage in damages:
        ledger.files.remove(ledger.client.get_run(damage.run_id), damage.file)


def record_later(ledger: Ledger, run: Run, check: Callable[[Run, Path], str]) -> str:
    """Record the digests of what a run without any has now, with a tag that says when.

    Args:
        ledger: Where the run is.
        run: It.
        check: Gets the run and the folder with its files; says what speaks against their being the training's, or "".

    Returns:
        Why nothing was recorded, or "".
    """
    run_id = run.info.run_id
    with tempfile.TemporaryDirectory(prefix="bus-record-") as folder:
        names = sorted(ledger.files.listing(run))
        if not names:
            return "it has no files any more"
        paths = {name: ledger.files.fetch_unchecked(run, name, Path(folder)) for name in names}
        problem = check(run, Path(folder))
        if problem:
            return problem
        digests = {f"{DIGEST_PREFIX}{name}": sha256_file(path) for name, path in paths.items()}
    ledger.writer.write(run_id, params=digests, tags={RECORDED_LATER: time.strftime("%Y-%m-%dT%H:%M:%S%z")})
    ledger.files.forget(run_id)
    return ""


def undocumented(ledger: Ledger, inspection: Inspection) -> list[Run]:
    """The runs without digests."""
    return [ledger.client.get_run(damage.run_id) for damage in inspection.of_kind(UNRECORDED)]
