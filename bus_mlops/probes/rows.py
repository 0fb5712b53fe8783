"""Which rows are probed, and the recorded run of each of their folds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops.config import Config
from bus_mlops.config.probes import CANDIDATE, RIVAL, ProbesConfig
from bus_mlops.errors import EvaluationError, LedgerError
from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.families import compose, with_choice
from bus_mlops.evaluation.results import PlannedRow, check_collected, read_plans, read_predictions, with_parameters
from bus_mlops.promotion.prerequisites import RIVAL_STRATEGIES, strategy_of
from bus_mlops.promotion.rivals import first_row, ranked_rivals
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking.ledger import MODEL, Ledger

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ProbedRow:
    """A row of a table with the runs whose networks are opened: one a fold, of the first seed.

    Attributes:
        runs: Fold (1-based) -> run id.
        test: What these runs predicted of the test images of their folds.
    """

    row: PlannedRow
    runs: Mapping[int, str]
    test: pd.DataFrame

    @property
    def names(self) -> dict[str, str]:
        """What names it in a table."""
        return self.row.names


@dataclass(frozen=True)
class Trained:
    """The planned rows of each strategy as evaluation sees them, with their predictions."""

    plans: Mapping[str, Sequence[PlannedRow]]
    predictions: Mapping[str, pd.DataFrame]

    @classmethod
    def read(cls, plans_folder: Path, predictions_folder: Path) -> Trained:
        """What the training stages left.

        Raises:
            EvaluationError: A file is missing, or is not what was collected.
        """
        plans = read_plans(plans_folder)
        check_collected(predictions_folder, plans)
        frames = {name: read_predictions(predictions_folder / f"{name}.parquet") for name in plans}
        rows = {
            name: with_choice(frames[name], with_parameters(each, predictions_folder)) for name, each in plans.items()
        }
        return cls(rows, {name: compose(frame, rows[name]) for name, frame in frames.items()})

    def of(self, row: PlannedRow, part: str) -> pd.DataFrame:
        """The predictions of a row on `validation` or `test` parts."""
        frame = self.predictions[row.strategy]
        return frame[(frame["model"] == row.model) & (frame["variant"] == row.variant) & (frame["part"] == part)]

    def headlines(self, strategy: str) -> Iterator[PlannedRow]:
        """The rows of a strategy that stand first in its table and name a class."""
        return (row for row in self.plans.get(strategy, ()) if row.headline and row.classifies and not row.ensemble)


def find_rows(config: Config, probes: ProbesConfig, trained: Trained) -> list[PlannedRow]:
    """The rows that `probes.rows` names, each once; those of promotion may be absent from a plan.

    Raises:
        EvaluationError: A row that is named by its strategy and network is not planned.
    """
    found: list[PlannedRow] = []
    for name in probes.rows:
        if name == CANDIDATE:
            network = config.promotion.candidate_network
            strategies = [strategy_of(each) for each in config.promotion.candidates]
            found += [row for each in strategies for row in trained.headlines(each) if row.network == network]
        elif name == RIVAL:
            found += _rival(config, trained)
        else:
            strategy, network = name.split("/")
            rows = [row for row in trained.headlines(strategy) if row.network == network]
            if not rows:
                there = sorted({f"{each}/{row.network}" for each in trained.plans for row in trained.headlines(each)})
                raise EvaluationError(
                    f"probes.rows names {name}, which is no row that names a class; there are {', '.join(there)}."
                )
            found += rows
    return list({(row.strategy, row.title): row for row in found}.values())


def with_runs(row: PlannedRow, trained: Trained, ledger: Ledger) -> ProbedRow:
    """A row with the run of each of its folds.

    Raises:
        LedgerError: The ledger has lost one, or its network.
    """
    test = trained.of(row, "test")
    test = test[test["seed"] == test["seed"].min()]
    keys = {
        int(str(fold)): LedgerKey(str(own["fingerprint"].iloc[0]), int(str(fold))) for fold, own in test.groupby("fold")
    }
    finished = ledger.finished({key.fingerprint for key in keys.values()})
    for fold, key in keys.items():
        run = finished.get(key)
        if run is None or MODEL not in ledger.artifact_digests(run):
            lost = f"the run of fold {fold} is not in the store" if run is None else f"run {run} has no {MODEL}"
            raise LedgerError(
                f"{row.strategy}: {row.title} cannot be probed: {lost}, though its predictions are here. Bring the "
                "store back; or forget what is damaged (`bus-mlops repair`, with --without-networks also what was "
                "imported without its network) and train it anew (`dvc repro`); or leave the row out of probes.rows in "
                "params.yaml."
            )
    return ProbedRow(row, {fold: finished[key] for fold, key in keys.items()}, test.reset_index(drop=True))


def _rival(config: Config, trained: Trained) -> list[PlannedRow]:
    """The row that the gate's baseline is where it is the best by validation parts; none if there is no other."""
    import pandas as pd

    frames = [trained.predictions[name] for name in RIVAL_STRATEGIES if name in trained.predictions]
    if not frames:
        return []
    frame = pd.concat(frames, ignore_index=True)
    for network in ranked_rivals(frame, config.promotion):
        strategy, model, variant = first_row(frame, network)[ROW].iloc[0]
        planned = trained.plans[str(strategy)]
        return [row for row in planned if (row.model, row.variant) == (model, variant)]
    return []
