"""What a choice of parameters claims beyond what it is worth, flat and nested, by simulation.

    python benchmarks/search_optimism.py                          # a minute or two on two cores
    python benchmarks/search_optimism.py --shares .5 .2 .1 .2     # configurations as unlike as networks are
    python benchmarks/search_optimism.py --luck 0.01              # trainings that differ in quality as well

No network is trained: the score of image i by configuration c in fold k is drawn,

    s = d(c, k) y + u(i) + w(i, k) + v(i, c) + e(i, c, k)

with y the label, u what is hard for every model, w what all models of a fold share, v what is the configuration's own
and comes back whenever it is trained, e what another training would change. The four are normal, and `--shares` are
those of the variance, which is 1: by default what `search_optimism_busi.py` finds between losses of MobileNet. Areas
are those under the ROC curve; the mean over five folds is reported. A fifth of the images is tested in each fold, of
the others a fifth validates (or, with inner folds, each fifth in turn, by models of its own). The true area follows
from d(c, k): it is what the same models would reach on endlessly many new images. The first configuration is the
paper's.

Procedures: `flat, fold 1` chooses once on the validation part of fold 1; `flat, all` once on those of all folds;
`nested` for each fold on its own; `inner folds` for each fold by cross-validation of its training part. Each replaces
the paper's configuration if the best other beats it by more than 0, 1 or 2 standard errors, the rule of
`evaluation/choice.py`, here with DeLong's formula for them; the two are compared at the end.

Tables, areas in thousandths:

- optimism: reported minus true area of what was chosen, less the same of the paper's configuration, which nobody chose
  and whose expectation is 0;
- significant: in how many percent of the repetitions the corrected resampled t-test (one-sided, 5 %), with which the
  gate compares, finds what was chosen better than the paper's configuration, though all are equal;
- gain kept: the true area gained over the paper's configuration, in percent of what the best configuration gains,
  where configurations differ (their areas with a standard deviation of `--spread`, the paper's at the mean).
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from bus_mlops.evaluation.choice import Candidate, choose, mean_value

Array = npt.NDArray[np.float64]
FOLDS = 5
CONFIGURATIONS = (5, 9, 20, 40)
STANDARD_ERRORS = (0, 1, 2)
PROCEDURES = ("flat, fold 1", "flat, all", "nested", "inner folds")
# Benign and malignant images: BUSI, and all five sources.
SIZES = {"BUSI, 647 images": (437, 210), "all sources, 3,641 images": (1818, 1823)}


@dataclass(frozen=True)
class World:
    """What is simulated: the size, the paper's area, standard deviations of areas, shares of the variance."""

    benign: int
    malignant: int
    area: float
    spread: float
    luck: float
    shares: tuple[float, float, float, float]

    def strength(self, area: float) -> float:
        """The distance d of the classes' means that has this area."""
        return float(np.sqrt(2) * stats.norm.ppf(area))

    @property
    def slope(self) -> float:
        """By how much d grows with the area."""
        return float(np.sqrt(2) / stats.norm.pdf(stats.norm.ppf(self.area)))


@dataclass(frozen=True)
class Step:
    """Scores (N, c) of all configurations on one validation part, its labels and the numbers of its images."""

    scores: Array
    labels: npt.NDArray[np.bool_]
    images: npt.NDArray[np.int64]

    @cached_property
    def areas(self) -> Array:
        """Of each configuration, (c,)."""
        return areas(self.scores, self.labels)


def main() -> None:
    """Print the tables of each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, nargs=2, default=[1000, 200], help="of each size")
    parser.add_argument("--area", type=float, default=0.8, help="of the paper's configuration")
    parser.add_argument("--spread", type=float, default=0.01, help="of the areas of configurations that differ")
    parser.add_argument("--luck", type=float, default=0.0, help="of the areas of trainings of one configuration")
    parser.add_argument("--shares", type=float, nargs=4, default=[0.53, 0.2, 0.01, 0.26], metavar=("U", "W", "V", "E"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not np.isclose(sum(arguments.shares), 1):
        parser.error(f"--shares must add up to 1 but add up to {sum(arguments.shares):g}")
    started = time.time()
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for (name, (benign, malignant)), count in zip(SIZES.items(), arguments.repetitions, strict=True):
            world = World(benign, malignant, arguments.area, arguments.spread, arguments.luck, tuple(arguments.shares))
            seeds = np.random.SeedSequence(arguments.seed).spawn(count)
            found = pool.starmap(repetition, [(world, seed) for seed in seeds], chunksize=10)
            print(f"\n{name}, {count} repetitions")
            show(np.stack(found))
            agreed, ratio, made = check(world, np.random.SeedSequence(arguments.seed + 1).spawn(8))
            print(f"choice.choose takes the same in {agreed} of {made}; its standard errors are {ratio:.3f} times ours")
    print(f"{time.time() - started:.0f} s")


def repetition(world: World, seed: np.random.SeedSequence) -> Array:
    """Reported and true areas (equal or not, procedures, errors, numbers of configurations, folds, 4).

    The last axis: what was chosen, reported and truly; the paper's configuration, likewise. At the end of the axis of
    procedures stands the configuration that is truly best.
    """
    result = np.zeros((2, len(PROCEDURES) + 1, len(STANDARD_ERRORS), len(CONFIGURATIONS), FOLDS, 4))
    for number, spread in enumerate((0.0, world.spread)):
        rng = np.random.default_rng(seed)  # the same images and errors, only the strengths differ
        quality = spread * rng.standard_normal(max(CONFIGURATIONS))
        quality[0] = 0.0
        true, reported, steps = simulate(world, quality, rng)
        for size, count in enumerate(CONFIGURATIONS):
            for place, procedure in enumerate(PROCEDURES):
                for error, chosen in enumerate(choices(procedure, steps, count)):
                    result[number, place, error, size] = _areas(reported, true, chosen)
            best = np.full(FOLDS, int(np.argmax(quality[:count])))
            result[number, -1, :, size] = _areas(reported, true, best)
    return result


def _areas(reported: Array, true: Array, chosen: npt.NDArray[np.int64]) -> Array:
    folds = np.arange(FOLDS)
    return np.stack([reported[folds, chosen], true[folds, chosen], reported[:, 0], true[:, 0]], axis=1)


def simulate(
    world: World, quality: Array, rng: np.random.Generator
) -> tuple[Array, Array, dict[str, list[list[Step]]]]:
    """True and reported areas (folds, configurations); of each kind of step, those of each fold."""
    labels = np.repeat([False, True], [world.benign, world.malignant])
    images, configurations = labels.size, quality.size
    common, of_fold, own, noise = np.sqrt(world.shares)
    hard = common * rng.standard_normal((images, 1))
    persistent = hard + own * rng.standard_normal((images, configurations))
    fold_of = deal(labels, np.arange(images), FOLDS, rng)
    steps: dict[str, list[list[Step]]] = {"outer": [], "inner": []}
    true, reported = np.zeros((FOLDS, configurations)), np.zeros((FOLDS, configurations))

    def trained(on: npt.NDArray[np.int64]) -> tuple[Array, Array]:
        """Strengths of one training of each configuration, and its scores of some images."""
        lucky = quality + world.luck * rng.standard_normal(configurations)
        strengths = world.strength(world.area) + world.slope * lucky
        scores = persistent[on] + noise * rng.standard_normal((on.size, configurations))
        scores += of_fold * rng.standard_normal((on.size, 1))
        return strengths, scores + labels[on, None] * strengths

    for fold in range(FOLDS):
        tested, rest = np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of != fold)
        parts = deal(labels, rest, FOLDS, rng)
        validated = rest[parts == 0]
        strengths, scores = trained(np.concatenate([tested, validated]))
        true[fold] = stats.norm.cdf(strengths / np.sqrt(2))
        reported[fold] = areas(scores[: tested.size], labels[tested])
        steps["outer"].append([Step(scores[tested.size :], labels[validated], validated)])
        inner = [rest[parts == part] for part in range(FOLDS)]
        steps["inner"].append([Step(trained(on)[1], labels[on], on) for on in inner])
    return true, reported, steps


def deal(
    labels: npt.NDArray[np.bool_], images: npt.NDArray[np.int64], parts: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """A part for each of some images, by chance and as even as can be within each class."""
    result = np.zeros(images.size, np.int64)
    for label in (False, True):
        place = np.flatnonzero(labels[images] == label)
        result[place] = rng.permutation(np.arange(place.size) % parts)
    return result


def areas(scores: Array, labels: npt.NDArray[np.bool_]) -> Array:
    """Areas under the ROC curves of scores (N, c) without ties, (c,)."""
    ordered = labels[np.argsort(np.ascontiguousarray(scores.T, np.float32), axis=1)]
    malignant = int(labels.sum())
    ranks = ordered @ np.arange(1.0, labels.size + 1)
    return np.asarray((ranks - malignant * (malignant + 1) / 2) / (malignant * (labels.size - malignant)))


def choices(procedure: str, steps: dict[str, list[list[Step]]], count: int) -> list[npt.NDArray[np.int64]]:
    """For each number of standard errors the configuration of each fold, of the first `count` ones."""
    outer = steps["outer"]
    rests_on = {
        "flat, fold 1": [outer[0]],
        "flat, all": [[step for fold in outer for step in fold]],
        "nested": outer,
        "inner folds": steps["inner"],
    }[procedure]
    found = np.array([_choose(each, count) for each in rests_on])
    return [np.broadcast_to(column, FOLDS) for column in found.T]


def _choose(steps: list[Step], count: int) -> list[int]:
    """For each number of standard errors: the best, or the first unless it is beaten by more."""
    values = np.mean([step.areas[:count] for step in steps], axis=0)
    best = int(np.argmax(values))
    error = _error(steps, best) if best else 0.0
    return [best if values[best] - values[0] > many * error else 0 for many in STANDARD_ERRORS]


def _error(steps: list[Step], other: int) -> float:
    """Standard error of the difference of the mean areas of a configuration and the first (DeLong's).

    An image of several steps counts once, with the sum of what it does in each.
    """
    total = np.zeros(1 + max(int(step.images.max()) for step in steps))
    for step in steps:
        difference = _placements(step, other) - _placements(step, 0)
        for label in (False, True):
            place = step.labels == label
            centred = difference[place] - difference[place].mean()
            total[step.images[place]] += centred / np.sqrt(place.sum() * (place.sum() - 1)) / len(steps)
    return float(np.sqrt((total**2).sum()))


def _placements(step: Step, configuration: int) -> Array:
    """Of each image the share of the other class that it is rightly ordered with."""
    scores = step.scores[:, configuration]
    benign, malignant = np.sort(scores[~step.labels]), np.sort(scores[step.labels])
    return np.where(
        step.labels,
        np.searchsorted(benign, scores) / benign.size,
        1 - np.searchsorted(malignant, scores) / malignant.size,
    )


def check(world: World, seeds: list[np.random.SeedSequence]) -> tuple[int, float, int]:
    """Choices of nine that `choice.choose` makes alike, its standard errors over ours, and how many choices."""
    agreed, ratios, made = 0, list[float](), 0
    for number, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        _, _, steps = simulate(world, np.zeros(9), rng)
        everything = [step for fold in steps["outer"] for step in fold]
        place = number % len(STANDARD_ERRORS)
        for rests_on in (*steps["outer"], everything, steps["inner"][0]):
            candidates = [_candidate(configuration, rests_on) for configuration in range(9)]
            theirs = choose(candidates, "roc_auc", STANDARD_ERRORS[place])
            agreed += theirs.number == _choose(rests_on, 9)[place]
            made += 1
            if theirs.best:
                ratios.append(theirs.standard_error / _error(rests_on, theirs.best))
    return agreed, float(np.mean(ratios)), made


def _candidate(number: int, steps: list[Step]) -> Candidate:
    frames = [
        pd.DataFrame(
            {
                "label": step.labels.astype(int),
                "probability": stats.norm.cdf(step.scores[:, number] / 4),
                "group": step.images.astype(str),
            }
        )
        for step in steps
    ]
    return Candidate(number, {}, mean_value(frames, "roc_auc"), frames)


def show(found: Array) -> None:
    """The tables of one size; `found` holds the results of `repetition` along its first axis."""
    reported, true, first, first_true = (found[..., place] for place in range(4))
    optimism = 1000 * (reported - true - first + first_true).mean(axis=-1)
    gain = 1000 * (true - first_true).mean(axis=-1)
    better = 100.0 * significant(reported - first)
    possible = gain[:, 1, -1].mean(axis=0)[0]
    kept = 100 * gain[:, 1] / possible
    print("true gain of the best configuration, by their number: " + ", ".join(f"{each:.1f}" for each in possible))
    tables = {
        "optimism, equal": optimism[:, 0],
        "optimism, different": optimism[:, 1],
        "significant %, equal": better[:, 0],
        "gain kept %": kept,
    }
    print(f"{'':26}" + "".join(f"{name:>28}" for name in tables))
    print(f"{'procedure':16}{'errors':>10}" + "".join(f"{count:>7}" for _ in tables for count in CONFIGURATIONS))
    for place, procedure in enumerate(PROCEDURES):
        for error, many in enumerate(STANDARD_ERRORS):
            means = [table[:, place, error].mean(axis=0) for table in tables.values()]
            print(f"{procedure:16}{many:>10}" + "".join(f"{value:7.1f}" for row in means for value in row))
    worst = [_errors(table[:, : len(PROCEDURES)]).max() for table in tables.values()]
    print("largest standard error    " + "".join(f"{each:28.1f}" for each in worst))


def _errors(table: Array) -> Array:
    return np.asarray(table.std(axis=0, ddof=1) / np.sqrt(len(table)))


def significant(differences: Array) -> npt.NDArray[np.bool_]:
    """Whether the corrected resampled t-test over the folds, the last axis, finds a gain at 5 % (one-sided)."""
    test_to_train = (1 / FOLDS) / ((1 - 1 / FOLDS) ** 2)  # without the validation part
    error = np.sqrt(1 / FOLDS + test_to_train) * differences.std(axis=-1, ddof=1)
    mean = differences.mean(axis=-1)
    return np.asarray((mean > 0) & (mean > stats.t.ppf(0.95, FOLDS - 1) * error))


if __name__ == "__main__":
    main()
