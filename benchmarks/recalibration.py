"""How honest `bus-mlops accept` is: coverage of its intervals and bands, and how often it gives which verdict.

    python benchmarks/recalibration.py [--repetitions 200] [--seed 0]

Hospitals are drawn whose answers are known: a patient's images share a random part of their logits, malignant ones lie
`separation` higher, and all are shifted by `shift`, as at another place. Of each hospital `cases` patients are seen,
with one to three images each; what is true is computed from 40,000 others. Lines say

    intervals   how often the 95 % interval of sensitivity, specificity and ROC AUC holds the true value
    bands       how often the sensitivity and specificity that a threshold fitted to k cases truly has lie in the band
    local       how often the interval at fitted thresholds, on which verdicts rest, holds the mean of these
    thresholds  by how many points the lesser of sensitivity and specificity falls behind the best threshold's, in the
                mean and in one of ten draws, where k cases choose it by crossing (ours), by Youden's index, or by
                Platt's curve at the share of malignant cases, which is as the answers here are drawn
    verdicts    how often each is given, where the model is as claimed, shifted, or worse

With --repetitions 40 --seed 0 (a minute of one core): intervals hold the true value in 91 to 98 of 100 draws, and in 88
to 90 where the area is .996; bands in 91 to 98. Intervals at fitted thresholds always did: they also carry which
threshold a hospital happens to fit, and are wider than the mean over fits needs, so that "holds after recalibration"
is said late rather than too early. Crossing loses 4.2 points with 50 cases, Youden's index 6.1, Platt's curve 2.8.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from bus_mlops.consumer.acceptance import accept
from bus_mlops.consumer.acceptance_verdict import SENSITIVITY, SPECIFICITY
from bus_mlops.consumer.local_cases import LocalCases, LocalImage
from bus_mlops.consumer.local_statistics import roc_area, share_of
from bus_mlops.consumer.package_format import JudgedNumber, sigmoid
from bus_mlops.consumer.recalibration import draws_of
from bus_mlops.evaluation.roc import youden_threshold

SHARE, SHARED, OWN, THRESHOLD = 0.4, 1.2, 0.6, 0.5
SEPARATION, CLAIM = 3.3, 0.03


@dataclass(frozen=True)
class Hospital:
    """Images, (N,): labels, answers, patients."""

    labels: Any
    answers: Any
    cases: Any


def drawn(rng: np.random.Generator, patients: int, separation: float, shift: float) -> Hospital:
    """Patients of one hospital."""
    member = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    label = (rng.random(patients) < SHARE).astype(np.int64)[member]
    logits = separation * (label - 0.5) + shift + SHARED * rng.normal(size=patients)[member]
    return Hospital(label, sigmoid(logits + OWN * rng.normal(size=member.size)), member.astype(str))


def rates(hospital: Hospital, threshold: float) -> tuple[float, float]:
    """Sensitivity and specificity (fractions)."""
    called = hospital.answers >= threshold
    return float(called[hospital.labels == 1].mean()), float(1 - called[hospital.labels == 0].mean())


def intervals(rng: np.random.Generator, repetitions: int) -> None:
    """Print coverage of intervals at a fixed threshold."""
    for cases in (30, 60, 120, 300):
        for separation, shift in ((SEPARATION, 0.0), (5.0, 0.0)):
            whole = drawn(rng, 40_000, separation, shift)
            true = (*rates(whole, THRESHOLD), roc_area(whole.labels, whole.answers, whole.cases).value)
            held = np.zeros(3)
            for _ in range(repetitions):
                own = drawn(rng, cases, separation, shift)
                called, malignant = (own.answers >= THRESHOLD).astype(float), own.labels == 1
                found = (
                    share_of(called[malignant], own.cases[malignant]),
                    share_of(1 - called[~malignant], own.cases[~malignant]),
                    roc_area(own.labels, own.answers, own.cases),
                )
                held += [each.low <= value <= each.high for each, value in zip(found, true, strict=True)]
            said = ", ".join(
                f"{name} {share:.3f}" for name, share in zip(("sens", "spec", "auc"), held / repetitions, strict=True)
            )
            print(f"intervals   {cases:4d} cases, true {true[0]:.2f} {true[1]:.2f} {true[2]:.3f}: {said}")


def bands(rng: np.random.Generator, repetitions: int) -> None:
    """Print how often bands, and the intervals on which verdicts rest, hold what they are of."""
    whole = drawn(rng, 40_000, SEPARATION, 1.0)
    fits = {k: [rates(whole, fitted(rng, k)) for _ in range(400)] for k in (10, 20, 50, 100)}
    means = {k: np.mean(values, axis=0) for k, values in fits.items()}
    for cases in (60, 150, 300):
        for k in (10, 20, 50, 100):
            if 2 * k > cases:
                continue
            inside, held = np.zeros(2), np.zeros(2)
            for _ in range(repetitions):
                found = judged(drawn(rng, cases, SEPARATION, 1.0), k)
                line = found.recalibrated[0].bands
                for place, metric in enumerate((SENSITIVITY, SPECIFICITY)):
                    values = np.array(fits[k])[:, place]
                    inside[place] += np.mean((line[metric].low <= values) & (values <= line[metric].high))
                    here = next(each.here for each in found.local if each.metric == metric)
                    held[place] += here.low <= means[k][place] <= here.high
            inside, held = inside / repetitions, held / repetitions
            print(
                f"bands       {cases:4d} cases, k {k:3d}: sens {inside[0]:.3f}, spec {inside[1]:.3f}; "
                f"local intervals: sens {held[0]:.3f}, spec {held[1]:.3f}"
            )


def fitted(rng: np.random.Generator, k: int) -> float:
    """The threshold that k cases of their own fit, drawn from a hospital of three times as many."""
    own = drawn(rng, 3 * k + 10, SEPARATION, 1.0)
    return next(draws_of(own.labels, own.answers, own.cases, k, draws=1, seed=int(rng.integers(2**31)))).fit.threshold


def thresholds(rng: np.random.Generator, repetitions: int) -> None:
    """Print by how many points three ways to a threshold fall behind the best one."""
    whole = drawn(rng, 40_000, SEPARATION, 1.0)
    grid = sigmoid(np.linspace(-4, 6, 400))
    best = max(min(rates(whole, cut)) for cut in grid)
    for k in (10, 20, 50, 100):
        lost: dict[str, list[float]] = defaultdict(list)
        for _ in range(repetitions):
            own = drawn(rng, 3 * k + 10, SEPARATION, 1.0)
            draw = next(draws_of(own.labels, own.answers, own.cases, k, draws=1, seed=int(rng.integers(2**31))))
            y, p = own.labels[~draw.rest], own.answers[~draw.rest]
            line = draw.fit.platt
            cuts = {
                "crossing": draw.fit.threshold,
                "youden": youden_threshold(y, p),
                "platt": float(sigmoid((np.log(y.mean() / (1 - y.mean())) - line.intercept) / line.slope)),
            }
            for name, cut in cuts.items():
                lost[name].append(100 * (best - min(rates(whole, cut))))
        said = ", ".join(f"{n} {np.mean(v):.1f} ({np.quantile(v, 0.9):.1f})" for n, v in lost.items())
        print(f"thresholds  k {k:3d}: {said}")


class Told:
    """A model whose answers are known, and what it claims."""

    name, version, digest = "told", "1", "d"

    def __init__(self, hospital: Hospital, claims: tuple[float, float, float]) -> None:
        self._answers = hospital.answers
        names = (SENSITIVITY, SPECIFICITY, "roc_auc")
        numbers = {
            name: JudgedNumber(estimate=value, low=value - CLAIM, high=min(1.0, value + CLAIM))
            for name, value in zip(names, claims, strict=True)
        }
        self.package = SimpleNamespace(threshold=THRESHOLD, judged=SimpleNamespace(numbers=numbers))

    def stream(self, _: Any) -> Any:
        """An answer an image."""
        return (SimpleNamespace(probability=float(each), error=None) for each in self._answers)


def claims_of(rng: np.random.Generator) -> tuple[float, float, float]:
    """What the model truly does at home."""
    home = drawn(rng, 40_000, SEPARATION, 0.0)
    return (*rates(home, THRESHOLD), roc_area(home.labels, home.answers, home.cases).value)


def judged(hospital: Hospital, *counts: int, claims: tuple[float, float, float] = (0.9, 0.9, 0.9)) -> Any:
    """What `accept` says of a hospital."""
    rows = zip(hospital.labels, hospital.cases, strict=True)
    images = tuple(LocalImage(Path(str(i)), str(i), int(label), case) for i, (label, case) in enumerate(rows))
    model: Any = Told(hospital, claims)
    return accept(model, LocalCases(images), counts)


def verdicts(rng: np.random.Generator, repetitions: int) -> None:
    """Print how often each verdict is given."""
    claims = claims_of(rng)
    kinds = {"as claimed": (SEPARATION, 0.0), "shifted": (SEPARATION, 1.5), "worse": (1.8, 0.0)}
    for cases in (30, 100, 300):
        for name, (separation, shift) in kinds.items():
            found = Counter(
                judged(drawn(rng, cases, separation, shift), 10, 20, 50, 100, claims=claims).verdict
                for _ in range(max(repetitions // 8, 5))
            )
            said = ", ".join(f"{verdict} {count / found.total():.2f}" for verdict, count in found.most_common())
            print(f"verdicts    {cases:4d} cases, {name}: {said}")


def main() -> None:
    """Print the lines above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    intervals(rng, 5 * arguments.repetitions)
    thresholds(rng, arguments.repetitions)
    bands(rng, max(arguments.repetitions // 8, 5))
    verdicts(rng, arguments.repetitions)


if __name__ == "__main__":
    main()
