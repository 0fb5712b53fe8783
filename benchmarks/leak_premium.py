"""How often the interval of the leak premium covers the truth, and how often a leak is found.

    python benchmarks/leak_premium.py --repetitions 200

Images have a difficulty that networks share; every network has noise, quality and an offset of its own. Pairs of images
share a leakage group; a network that memorises shifts the score of a test image whose relative it was trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bus_mlops.evaluation.leak_premium import PREMIUM_METRICS, premium

SEPARATION, DIFFICULTY, NOISE, QUALITY, OFFSET = 1.6, 0.8, 0.7, 0.15, 0.2
METRICS = tuple(name for name in PREMIUM_METRICS if name != "dice")


def world(
    rng: np.random.Generator, images: int = 240, folds: int = 3, seeds: int = 1, pairs: int = 0, memory: float = 0.0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test predictions of a network on grouped and on image-level folds of the same images.

    Args:
        rng: Of everything.
        images: Two in five are malignant.
        folds: How many.
        seeds: Trainings of each fold.
        pairs: How many groups have two images; all others have one.
        memory: By what a score (logit) moves to its label where the network was trained on a relative.
    """
    group = np.concatenate([np.repeat(np.arange(pairs), 2), np.arange(pairs, images - pairs)])
    label = (group % 5 < 2).astype(int)
    hard = rng.normal(0, DIFFICULTY, images)[group]
    of_group = (rng.permutation(group.max() + 1) % folds)[group]
    return tuple(  # type: ignore[return-value]
        pd.concat(
            [
                _tested(rng, np.flatnonzero(fold == k), fold, group, label, hard, memory).assign(fold=k + 1, seed=seed)
                for k in range(folds)
                for seed in range(seeds)
            ],
            ignore_index=True,
        )
        for fold in (of_group, rng.permutation(images) % folds)
    )


def _tested(
    rng: np.random.Generator,
    tested: np.ndarray,
    fold: np.ndarray,
    group: np.ndarray,
    label: np.ndarray,
    hard: np.ndarray,
    memory: float,
) -> pd.DataFrame:
    sides = label[tested] - 0.5
    seen = np.isin(group[tested], group[fold != fold[tested[0]]])
    score = (SEPARATION + rng.normal(0, QUALITY)) * sides + hard[tested] + rng.normal(0, OFFSET)
    score += NOISE * rng.normal(size=tested.size) + memory * seen * sides
    names = {"image_id": np.char.add("i", tested.astype(str)), "group": group[tested].astype(str)}
    return pd.DataFrame({**names, "label": label[tested], "probability": 1 / (1 + np.exp(-score)), "dice": np.nan})


def measured(repetitions: int, metrics: Sequence[str] = METRICS, resamples: int = 300, **design: Any) -> pd.DataFrame:
    """Of each repetition and metric the difference, its interval and p."""
    found = [
        {"metric": metric, **vars(each)}
        for number in range(repetitions)
        for metric, each in premium(
            tuple(metrics),
            *world(np.random.default_rng(number), **design),
            resamples=resamples,
        )
    ]
    return pd.DataFrame(found)


def main() -> None:
    """Print a line a design and metric."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200)
    repetitions = parser.parse_args().repetitions
    designs: list[dict[str, Any]] = [
        {},
        {"seeds": 3},
        {"folds": 5, "images": 600},
        {"folds": 5, "images": 600, "seeds": 3},
        {"pairs": 60, "memory": 3.0},
        {"folds": 5, "images": 600, "seeds": 3, "pairs": 60, "memory": 3.0},
    ]
    print("design | metric | mean premium | half-width | covers the mean % | found (p < 0.05) %")
    for design in designs:
        for metric, lines in measured(repetitions, **design).groupby("metric", sort=False):
            mean = lines["difference"].mean()
            covers = ((lines["low"] <= mean) & (mean <= lines["high"])).mean()
            found = ((lines["p"] < 0.05) & (lines["difference"] > 0)).mean()
            half = (lines["high"] - lines["low"]).mean() / 2
            numbers = f"{mean:+.4f} | {half:.4f} | {100 * covers:.1f} | {100 * found:.1f}"
            print(f"{design} | {metric} | {numbers}", flush=True)


if __name__ == "__main__":
    main()
