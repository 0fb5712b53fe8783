"""Where the trials of a study are kept: Optuna's journal in `studies/`, or PostgreSQL.

A trial is written once, whole, after it has ended: one line of the journal, or one transaction. A kill therefore loses
nothing that was written, and leaves nothing half done. Of two drivers that write the same trial at once, the first
counts. The values in it are for people and dashboards; what counts are the runs in the ledger.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.errors import LedgerError
from bus_mlops.evaluation.searched import TrialRecord
from bus_mlops.search.journal import mend
from bus_mlops.search.pick import excesses
from bus_mlops.search.trials import Trials

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

LOG = logging.getLogger(__name__)

# What our part of a trial is called in Optuna's.
KEY = "bus_mlops"
# Of the lock under which a database is prepared: any number that no other program takes.
ADVISORY_LOCK = 8_130_113


@dataclass(frozen=True)
class Kept:
    """A trial as it was kept.

    Attributes:
        first: The number of the first trial that was proposed with it, `size` how many those were.
        stage: After which stage it was pruned, from 0; None if it was not.
    """

    trial: TrialRecord
    first: int
    size: int
    stage: int | None


class StudyStore:
    """The trials of one study, by number."""

    def __init__(self, study: optuna.Study, where: str) -> None:
        self._study = study
        self._where = where

    @classmethod
    def open(cls, trials: Trials, folder: Path) -> StudyStore:
        """Find or create a study in the database of `tracking.studies`, else in a journal in a folder.

        Raises:
            LedgerError: It cannot be opened; says what to do.
        """
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        uri = trials.runner.config.tracking.studies
        if uri is not None:
            with _explained(uri), _prepared_alone(uri):
                return cls(_study(trials, optuna.storages.RDBStorage(uri)), uri)
        path = folder / f"{trials.name}.journal"
        with _explained(str(path)):
            folder.mkdir(parents=True, exist_ok=True)
            mend(path)
            return cls(_study(trials, JournalStorage(JournalFileBackend(str(path)))), str(path))

    def read(self) -> dict[int, Kept]:
        """Number -> trial, from 0 on without a gap: what lies behind one is asked for again."""
        found: dict[int, Kept] = {}
        with _explained(self._where):
            for frozen in self._study.get_trials(deepcopy=False):
                try:
                    values = json.loads(frozen.user_attrs[KEY])
                    trial = TrialRecord.model_validate(values.pop("trial"))
                    found.setdefault(trial.number, Kept(trial, **values))
                except (KeyError, ValueError, TypeError):
                    LOG.warning("[search] trial %d in %s is not ours, and passed over", frozen.number, self._where)
        return {number: found[number] for number in takewhile(found.__contains__, count())}

    def append(self, kept: Kept, distributions: Mapping[str, BaseDistribution], limits: Mapping[str, float]) -> None:
        """Write a trial.

        Raises:
            LedgerError: It cannot be written, as on a full disk; nothing but this trial is lost.
        """
        from optuna.trial import TrialState, create_trial

        trial = kept.trial
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        ours = {"trial": trial.model_dump(mode="json"), "first": kept.first, "size": kept.size, "stage": kept.stage}
        known = {path: value for path, value in trial.parameters.items() if path in distributions}
        frozen = create_trial(
            state=states[trial.state],
            values=list(trial.values) if trial.state == "complete" else None,
            params=known,
            distributions={path: distributions[path] for path in known},
            user_attrs={KEY: json.dumps(ours, sort_keys=True)},
            intermediate_values=dict(enumerate(trial.steps)) if len(trial.values) == 1 else {},
        )
        for name, excess in excesses(trial.constraints, limits).items() if trial.constraints else ():
            frozen.set_constraint(name, excess)
        with _explained(self._where):
            self._study.add_trial(frozen)


def _study(trials: Trials, storage: Any) -> optuna.Study:
    import optuna

    return optuna.create_study(
        study_name=trials.name,
        storage=storage,
        directions=["maximize" if sign > 0 else "minimize" for sign in trials.directions],
        load_if_exists=True,
    )


@contextmanager
def _prepared_alone(uri: str) -> Iterator[None]:
    """Hold a lock of the database: two drivers that make its tables at once would fail each other."""
    from sqlalchemy import create_engine, text

    engine = create_engine(uri)
    try:
        with engine.connect() as connection:
            connection.execute(text(f"select pg_advisory_lock({ADVISORY_LOCK})"))
            yield
    finally:
        engine.dispose()


@contextmanager
def _explained(where: str) -> Iterator[None]:
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except OSError as error:
        raise LedgerError(
            f"the search's journal {where} cannot be read or written: {error}. Make room on its disk, give this "
            "account the right to it, or move it away, and run the same command again: nothing is trained again that "
            "the ledger has."
        ) from error
    except (SQLAlchemyError, StorageInternalError) as error:
        raise LedgerError(
            f"the studies at {where} (tracking.studies) do not answer: {error}. Start the server, put the password "
            "into ~/.pgpass or PGPASSWORD, and run the same command again: nothing is trained again that the ledger "
            "has."
        ) from error
