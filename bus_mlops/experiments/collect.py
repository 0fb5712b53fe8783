"""Gathering a strategy's evidence from the ledger into files that evaluation and DVC read.

`<strategy>.parquet` holds all predictions, `<strategy>_curves.csv` the learning curves, `<strategy>_samples.npz` a few
test images with their true and predicted masks, and `<strategy>_runs.json` the sha256 of these three and the runs that
they rest on, each with the digests of its files, and what a search has chosen for each fold.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.evaluation.results import ADDED_COLUMNS, CURVE_COLUMNS, PREDICTION_COLUMNS, seal
from bus_mlops.evaluation.samples import choose, join
from bus_mlops.experiments.ensembles import averaged, joint_fingerprint
from bus_mlops.experiments.plan import StrategyPlan
from bus_mlops.experiments.runner import Runner
from bus_mlops.experiments.strategies import Row
from bus_mlops.files import replacing
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking.ledger import MASKS, Ledger


def collect(runner: Runner, plan: StrategyPlan, runs: Mapping[LedgerKey, str], folder: Path) -> None:
    """Write the four files of a strategy into a folder, atomically."""
    collect_together(runner, plan.strategy, [plan], runs, folder)


def collect_together(
    runner: Runner, name: str, plans: Sequence[StrategyPlan], runs: Mapping[LedgerKey, str], folder: Path
) -> None:
    """Write four files that hold the rows of several strategies, each under its strategy's name, atomically."""
    predictions: list[pd.DataFrame] = []
    curves, samples = [], []
    used: dict[str, dict[str, Any]] = {}
    for plan, row in ((each, row) for each in plans for row in each.rows):
        if row.members:
            predictions += _of_ensemble(runner, plan, row, runs, used)
            continue
        digests = runner.digests(row.spec)
        for fold, spec in ((fold, spec) for spec, folds in plan.trainings(row) for fold in folds):
            fingerprint = spec.fingerprint(*digests)
            run_id = runs[LedgerKey(fingerprint, fold)]
            frame = runner.ledger.predictions(run_id)
            frame.insert(0, "fingerprint", fingerprint)
            frame.insert(1, "seed", spec.seed)
            used[run_id] = {"fingerprint": fingerprint, "fold": fold, "files": runner.ledger.artifact_digests(run_id)}
            predictions.append(_identified(frame, plan.strategy, row))
            curve = runner.ledger.curves(run_id).assign(fold=fold, seed=spec.seed)
            curves.append(_identified(curve, plan.strategy, row))
        if row.spec.task.segments:
            first = plan.folds[0]
            run_id = runs[LedgerKey(plan.specs(row, first)[0].fingerprint(*digests), first)]
            samples.append(_samples(runner.ledger, run_id, runner.benchmark, row))
    chosen = [
        {"model": row.model, "variant": row.variant, "choice": row.choice, "parameters": row.parameters}
        for plan in plans
        for row in plan.rows
        if row.parameters
    ]
    _write(folder, name, predictions, curves, samples, used, chosen, runner.ledger.experiment)


def _of_ensemble(
    runner: Runner, plan: StrategyPlan, row: Row, runs: Mapping[LedgerKey, str], used: dict[str, dict[str, Any]]
) -> Iterator[pd.DataFrame]:
    """The predictions of each fold and seed; adds its members' runs to those that are used."""
    for fold, seed in product(plan.folds, plan.seeds):
        frames, fingerprints = [], []
        for member in row.members:
            spec = member.spec_of(fold).model_copy(update={"seed": seed})
            fingerprint = spec.fingerprint(*runner.digests(spec))
            run_id = runs[LedgerKey(fingerprint, fold)]
            used[run_id] = {"fingerprint": fingerprint, "fold": fold, "files": runner.ledger.artifact_digests(run_id)}
            frames.append(runner.ledger.predictions(run_id))
            fingerprints.append(fingerprint)
        frame = averaged(frames, f"{plan.strategy}: {row.model}")
        frame.insert(0, "fingerprint", joint_fingerprint(fingerprints))
        frame.insert(1, "seed", seed)
        yield _identified(frame, plan.strategy, row)


def collect_nothing(strategy: str, folder: Path) -> None:
    """Write the four files of a strategy without rows: DVC expects every output of a stage."""
    _write(
        folder,
        strategy,
        [pd.DataFrame(columns=[*PREDICTION_COLUMNS, *ADDED_COLUMNS])],
        [pd.DataFrame(columns=list(CURVE_COLUMNS))],
        [],
        {},
    )


def _write(
    folder: Path,
    strategy: str,
    predictions: list[pd.DataFrame],
    curves: list[pd.DataFrame],
    samples: list[dict[str, np.ndarray]],
    used: Mapping[str, Any],
    chosen: Sequence[Mapping[str, Any]] = (),
    experiment: str = "",
) -> None:
    with replacing(folder / f"{strategy}.parquet") as path:
        pd.concat(predictions, ignore_index=True).to_parquet(path, index=False)
    with replacing(folder / f"{strategy}_curves.csv") as path:
        learnt = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=list(CURVE_COLUMNS))
        learnt.to_csv(path, index=False)
    with replacing(folder / f"{strategy}_samples.npz") as path:
        np.savez_compressed(path, allow_pickle=False, **join(samples))
    seal(folder, strategy, used, chosen, experiment)


def _identified(frame: pd.DataFrame, strategy: str, row: Row) -> pd.DataFrame:
    for position, (name, value) in enumerate(
        {
            "strategy": strategy,
            "model": row.model,
            "variant": row.variant,
            "network": row.spec.network,
        }.items()
    ):
        frame.insert(position, name, value)
    return frame


def _samples(ledger: Ledger, run_id: str, benchmark: Benchmark, row: Row) -> dict[str, np.ndarray]:
    with (
        tempfile.TemporaryDirectory() as folder,
        np.load(ledger.artifact(run_id, MASKS, Path(folder))) as stored,
    ):
        size = int(stored["size"])
        ids = stored["image_id"]
        predicted = np.unpackbits(stored["packed"], axis=1, count=size * size).reshape(-1, size, size)
    frame = ledger.predictions(run_id).set_index("image_id")
    tested = frame.loc[ids]
    chosen = choose(tested.reset_index())
    rows = benchmark.frame.set_index("image_id").index.get_indexer(ids[chosen])
    images = benchmark.images(size)[rows]
    return {
        "image": images if images.ndim == 3 else images[..., 0],
        "mask_true": benchmark.masks(size)[rows],
        "mask_predicted": predicted[chosen],
        "image_id": ids[chosen].astype(str),
        "label": tested["label"].to_numpy()[chosen],
        "probability": tested["probability"].to_numpy()[chosen],
        "model": np.full(len(chosen), f"{row.model} {row.variant}"),
    }
