"""Synthetic predictions with a known truth, in the contract's columns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

FOLDS = 5


def make_predictions(
    separation: float = 1.5,
    images: int = 200,
    folds: int = FOLDS,
    seed: int = 0,
    strategy: str = "approaches",
    model: str = "MobileNet",
    variant: str = "Single",
    task: str = "classification",
    shift: float = 0.0,
    shared_seed: int = 99,
) -> pd.DataFrame:
    """Test and validation parts; images, labels, groups and folds depend on `shared_seed` only.

    `separation` is how well the classes are told apart, `shift` moves every logit towards malignant.
    """
    masks = task != "classification"
    common = np.random.default_rng(shared_seed)
    labels = (common.random(images) < 0.4).astype(int)
    groups = np.array([f"g{i // 2:04d}" for i in range(images)])
    fold_of_group = common.permutation(images // 2 + 1) % folds + 1
    fold_of = fold_of_group[np.arange(images) // 2]
    difficulty = common.normal(size=images)
    generator = np.random.default_rng(seed)
    frames = []
    for fold in range(1, folds + 1):
        for part, chosen in (("test", fold_of == fold), ("validation", fold_of == fold % folds + 1)):
            index = np.flatnonzero(chosen)
            noise = 0.7 * difficulty[index] + 0.7 * generator.normal(size=len(index))
            logits = separation * (labels[index] - 0.5) * 2 + 1.5 * noise + shift
            dice = np.clip(0.7 + 0.1 * generator.normal(size=len(index)), 0, 1) if masks else np.nan
            frames.append(
                pd.DataFrame(
                    {
                        "strategy": strategy,
                        "model": model,
                        "variant": variant,
                        "network": model.lower(),
                        "fingerprint": f"{model}-{variant}",
                        "seed": 2021,
                        "fold": fold,
                        "part": part,
                        "image_id": [f"busi/{i:04d}" for i in index],
                        "case_id": [f"busi/{i:04d}" for i in index],
                        "group": groups[index],
                        "source": "busi",
                        "label": labels[index],
                        "probability": np.nan if task == "segmentation" else 1 / (1 + np.exp(-logits)),
                        "dice": dice,
                        "iou": dice / (2 - dice) if masks else np.nan,
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="session")
def predictions() -> Callable[..., pd.DataFrame]:
    """The maker of predictions frames."""
    return make_predictions
