"""The refit of a candidate, for `package.members: refit`: a network per seed, trained on all images of its folds.

No image is left to stop at, to calibrate on or to test with. How long to train is therefore what the folds showed,
calibration and threshold come from the validation predictions of the networks of the folds, and it is those networks
that the gate judges: a refitted network itself is never tested. That is the price of its training on more images.

Where a search chose for each fold, what was chosen in most folds is refitted, of equally many the one of the earliest
fold: a choice that other folds made too is the least an accident of one validation part. To search anew on all images
would give parameters that nobody has judged, on images of which none is left to judge them by.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from bus_mlops.config import Config
from bus_mlops.errors import RegistryError
from bus_mlops.experiments.cell import REFIT
from bus_mlops.promotion.trained_model import TrainedModel
from bus_mlops.spec import CellKey
from bus_mlops.tracking.ledger import Ledger

if TYPE_CHECKING:
    from bus_mlops.experiments.runner import Runner
    from bus_mlops.spec import RunSpec

UNTESTED = "the refitted network itself, trained on their test images too, was never tested"


def refit(config: Config, ledger: Ledger, candidate: TrainedModel) -> dict[CellKey, str]:
    """Train what the ledger lacks of the candidate's refit.

    Returns:
        The run of each seed's cell of the fold REFIT.

    Raises:
        RegistryError: Images, folds or code are no longer those of the candidate.
        RunError: A training fails.
    """
    from bus_mlops.experiments.driver import open_runner

    epochs = refit_epochs(ledger, candidate)
    with open_runner(config) as runner:
        cells = {}
        for seed in candidate.seeds:
            spec = spec_of(runner, candidate, seed)
            fingerprint = candidate.fingerprints[CellKey(refitted_folds(candidate)[0], seed)]
            fixed = spec.model_copy(update={"training": spec.training.model_copy(update={"epochs": epochs})})
            title = f"{candidate.title}, refit"
            cells[CellKey(REFIT, seed)] = runner.cells(fixed, (REFIT,), title, {"refit.of": fingerprint})[0]
        runs = runner.run(list(cells.values()), "refit")
    return {key: runs[cell.key] for key, cell in cells.items()}


def refit_epochs(ledger: Ledger, candidate: TrainedModel) -> int:
    """The median best epoch over the folds that were trained so and all seeds, a half rounded up, for every seed."""
    folds = refitted_folds(candidate)
    runs = [run for cell, run in candidate.runs.items() if cell.fold in folds]
    best = [ledger.client.get_run(run).data.metrics["best_epoch"] for run in runs]
    return math.floor(statistics.median(best) + 0.5)


def refitted_folds(candidate: TrainedModel) -> tuple[int, ...]:
    """The folds (1-based) that share what is refitted: what was chosen in most of them, if that differs."""
    first = candidate.seeds[0]
    alike: dict[str, list[int]] = {}
    for cell in sorted(each for each in candidate.runs if each.seed == first):
        alike.setdefault(candidate.fingerprints[cell], []).append(cell.fold)
    most = max(alike.values(), key=len)  # the earliest of equals
    return tuple(most)


def spec_of(runner: Runner, candidate: TrainedModel, seed: int) -> RunSpec:
    """What a seed of the candidate was trained with, in most folds.

    Raises:
        RegistryError: It would not be trained so today.
    """
    cell = CellKey(refitted_folds(candidate)[0], seed)
    run = candidate.runs[cell]
    spec = runner.ledger.spec(run)
    if spec.fingerprint(*runner.digests(spec)) != candidate.fingerprints[cell]:
        raise RegistryError(
            f"{candidate.title} cannot be refitted: its images, folds or code are not those that run {run} was trained "
            "with. Bring them back (`dvc checkout`), train it anew (`dvc repro`), or set package.members to all."
        )
    return spec
