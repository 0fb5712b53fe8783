"""A world with known truth for `gate_life.py`: cohorts, trainings as good as their images make them, searches.

Its generator is neither that of the tests nor the model of `bus-mlops gate --power`. A score is

    s = d y + u(i) + v(m, i) + e(m, f, t, i)

with y the label; u what is hard for every model, a group's part of it shared by its images, and heavy in the tails (one
image in five has three times the variance); v a model's own, which comes back with every training of it; e that
of training t on fold f. The separation d of a training is that of its model, plus what its training images are worth
to the model (each image has a worth; folds that share training images share it), plus luck. Logits are scaled and
shifted at random in every training, so that calibration and thresholds have work to do.

True areas are those of the mean over the seeds of a fold, over endlessly many images and trainings.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, stats

from bus_mlops.evaluation.choice import Candidate, choose, mean_value
from bus_mlops.gate.comparison import GateContext, Lineage
from bus_mlops.gate.look import Look

Array = npt.NDArray[np.float64]

# Shares of the variance of a score within a class; two models correlate to .75, as two networks on BUSI.
HARD, OWN, OF_TRAINING = 0.75, 0.125, 0.125
# Of what is hard, the share that a group's images have in common; of images, the share that are in a group of two.
OF_GROUP, IN_GROUPS = 0.3, 0.2
# Standard deviations of the separation: by training images (three quarters of it alike for two models), by luck.
BY_IMAGES, LUCK, WORTH_SHARED = 0.06, 0.10, 0.75
SCALE, OFFSET = 0.3, 0.5
VALIDATION = 0.2
# Configurations of a search; how much of a challenger's own difficulty they have in common.
TRIALS, TRIALS_SHARED = 5, 0.5
LINEAGE = Lineage("d" * 64, "f" * 64)


@dataclass
class World:
    """One cohort with its folds.

    Attributes:
        images: How many.
        malignant: Share of them.
        folds: Test parts.
        seeds: Trainings of each fold.
        rng: Where all chance comes from.
    """

    images: int
    malignant: float
    folds: int
    seeds: int
    rng: np.random.Generator
    frame: pd.DataFrame = field(init=False)
    part: npt.NDArray[np.int64] = field(init=False)
    hard: Array = field(init=False)
    worth: Array = field(init=False)

    def __post_init__(self) -> None:
        """Draw images, groups, labels, folds, and what is hard."""
        rng, n = self.rng, self.images
        group = np.arange(n)
        twins = np.flatnonzero(rng.random(n // 2) < IN_GROUPS)
        group[2 * twins + 1] = group[2 * twins]
        # As many malignant images as a user counts, whole groups of one label.
        label = np.zeros(n, dtype=np.int64)
        for g in rng.permutation(np.unique(group)):
            if label.sum() >= round(self.malignant * n):
                break
            label[group == g] = 1
        self.part = np.zeros((self.folds, n), dtype=np.int64)  # 0: train, 1: validation, 2: test
        fold_of = self._stratified(group, label)
        for fold in range(self.folds):
            known = np.unique(group[fold_of != fold])
            chosen = rng.permutation(known)[: round(VALIDATION * known.size)]
            self.part[fold] = np.where(fold_of == fold, 2, np.isin(group, chosen).astype(int))
        # Numbers for names: half of the time goes into text otherwise.
        columns = {"image_id": np.arange(n), "case_id": group, "group": group, "source": "busi", "label": label}
        self.frame = pd.DataFrame(columns)
        of_group, of_image = rng.normal(size=n)[group], rng.normal(size=n)
        self.hard = _spread(rng, n)[group] * (np.sqrt(OF_GROUP) * of_group + np.sqrt(1 - OF_GROUP) * of_image)
        self.worth = rng.normal(size=n)

    def _stratified(self, group: npt.NDArray[np.int64], label: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        of = np.zeros(self.images, dtype=np.int64)
        for value in (0, 1):
            own = self.rng.permutation(np.unique(group[label == value]))
            of[own] = np.arange(own.size) % self.folds
        return of[group]

    @property
    def context(self) -> GateContext:
        """What the gate is told of it."""
        numbers = range(1, self.folds + 1)
        train, test = ({f: int((self.part[f - 1] == p).sum()) for f in numbers} for p in (0, 2))
        return GateContext(
            "bus-mt-estan", False, tuple(numbers), LINEAGE, LINEAGE, n_train=train, n_test=test, leak_check="passed"
        )

    def at(self, look: Look) -> GateContext:
        """The same, with what a look may spend."""
        return replace(self.context, look=look)

    def model(self, area: float) -> Array:
        """Logits (folds, seeds, images) of a model whose ensembles have this true area."""
        return self._trainings(area, self.rng.normal(size=self.images))

    def searched(self, area: float) -> Array:
        """The same of a challenger: for each fold the configuration that a nested search chose, all equally good."""
        common = self.rng.normal(size=self.images)
        trials = []
        for _ in range(TRIALS):
            own = np.sqrt(TRIALS_SHARED) * common + np.sqrt(1 - TRIALS_SHARED) * self.rng.normal(size=self.images)
            trials.append(self._trainings(area, own))
        return np.stack([trials[self._choice(fold, trials)][fold] for fold in range(self.folds)])

    def seen_area(self, logits: Array) -> float:
        """The mean over folds of the area of the mean over seeds on the test part, uncalibrated."""
        areas = []
        for fold in range(self.folds):
            rows = self.part[fold] == 2
            mean = (1 / (1 + np.exp(-logits[fold][:, rows]))).mean(axis=0)
            label = self.frame["label"].to_numpy()[rows]
            ranks = stats.rankdata(mean)[label == 1].sum() - label.sum() * (label.sum() + 1) / 2
            areas.append(ranks / (label.sum() * (label.size - label.sum())))
        return float(np.mean(areas))

    def _choice(self, fold: int, trials: list[Array]) -> int:
        """By the project's rule, on the validation part of the first seed."""
        rows = self.part[fold] == 1
        known = self.frame[rows]
        candidates = []
        for number, trial in enumerate(trials):
            validation = [known.assign(probability=1 / (1 + np.exp(-trial[fold, 0, rows])))]
            candidates.append(Candidate(number, {}, mean_value(validation, "roc_auc"), validation))
        return choose(candidates, "roc_auc", 1.0).number

    def _trainings(self, area: float, own: Array) -> Array:
        """Logits of every training for every image, (folds, seeds, images)."""
        rng = self.rng
        worth = np.sqrt(WORTH_SHARED) * self.worth + np.sqrt(1 - WORTH_SHARED) * rng.normal(size=self.images)
        separation = separation_of(area, self.seeds)
        signed = self.frame["label"].to_numpy() - 0.5
        logits = np.empty((self.folds, self.seeds, self.images))
        for fold in range(self.folds):
            seen = self.part[fold] == 0
            taught = BY_IMAGES * worth[seen].sum() / np.sqrt(seen.sum())
            for seed in range(self.seeds):
                noise = np.sqrt(HARD) * self.hard + np.sqrt(OWN) * own
                noise = noise + np.sqrt(OF_TRAINING) * rng.normal(size=self.images)
                scores = (separation + taught + LUCK * rng.normal()) * signed + noise
                logits[fold, seed] = 1.5 * np.exp(SCALE * rng.normal()) * scores + OFFSET * rng.normal()
        return logits

    def predictions(self, logits: Array, name: str) -> pd.DataFrame:
        """Out-of-fold predictions, one frame from whole columns: a simulation makes thousands."""
        columns: dict[str, list[Array]] = {each: [] for each in ("row", "fold", "seed", "part", "logit")}
        for fold, seed, part in product(range(self.folds), range(self.seeds), (1, 2)):
            rows = np.flatnonzero(self.part[fold] == part)
            cell = (rows, *(np.full(rows.size, each) for each in (fold + 1, seed, part)), logits[fold, seed, rows])
            for values, column in zip(cell, columns.values(), strict=True):
                column.append(values)
        row, fold_, seed_, part_, logit = (np.concatenate(each) for each in columns.values())
        probability = 1 / (1 + np.exp(-logit))
        return self.frame.take(row.astype(int)).assign(
            fold=fold_,
            seed=seed_,
            part=np.where(part_ == 1, "validation", "test"),
            probability=probability,
            strategy="simulated",
            model=name,
            variant="",
        )


def separation_of(area: float, seeds: int) -> float:
    """The separation at which ensembles of so many trainings have this true area."""
    if (area, seeds) not in _SEPARATIONS:
        rng = np.random.default_rng(7)
        noise = [
            np.sqrt(HARD) * _spread(rng, _SAMPLE) * rng.normal(size=_SAMPLE)
            + np.sqrt(OWN + OF_TRAINING / seeds) * rng.normal(size=_SAMPLE)
            for _ in range(2)
        ]
        ordered, shifted = np.sort(noise[0]), np.sort(noise[1])

        def missing(d: float) -> float:
            return float(np.searchsorted(ordered, shifted + d).mean() / _SAMPLE) - area

        _SEPARATIONS[area, seeds] = float(optimize.brentq(missing, 0, 8, xtol=1e-4))
    return _SEPARATIONS[area, seeds]


_SEPARATIONS: dict[tuple[float, int], float] = {}
_SAMPLE = 100_000


def _spread(rng: np.random.Generator, count: int) -> Array:
    """Standard deviations with mean square 1: one in five has three times the variance of the others."""
    return np.sqrt(np.where(rng.random(count) < 0.2, 3.0, 1.0) / 1.4)
