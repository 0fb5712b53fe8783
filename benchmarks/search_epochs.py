"""Epochs that searches train until the same best value: TPE with and without pruning, random, and the whole grid.

    python benchmarks/search_epochs.py                         # replays the table beside this file, in a minute
    python benchmarks/search_epochs.py --rate 1e-5             # from another first trial, which learns next to nothing
    python benchmarks/search_epochs.py --train ../shared       # makes the table anew, in some minutes

The table holds what every point of a space reaches on the validation part of each of five folds after each epoch, once
really trained: a head (hidden units, dropout, learning rate, weight of malignant cases) on the features of MobileNet
with ImageNet weights, on BUSI at 64 pixels; the weights of the lowest validation loss so far count. The searches then
run through the engine of `search@NAME`, sampler, pruner, groups and all, whose trials look their values up there
instead of training. An epoch counts once: a trial that goes on from a rung is trained from there.

The value of a trial is its mean ROC area over the folds. Of each seed the target is what TPE without pruning has
reached at its end, less .005; a search that never reaches it is counted with all its epochs.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bus_mlops import profiles
from bus_mlops.config import FoldsConfig
from bus_mlops.config.searches import Parameters, Search
from bus_mlops.evaluation.searched import FLAT, TrialRecord
from bus_mlops.experiments.runner import Runner
from bus_mlops.experiments.search_plan import SearchPlan, SearchStart
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.project import parse_config
from bus_mlops.search.optuna_engine import run_study
from bus_mlops.search.trials import Outcome, Trials

TABLE = Path(__file__).with_suffix(".csv")
FOLDS, EPOCHS, SIZE, BATCH_SIZE, COMPONENTS = 5, 27, 64, 32, 128
TOLERANCE = 0.005
SPACE: dict[str, list[float]] = {
    "options.units_1": [16, 64, 256],
    "dropout": [0.0, 0.3, 0.6],
    "optimizer.learning_rate": [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
    "loss.positive_weight": [1.0, 2.0, 3.0, 4.0],
}
FIRST: dict[str, bool | int | float | str] = {
    "options.units_1": 256,
    "dropout": 0.3,
    "optimizer.learning_rate": 1e-4,
    "loss.positive_weight": 1.0,
}
Array = NDArray[np.float64]


class Replayed(Trials):
    """A study whose trials are looked up.

    Attributes:
        history: After each evaluation: epochs trained so far, and the best value of the trials with all epochs.
    """

    def __init__(self, plan: SearchPlan, table: Mapping[tuple[float, ...], Array]) -> None:
        runner = SimpleNamespace(
            config=SimpleNamespace(tracking=SimpleNamespace(studies=None)), digests=lambda _: ("table", "table")
        )
        super().__init__(cast(Runner, runner), plan, plan.networks[0], FLAT)
        self._table = table
        self._done: dict[tuple[tuple[float, ...], int], int] = {}
        self.history: list[tuple[int, float]] = []

    def evaluate(
        self, batch: Mapping[int, Parameters], epochs: int | None = None, steps: Sequence[int] | None = None
    ) -> dict[int, Outcome]:
        """Look values up, and count the epochs that they would have taken."""
        found = {}
        for number, parameters in batch.items():
            point = tuple(float(parameters[path]) for path in SPACE)
            last = epochs or EPOCHS
            folds = range(FOLDS) if steps is None else steps
            values = tuple(float(self._table[point][fold, last - 1]) for fold in folds)
            trained = 0
            for fold in folds:
                before = self._done.get((point, fold), 0)
                trained += max(0, last - before)
                self._done[point, fold] = max(last, before)
            whole = epochs is None and len(values) == FOLDS
            best = self.history[-1][1] if self.history else 0.0
            value = statistics.fmean(values)
            self.history.append((sum(self._done.values()), max(best, value if whole else 0.0)))
            found[number] = Outcome((value,), values, {}, (), trained)
        return found

    def tell(self, trial: TrialRecord) -> None:
        """Nobody watches."""

    def epochs_until(self, target: float) -> int:
        """Epochs trained when a value was first reached; all of them if it never was."""
        return next((epochs for epochs, best in self.history if best >= target), self.history[-1][0])


def main() -> None:
    """Make the table if asked to, replay the searches, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--train", type=Path, metavar="SHARED", help="make the table from SHARED/data and SHARED/weights"
    )
    parser.add_argument("--trials", type=int, default=40, help="of each search but the grid")
    parser.add_argument("--seeds", type=int, default=5)
    rate = "optimizer.learning_rate"
    parser.add_argument("--rate", type=float, choices=SPACE[rate], default=FIRST[rate], help="of the first trial")
    arguments = parser.parse_args()
    first = {**FIRST, rate: arguments.rate}
    logging.disable(logging.WARNING)
    if arguments.train:
        write_table(arguments.train)
    table = read_table()
    top = max(float(curve[:, -1].mean()) for curve in table.values())
    print(f"{len(table)} points, {FOLDS} folds, {EPOCHS} epochs: best {top:.4f}, first {_value(table, first):.4f}")
    ways: dict[str, dict[str, Any]] = {
        "tpe, pruned by successive halving": {"pruning": {"epochs": "successive_halving"}},
        "tpe, pruned by hyperband": {"pruning": {"epochs": "hyperband"}},
        "tpe, pruned by median": {"pruning": {"epochs": "median"}},
        "tpe, folds pruned by wilcoxon": {"pruning": {"folds": "wilcoxon"}},
        "tpe, pruned by successive halving and wilcoxon": {
            "pruning": {"epochs": "successive_halving", "folds": "wilcoxon"}
        },
        "tpe": {},
        "random": {"sampler": "random"},
        "grid": {"sampler": "grid", "trials": None},
    }
    runs = {
        name: [replay(table, first, seed, {"trials": arguments.trials, **settings}) for seed in range(arguments.seeds)]
        for name, settings in ways.items()
    }
    plain = runs["tpe"]
    targets = [run.history[-1][1] - TOLERANCE for run in plain]
    base = statistics.fmean(run.epochs_until(target) for run, target in zip(plain, targets, strict=True))
    base_all = statistics.fmean(run.history[-1][0] for run in plain)
    print(f"{'':48}best value (least gain)   epochs in all    until the target  reached")
    for name, own in runs.items():
        best = [run.history[-1][1] for run in own]
        worst = min(a - b.history[-1][1] for a, b in zip(best, plain, strict=True))
        until = statistics.fmean(run.epochs_until(target) for run, target in zip(own, targets, strict=True))
        total = statistics.fmean(run.history[-1][0] for run in own)
        reached = sum(value >= target for value, target in zip(best, targets, strict=True))
        print(
            f"{name:48}{statistics.fmean(best):.4f} ({worst:+.4f})   {total:7.0f} ({100 * total / base_all:4.0f} %)"
            f"   {until:7.0f} ({100 * until / base:4.0f} %)   {reached}/{len(own)}"
        )


def _value(table: Mapping[tuple[float, ...], Array], parameters: Parameters) -> float:
    return float(table[tuple(float(parameters[path]) for path in SPACE)][:, -1].mean())


def replay(
    table: Mapping[tuple[float, ...], Array], first: Parameters, seed: int, settings: Mapping[str, Any]
) -> Replayed:
    """A search from its first trial to its last."""
    config = parse_config(_parameters(Path("data")))
    spec = make_spec(config, "mobilenet", "all")
    spec = spec.model_copy(update={"training": spec.training.model_copy(update={"epochs": EPOCHS})})
    search = Search.model_validate(
        {
            "network": "mobilenet",
            "strategy": "approaches",
            "space": SPACE,
            "nested": False,
            "folds": tuple(range(1, FOLDS + 1)),
            **settings,
        }
    )
    start = SearchStart(network="mobilenet", start=spec, first=dict(first), title="MobileNet")
    plan = SearchPlan(name="epochs", settings=search, networks=(start,), folds=tuple(range(1, FOLDS + 1)), seed=seed)
    trials = Replayed(plan, table)
    with tempfile.TemporaryDirectory(prefix="bus-search-") as folder:
        run_study(trials, Path(folder))
    return trials


def _parameters(root: Path) -> dict[str, Any]:
    import yaml

    values: dict[str, Any] = yaml.safe_load(profiles.text("busi"))
    values["data"] = {"kind": "real", "root": str(root), "sources": ["busi"]}
    return values


def read_table() -> dict[tuple[float, ...], Array]:
    """Point of the space -> ROC area on validation (folds, epochs)."""
    frame = pd.read_csv(TABLE)
    curves = frame[[f"{epoch}" for epoch in range(1, EPOCHS + 1)]].to_numpy() / 1e4
    points = [tuple(float(value) for value in row) for row in frame[list(SPACE)].to_numpy()]
    return {point: curves[place : place + FOLDS] for place, point in enumerate(points) if place % FOLDS == 0}


def write_table(shared: Path) -> None:
    """Train every point of the space on every fold, all points of as many units at once."""
    features, label, parts = _features(shared)
    points = [
        (u, d, r, w)
        for u in SPACE["options.units_1"]
        for d in SPACE["dropout"]
        for r in SPACE["optimizer.learning_rate"]
        for w in SPACE["loss.positive_weight"]
    ]
    curves = np.zeros((len(points), FOLDS, EPOCHS))
    for fold in range(FOLDS):
        part = parts[fold]
        for units in SPACE["options.units_1"]:
            place = [number for number, point in enumerate(points) if point[0] == units]
            curves[place, fold] = _train(
                features, label, part, [points[number] for number in place], np.random.default_rng([fold, int(units)])
            )
        print(
            f"fold {fold + 1}: ROC area {curves[:, fold, -1].min():.3f} to {curves[:, fold, -1].max():.3f}", flush=True
        )
    rows = [
        [*point, fold + 1, *np.round(curves[number, fold] * 1e4).astype(int)]
        for number, point in enumerate(points)
        for fold in range(FOLDS)
    ]
    columns = [*SPACE, "fold", *range(1, EPOCHS + 1)]
    pd.DataFrame(rows, columns=columns).to_csv(TABLE, index=False)


def _features(shared: Path) -> tuple[Array, Array, list[NDArray[np.str_]]]:
    """Pooled features (images, 1024), labels, and the part of each image in each fold; cases stay whole."""
    import keras

    from bus_mlops.dataset.assemble import assemble
    from bus_mlops.dataset.folds.make import make_folds

    config = parse_config(_parameters(shared / "data"))
    with tempfile.TemporaryDirectory(prefix="bus-search-") as folder:
        benchmark = assemble(config, [SIZE], Path(folder))
        network = keras.applications.MobileNet(
            include_top=False,
            input_shape=(SIZE, SIZE, 3),
            pooling="avg",
            weights=str(shared / "weights" / "mobilenet_1_0_224_notop.weights.h5"),
        )
        pixels = np.asarray(benchmark.images(SIZE), np.float32).reshape(-1, SIZE, SIZE, 1) / 127.5 - 1
        features = np.asarray(network.predict(np.repeat(pixels, 3, axis=-1), verbose=0), np.float64)
        manifest = benchmark.frame
        groups = manifest[["image_id"]].assign(group=manifest["case_id"])
        folds = (
            make_folds(manifest, groups, FoldsConfig(count=FOLDS), seed=0)
            .set_index("image_id")
            .loc[manifest["image_id"]]
        )
    return features, manifest["label"].to_numpy(float), [folds[f"fold_{k + 1}"].to_numpy(str) for k in range(FOLDS)]


def _train(
    features: Array, label: Array, part: NDArray[np.str_], points: Sequence[tuple[float, ...]], rng: np.random.Generator
) -> Array:
    """The ROC area on validation (points, epochs) of heads of as many units, with the weights of the lowest loss."""
    train, validation = np.flatnonzero(part == "train"), np.flatnonzero(part == "validation")
    mean, spread = features[train].mean(axis=0), features[train].std(axis=0) + 1e-6
    scaled = (features - mean) / spread
    axes = np.linalg.svd(scaled[train], full_matrices=False)[2][:COMPONENTS]
    inputs = (scaled @ axes.T / np.sqrt(COMPONENTS)).astype(np.float32)
    units, count = int(points[0][0]), len(points)
    dropout, rate, weight = (np.array([point[place] for point in points], np.float32) for place in (1, 2, 3))
    begin = rng.normal(0, np.sqrt(2 / COMPONENTS), (COMPONENTS, units)), rng.normal(0, np.sqrt(1 / units), (units, 1))
    values = [
        np.repeat(begin[0][None].astype(np.float32), count, 0),
        np.zeros((count, 1, units), np.float32),
        np.repeat(begin[1][None].astype(np.float32), count, 0),
        np.zeros((count, 1, 1), np.float32),
    ]
    first, second = [np.zeros_like(value) for value in values], [np.zeros_like(value) for value in values]
    reached, lowest, step = np.zeros((count, EPOCHS)), np.full(count, np.inf), 0
    for epoch in range(EPOCHS):
        for start in range(0, len(train), BATCH_SIZE):
            if start == 0:
                order = rng.permutation(train)
            rows = order[start : start + BATCH_SIZE]
            step += 1
            x, y = inputs[rows], label[rows].astype(np.float32)[None, :, None]
            hidden = np.maximum(x @ values[0] + values[1], 0)
            kept = (rng.random((1, *hidden.shape[1:]), np.float32) >= dropout[:, None, None]) / (
                1 - dropout[:, None, None]
            )
            dropped = hidden * kept.astype(np.float32)
            with np.errstate(over="ignore"):
                probability = 1 / (1 + np.exp(-(dropped @ values[2] + values[3])))
            error = (probability - y) * np.where(y > 0, weight[:, None, None], 1) / len(rows)
            back = (error @ values[2].transpose(0, 2, 1)) * kept.astype(np.float32) * (hidden > 0)
            slopes = [
                x.T[None] @ back,
                back.sum(axis=1, keepdims=True),
                dropped.transpose(0, 2, 1) @ error,
                error.sum(axis=1, keepdims=True),
            ]
            for place, slope in enumerate(slopes):  # Adam
                first[place] += 0.1 * (slope - first[place])
                second[place] += 0.001 * (slope**2 - second[place])
                scale = rate[:, None, None] * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                values[place] -= (scale * first[place] / (np.sqrt(second[place]) + 1e-7)).astype(np.float32)
        score = (np.maximum(inputs[validation] @ values[0] + values[1], 0) @ values[2] + values[3])[..., 0]
        truth = label[validation]
        each = np.logaddexp(0, np.where(truth > 0, -score, score)) * np.where(truth > 0, weight[:, None], 1)
        loss = each.mean(axis=1)
        better = loss < lowest
        lowest = np.where(better, loss, lowest)
        reached[:, epoch] = np.where(better, _roc_area(score, truth), reached[:, epoch - 1])
    return reached


def _roc_area(score: Array, truth: Array) -> Array:
    """(points,) of scores (points, images)."""
    difference = score[:, truth > 0, None] - score[:, None, truth == 0]
    area: Array = ((difference > 0) + 0.5 * (difference == 0)).mean(axis=(1, 2))
    return area


if __name__ == "__main__":
    main()
