"""What `bus-mlops repair` and `verify --all` look at and mend: runs of the ledger, and registered versions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bus_mlops.errors import BusMlopsError
from bus_mlops.experiments.cell_predictions import cell_metrics
from bus_mlops.promotion.inputs import assembled
from bus_mlops.promotion.verification import verify_version
from bus_mlops.tracking.inspection import Advance, Inspection, record_later, undocumented
from bus_mlops.tracking.ledger import CURVES, PREDICTIONS, Ledger

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

# Which registered models are a project's: `inputs.registered_name`.
PREFIX = "bus-"
# A metric is stored as a double; another processor may differ in the last digits.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class VersionState:
    """A registered version, and what of it does not hold any more."""

    name: str
    number: str
    failed: tuple[str, ...]
    unseen: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """Whether it is whole, for people."""
        not_checked = f"; NOT checked: {', '.join(self.unseen)}" if self.unseen else ""
        holds = f"all that was checked still holds{not_checked}" if self.unseen else "everything still holds"
        return f"{self.name} version {self.number}: {'; '.join(self.failed) or holds}"


def inspect_versions(ledger: Ledger, advance: Advance = lambda *_: None) -> list[VersionState]:
    """Verify every version of every model that projects of this kind register, whatever state it is in."""
    names = sorted(str(model.name) for model in ledger.client.search_registered_models())
    versions = [
        (name, str(version.version))
        for name in names
        if name.startswith(PREFIX)
        for version in ledger.client.search_model_versions(f"name = '{name}'")
    ]
    states = []
    for number, (name, version) in enumerate(sorted(versions, key=lambda each: (each[0], int(each[1])))):
        advance(number, len(versions))
        try:
            checks = verify_version(ledger, name, version, assembled())
            unseen = tuple(check.what for check in checks if not check.checked)
            failed = tuple(f"{check.what}: {check.found}" for check in checks if not check.holds)
        except BusMlopsError as error:
            failed, unseen = (str(error),), ()
        states.append(VersionState(name, version, failed, unseen))
    advance(len(versions), len(versions))
    return states


def record_undocumented(ledger: Ledger, inspection: Inspection) -> list[str]:
    """Record the files of runs without digests where nothing speaks against them.

    Returns:
        A line for each run that was not recorded.
    """
    refused = []
    for run in undocumented(ledger, inspection):
        problem = record_later(ledger, run, against_its_metrics)
        if problem:
            refused.append(f"run {run.info.run_id} ({run.info.run_name}) was not recorded: {problem}")
    return refused


def against_its_metrics(run: Run, folder: Path) -> str:
    """What in a run's predictions and learning curve contradicts its metrics and parameters; "" if nothing does."""
    return against_metrics(run.data.metrics, run.data.params, folder)


def against_metrics(metrics: Mapping[str, float], params: Mapping[str, str], folder: Path) -> str:
    """The same of a run that is in no store.

    Args:
        metrics: Its metrics, of several values the last.
        params: Its parameters.
        folder: With its files.
    """
    import pandas as pd

    found: dict[str, float] = {}
    try:
        predictions = folder / PREDICTIONS
        if predictions.is_file():
            found |= cell_metrics(pd.read_csv(predictions))
        curve = pd.read_csv(folder / CURVES) if (folder / CURVES).is_file() else None
    except (ValueError, KeyError, LookupError, OSError) as error:  # pandas's own derive from ValueError
        return f"its files cannot be read ({error})"
    if not found and curve is None:
        return f"it has neither {PREDICTIONS} nor {CURVES}"
    if curve is not None:
        problem = _against_its_epochs(metrics, params, curve)
        if problem:
            return problem
    for name, value in found.items():
        then = metrics.get(name)
        if then is not None and not _same(value, then):
            return f"{PREDICTIONS} gives a {name} of {value:.6f}, and the run has recorded {then:.6f}"
    return ""


def _against_its_epochs(metrics: Mapping[str, float], params: Mapping[str, str], curve: pd.DataFrame) -> str:
    epochs = params.get("training.epochs")
    if "loss" not in curve or (epochs is not None and len(curve) != int(epochs)):
        return f"{CURVES} has {len(curve)} epochs, and the run was trained for {epochs}"
    then = metrics.get("loss")
    if then is not None and not _same(float(curve["loss"].iloc[-1]), then):
        return f"{CURVES} ends with another loss than the run has recorded"
    return ""


def _same(value: float, then: float) -> bool:
    return math.isclose(value, then, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (math.isnan(value) and math.isnan(then))
