"""How often the 95 % intervals of the tables cover what they estimate, by simulation.

Of each repetition: cases of one to three images with a shared difficulty, dealt into folds; for each fold and seed a
network whose scores are those of all networks with noise of its own a case and an image, and a quality, scale and
offset of its own. The truth is the mean of the metric over networks on images without number; of the calibration
errors, which grow as images become fewer, over parts of a fold's size.

    python benchmarks/coverage.py --repetitions 400

prints the table of docs/explanation/intervals.md.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import TYPE_CHECKING

import numpy as np

from bus_mlops.evaluation.intervals import FoldDraws
from bus_mlops.evaluation.metrics import METRICS, interval_metrics
from bus_mlops.evaluation.resampling import GroupWeights

if TYPE_CHECKING:
    import pandas as pd

DESIGNS = ((3, 1), (5, 1), (5, 3))
IMAGES = (220, 647, 1200, 3641)
# What depends on how many images there are.
OF_SIZE = ("calibration_error", "calibration_excess")
# What mirrors another one, or is no output of these networks.
LEFT_OUT = ("false_positive_rate", "false_negative_rate", "nsd", "hd95")
MALIGNANT, SEPARATION, RESAMPLES = 0.42, 1.9, 400
CASE, IMAGE, NETWORK_CASE, NETWORK_IMAGE = 0.75, 0.4, 0.25, 0.35


def population(images: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Label, group and what all networks see of each image."""
    sizes = rng.integers(1, 4, images)
    group = np.repeat(np.arange(images), sizes)[:images]
    malignant = rng.random(images) < MALIGNANT
    hard = rng.normal(0, CASE, images)
    label = malignant[group].astype(np.int64)
    score = SEPARATION * (label - 0.5) + hard[group] + rng.normal(0, IMAGE, images)
    overlap = 1.3 + 0.5 * rng.normal(0, 1, images)[group] + rng.normal(0, 0.6, images)
    return {"label": label, "group": group, "score": score, "overlap": overlap}


def network(seen: dict[str, np.ndarray], rng: np.random.Generator, fold: np.ndarray) -> dict[str, np.ndarray]:
    """Probability and Dice that one network gives; `fold` (2,) is what its training images do to quality and offset."""
    images = seen["label"].size
    own = rng.normal(0, NETWORK_CASE, int(seen["group"].max()) + 1)[seen["group"]] + rng.normal(
        0, NETWORK_IMAGE, images
    )
    score = seen["score"] * np.exp(rng.normal(0, 0.08) + fold[0]) + own
    logit = np.exp(rng.normal(0.1, 0.15)) * score + rng.normal(0, 0.25) + fold[1]
    overlap = seen["overlap"] + rng.normal(0, 0.12) + fold[0] + rng.normal(0, 0.3, images)
    dice = 1 / (1 + np.exp(-overlap))
    return {"probability": 1 / (1 + np.exp(-1.6 * logit)), "dice": dice, "iou": dice / (2 - dice)}


def fold_effect(rng: np.random.Generator) -> np.ndarray:
    """What the training images of a fold do to all its networks."""
    return rng.normal(0, [0.05, 0.1])


def experiment(images: int, folds: int, seeds: int, rng: np.random.Generator) -> pd.DataFrame:
    """The test predictions of one row of a table."""
    import pandas as pd

    seen = population(images, rng)
    dealt = rng.permutation(int(seen["group"].max()) + 1)[seen["group"]] % folds
    frames = []
    for fold in range(folds):
        part = {name: values[dealt == fold] for name, values in seen.items()}
        effect = fold_effect(rng)
        for seed in range(seeds):
            columns = {
                **part,
                **network(part, rng, effect),
                "fold": fold,
                "seed": seed,
                "hd95": 0.3 - part["score"] / 50,
            }
            frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def value(name: str, seen: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> float:
    """A metric of one network on a population."""
    metric, weights = METRICS[name], GroupWeights.identity(seen["label"].size)
    if metric.of_masks:
        return float(metric.of_overlaps(predicted[name], weights)[0])
    return float(metric.resampled(seen["label"], predicted["probability"], weights, 0.5)[0])


def truths(names: tuple[str, ...], images: int, networks: int, rng: np.random.Generator) -> dict[str, float]:
    """The mean of each metric over networks, each on so many images of its own."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(networks):
        seen = population(images, rng)
        predicted = network(seen, rng, fold_effect(rng))
        for name in names:
            found[name].append(value(name, seen, predicted))
    return {name: float(np.mean(values)) for name, values in found.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES)
    parser.add_argument("--designs", nargs="+", default=[f"{folds}x{seeds}" for folds, seeds in DESIGNS])
    parser.add_argument("--networks", type=int, default=1000, help="of the truth")
    parser.add_argument("--seed", type=int, default=14)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    names = tuple(name for name in interval_metrics() if name not in LEFT_OUT)
    fixed = truths(tuple(name for name in names if name not in OF_SIZE), 10_000, arguments.networks, rng)
    print("truth: " + ", ".join(f"{name} {value:.3f}" for name, value in fixed.items()), flush=True)
    error = 100 * math.sqrt(0.95 * 0.05 / arguments.repetitions)
    print(f"coverage in % of {arguments.repetitions} repetitions; Monte Carlo error of 95 %: {error:.1f}", flush=True)
    print("\n| images | folds x seeds | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 2) + "|", flush=True)
    for images in arguments.images:
        for design in arguments.designs:
            folds, seeds = map(int, design.split("x"))
            started = time.perf_counter()
            truth = fixed | truths(OF_SIZE, images // folds, 5 * arguments.networks, rng)
            hits, undefined = dict.fromkeys(names, 0), 0
            for _ in range(arguments.repetitions):
                draws = FoldDraws.of(
                    experiment(images, folds, seeds, rng), resamples=RESAMPLES, seed=int(rng.integers(2**31))
                )
                for name in names:
                    found = draws.interval(name)
                    hits[name] += found.low <= truth[name] <= found.high
                    undefined += math.isnan(found.low)
            cells = " | ".join(f"{100 * hits[name] / arguments.repetitions:.1f}" for name in names)
            note = f" ({undefined} undefined)" if undefined else ""
            print(
                f"| {images} | {design}{note} | {cells} |  <!-- {time.perf_counter() - started:.0f} s -->", flush=True
            )


if __name__ == "__main__":
    main()
