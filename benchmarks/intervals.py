"""How long the intervals of all metrics take, beside a plain loop with scikit-learn over the same resamples.

    python benchmarks/intervals.py

The test predictions are those of 3,641 images in cases of two, in five folds. The loop computes the six metrics that
scikit-learn has, for a few of the resamples, and is scaled to all of them; ours are all metrics of probabilities.
Seconds of the processor.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
from sklearn import metrics as reference
from threadpoolctl import threadpool_limits

from bus_mlops.evaluation.intervals import FoldDraws
from bus_mlops.evaluation.metrics import METRICS, interval_metrics

IMAGES, FOLDS, RESAMPLES, LOOPED = 3641, 5, 10_000, 20


def predictions() -> pd.DataFrame:
    """Labels and probabilities of one network a fold."""
    rng = np.random.default_rng(0)
    group = np.arange(IMAGES) // 2
    label = (rng.random(IMAGES) < 0.42).astype(int)[group]
    probability = 1 / (1 + np.exp(-(1.9 * (label - 0.5) + rng.normal(size=IMAGES))))
    return pd.DataFrame({"label": label, "probability": probability, "group": group, "fold": group % FOLDS + 1})


def looped(frame: pd.DataFrame) -> None:
    """One resample of every fold after the other, as a plain program does it."""
    for fold in FoldDraws.of(frame, resamples=LOOPED).folds:
        cell = fold[0]
        labels, probabilities = cell.columns["label"], cell.columns["probability"]
        assert cell.weights is not None  # noqa: S101 - it was drawn above
        for rows in cell.weights.images():
            y, p = labels[rows], probabilities[rows]
            reference.roc_auc_score(y, p)
            reference.average_precision_score(y, p)
            reference.brier_score_loss(y, p)
            called = p >= 0.5
            reference.f1_score(y, called)
            reference.balanced_accuracy_score(y, called)
            reference.confusion_matrix(y, called)


def main() -> None:
    """Print both durations and their ratio."""
    frame = predictions()
    names = [name for name in interval_metrics() if not METRICS[name].of_masks]
    with threadpool_limits(1, user_api="blas"):
        looped(frame)  # imports and caches
        start = time.process_time()
        looped(frame)
        loop = (time.process_time() - start) * RESAMPLES / LOOPED
        start = time.process_time()
        draws = FoldDraws.of(frame, resamples=RESAMPLES)
        for name in names:
            draws.interval(name)
        ours = time.process_time() - start
    print(f"{len(names)} metrics, {RESAMPLES} resamples of {IMAGES} images in {FOLDS} folds: {ours:.1f} s")
    print(f"six metrics of scikit-learn in a loop: {loop:.0f} s, scaled from {LOOPED}; {loop / ours:.0f} times as long")


if __name__ == "__main__":
    main()
