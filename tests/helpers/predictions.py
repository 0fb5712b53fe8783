"""Synthetic out-of-fold predictions of two models: shared difficulty, luck of each training, cases, two sources."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import norm

FOLDS = 5
# Shares of an image's difficulty: for every model, for one model in all its trainings, for one training.
SHARED, OWN = 0.75, 0.125
# How trainings differ in separation (in units of the noise), in scale and in offset of their logits.
LUCK, SCALE, OFFSET = 0.10, 0.3, 0.5


def two_models(
    seed: int, areas: tuple[float, float], images: int = 1200, seeds: int = 3
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Candidate and baseline with the given true ROC areas on the same images; test and validation parts.

    Of BUSI's images two networks with ImageNet weights had logits that correlate to 0.75 within a class. One
    image in seven belongs to the case of another one, and a group lies in one part of each fold.
    """
    rng = np.random.default_rng(seed)
    group = np.arange(images)
    for i in map(int, np.flatnonzero(rng.random(images) < 0.15)):
        group[i] = group[max(i - 1, 0)]
    label = np.asarray(rng.random(images) < 0.44, dtype=int)[group]
    tested = (rng.permutation(images) % FOLDS + 1)[group]
    source = np.where(rng.random(images)[group] < 0.55, "busi", "busis")
    hard = 0.6 * rng.normal(size=images)[group] + 0.8 * rng.normal(size=images)
    cohort = pd.DataFrame(
        {
            "image_id": [f"{s}/{i:04d}" for i, s in enumerate(source)],
            "case_id": [f"case/{g}" for g in group],
            "group": [f"group/{g}" for g in group],
            "source": source,
            "label": label,
        }
    )
    frames = [
        _model(rng, area, cohort, tested, hard, seeds, name) for area, name in zip(areas, ("new", "old"), strict=True)
    ]
    return frames[0], frames[1]


def _model(
    rng: np.random.Generator,
    area: float,
    cohort: pd.DataFrame,
    tested: np.ndarray,
    hard: np.ndarray,
    seeds: int,
    name: str,
) -> pd.DataFrame:
    separation = norm.ppf(area) * np.sqrt(2)
    label = cohort["label"].to_numpy()
    own = rng.normal(size=len(cohort))
    cells = []
    for seed in range(seeds):
        for fold in range(1, FOLDS + 1):
            apart = separation + LUCK * rng.normal()
            scale, offset = np.exp(SCALE * rng.normal()), OFFSET * rng.normal()
            noise = np.sqrt(SHARED) * hard + np.sqrt(OWN) * own
            noise = noise + np.sqrt(1 - SHARED - OWN) * rng.normal(size=len(cohort))
            logits = 1.5 * scale * (apart * (label - 0.5) + noise) + offset
            for part, member in (("test", tested == fold), ("validation", tested == fold % FOLDS + 1)):
                rows = np.flatnonzero(member)
                cells.append(
                    (rows, np.full(rows.size, fold), np.full(rows.size, seed), [part] * rows.size, logits[rows])
                )
    # One frame from whole columns: a simulation makes hundreds.
    rows, folds, of_seed, parts, drawn = (np.concatenate(column) for column in zip(*cells, strict=True))
    columns = {"fold": folds, "seed": of_seed, "part": parts, "probability": 1 / (1 + np.exp(-drawn))}
    return cohort.take(rows).reset_index(drop=True).assign(**columns, strategy="synthetic", model=name, variant="")
