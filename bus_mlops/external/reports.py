"""The stage `external`: what recorded rows and shipped models do on sources that no fold touches.

It leaves in a folder

metrics.csv             each row and shipped model on each cohort, at frozen thresholds
matrix.csv              each row from the sources that it was trained on to each that it was tested on
recalibration.csv       calibration and thresholds before and after fits to a few local cases
left_out.csv            images of the cohorts that are near-duplicates of others, and of which
external.json           the cohorts, what could not be asked, and why there is nothing if there is nothing
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_mlops.consumer.client import BusModel, load_model
from bus_mlops.consumer.package_format import combine, sigmoid
from bus_mlops.dataset.folds.assignment import EXTERNAL, TRAIN, VALIDATION, Folds
from bus_mlops.dataset.folds.division import parts_of
from bus_mlops.dataset.folds.sealed import SealedCohort, sealed_cohorts
from bus_mlops.errors import LedgerError
from bus_mlops.evaluation.external import (
    FROM_OUTSIDE,
    MATRIX_COLUMNS,
    METRIC_COLUMNS,
    OUT_OF_FOLD,
    RECALIBRATION_COLUMNS,
    Answered,
    matrix_lines,
    metric_lines,
    recalibration_lines,
)
from bus_mlops.external.answers import Answers, CohortAnswers
from bus_mlops.external.rows import RecordedRow, asked_rows, predictions_of, recorded_row
from bus_mlops.files import replaced_folder, write_json
from bus_mlops.probes.network import NetworkOpener
from bus_mlops.probes.rows import Trained
from bus_mlops.promotion.external_cohorts import REPORTS, digest_of
from bus_mlops.promotion.inputs import registered_name
from bus_mlops.promotion.recomputation import TOLERANCE, answers_of_package, members_of
from bus_mlops.spec import CellKey
from bus_mlops.tracking.ledger import MODEL, PREDICTIONS, Ledger
from bus_mlops.tracking.store import experiment_id

if TYPE_CHECKING:
    import pandas as pd

    from bus_mlops.config import Config
    from bus_mlops.dataset.benchmark import Benchmark

COLUMNS = ["image_id", "case_id", "group", "source", "label"]
LEFT_OUT_COLUMNS = ("cohort", "image_id", "case_id", "group", "related", "related_source", "found", "similarity")
Say = Callable[[str], None]


@dataclass(frozen=True)
class ExternalInputs:
    """A project after its training stages; `pairs` are the near-duplicates that the audit found, by image ids."""

    config: Config
    benchmark: Benchmark
    folds: Folds
    trained: Trained
    pairs: pd.DataFrame
    opened: NetworkOpener = field(default_factory=NetworkOpener)

    @cached_property
    def ledger(self) -> Ledger:
        """The store, which takes seconds to open, and not at all where there is nothing to ask."""
        return Ledger(self.config.tracking)

    def images(self, ids: list[str] | pd.Series, size: int) -> Any:
        """The assembled images of some ids, (n, size, size) or (n, size, size, 3)."""
        places = self.benchmark.frame.set_index("image_id")["index"].loc[list(ids)]
        return np.asarray(self.benchmark.images(size)[places.to_numpy()])


def report_cohorts(inputs: ExternalInputs, target: Path, say: Say = print) -> None:
    """Ask recorded rows and shipped models about each external cohort, and write what is found into a folder.

    Nothing is trained, chosen, calibrated or stopped by these images: calibrations and thresholds come from validation
    parts. What was asked before is taken from MLflow.

    Args:
        inputs: The project.
        target: The folder, which is replaced.
        say: Told what is done.

    Raises:
        EvaluationError: A row is named that is not planned.
        LedgerError: A network answers otherwise than it recorded.
    """
    cohorts = [each for each in sealed_cohorts(inputs.folds.frame) if each.part == EXTERNAL]
    if not cohorts:
        note = "Nothing was asked: `cohorts.external` is empty in params.yaml."
        say(f"[external] nothing to do: {note}")
        _write(target, [], [], [], [], _whole(inputs, note, [], []))
        return
    asked = inputs.config.external_reports
    unasked: list[str] = []
    rows = []
    for planned in asked_rows(asked, inputs.trained):
        found = recorded_row(planned, inputs.trained, inputs.ledger, inputs.config.promotion.threshold)
        if isinstance(found, RecordedRow):
            rows.append(found)
        else:
            unasked.append(found)
    name = registered_name(inputs.config)
    shipped = list(_shipped(inputs, name, unasked))
    manifest = inputs.benchmark.frame.set_index("image_id")
    scanners = {str(image): str(scanner) for image, scanner in manifest["scanner"].dropna().items() if scanner}
    experiment = experiment_id(inputs.ledger.client, REPORTS, inputs.config.tracking.artifacts)
    metrics: list[dict[str, Any]] = []
    matrix = [line for row in rows for line in _inside(inputs, row)]
    recalibration: list[dict[str, Any]] = []
    about = []
    for cohort in cohorts:
        digest = digest_of(inputs.folds, inputs.benchmark, cohort.frame["image_id"])
        record = CohortAnswers.open(inputs.ledger, experiment, name, cohort, digest)
        _announce(inputs, record, rows, shipped, say)
        for answered in _all_answers(inputs, record, rows, shipped, unasked, say):
            metrics += metric_lines(answered, scanners)
            recalibration += recalibration_lines(
                answered,
                inputs.config.external_reports.local_cases,
                inputs.config.external_reports.draws,
                inputs.config.seed,
            )
            if answered.alone is not None:
                row = next(each for each in rows if each.names == answered.names)
                matrix += _outside(inputs, row, answered.alone, cohort.name)
        about.append({"name": cohort.name, **cohort.counts, "digest": digest, "run": record.run})
    for line in unasked:
        say(f"[external] {line}")
    whole = _whole(inputs, "", about, unasked)
    _write(target, metrics, matrix, recalibration, list(_left_out(inputs, cohorts)), whole)


def _whole(inputs: ExternalInputs, note: str, cohorts: list[dict[str, Any]], unasked: list[str]) -> dict[str, Any]:
    return {
        "note": note,
        "cohorts": cohorts,
        "left_unasked": unasked,
        "threshold": inputs.config.promotion.threshold,
        **inputs.config.external_reports.model_dump(mode="json"),
    }


def _announce(
    inputs: ExternalInputs, record: CohortAnswers, rows: list[RecordedRow], shipped: list[BusModel], say: Say
) -> None:
    """Say on record who is about to read the cohort, if anybody does who has not."""
    predictions = {run: digest for row in rows for run, digest in predictions_of(inputs.ledger, row).items()}
    asked = {*predictions, *(model.digest for model in shipped)}
    new = len(asked - record.known(asked))
    # A version shows what its networks do, too, by whose predictions a candidate is known.
    for model in shipped:
        for run in members_of(model):
            predictions.setdefault(run, _predicted(inputs.ledger, run))
    cohort = record.cohort
    near = f", {cohort.related} near-duplicates of others left out" if cohort.related else ""
    fresh = f"{new} of {len(asked)} networks and versions are new"
    say(f"[external] {cohort.name}: {len(cohort.frame)} images{near}; {fresh}")
    if new:
        record.announce(inputs.benchmark, predictions.values())


def _predicted(ledger: Ledger, run: str) -> str:
    """The sha256 of what a version's network predicted; its run's id where the store has it no more."""
    from mlflow.exceptions import MlflowException

    try:
        return ledger.artifact_digests(run).get(PREDICTIONS, run)
    except MlflowException:
        return run


def _all_answers(
    inputs: ExternalInputs,
    record: CohortAnswers,
    rows: list[RecordedRow],
    shipped: list[BusModel],
    unasked: list[str],
    say: Say,
) -> Iterator[Answered]:
    frame = record.cohort.frame[COLUMNS].set_index("image_id").loc[list(record.images)].reset_index()
    for row in rows:
        say(f"[external] {row.row.strategy}: {row.row.title} on {record.cohort.name}")
        raw = {cell: _of_run(inputs, record, row, cell) for cell in row.runs}
        answers = {cell: row.calibrations[cell].apply(values) for cell, values in raw.items()}
        together = combine(np.stack(list(answers.values())))
        if np.isnan(together).any():
            lacking = int(np.isnan(together).sum())
            unasked.append(f"{row.row.strategy}: {row.row.title} gives no answer for {lacking} of {len(frame)} images")
            continue
        yield Answered(
            row.names,
            record.cohort.name,
            frame.assign(probability=together),
            row.threshold,
            len(answers),
            _alone(frame, answers, row.thresholds),
            row.claimed,
        )
    for model in shipped:
        known = model.package.trained_on.split(";")[0].split(", ")
        title = f"version {model.version}" if model.version else model.digest[:12]
        if record.cohort.name in known:
            unasked.append(f"{model.name} {title} was trained on {record.cohort.name}, which is not outside for it")
            continue
        say(f"[external] {model.name} {title} on {record.cohort.name}")
        told = record.ask(model.digest, partial(answers_of_package, model, inputs.benchmark, list(record.images)))
        if np.isnan(told).any():
            unasked.append(
                f"{model.name} {title} gives no answer for {int(np.isnan(told).sum())} of {len(frame)} images"
            )
            continue
        judged = model.package.judged.numbers if model.package.judged else {}
        claimed = [judged[metric].estimate if metric in judged else 0.0 for metric in ("sensitivity", "specificity")]
        names = {"strategy": "shipped", "model": model.name, "variant": title, "network": ""}
        yield Answered(
            names,
            record.cohort.name,
            frame.assign(probability=told),
            model.package.threshold,
            len(model.package.members),
            claimed=(claimed[0], claimed[1]),
        )


def _alone(
    frame: pd.DataFrame, answers: Mapping[CellKey, Answers], thresholds: Mapping[CellKey, float]
) -> pd.DataFrame:
    """A row an image and network, with its calibrated answer and its own threshold; `seed` numbers the networks."""
    import pandas as pd

    return pd.concat(
        [
            frame.assign(probability=values, threshold=thresholds[cell], seed=number, network_fold=cell.fold)
            for number, (cell, values) in enumerate(answers.items())
        ],
        ignore_index=True,
    )


def _of_run(inputs: ExternalInputs, record: CohortAnswers, row: RecordedRow, cell: CellKey) -> Answers:
    """What one network says itself of the cohort's images, before its calibration."""
    run = row.runs[cell]

    def compute() -> Answers:
        size = inputs.ledger.spec(run).training.input_size
        with tempfile.TemporaryDirectory(prefix="bus-external-") as folder:
            network = inputs.opened(inputs.ledger.artifact(run, MODEL, Path(folder)))
        recorded = inputs.trained.of(row.row, "test")
        first = recorded[(recorded["fold"] == cell.fold) & (recorded["seed"] == cell.seed)].head(4)
        told = sigmoid(network.logits(inputs.images(first["image_id"], size)))
        distance = float(np.abs(told - first["probability"].to_numpy()).max())
        if not distance <= TOLERANCE:
            raise LedgerError(
                f"run {run} ({row.row.title}, fold {cell.fold}) recorded other probabilities than its network gives "
                f"for the assembled images (up to {distance:.3f} apart, allowed: {TOLERANCE:g}): bring the images back "
                "that it was trained on (`dvc checkout`), or train it anew (`dvc repro`)."
            )
        images = list(record.images)
        # A block at a time: images lie on the disk, and all of a cohort's may not fit into memory.
        blocks = [images[at : at + 512] for at in range(0, len(images), 512)]
        return sigmoid(np.concatenate([network.logits(inputs.images(block, size)) for block in blocks]))

    return record.ask(run, compute)


def _shipped(inputs: ExternalInputs, name: str, unasked: list[str]) -> Iterator[BusModel]:
    """The champion and the latest version of the registered model; none where nothing was registered."""
    from mlflow.exceptions import MlflowException

    uri = inputs.config.tracking.uri
    versions = inputs.ledger.client.search_model_versions(f"name = '{name}'")
    latest = max((int(each.version) for each in versions), default=None)
    try:
        champion = int(inputs.ledger.client.get_model_version_by_alias(name, "champion").version)
    except MlflowException:
        champion = None
    for version in dict.fromkeys(each for each in (champion, latest) if each is not None):
        model = load_model(f"models:/{name}/{version}", uri)
        sizes = inputs.benchmark.sizes
        if model.package.input_size in sizes:
            yield model
        else:
            unasked.append(
                f"{name} version {version} takes {model.package.input_size} px, and images of {sizes} px are assembled"
            )


def _trained_on(inputs: ExternalInputs, row: RecordedRow, fold: int) -> str:
    """The sources that the networks of a fold have trained or validated on."""
    frame = inputs.folds.frame
    spec = inputs.ledger.spec(next(run for cell, run in row.runs.items() if cell.fold == fold))
    parts = parts_of(frame, fold, row.row.cohort, spec.training.validation)
    used = set(parts.index[parts.isin([TRAIN, VALIDATION])])
    return " + ".join(sorted(frame.loc[frame["image_id"].isin(used), "source"].unique()))


def _by_train_set(inputs: ExternalInputs, row: RecordedRow) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for fold in sorted({cell.fold for cell in row.runs}):
        found.setdefault(_trained_on(inputs, row, fold), []).append(fold)
    return found


def _inside(inputs: ExternalInputs, row: RecordedRow) -> Iterator[dict[str, Any]]:
    """From each train set of a row to each source that its folds test."""
    for train, folds in _by_train_set(inputs, row).items():
        own = row.test[row.test["fold"].isin(folds)]
        for source, frame in own.groupby("source", sort=True):
            yield from matrix_lines({**row.names, "train": train, "test": str(source), "how": OUT_OF_FOLD}, frame)


def _outside(inputs: ExternalInputs, row: RecordedRow, alone: pd.DataFrame, cohort: str) -> Iterator[dict[str, Any]]:
    """From each train set of a row to an external cohort, of whose images all its networks answer."""
    for train, folds in _by_train_set(inputs, row).items():
        own = alone[alone["network_fold"].isin(folds)].assign(fold=1)
        yield from matrix_lines({**row.names, "train": train, "test": cohort, "how": FROM_OUTSIDE}, own)


def _left_out(inputs: ExternalInputs, cohorts: list[SealedCohort]) -> Iterator[dict[str, Any]]:
    """Each image of a cohort that is in a leakage group with one that is not external, and one of these."""
    import pandas as pd

    frame = inputs.folds.frame
    outside = frame["fold_1"] == EXTERNAL
    inside = frame[~outside]
    found = inputs.pairs
    pairs = pd.concat([found, found.rename(columns={"image": "other", "other": "image"})])
    for cohort in cohorts:
        rows = frame[outside & (frame["source"] == cohort.name) & ~frame["image_id"].isin(cohort.frame["image_id"])]
        for row in rows.to_dict("records"):
            related = inside[inside["group"] == row["group"]]
            direct = pairs[(pairs["image"] == row["image_id"]) & pairs["other"].isin(related["image_id"])]
            near = direct.iloc[0].to_dict() if len(direct) else {}
            other = near.get("other", related["image_id"].iloc[0])
            yield {
                **{name: row[name] for name in ("image_id", "case_id", "group")},
                "cohort": cohort.name,
                "related": other,
                "related_source": related.loc[related["image_id"] == other, "source"].iloc[0],
                "found": near.get("found", "in its leakage group"),
                "similarity": near.get("similarity", np.nan),
            }


def _write(
    target: Path,
    metrics: list[dict[str, Any]],
    matrix: list[dict[str, Any]],
    recalibration: list[dict[str, Any]],
    left_out: list[dict[str, Any]],
    about: Mapping[str, Any],
) -> None:
    import pandas as pd

    tables = {
        "metrics": (metrics, METRIC_COLUMNS),
        "matrix": (matrix, MATRIX_COLUMNS),
        "recalibration": (recalibration, RECALIBRATION_COLUMNS),
        "left_out": (left_out, LEFT_OUT_COLUMNS),
    }
    with replaced_folder(target) as folder:
        for name, (lines, columns) in tables.items():
            pd.DataFrame(lines, columns=list(columns)).to_csv(folder / f"{name}.csv", index=False)
        write_json(folder / "external.json", about)
