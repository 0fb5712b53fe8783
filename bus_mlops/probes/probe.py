"""The stage `probe`: recorded networks see test images of their own fold once more, whole, covered and corrupted.

It leaves in a folder, which evaluation turns into tables:

robustness.parquet      the probability of each image after each corruption, and before (`none`)
explanations.parquet    where the map of each image lies to its lesion
failures.csv            the most confident misses and false alarms, with their nearest training neighbours
pictures.npz            of these: image, mask, heat and neighbour, (n, 96, 96) in the order of the csv
cost.csv                what the network of each row costs
probes.json             the settings, and why there is nothing if there is nothing
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bus_mlops.config import Config
from bus_mlops.config.probes import ProbesConfig
from bus_mlops.consumer.package_format import sigmoid
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.folds.assignment import TRAIN, Folds
from bus_mlops.dataset.folds.division import parts_of
from bus_mlops.errors import LedgerError
from bus_mlops.experiments.plan_files import read_plan
from bus_mlops.files import replaced_folder, write_json
from bus_mlops.probes.cache import ProbeCache
from bus_mlops.probes.corruptions import CORRUPTIONS, corrupt
from bus_mlops.probes.cost import COST_COLUMNS, row_costs
from bus_mlops.probes.explanation import explain, point
from bus_mlops.probes.network import Floats, NetworkOpener, Pixels, ProbedNetwork
from bus_mlops.probes.rows import ProbedRow, Trained, find_rows, with_runs
from bus_mlops.spec import RunSpec
from bus_mlops.tracking.ledger import MODEL, Ledger

if TYPE_CHECKING:
    import pandas as pd

ROW = ("strategy", "model", "variant", "network", "fold", "seed")
IMAGE = ("image_id", "source", "group", "label")
ROBUSTNESS_COLUMNS = (*ROW, *IMAGE, "corruption", "strength", "parameter", "probability")
EXPLANATION_COLUMNS = (
    *ROW,
    *IMAGE,
    "probability",
    "hit",
    "energy",
    "chance",
    "centre",
    "hit_own_mask",
    "chance_own_mask",
)
FAILURE_COLUMNS = (
    *ROW,
    *IMAGE,
    *("kind", "rank", "probability", "has_mask", "neighbour", "neighbour_label", "similarity"),
)
# At strength 1, in the units of 0-255.
EPSILON = 8.0
# Of a probability that is recorded and one that its network answers now (as when a promotion recomputes).
TOLERANCE = 1e-3
PICTURE = 96
FALSE_NEGATIVE, FALSE_POSITIVE = "false negative", "false positive"
Say = Callable[[str], None]


@dataclass(frozen=True)
class ProbeInputs:
    """A project after its training stages."""

    config: Config
    ledger: Ledger
    benchmark: Benchmark
    folds: Folds
    trained: Trained
    plans: Path
    cache: ProbeCache
    opened: NetworkOpener = field(default_factory=NetworkOpener)

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """The manifest by image id."""
        return self.benchmark.frame.set_index("image_id")

    def images(self, ids: pd.Series | list[str], size: int) -> Pixels:
        """The assembled images of some ids, (n, size, size) or (n, size, size, 3)."""
        return np.asarray(self.benchmark.images(size)[self.manifest.loc[list(ids), "index"].to_numpy()])

    def masks(self, ids: pd.Series | list[str], size: int) -> NDArray[np.uint8]:
        """Their masks, (n, size, size), all zero where there is none."""
        return np.asarray(self.benchmark.masks(size)[self.manifest.loc[list(ids), "index"].to_numpy()])


class RunProbe:
    """One recorded network and the rows of its test images; it is opened only when something is not known yet."""

    def __init__(self, inputs: ProbeInputs, row: ProbedRow, fold: int) -> None:
        self._inputs, self.row, self.fold = inputs, row, fold
        self.run = row.runs[fold]
        self.spec: RunSpec = inputs.ledger.spec(self.run)
        self.size = self.spec.training.input_size
        self.test = row.test[row.test["fold"] == fold].reset_index(drop=True)
        self._key = {
            "run": self.run,
            "network": inputs.ledger.artifact_digests(self.run)[MODEL],
            "images": inputs.benchmark.data_digest(self.spec.cohort),
        }

    @cached_property
    def network(self) -> ProbedNetwork:
        """The network, fetched from the store and opened.

        Raises:
            LedgerError: It does not answer what its run recorded.
        """
        with tempfile.TemporaryDirectory(prefix="bus-probe-") as folder:
            network = self._inputs.opened(self._inputs.ledger.artifact(self.run, MODEL, Path(folder)))
        first = self.test.head(4)
        answers = sigmoid(network.logits(self._inputs.images(first["image_id"], self.size)))
        distance = float(np.abs(answers - first["probability"].to_numpy()).max())
        if not distance <= TOLERANCE:
            raise LedgerError(
                f"run {self.run} ({self.row.row.title}, fold {self.fold}) recorded other probabilities than its "
                f"network gives for the assembled images (up to {distance:.3f} apart, allowed: {TOLERANCE:g}): bring "
                "the images back that it was trained on (`dvc checkout`), or train it anew (`dvc repro`)."
            )
        return network

    def frame(self, part: str, compute: Callable[[], pd.DataFrame], **about: Any) -> pd.DataFrame:
        """What was computed of this run, marked with its row."""
        frame = self._inputs.cache.frame({**self._key, "part": part, **about}, compute)
        return frame.assign(**self.row.names, fold=self.fold, seed=int(self.test["seed"].iloc[0]))

    def robustness(self, chosen: pd.DataFrame, kind: str, strength: float) -> pd.DataFrame:
        """The probability of each chosen image after a corruption of one strength."""
        ids = chosen["image_id"].tolist()

        def compute() -> pd.DataFrame:
            images = self._inputs.images(ids, self.size)
            labels = chosen["label"].to_numpy(np.int64)
            changed = corrupted(self.network, images, labels, ids, kind, strength)
            return _of_images(chosen).assign(
                corruption=kind,
                strength=strength,
                parameter=describe(kind, strength),
                probability=sigmoid(self.network.logits(changed)),
            )

        return self.frame("robustness", compute, images=ids, kind=kind, strength=strength)

    def explanations(self, chosen: pd.DataFrame) -> pd.DataFrame:
        """Where the map of each chosen image lies to its lesion, and to the lesion that the network draws itself."""
        import pandas as pd

        ids = chosen["image_id"].tolist()

        def compute() -> pd.DataFrame:
            images, masks = self._inputs.images(ids, self.size), self._inputs.masks(ids, self.size)
            answers = self.network(images)
            lines = []
            for number, (image, mask, logit) in enumerate(zip(images, masks, answers.logits, strict=True)):
                heat = explain(self.network, image, float(logit))
                own = None if answers.masks is None else point(heat, (answers.masks[number] >= 0.5).astype(np.uint8))
                lines.append(
                    {
                        **point(heat, mask)._asdict(),
                        "hit_own_mask": float("nan") if own is None else float(own.hit),
                        "chance_own_mask": float("nan") if own is None else own.chance,
                    }
                )
            names = ["hit", "energy", "chance", "centre", "hit_own_mask", "chance_own_mask"]
            found = pd.DataFrame(lines, columns=names).astype(np.float64)
            return pd.concat([_of_images(chosen).assign(probability=sigmoid(answers.logits)), found], axis=1)

        return self.frame("explanations", compute, images=ids)

    def neighbours(self, failures: pd.DataFrame) -> pd.DataFrame:
        """The training image of this fold that the network finds most like each failure, and how like it is."""
        ids = failures["image_id"].tolist()

        def compute() -> pd.DataFrame:
            trained = parts_of(self._inputs.folds.frame, self.fold, self.spec.cohort, self.spec.training.validation)
            known = trained.index[trained == TRAIN].to_numpy()
            found, likeness = nearest(self._features(ids), self._features(known.tolist()))
            names = known[found]
            return failures[["image_id"]].assign(
                neighbour=names,
                neighbour_label=self._inputs.manifest.loc[names, "label"].to_numpy(),
                similarity=likeness,
            )

        return self.frame("neighbours", compute, images=ids)

    def heat(self, image_id: str) -> Floats:
        """The map of one image, (S, S)."""
        import pandas as pd

        def compute() -> pd.DataFrame:
            (image,) = self._inputs.images([image_id], self.size)
            logit = float(self.network.logits(image[np.newaxis])[0])
            return pd.DataFrame({"heat": explain(self.network, image, logit).ravel()})

        kept = self._inputs.cache.frame({**self._key, "part": "heat", "image": image_id}, compute)
        return kept["heat"].to_numpy(np.float32).reshape(self.size, self.size)

    def _features(self, ids: list[str]) -> Floats:
        # A block at a time: images lie on the disk, and all of a fold's may not fit into memory.
        blocks = [ids[at : at + 512] for at in range(0, len(ids), 512)]
        return np.concatenate([self.network(self._inputs.images(block, self.size)).features for block in blocks])


def probe(inputs: ProbeInputs, target: Path, say: Say = print) -> None:
    """Probe the rows that `probes` names and write what was found into a folder.

    Args:
        inputs: The project.
        target: The folder, which is replaced.
        say: Told what is done.

    Raises:
        EvaluationError: Predictions are missing, or a row that is named is not planned.
        LedgerError: The store has lost a run or its network, or holds another than the predictions are of.
    """
    probes = inputs.config.probes
    if probes is None:
        say("[probe] nothing to do: probes is empty in params.yaml")
        _write(target, [], [], [], [], {}, {"note": "Nothing was probed: `probes` is empty in params.yaml."})
        return
    rows = [with_runs(row, inputs.trained, inputs.ledger) for row in find_rows(inputs.config, probes, inputs.trained)]
    note = "" if rows else f"No network was probed: params.yaml plans none of {', '.join(probes.rows)}."
    robustness: list[pd.DataFrame] = []
    explanations: list[pd.DataFrame] = []
    failures: list[pd.DataFrame] = []
    pictures: list[Mapping[str, NDArray[np.uint8]]] = []
    for row in rows:
        worst = worst_failures(row.test, probes.failures)
        for fold in sorted(row.runs):
            run = RunProbe(inputs, row, fold)
            say(f"[probe] {row.row.strategy}: {row.row.title}, fold {fold}")
            robustness += _robustness(run, probes)
            masked = run.test[inputs.manifest.loc[run.test["image_id"], "has_mask"].to_numpy() == 1]
            if len(masked):
                explanations.append(run.explanations(sample(masked, probes.images)))
            own = worst[worst["fold"] == fold].reset_index(drop=True)
            if len(own):
                failures.append(_failures(inputs, run, own))
                pictures += [_picture(inputs, run, line) for line in failures[-1].to_dict("records")]
    if note:
        say(f"[probe] {note}")
    costs = list(_costs(inputs, probes, rows, say))
    _write(target, robustness, explanations, failures, costs, _stacked(pictures), _about(probes, note))


def corrupted(
    network: ProbedNetwork, images: Pixels, labels: NDArray[np.int64], ids: list[str], kind: str, strength: float
) -> NDArray[Any]:
    """Images after a corruption, of 0-255; `none` and strength 0 leave them, `fgsm` attacks this network."""
    if kind == "none" or strength == 0:
        return images
    if kind == "fgsm":
        return network.attacked(images, labels, EPSILON * strength)
    return np.stack([corrupt(image, kind, strength, name) for image, name in zip(images, ids, strict=True)])


def describe(kind: str, strength: float) -> str:
    """A strength in its own unit."""
    if kind == "none":
        return "as it is"
    return f"epsilon {EPSILON * strength:g} of 255" if kind == "fgsm" else CORRUPTIONS[kind].describe(strength)


def sample(test: pd.DataFrame, count: int | None) -> pd.DataFrame:
    """At most so many test images, of both labels alike as far as there are; the same ones whatever their order."""
    import hashlib

    if count is None or len(test) <= count:
        return test.sort_values("image_id").reset_index(drop=True)
    drawn = test.assign(_order=[hashlib.sha256(name.encode()).hexdigest() for name in test["image_id"]])
    drawn = drawn.sort_values("_order")
    place = drawn.groupby("label").cumcount()  # the first of each label, then the second of each, ...
    kept = drawn.assign(_place=place).sort_values(["_place", "_order"]).head(count)
    return kept.drop(columns=["_order", "_place"]).sort_values("image_id").reset_index(drop=True)


def worst_failures(test: pd.DataFrame, count: int) -> pd.DataFrame:
    """The test images on the wrong side of 0.5, of each kind those furthest from it, ranked from 1."""
    import pandas as pd

    positive = test["probability"] >= 0.5
    missed = test[(test["label"] == 1) & ~positive].sort_values(["probability", "image_id"])
    alarmed = test[(test["label"] == 0) & positive].sort_values(["probability", "image_id"], ascending=[False, True])
    kinds = [(FALSE_NEGATIVE, missed.head(count)), (FALSE_POSITIVE, alarmed.head(count))]
    return pd.concat([part.assign(kind=kind, rank=range(1, len(part) + 1)) for kind, part in kinds], ignore_index=True)


def nearest(asked: Floats, known: Floats) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each row of features the most similar row among the known ones, and their cosine similarity."""

    def unit(rows: Floats) -> Floats:
        lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return np.asarray(rows / lengths, dtype=np.float32)

    likeness = unit(asked) @ unit(known).T
    found = likeness.argmax(axis=1)
    return found, likeness[np.arange(len(found)), found].astype(np.float64)


def _robustness(run: RunProbe, probes: ProbesConfig) -> Iterator[pd.DataFrame]:
    if not probes.corruptions:
        return
    chosen = sample(run.test, probes.images)
    yield run.robustness(chosen, "none", 0.0)
    for kind in probes.corruptions:
        for strength in probes.strengths:
            yield run.robustness(chosen, kind, strength)


def _failures(inputs: ProbeInputs, run: RunProbe, own: pd.DataFrame) -> pd.DataFrame:
    found = run.neighbours(own)[["image_id", "neighbour", "neighbour_label", "similarity"]]
    masked = inputs.manifest.loc[own["image_id"], "has_mask"].to_numpy()
    return own.assign(**run.row.names, has_mask=masked).merge(found, on="image_id", how="left", validate="1:1")


def _picture(inputs: ProbeInputs, run: RunProbe, line: Mapping[Any, Any]) -> dict[str, NDArray[np.uint8]]:
    image, neighbour = inputs.images([line["image_id"], line["neighbour"]], run.size)
    (mask,) = inputs.masks([line["image_id"]], run.size)
    heat = np.maximum(run.heat(line["image_id"]), 0)
    heat = heat / max(float(heat.max()), 1e-9)
    return {
        "image": _small(image),
        "neighbour": _small(neighbour),
        "mask": _small(mask * np.uint8(255)),
        "heat": _small(np.rint(255 * heat).astype(np.uint8)),
    }


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A gray square of the size of a picture."""
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).convert("L").resize((PICTURE, PICTURE), Image.Resampling.BILINEAR))


def _stacked(pictures: list[Mapping[str, NDArray[np.uint8]]]) -> dict[str, NDArray[np.uint8]]:
    empty = np.zeros((0, PICTURE, PICTURE), np.uint8)
    names = ("image", "neighbour", "mask", "heat")
    return {name: np.stack([each[name] for each in pictures]) if pictures else empty for name in names}


def _costs(inputs: ProbeInputs, probes: ProbesConfig, rows: list[ProbedRow], say: Say) -> Iterator[pd.DataFrame]:
    if probes.cost == "none" or (probes.cost == "probed" and not rows):
        return
    plans = {name: read_plan(inputs.plans, name) for name in inputs.trained.plans}
    only = [row.row for row in rows] if probes.cost == "probed" else []
    told: set[str] = set()
    for frame in row_costs(plans, inputs.trained, inputs.ledger, inputs.cache, only):
        (name,) = frame["architecture"]
        if name not in told:
            gmac = float(frame["multiply_accumulates"].iloc[0]) / 1e9
            say(f"[probe] cost of {name}: {gmac:.3g} GMAC, {frame['latency_ms'].iloc[0]:.1f} ms")
        told.add(name)
        yield frame


def _about(probes: ProbesConfig, note: str) -> dict[str, Any]:
    return {"note": note, **probes.model_dump(mode="json"), "epsilon": EPSILON}


def _of_images(chosen: pd.DataFrame) -> pd.DataFrame:
    return chosen[list(IMAGE)].reset_index(drop=True)


def _write(
    target: Path,
    robustness: list[pd.DataFrame],
    explanations: list[pd.DataFrame],
    failures: list[pd.DataFrame],
    costs: list[pd.DataFrame],
    pictures: Mapping[str, NDArray[np.uint8]],
    about: Mapping[str, Any],
) -> None:
    with replaced_folder(target) as folder:
        _joined(robustness, ROBUSTNESS_COLUMNS).to_parquet(folder / "robustness.parquet", index=False)
        _joined(explanations, EXPLANATION_COLUMNS).to_parquet(folder / "explanations.parquet", index=False)
        _joined(failures, FAILURE_COLUMNS).to_csv(folder / "failures.csv", index=False)
        _joined(costs, COST_COLUMNS).to_csv(folder / "cost.csv", index=False)
        np.savez_compressed(folder / "pictures.npz", allow_pickle=False, **(pictures or _stacked([])))
        write_json(folder / "probes.json", about)


def _joined(frames: list[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(frames, ignore_index=True)[list(columns)] if frames else pd.DataFrame(columns=list(columns))
