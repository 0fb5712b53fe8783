"""The page of the study on real images, from what its projects have finished by now.

    python docs/generate/study.py PROJECT [--across PROJECT]

PROJECT has trained rows of the profile `study` on grouped folds, the one after `--across` with `folds.kind: source`,
which trains on one source and tests the other. Neither needs to be done: rows count whose folds a seed has finished,
whatever stage of `dvc repro` they belong to, and the page says which are not. Written are the tables in `docs/study/`,
and the finished trainings without their networks, from which anybody can compute them (`runs.zip`, `across-runs.zip`);
then by `study_page.py`, from the tables alone, the page, its figures, and the README's part between marks.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import study_page

from bus_mlops import environment, profiles
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import TEST, VALIDATION, Folds
from bus_mlops.evaluation.intervals import FoldDraws
from bus_mlops.evaluation.leak_premium import premium
from bus_mlops.evaluation.roc import youden_threshold
from bus_mlops.experiments.digests import digests_of
from bus_mlops.experiments.plan import make_plans
from bus_mlops.experiments.strategies import Row
from bus_mlops.files import read_json, write_json
from bus_mlops.paths import AUDIT, BENCHMARK, FOLDS, PREMIUM, PROMOTION
from bus_mlops.project import load_config, profile_config
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking.ledger import CURVES, PREDICTIONS, Ledger
from bus_mlops.tracking.run_transfer import export_runs

# Of audit.json.
AUDITED = ("exact_duplicate_pairs", "near_duplicate_pairs", "clusters")
METRICS = ("roc_auc", "balanced_accuracy", "sensitivity", "specificity", "dice")
CELL_COLUMNS = (
    *("network", "fingerprint", "fold", "seed", "run", "commit", "clean", "tensorflow", "seconds"),
    *("predictions_sha256", "curves_sha256"),
)
ACROSS_METRICS = ("roc_auc", "sensitivity", "specificity")
ACROSS_COLUMNS = (
    *("strategy", "model", "variant", "trained_on", "tested_on", "unit", "count", "seeds"),
    *(f"{metric}{end}" for metric in ACROSS_METRICS for end in ("", "_low", "_high")),
)
PREMIUM_COLUMNS = ("model", "variant", "metric", "difference", "low", "high", "p")
PREMIUM_METRICS = ("roc_auc", "balanced_accuracy", "sensitivity", "specificity")
# What the paper found: better, than, in words; each a row (strategy, network, variant).
FINDINGS = (
    ("ImageNet weights help: MobileNet", "transfer_learning/mobilenet/TL", "transfer_learning/mobilenet/S"),
    ("ImageNet weights help: DenseNet121", "transfer_learning/densenet121/TL", "transfer_learning/densenet121/S"),
    (
        "training helps beyond frozen features: MobileNet",
        "transfer_learning/mobilenet/TL",
        "since_the_paper/linear_probe_mobilenet/Single",
    ),
    (
        "training helps beyond frozen features: DenseNet121",
        "transfer_learning/densenet121/TL",
        "since_the_paper/linear_probe_densenet121/Single",
    ),
    ("augmentation helps: MobileNet", "augmentation/mobilenet/Aug", "augmentation/mobilenet/No Aug"),
    ("the mask helps the label: MobileNet", "multitask/mobilenet_multitask/Multi", "multitask/mobilenet/Single"),
    ("the mask helps the label: DenseNet121", "multitask/densenet121_multitask/Multi", "multitask/densenet121/Single"),
    ("MT-ESTAN beats the multitask MobileNet", "approaches/mt_estan/Multi", "multitask/mobilenet_multitask/Multi"),
    ("MT-ESTAN beats EMT-Net", "approaches/mt_estan/Multi", "approaches/emt_net/Multi"),
    ("MT-ESTAN beats SHA-MTL", "approaches/mt_estan/Multi", "approaches/sha_mtl/Multi"),
    ("a weight of 3 beats plain cross-entropy", "losses/mobilenet/WBCE(w_z=3)", "losses/mobilenet/BCE"),
)


@dataclass(frozen=True)
class Trained:
    """A row of the plan and what the ledger has of it.

    Attributes:
        seeds: Those of which all folds are finished.
        planned: All that the profile asks for.
        runs: Run ids of these seeds.
        cells: Those of all seeds; several rows may share one.
        done: Those of them that are finished.
    """

    strategy: str
    row: Row
    seeds: tuple[int, ...]
    planned: tuple[int, ...]
    folds: tuple[int, ...]
    runs: dict[LedgerKey, tuple[int, str]]
    cells: frozenset[LedgerKey]
    done: frozenset[LedgerKey]

    @property
    def name(self) -> str:
        """As `FINDINGS` name it."""
        return f"{self.strategy}/{self.row.spec.network}/{self.row.variant.removesuffix(', from scratch')}"

    @property
    def identity(self) -> dict[str, Any]:
        """The first columns of the tables."""
        return {"strategy": self.strategy, "model": self.row.model, "variant": self.row.variant}


class Project:
    """What a project's ledger has of the profile's rows; the working folder must be the project's."""

    def __init__(self) -> None:
        self.config = load_config()
        self.benchmark, self.folds = Benchmark.open(BENCHMARK), Folds.open(FOLDS / "folds.csv")
        self.ledger = Ledger(self.config.tracking)
        self.finished = self.ledger.finished()
        profile = profile_config("study")
        profile = profile.model_copy(update={"folds": self.config.folds, "leak_premium": None})
        plans = make_plans(profile)
        self.rows = [
            self._trained(name, plan.seeds, row) for name, plan in plans.items() for row in plan.rows if not row.choice
        ]
        self._frames: dict[str, pd.DataFrame] = {}

    def _trained(self, strategy: str, seeds: tuple[int, ...], row: Row) -> Trained:
        digests = digests_of(self.benchmark, self.folds, row.spec.cohort, row.spec.network)
        folds = tuple(range(1, self.folds.count + 1))
        complete: list[int] = []
        runs: dict[LedgerKey, tuple[int, str]] = {}
        cells: set[LedgerKey] = set()
        for seed in seeds:
            fingerprint = row.spec.model_copy(update={"seed": seed}).fingerprint(*digests)
            own = [LedgerKey(fingerprint, fold) for fold in folds]
            cells.update(own)
            if all(key in self.finished for key in own):
                complete.append(seed)
                runs |= {key: (seed, self.finished[key]) for key in own}
        done = frozenset(cells & self.finished.keys())
        return Trained(strategy, row, tuple(complete), seeds, folds, runs, frozenset(cells), done)

    def predictions(self, trained: Trained) -> pd.DataFrame:
        """Test and validation predictions of a row's finished seeds; a threshold of each cell, chosen on validation."""
        return pd.concat([self._cell(seed, run) for seed, run in trained.runs.values()], ignore_index=True)

    def _cell(self, seed: int, run: str) -> pd.DataFrame:
        if run not in self._frames:
            frame = self.ledger.predictions(run).assign(seed=seed)
            validation = frame[frame["part"] == VALIDATION]
            threshold = youden_threshold(validation["label"].to_numpy(), validation["probability"].to_numpy())
            self._frames[run] = frame.assign(threshold=threshold)
        return self._frames[run]

    def curves(self, trained: Trained) -> pd.DataFrame:
        """The learning curves of a row, the mean over its cells."""
        frames = [self.ledger.curves(run) for _, run in trained.runs.values()]
        columns = ["loss", "validation_loss", "validation_roc_auc"]
        return pd.concat(frames).groupby("epoch", as_index=False)[columns].mean()


def rows_table(project: Project) -> pd.DataFrame:
    """Every planned row; metrics (fractions, threshold 0.5) with 95 % intervals of those that are finished."""
    records = []
    for trained in project.rows:
        record: dict[str, Any] = {
            **trained.identity,
            "network": trained.row.spec.network,
            "seeds": len(trained.seeds),
            "seeds_planned": len(trained.planned),
            "cells": len(trained.done),
            "cells_planned": len(trained.cells),
            "epochs": trained.row.spec.training.epochs,
            "fingerprints": " ".join(sorted({key.fingerprint for key in trained.runs})),
        }
        if trained.seeds:
            frame = project.predictions(trained)
            test = frame[frame["part"] == TEST]
            draws = FoldDraws.of(test)
            for metric in METRICS:
                if metric != "dice" or test["dice"].notna().any():
                    found = draws.interval(metric)
                    record |= {metric: found.estimate, f"{metric}_low": found.low, f"{metric}_high": found.high}
            for source, part in test.groupby("source"):
                record[f"roc_auc_{source}"] = FoldDraws.of(part).interval("roc_auc").estimate
            logged = [project.ledger.files.run(run).data.metrics for _, run in trained.runs.values()]
            record["seconds"] = sum(each["seconds_training"] for each in logged)
            record["best_epoch"] = float(np.mean([each["best_epoch"] for each in logged]))
        records.append(record)
    return pd.DataFrame.from_records(records)


def findings_table(project: Project) -> pd.DataFrame:
    """The difference of each of `FINDINGS` with its 95 % interval and two-sided p, or no number yet."""
    rows = {trained.name: trained for trained in project.rows}
    records = []
    for claim, better, worse in FINDINGS:
        record: dict[str, Any] = {"claim": claim, "better": better, "worse": worse}
        if rows[better].seeds and rows[worse].seeds:
            frames = (project.predictions(rows[name]) for name in (worse, better))
            first, second = (frame[frame["part"] == TEST] for frame in frames)
            _, found = next(premium(("roc_auc",), first, second))
            record |= {"difference": found.difference, "low": found.low, "high": found.high, "p": found.p}
        records.append(record)
    return pd.DataFrame.from_records(records, columns=["claim", "better", "worse", "difference", "low", "high", "p"])


def cells_table(project: Project) -> pd.DataFrame:
    """Every cell of a finished seed: what it is, where it was trained, and the sha256 of its predictions."""
    records = {}
    for trained in project.rows:
        for key, (seed, run_id) in trained.runs.items():
            run = project.ledger.files.run(run_id)
            tags, digests = run.data.tags, project.ledger.artifact_digests(run_id)
            records[run_id] = {
                "network": trained.row.spec.network,
                "fingerprint": key.fingerprint,
                "fold": key.fold,
                "seed": seed,
                "run": run_id,
                "commit": tags.get("mlflow.source.git.commit", ""),
                "clean": tags.get("git_clean", ""),
                "tensorflow": tags.get("tensorflow", ""),
                "seconds": round(run.data.metrics["seconds_training"], 1),
                "predictions_sha256": digests[PREDICTIONS],
                "curves_sha256": digests[CURVES],
            }
    return pd.DataFrame.from_records(list(records.values()), columns=CELL_COLUMNS)


def across_table(project: Project) -> pd.DataFrame:
    """Trained on one source, tested on the other: per image, and per patient where the test source names patients."""
    records = []
    for trained in project.rows:
        if not trained.seeds:
            continue
        frame = project.predictions(trained)
        for _, cell in frame[frame["part"] == TEST].groupby("fold"):
            tested = str(cell["source"].iloc[0])
            others = sorted(set(trained.row.spec.cohort) - {tested})
            for unit, scored in _units(cell):
                draws = FoldDraws.of(scored, scored["threshold"])
                record: dict[str, Any] = {**trained.identity, "trained_on": "+".join(others), "tested_on": tested}
                record |= {"unit": unit, "count": scored["image_id"].nunique(), "seeds": len(trained.seeds)}
                for metric in ACROSS_METRICS:
                    found = draws.interval(metric, trainings=False)
                    record |= {metric: found.estimate, f"{metric}_low": found.low, f"{metric}_high": found.high}
                records.append(record)
    return pd.DataFrame.from_records(records, columns=ACROSS_COLUMNS)


def _units(cell: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The predictions of a test source per image, and with the greatest and the mean probability of each patient."""
    yield "image", cell
    if cell["case_id"].nunique() < cell["image_id"].nunique():
        for how in ("max", "mean"):
            kept = {"label": "max", "group": "first", "threshold": "first", "fold": "first", "image_id": "first"}
            patients = cell.groupby(["seed", "case_id"], as_index=False).agg({"probability": how, **kept})
            yield f"patient, {how}", patients


def leak_table() -> pd.DataFrame:
    """What the stage `premium` found; empty until it has."""
    from bus_mlops.evaluation.results import read_predictions

    path = PREMIUM / "leak-premium.parquet"
    if not path.is_file():
        return pd.DataFrame(columns=PREMIUM_COLUMNS)
    project = Project()
    trained = read_predictions(path)
    records = []
    for row in project.rows:
        own = trained[(trained["strategy"] == row.strategy) & (trained["model"] == row.row.model)]
        own = own[(own["variant"] == row.row.variant) & (own["part"] == TEST)]
        if own.empty or not row.seeds:
            continue
        grouped = project.predictions(row)
        grouped = grouped[(grouped["part"] == TEST) & grouped["seed"].isin(set(own["seed"]))]
        for metric, found in premium(PREMIUM_METRICS, grouped, own):
            values = {"difference": found.difference, "low": found.low, "high": found.high, "p": found.p}
            records.append({"model": row.row.model, "variant": row.row.variant, "metric": metric, **values})
    return pd.DataFrame.from_records(records, columns=PREMIUM_COLUMNS)


def about(project: Project) -> dict[str, Any]:
    """Digests, versions, counts, and what the gate decided."""
    from importlib.metadata import version

    spec = project.rows[0].row.spec
    data, folds = digests_of(project.benchmark, project.folds, spec.cohort, spec.network)
    frame, audit = project.benchmark.frame, read_json(AUDIT / "audit.json")
    decision = PROMOTION / "gate.md"
    return {
        "data_digest": data,
        "folds_digest": folds,
        "images": {str(name): int(count) for name, count in frame["source"].value_counts().sort_index().items()},
        "malignant": {str(name): int(part["label"].sum()) for name, part in frame.groupby("source")},
        "groups": int(project.folds.frame["group"].nunique()),
        "audit": {**{name: audit[name] for name in AUDITED}, "conflicts": len(audit["conflicts"]["clusters"])},
        "seed": project.config.seed,
        "trainings": len(frozenset().union(*(row.done for row in project.rows))),
        "trainings_planned": len(frozenset().union(*(row.cells for row in project.rows))),
        "versions": {name: version(name) for name in ("bus-mlops", "tensorflow-cpu", "keras", "numpy", "scikit-learn")},
        "gate": decision.read_text(encoding="utf-8") if decision.is_file() else "",
    }


def publish(project: Project, name: str) -> None:
    """Write the finished trainings of a project, without their networks, beside the page."""
    experiment = project.config.tracking.experiment
    export_runs(project.ledger, study_page.FOLDER / name, experiment, at_work_too=True, networks=False)


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a project's folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def main() -> None:
    """Write tables, page, figures, and the README's part."""
    environment.quiet()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--across", type=Path, help="the same profile with folds.kind: source")
    arguments = parser.parse_args()
    assert "study" in profiles.NAMES  # noqa: S101 - what all of this is about
    study_page.FOLDER.mkdir(exist_ok=True)
    with inside(arguments.project):
        project = Project()
        tables = {"rows": rows_table(project), "findings": findings_table(project), "cells": cells_table(project)}
        tables["leak"] = leak_table()
        finished = [row for row in project.rows if row.seeds and row.row.spec.training.epochs > 1]
        curves = [project.curves(row).assign(**row.identity) for row in finished]
        told = about(project)
        publish(project, "runs.zip")
    tables["curves"] = pd.concat(curves) if curves else pd.DataFrame(columns=["strategy", "model", "variant", "epoch"])
    if arguments.across:
        with inside(arguments.across):
            across = Project()
            tables["across"] = across_table(across)
            publish(across, "across-runs.zip")
    folder = study_page.FOLDER
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    write_json(folder / "about.json", told)
    study_page.write()


if __name__ == "__main__":
    main()
