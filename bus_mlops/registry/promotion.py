"""Promotion: the gate's verdict on MT-ESTAN, a registered version with its evidence, and, if it passed, the alias.

A refusal is a normal result: the version is registered without alias, and the record says which rule failed.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bus_mlops.config import Config
from bus_mlops.dataset.folds import Folds
from bus_mlops.dataset.leakage import check_leakage
from bus_mlops.dataset.manifest import Benchmark
from bus_mlops.errors import EvaluationError, LeakageError, LedgerError
from bus_mlops.evaluation.metrics import classification_metrics, youden_threshold
from bus_mlops.experiments.plan import read_plan
from bus_mlops.files import write_json
from bus_mlops.git import git_tags
from bus_mlops.registry.gate import GateContext, GateReport, Lineage, run_gate
from bus_mlops.registry.package import log_package, write_package
from bus_mlops.tracking.ledger import MODEL, Ledger
from bus_mlops.tracking.store import experiment_id

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
EXPERIMENT = "promotions"


@dataclass(frozen=True)
class Contender:
    """One row of a strategy as the gate sees it: its predictions and where each fold was recorded."""

    title: str
    predictions: pd.DataFrame
    runs: dict[int, str]
    lineage: Lineage

    @property
    def fingerprint(self) -> str:
        """What the contender computes."""
        return str(self.predictions["fingerprint"].iloc[0])

    def part(self, name: str) -> pd.DataFrame:
        """Its predictions of one part, test or validation."""
        return self.predictions[self.predictions["part"] == name]


def registered_name(config: Config) -> str:
    """The registered model's name; one trained on phantoms says so."""
    return "bus-mt-estan-phantom" if config.data.kind == "phantom" else "bus-mt-estan"


def judge(
    config: Config, ledger: Ledger, folds: Folds, plans: Path, predictions: Path
) -> tuple[Contender, Contender, GateReport]:
    """Find candidate and baseline among the out-of-fold predictions and run the gate on them."""
    finished = ledger.finished()
    candidate = _contender(ledger, finished, _frame(predictions, config.promotion.candidate), "mt_estan")
    baseline = _baseline(config, ledger, finished, predictions)
    plan = read_plan(plans, config.promotion.candidate)
    counts = _counts(folds, candidate, plan.folds)
    context = GateContext(
        model_name=registered_name(config),
        is_phantom=config.data.kind == "phantom",
        expected_folds=plan.folds,
        candidate=candidate.lineage,
        baseline=baseline.lineage,
        n_train=counts["train"],
        n_test=counts["test"],
        leak_check=_leak_check(folds),
        seed=config.seed,
    )
    report = run_gate(candidate.predictions, baseline.predictions, config.promotion, context)
    return candidate, baseline, report


def register(
    config: Config,
    ledger: Ledger,
    benchmark: Benchmark,
    candidate: Contender,
    baseline: Contender,
    report: GateReport,
) -> dict[str, Any]:
    """Register the candidate with its evidence; sets the alias last, and only if the gate passed.

    The same candidate with the same verdict is registered once, however often the stage runs.
    """
    name = registered_name(config)
    evidence = json.dumps([candidate.fingerprint, json.loads(report.to_json())], sort_keys=True)
    digest = hashlib.sha256(evidence.encode()).hexdigest()
    version = _registered_before(ledger, name, digest)
    if version is None:
        version = _register_new(config, ledger, benchmark, candidate, baseline, report, digest)
    if report.passed:
        ledger.client.set_registered_model_alias(name, CHAMPION, version.version)
    return {
        "model": name,
        "version": int(version.version),
        "alias": CHAMPION if report.passed else None,
        "passed": report.passed,
        "candidate": candidate.title,
        "baseline": baseline.title,
        "evidence": digest,
    }


def write_record(folder: Path, report: GateReport, record: Mapping[str, Any]) -> None:
    """Write the gate's report (json and markdown) and what became of it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gate.json").write_text(report.to_json() + "\n", encoding="utf-8")
    (folder / "gate.md").write_text(report.to_markdown(), encoding="utf-8")
    write_json(folder / "promotion.json", record)


def _register_new(
    config: Config,
    ledger: Ledger,
    benchmark: Benchmark,
    candidate: Contender,
    baseline: Contender,
    report: GateReport,
    digest: str,
) -> ModelVersion:
    """A promotion run with the gate's report and the package, and the version that points to it."""
    client = ledger.client
    verdict = "passed" if report.passed else "refused"
    tags = {
        "gate": verdict,
        "gate.failed": ", ".join(rule.id for rule in report.failed) or "none",
        "evidence": digest,
        "candidate": candidate.title,
        "candidate.fingerprint": candidate.fingerprint,
        "baseline": baseline.title,
        "data_kind": config.data.kind,
        **git_tags(),
    }
    experiment = experiment_id(client, EXPERIMENT, config.tracking.artifacts)
    run = client.create_run(experiment, tags={"kind": "promotion", **tags}, run_name=f"{candidate.title}: {verdict}")
    run_id = str(run.info.run_id)
    try:
        with tempfile.TemporaryDirectory(prefix="bus-package-") as temporary:
            folder = Path(temporary)
            write_record(folder / "gate", report, tags)
            client.log_artifacts(run_id, str(folder / "gate"), "gate")
            package = _package(config, ledger, benchmark, candidate, verdict, folder)
            version = log_package(
                package,
                registered_name=registered_name(config),
                run_id=run_id,
                tags=tags,
                tracking_uri=config.tracking.uri,
            )
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    return version


def _package(
    config: Config, ledger: Ledger, benchmark: Benchmark, candidate: Contender, verdict: str, folder: Path
) -> Path:
    """The ensemble of the candidate's fold networks, as consumers will load it."""
    members = [ledger.artifact(candidate.runs[fold], MODEL, folder) for fold in sorted(candidate.runs)]
    first = ledger.client.get_run(candidate.runs[min(candidate.runs)])
    size = int(first.data.params["training.input_size"])
    return write_package(
        folder / "package",
        members,
        input_size=size,
        color=benchmark.color,
        threshold=_threshold(config, candidate),
        metadata={
            "name": registered_name(config),
            "phantom": config.data.kind == "phantom",
            "trained_on": ", ".join(sorted(candidate.predictions["source"].unique())),
            "lineage": _lineage(candidate),
            "gate": verdict,
        },
        example_image=np.asarray(benchmark.images(size)[0]),
    )


def _lineage(candidate: Contender) -> dict[str, str]:
    runs = {f"run.fold_{fold}": run_id for fold, run_id in sorted(candidate.runs.items())}
    return {
        "fingerprint": candidate.fingerprint,
        "data_digest": candidate.lineage.data_digest,
        "folds_digest": candidate.lineage.folds_digest,
        "commit": git_tags()["mlflow.source.git.commit"],
        **runs,
    }


def _counts(folds: Folds, candidate: Contender, selected: tuple[int, ...]) -> dict[str, dict[int, int]]:
    """Images of the candidate's cohort in the train and test part of each fold."""
    member = folds.frame["source"].isin(candidate.predictions["source"].unique())
    return {
        part: {fold: int((folds.frame.loc[member, f"fold_{fold}"] == part).sum()) for fold in selected}
        for part in ("train", "test")
    }


def _leak_check(folds: Folds) -> str:
    try:
        check_leakage(folds)
    except LeakageError as error:
        return str(error)
    return "passed"


def _threshold(config: Config, candidate: Contender) -> float:
    if config.promotion.threshold == "half":
        return 0.5
    validation = candidate.part("validation")
    return youden_threshold(validation["label"].to_numpy(), validation["probability"].to_numpy())


def _registered_before(ledger: Ledger, name: str, digest: str) -> ModelVersion | None:
    found = ledger.client.search_model_versions(f"name = '{name}' and tags.evidence = '{digest}'")
    return found[0] if found else None


def _frame(predictions: Path, strategy: str) -> pd.DataFrame:
    path = predictions / f"{strategy}.parquet"
    if not path.is_file():
        raise EvaluationError(f"{path} is missing: run `dvc repro` for the strategy {strategy} first.")
    return pd.read_parquet(path)


def _contender(ledger: Ledger, finished: Mapping[tuple[str, int], str], frame: pd.DataFrame, network: str) -> Contender:
    rows = frame[frame["network"] == network]
    if rows.empty:
        raise EvaluationError(f"no predictions of {network}: it must be among the networks of params.yaml.")
    fingerprint = str(rows["fingerprint"].iloc[0])
    folds = sorted(int(fold) for fold in rows["fold"].unique())
    missing = [fold for fold in folds if (fingerprint, fold) not in finished]
    if missing:
        raise LedgerError(
            f"the ledger has no finished run for fold {missing[0]} of {network}, though its predictions are here: "
            "was the MLflow database replaced? Run `dvc repro --force` to train and record it again."
        )
    runs = {fold: finished[fingerprint, fold] for fold in folds}
    tags = ledger.client.get_run(runs[folds[0]]).data.tags
    lineage = Lineage(data_digest=tags["data_digest"], folds_digest=tags["folds_digest"])
    title = f"{rows['model'].iloc[0]} {rows['variant'].iloc[0]}"
    return Contender(title, rows.reset_index(drop=True), runs, lineage)


def _baseline(config: Config, ledger: Ledger, finished: Mapping[tuple[str, int], str], predictions: Path) -> Contender:
    frame = _rivals(config, predictions)
    if config.promotion.baseline != "best":
        return _contender(ledger, finished, frame, config.promotion.baseline)
    others = sorted(set(frame["network"]) - {"mt_estan"})
    if not others:
        raise EvaluationError("there is nothing to compare MT-ESTAN with: add another network to params.yaml.")
    scores = {network: _score(frame[frame["network"] == network], config.promotion.metric) for network in others}
    return _contender(ledger, finished, frame, max(scores, key=lambda network: scores[network]))


def _rivals(config: Config, predictions: Path) -> pd.DataFrame:
    """Predictions of all rows on the images with masks that name a class: networks that only segment name none."""
    planned = [name for name in ("multitask", "approaches") if name in config.strategies]
    frame = pd.concat([_frame(predictions, name) for name in planned], ignore_index=True)
    return frame[frame["probability"].notna()]


def _score(rows: pd.DataFrame, metric: str) -> float:
    test = rows[rows["part"] == "test"]
    values = [
        classification_metrics(fold["label"].to_numpy(), fold["probability"].to_numpy())[metric]
        for _, fold in test.groupby("fold")
    ]
    return float(np.mean(values))
