"""How often `bus-mlops drift` raises a false alarm when one looks after every answer, and how soon it notices changes.

python benchmarks/drift.py > drift.csv     (a quarter of an hour; or one of the sizes: python benchmarks/drift.py 600)

Answers are drawn as a model's are: logits of two classes, of patients with one to four images that resemble each other.
"""

from __future__ import annotations

import csv
import sys

import numpy as np
import numpy.typing as npt

from bus_mlops.consumer.drift import compare
from bus_mlops.consumer.package_format import ScoreBins

Values = npt.NDArray[np.float64]
MALIGNANT, BETWEEN, WITHIN = 0.4, 1.3, 0.75
ALPHA = 0.05
# Of the probabilities' logits: what a scanner, a population or a broken preprocessing may do.
CHANGES: dict[str, dict[str, float]] = {
    "none": {},
    "logits higher by .5": {"shift": 0.5},
    "logits higher by 1": {"shift": 1.0},
    "logits half as large": {"scale": 0.5},
    "logits 1.5 times as large": {"scale": 1.5},
    "40 to 60 % malignant": {"malignant": 0.6},
}


def patients(
    rng: np.random.Generator, count: int, shift: float = 0.0, scale: float = 1.0, malignant: float = MALIGNANT
) -> list[Values]:
    """The probabilities of each patient's images."""
    found = []
    for _ in range(count):
        mean = (1.5 if rng.random() < malignant else -2.0) + rng.normal(0, BETWEEN)
        logits = mean + rng.normal(0, WITHIN, rng.integers(1, 5))
        found.append(1 / (1 + np.exp(-(scale * logits + shift))))
    return found


def noticed(
    rng: np.random.Generator, judged: int, change: dict[str, float], before: int, after: int, all_images: bool
) -> float:
    """After how many patients since the change; negative: before it; inf: never."""
    reference = ScoreBins.of([each[0] for each in patients(rng, judged)])
    stream = [*patients(rng, before), *patients(rng, after, **change)]
    values = stream if all_images else [each[:1] for each in stream]
    found = compare(np.concatenate(values), reference, ALPHA).noticed
    if found is None:
        return float("inf")
    return float(np.searchsorted(np.cumsum([len(each) for each in values]), found) + 1 - before)


def main() -> None:
    """Print a row for each setting."""
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["judged", "change", "images counted", "repeats", "alarms before", "noticed", "median patients"])
    for judged in [int(each) for each in sys.argv[1:]] or (100, 600):
        for name, change in CHANGES.items():
            for all_images in (False, True) if not change else (False,):
                rng = np.random.default_rng(7)
                repeats = 400 if not change else 100
                before, after = (800, 0) if not change else (200, 600)
                delays = np.array([noticed(rng, judged, change, before, after, all_images) for _ in range(repeats)])
                early = delays <= 0
                late = delays[~early]
                shown = np.mean(np.isfinite(late)) if change else float("nan")
                median = np.median(late) if change else float("nan")
                counted = "all" if all_images else "one a patient"
                rows.writerow([judged, name, counted, repeats, f"{early.mean():.3f}", f"{shown:.2f}", f"{median:.0f}"])
                sys.stdout.flush()


if __name__ == "__main__":
    main()
