"""Whether recorded predictions are those of the networks: they predict again, and labels and parts are looked up.

Digests say that a file is the one that was recorded; this says that its numbers follow from the network. Which images
are predicted anew is drawn at random each time, by the operating system's own source: nobody can know beforehand which
ones to leave as they were. All of them are on request. Every network is asked only about the images that its run was
asked about.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bus_mlops.consumer.client import BusModel, Prediction
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import TEST, VALIDATION, Folds
from bus_mlops.dataset.folds.division import parts_of
from bus_mlops.errors import DatasetError
from bus_mlops.experiments.digests import digests_of
from bus_mlops.images.model_input import as_rgb
from bus_mlops.promotion.trained_model import TrainedModel
from bus_mlops.spec import RunSpec
from bus_mlops.tracking.ledger import MODEL, Ledger

if TYPE_CHECKING:
    import pandas as pd

# Of each run. Of predictions of which a tenth was changed, 16 miss all with a probability of a fifth, and the 160 of
# ten runs with one of a twenty-millionth.
SAMPLE = 16
# In probability. An export to ONNX may differ from Keras by 5e-4, another processor by 1e-5 and less; a graphics card
# that multiplies with fewer digits by some 1e-4. What changes no rank and no label is no forgery worth making.
TOLERANCE = 1e-3
BATCH = 16
Predict = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float64]]


@dataclass
class Recomputation:
    """What came of predicting anew: `problems` name run, image and numbers; `unseen` what could not be looked at."""

    problems: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    runs: int = 0
    predicted: int = 0
    of: int = 0
    greatest: float = 0.0

    @property
    def sentence(self) -> str:
        """What was looked at and found, for people."""
        done = (
            f"{self.predicted} of {self.of} predictions of {self.runs} runs were predicted anew"
            f"{'' if self.predicted == self.of else ', drawn at random'}: the greatest difference is "
            f"{self.greatest:.1e} (allowed: {TOLERANCE:g})"
        )
        said = [done] if self.runs else []
        said += [f"not predicted anew: {'; '.join(self.unseen)}"] if self.unseen else []
        return "; ".join([*self.problems[:3], *(["and more"] if len(self.problems) > 3 else []), *said])


def recompute(
    ledger: Ledger,
    models: Sequence[TrainedModel],
    folds: Folds,
    benchmark: Benchmark | None,
    package: BusModel | None = None,
    *,
    full: bool = False,
) -> Recomputation:
    """Predict images of models anew and compare with what their runs recorded.

    Args:
        ledger: Holds the networks of the runs.
        models: Those of a decision.
        folds: Which images each network has been tested and validated on.
        benchmark: The images; None where they are not there.
        package: The networks of some of the runs as consumers have them, which are asked instead.
        full: Predict all images, not a sample.
    """
    found = Recomputation()
    problem = other_images(models[0], folds, benchmark)
    if benchmark is None or problem:
        found.unseen.append(problem)
        return found
    from bus_mlops.packaging.onnx_export import NetworkReader

    packaged, read = members_of(package), NetworkReader()
    for model in models:
        for cell, run in model.runs.items():
            rows = model.predictions
            rows = rows[(rows["seed"] == cell.seed) & (rows["fold"] == cell.fold)]
            where = f"run {run} ({model.title}, fold {cell.fold})"
            spec = ledger.spec(run)
            size = spec.training.input_size
            wrong = _labels(rows, cell.fold, spec, folds, benchmark)
            if wrong:
                found.problems.append(f"{where}: {wrong}")
                continue
            if run in packaged:
                assert package is not None  # noqa: S101 - it named the run
                _compare(found, where, rows, _of_member(package, packaged[run]), size, benchmark, full)
            elif MODEL in ledger.artifact_digests(run):
                with tempfile.TemporaryDirectory(prefix="bus-recompute-") as folder:
                    network = _of_keras(read(ledger.artifact(run, MODEL, Path(folder))))
                    _compare(found, where, rows, network, size, benchmark, full)
            else:
                found.unseen.append(f"{where} has no {MODEL}")
    return found


def other_images(model: TrainedModel, folds: Folds, benchmark: Benchmark | None) -> str:
    """Why the images that the models were trained on are not to be had; empty if they are."""
    if benchmark is None:
        return "the assembled images are not here (`dvc repro assemble` makes them)"
    try:
        digest, _ = digests_of(benchmark, folds, set(model.predictions["source"]), model.network)
        benchmark.images(model.input_size)
    except DatasetError as error:
        return str(error)
    if digest != model.lineage.data_digest:
        return (
            f"the assembled images ({digest[:12]}) are not those of the runs ({model.lineage.data_digest[:12]}): "
            "`dvc checkout` brings those back"
        )
    return ""


def _labels(rows: pd.DataFrame, fold: int, spec: RunSpec, folds: Folds, benchmark: Benchmark) -> str:
    """Where recorded images are not those of the fold, with its parts and the labels of the images."""
    parts = parts_of(folds.frame, fold, spec.cohort, spec.training.validation)
    labels = benchmark.frame.set_index("image_id")["label"]
    for image, part, label in zip(rows["image_id"], rows["part"], rows["label"], strict=True):
        if image not in labels.index or image not in parts.index:
            return f"{image} is none of the images"
        if parts[image] != part or labels[image] != label:
            return (
                f"{image} is recorded as label {label} of the {part} part, and is label {labels[image]} of the "
                f"{parts[image]} part"
            )
    if rows["image_id"].duplicated().any():
        return "an image is recorded twice"
    asked = set(parts.index[parts.isin([TEST, VALIDATION])])
    cohort = benchmark.frame.loc[benchmark.frame["source"].isin(spec.cohort), "image_id"]
    missing = asked & set(cohort) - set(rows["image_id"])
    return f"{min(missing)} is not recorded" if missing else ""


def _compare(
    found: Recomputation,
    where: str,
    rows: pd.DataFrame,
    predict: Predict,
    size: int,
    benchmark: Benchmark,
    full: bool,
) -> None:
    chosen = rows
    if not full and len(rows) > SAMPLE:
        chosen = rows.iloc[sorted(secrets.SystemRandom().sample(range(len(rows)), SAMPLE))]
    index = benchmark.frame.set_index("image_id")["index"].reindex(chosen["image_id"]).to_numpy()
    images = benchmark.images(size)
    answers = np.concatenate([predict(batch) for batch in _batches(images, index)])
    recorded = chosen["probability"].to_numpy(np.float64)
    distances = np.abs(answers - recorded)
    for image, then, now, distance in zip(chosen["image_id"], recorded, answers, distances, strict=True):
        if not distance <= TOLERANCE:
            found.problems.append(f"{where}: {image} is recorded with {then:.4f}, and its network answers {now:.4f}")
    found.runs += 1
    found.predicted += len(chosen)
    found.of += len(rows)
    found.greatest = max(found.greatest, float(np.nanmax(distances)))


def _batches(images: np.ndarray, index: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.uint8]]:
    for start in range(0, len(index), BATCH):
        yield np.stack([as_rgb(np.asarray(images[i])) for i in index[start : start + BATCH]])


def members_of(package: BusModel | None) -> dict[str, int]:
    """The place among a package's members by the run that it comes from."""
    if package is None:
        return {}
    runs = [value for key, value in package.package.lineage.items() if key.startswith("run.")]
    return {str(run): i for i, run in enumerate(runs)} if len(runs) == len(package.package.members) else {}


def _of_member(package: BusModel, member: int) -> Predict:
    return lambda squares: package.raw(member, squares)


def predict_with_keras(
    path: Path, images: npt.NDArray[np.uint8], index: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """What a recorded network says itself of some of the assembled images, (N,)."""
    from bus_mlops.packaging.onnx_export import load_network

    predict = _of_keras(load_network(path))
    return np.concatenate([predict(batch) for batch in _batches(images, index)])


def answers_of_package(package: BusModel, benchmark: Benchmark, images: list[str]) -> npt.NDArray[np.float64]:
    """Probabilities (N,) of a whole package; NaN where it gives none."""
    return as_numbers(each.probability for each in rows_of_package(package, benchmark, images))


def rows_of_package(package: BusModel, benchmark: Benchmark, images: list[str]) -> Iterator[Prediction]:
    """What a whole package says of some images, by id, refusing none."""
    pixels, index = benchmark.images(package.package.input_size), places_of(benchmark, images)
    return package.stream((np.asarray(pixels[place]) for place in index), refuse=False)


def as_numbers(values: Iterable[float | None]) -> npt.NDArray[np.float64]:
    """As an array (N,), NaN for None."""
    return np.array([np.nan if each is None else each for each in values], np.float64)


def places_of(benchmark: Benchmark, images: list[str]) -> npt.NDArray[np.int64]:
    """Where some images, by id, lie in the assembled arrays."""
    return benchmark.frame.set_index("image_id")["index"].reindex(images).to_numpy(np.int64)


def _of_keras(network: Any) -> Predict:
    def predict(squares: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        answer = network(squares.astype(np.float32), training=False)
        return np.asarray(answer["malignancy"], np.float64)[:, 0]

    return predict
