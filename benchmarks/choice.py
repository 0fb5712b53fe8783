"""What `standard_errors` does: how often noise alone replaces the first trial, and how much of a true gain is kept.

    python benchmarks/choice.py

Simulated: a validation part of 120 images in 80 leakage groups, 40 % malignant; the logit of an image is what all
trials share (its class, how hard its group and itself are) plus what each training adds by chance. Either no trial is
better than the first, or one of them separates the classes better. The area under the ROC curve decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bus_mlops.evaluation.choice import Candidate, choose, mean_value

IMAGES, GROUPS, MALIGNANT = 120, 80, 0.4
SEPARATION, HARDNESS, CHANCE = 2.2, 1.0, 0.7
# Adds 0.023 to an area of 0.90 (`true_area`).
GAINS = (0.0, 0.25)
ERRORS = (0.0, 0.5, 1.0, 2.0)
TRIALS = (2, 5, 12, 40)
REPEATS = 300


def draw(separations: Sequence[float], rng: np.random.Generator) -> list[pd.DataFrame]:
    """The same validation part as trials of these separations see it."""
    group = rng.permutation(np.arange(IMAGES) % GROUPS)
    label = (rng.random(GROUPS) < MALIGNANT).astype(int)[group]
    label[0], label[1] = 0, 1
    hard = HARDNESS * (rng.normal(size=GROUPS)[group] + rng.normal(size=IMAGES)) / math.sqrt(2)
    frames = []
    for separation in separations:
        logit = separation * (label - 0.5) + hard + CHANCE * rng.normal(size=IMAGES)
        frames.append(pd.DataFrame({"label": label, "probability": 1 / (1 + np.exp(-logit)), "group": group}))
    return frames


def true_area(separation: float) -> float:
    """The area under the ROC curve on infinitely many images."""
    return 0.5 * (1 + math.erf(separation / math.sqrt(2 * (HARDNESS**2 + CHANCE**2)) / math.sqrt(2)))


def simulate(trials: int, gain: float) -> tuple[list[float], list[float]]:
    """For each number of standard errors: how often the first is replaced, and the mean true gain of what is taken."""
    replaced, kept = np.zeros(len(ERRORS)), np.zeros(len(ERRORS))
    separations = [SEPARATION + (gain if number == 1 else 0.0) for number in range(trials)]
    gained = true_area(SEPARATION + gain) - true_area(SEPARATION)
    for repeat in range(REPEATS):
        frames = draw(separations, np.random.default_rng([repeat, trials]))
        candidates = [Candidate(n, {}, mean_value([frame], "roc_auc"), [frame]) for n, frame in enumerate(frames)]
        found = choose(candidates, "roc_auc", 0)
        for place, errors in enumerate(ERRORS):
            taken = found.best if found.difference > errors * found.standard_error else 0
            replaced[place] += taken != 0
            kept[place] += gained * (taken == 1)
    return list(replaced / REPEATS), list(kept / REPEATS)


def main() -> None:
    """Print the table of docs/explanation/nested-choice.md."""
    heading = " | ".join(f"{errors:g}" for errors in ERRORS)
    print(f"| true gain of one trial | trials | replaced at {heading} | gain kept at {heading} |")
    print("|---|---|" + "---|" * (2 * len(ERRORS)))
    for gain in GAINS:
        for trials in TRIALS:
            replaced, kept = simulate(trials, gain)
            shown = [f"{100 * each:.0f} %" for each in replaced] + [f"{each:+.3f}" for each in kept]
            true = true_area(SEPARATION + gain) - true_area(SEPARATION)
            print(f"| {true:+.3f} | {trials} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
