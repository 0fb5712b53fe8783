"""Which rows answer for external cohorts: their recorded networks, calibrations and thresholds, none of it new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bus_mlops.consumer.package_format import Calibration
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.cells import by_cell
from bus_mlops.evaluation.results import PlannedRow
from bus_mlops.evaluation.roc import youden_threshold
from bus_mlops.gate.ensemble import calibrated, calibrations_of, ensemble_of
from bus_mlops.spec import CellKey, LedgerKey
from bus_mlops.tracking.ledger import MODEL, PREDICTIONS, Ledger

if TYPE_CHECKING:
    import pandas as pd

    from bus_mlops.config.external_reports import ExternalReports
    from bus_mlops.probes.rows import Trained


@dataclass(frozen=True)
class RecordedRow:
    """A row of a table with the run of each of its networks, and what follows from their validation parts.

    Attributes:
        runs: (fold, seed) -> run id.
        calibrations: Of each network.
        thresholds: Of each network, calibrated.
        threshold: Of the mean of all of them.
        claimed: Sensitivity and specificity of the fold's networks together on the validation parts, at that threshold.
        test: Calibrated test predictions, with each network's threshold.
    """

    row: PlannedRow
    runs: Mapping[CellKey, str]
    calibrations: Mapping[CellKey, Calibration]
    thresholds: Mapping[CellKey, float]
    threshold: float
    claimed: tuple[float, float]
    test: pd.DataFrame

    @property
    def names(self) -> dict[str, str]:
        """What names it in a table."""
        return self.row.names


def asked_rows(config: ExternalReports, trained: Trained) -> Iterator[PlannedRow]:
    """The rows that `external_reports.rows` names, each once; a strategy that is not planned has none.

    Raises:
        EvaluationError: A network is named that its strategy has no row of.
    """
    seen = set()
    for name in config.rows:
        strategy, _, network = name.partition("/")
        rows = [row for row in trained.headlines(strategy) if not network or row.network == network]
        if network and not rows:
            there = sorted({f"{each}/{row.network}" for each in trained.plans for row in trained.headlines(each)})
            raise EvaluationError(
                f"external_reports.rows names {name}, which is no row that names a class; there are {', '.join(there)}."
            )
        for row in rows:
            if (row.strategy, row.title) not in seen:
                seen.add((row.strategy, row.title))
                yield row


def recorded_row(row: PlannedRow, trained: Trained, ledger: Ledger, threshold: str) -> RecordedRow | str:
    """A row with its runs; or why its networks cannot be asked.

    Args:
        row: Of a table.
        trained: With its predictions.
        ledger: Of the project.
        threshold: "youden", on validation parts, or "half".
    """
    import pandas as pd

    test, validation = trained.of(row, "test"), trained.of(row, "validation")
    keys = {cell: LedgerKey(str(own["fingerprint"].iloc[0]), cell.fold) for cell, own in by_cell(test)}
    finished = ledger.finished({key.fingerprint for key in keys.values()})
    for cell, key in keys.items():
        run = finished.get(key)
        if run is None or MODEL not in ledger.artifact_digests(run):
            lost = "its run is not in the store" if run is None else f"run {run} keeps no {MODEL}"
            return f"{row.strategy}: {row.title} cannot be asked: of fold {cell.fold}, seed {cell.seed}, {lost}"
    both = pd.concat([test, validation])
    calibrations = calibrations_of(both)
    if not calibrations:
        return f"{row.strategy}: {row.title} cannot be asked: a network has no validation part to calibrate it on"
    known = calibrated(validation, calibrations)
    thresholds = {cell: _threshold(own, threshold) for cell, own in by_cell(known)}
    answers = ensemble_of(known)
    cut = _threshold(answers, threshold)
    called, malignant = answers["probability"].to_numpy() >= cut, answers["label"].to_numpy() == 1
    tested = calibrated(test, calibrations)
    cells = zip(tested["fold"], tested["seed"], strict=True)
    return RecordedRow(
        row,
        {cell: finished[key] for cell, key in keys.items()},
        calibrations,
        thresholds,
        cut,
        (float(called[malignant].mean()), float(1 - called[~malignant].mean())),
        tested.assign(threshold=np.array([thresholds[CellKey(int(fold), int(seed))] for fold, seed in cells])),
    )


def predictions_of(ledger: Ledger, row: RecordedRow) -> dict[str, str]:
    """Run id -> the sha256 of what its network predicted of its own parts."""
    return {run: ledger.artifact_digests(run)[PREDICTIONS] for run in row.runs.values()}


def _threshold(answers: pd.DataFrame, kind: str) -> float:
    if kind == "half":
        return 0.5
    return youden_threshold(answers["label"].to_numpy(), answers["probability"].to_numpy())
