"""Which test images are shown of a row, and that pictures of every input size are kept."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bus_mlops.evaluation.samples import ARRAYS, PICTURES, choose, join, read_samples


def predicted(probability: list[float]) -> pd.DataFrame:
    """Ten benign and ten malignant images, of BUSI the first eight of each."""
    label = [0] * 10 + [1] * 10
    source = (["busi"] * 8 + ["busis"] * 2) * 2
    ids = [f"{name}/{i:02d}" for i, name in enumerate(source)]
    return pd.DataFrame(
        {"image_id": ids, "source": source, "label": label, "probability": probability, "dice": np.arange(20) / 20}
    )


def test_every_outcome_and_every_source_is_shown():
    frame = predicted([0.1] * 7 + [0.9] * 3 + [0.9] * 7 + [0.1] * 3)
    chosen = frame.iloc[choose(frame)]
    outcomes = list(zip(chosen["label"], chosen["probability"] >= 0.5, strict=True))
    assert outcomes == sorted(outcomes, key=lambda each: (each[0], each[0] != each[1]))
    assert {each: outcomes.count(each) for each in outcomes} == dict.fromkeys([(0, 0), (0, 1), (1, 1), (1, 0)], 2)
    assert chosen["source"].value_counts().to_dict() == {"busi": 4, "busis": 4}
    shuffled = frame.sample(frac=1, random_state=0)
    assert list(shuffled.iloc[choose(shuffled)]["image_id"]) == list(chosen["image_id"])


def test_a_row_that_only_draws_masks_shows_good_and_bad_ones_and_a_small_one_all():
    frame = predicted([np.nan] * 20)
    dice = frame["dice"].to_numpy()[choose(frame)]
    assert len(dice) == 8
    assert (dice >= 0.5).sum() == 4
    assert len(choose(frame.head(3))) == 3


def row(size: int, count: int) -> dict[str, np.ndarray]:
    pictures = {name: np.full((count, size, size), 1, np.uint8) for name in PICTURES}
    about = {"image_id": ["busi/1"] * count, "label": [1] * count, "probability": [0.5] * count}
    return {**pictures, **{name: np.array(value) for name, value in about.items()}, "model": np.full(count, f"M{size}")}


def test_pictures_of_all_sizes_are_kept(tmp_path):
    np.savez(tmp_path / "s.npz", allow_pickle=False, **join([row(32, 2), row(64, 1)]))
    samples = read_samples(tmp_path / "s.npz")
    assert samples is not None
    assert samples.model == ["M32", "M32", "M64"]
    assert [picture.shape[0] for picture in samples.mask_predicted] == [32, 32, 64]
    assert all(picture.all() for name in PICTURES for picture in getattr(samples, name))
    # As earlier versions wrote it.
    np.savez(
        tmp_path / "s.npz", allow_pickle=False, **{name: value for name, value in row(64, 1).items() if name in ARRAYS}
    )
    earlier = read_samples(tmp_path / "s.npz")
    assert earlier is not None
    assert earlier.image[0].shape == (64, 64)
    np.savez(tmp_path / "s.npz", allow_pickle=False, **join([]))
    assert read_samples(tmp_path / "s.npz") is None
