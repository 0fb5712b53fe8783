"""What ships minus what is judged: means over all folds' networks on images held out, against the cross-fitted means.

    python benchmarks/shipped_ensemble.py BUSI [--repetitions 60] [--seeds 3] [--folds 5]

BUSI is the folder with `benign` and `malignant`. In each repetition two fifths of the leakage groups are held out. On
the others folds are made, and a small network (one hidden layer on gradients and gray levels of the image, with an
initialisation and an order of its own) is trained for each fold and seed: cheap, so that it can be done hundreds of
times, and as unsure as networks on so few images are. All that follows is the gate's own code: Platt's calibration on
the validation part, the mean over a fold's seeds, Youden's threshold for that mean over all folds' validation parts.
Then, in one line each, the mean over repetitions of

    judged      the cross-fitted mean of S networks on the test parts, at the threshold that ships
    nested      the same at each fold's own threshold, as the gate's rules take it
    mean of S   each fold's mean of S networks on the images held out
    ships       the mean of all K x S networks on the images held out, at the threshold that ships
    single      what was judged before: single networks on the test parts, each at its own threshold
    ships, old  the mean of all networks held to a threshold from pooled scores of single networks

and of `ships - judged`, with its standard error over the repetitions and the spread of single repetitions.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd

from bus_mlops.evaluation.cells import by_cell
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.roc import youden_threshold
from bus_mlops.gate.ensemble import calibrated, calibrations_of, ensemble_of, thresholds_of
from bus_mlops.images.decode import decode_image
from bus_mlops.images.geometry import prepare

SIDE, CELLS, BINS = 64, 8, 8
# Pictures that correlate more, shrunk to 16 x 16, are taken for one case.
SAME = 0.97
METRIC_NAMES = ("roc_auc", "sensitivity", "specificity", "brier")


def main() -> None:
    """Print the lines above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("busi", type=Path)
    parser.add_argument("--repetitions", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    arguments = parser.parse_args()
    features, labels, groups = read(arguments.busi)
    print(f"{labels.size} images, {labels.sum()} malignant, {len(set(groups))} groups; {arguments.folds} folds x")
    print(f"{arguments.seeds} seeds, {arguments.repetitions} repetitions")
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for repetition in range(arguments.repetitions):
        rows = trained(features, labels, groups, arguments.folds, arguments.seeds, np.random.default_rng(repetition))
        for name, numbers in measured(rows).items():
            found[name].append(numbers)
    table = {name: pd.DataFrame(numbers) for name, numbers in found.items()}
    print(f"\n{'':14s}" + "".join(f"{name:>14s}" for name in METRIC_NAMES))
    for name, frame in table.items():
        print(f"{name:14s}" + "".join(f"{frame[metric].mean():14.4f}" for metric in METRIC_NAMES))
    for one, other in (("ships", "judged"), ("ships", "mean of S"), ("ships", "nested"), ("ships", "single")):
        difference = table[one] - table[other]
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        cells = [
            f"{difference[m].mean():+8.4f} ±{error[m]:.4f} ({difference[m].std(ddof=1):.3f})" for m in METRIC_NAMES
        ]
        print(f"{one} - {other}: mean ± standard error (spread): " + "; ".join(cells))


def read(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, F), labels (N,) and groups (N,) of all pictures that name a class."""
    squares, labels = [], []
    for label, name in enumerate(("benign", "malignant")):
        for path in sorted((folder / name).glob("*).png")):
            squares.append(prepare(decode_image(path, "gray"), SIDE).astype(np.float64))
            labels.append(label)
    pictures = np.stack(squares)
    small = pictures.reshape(-1, 16, 4, 16, 4).mean(axis=(2, 4)).reshape(len(pictures), -1)
    alike = np.corrcoef(small) > SAME
    groups = np.arange(len(pictures))
    for i in range(len(pictures)):
        groups[np.isin(groups, groups[alike[i]])] = groups[i]
    return np.stack([_features(each) for each in pictures]), np.array(labels), groups


def _features(square: np.ndarray) -> np.ndarray:
    """Histograms of gradients' directions in 8 x 8 places, each of length 1, and gray levels of 16 x 16 places."""
    rows, columns = np.gradient(square)
    strength, angle = np.hypot(rows, columns), np.arctan2(rows, columns) % np.pi
    place = np.repeat(np.repeat(np.arange(CELLS * CELLS).reshape(CELLS, CELLS), CELLS, 0), CELLS, 1)
    bins = np.minimum((angle / np.pi * BINS).astype(int), BINS - 1)
    histogram = np.bincount((place * BINS + bins).ravel(), strength.ravel(), minlength=CELLS * CELLS * BINS)
    histogram = histogram.reshape(-1, BINS)
    histogram = histogram / (np.linalg.norm(histogram, axis=1, keepdims=True) + 1)
    gray = square.reshape(16, 4, 16, 4).mean(axis=(1, 3)) / 255
    return np.concatenate([histogram.ravel(), gray.ravel()])


def trained(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, folds: int, seeds: int, rng: np.random.Generator
) -> pd.DataFrame:
    """What each network answers about its validation and test part and about the images held out, fold 1 to K."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    names = rng.permutation(np.unique(groups))
    held = np.isin(groups, names[: 2 * len(names) // 5])
    place = dict(zip(names, np.arange(len(names)) % folds + 1, strict=True))
    tested = np.array([place[group] for group in groups])
    frames = []
    for fold in range(1, folds + 1):
        test, validation = ~held & (tested == fold), ~held & (tested == fold % folds + 1)
        train = np.flatnonzero(~held & ~test & ~validation)
        scaler = StandardScaler().fit(features[train])
        for seed in range(seeds):
            network = MLPClassifier(16, alpha=1.0, learning_rate_init=3e-3, max_iter=30, batch_size=32)
            network.set_params(random_state=int(rng.integers(1 << 31)))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it is stopped after its epochs, as networks are
                network.fit(scaler.transform(features[train]), labels[train])
            for part, where in (("test", test), ("validation", validation), ("held", held)):
                rows = np.flatnonzero(where)
                answer = network.predict_proba(scaler.transform(features[rows]))[:, 1]
                columns = {"image_id": rows, "label": labels[rows], "probability": answer}
                frames.append(pd.DataFrame({"fold": fold, "seed": seed, "part": part, **columns}))
    return pd.concat(frames, ignore_index=True)


def measured(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The metrics of each line of one repetition."""
    calibrations = calibrations_of(rows)
    assert calibrations is not None  # noqa: S101 - every network has validated
    alone = {part: calibrated(rows[rows["part"] == part], calibrations) for part in ("test", "validation", "held")}
    means = {part: ensemble_of(frame) for part, frame in alone.items()}
    shipped = youden_threshold(means["validation"]["label"], means["validation"]["probability"])
    old = youden_threshold(alone["validation"]["label"], alone["validation"]["probability"])
    own = thresholds_of(means["validation"], "youden")
    by_network = {
        key: next(iter(thresholds_of(cell, "youden").values())).shipped for key, cell in by_cell(alone["validation"])
    }
    everything = alone["held"].groupby(["image_id", "label"])[["probability"]].mean().reset_index()
    return {
        "judged": over_folds(means["test"], shipped),
        "nested": over_folds(means["test"], {fold: each.shipped for fold, each in own.items()}),
        "mean of S": over_folds(means["held"], shipped),
        "ships": values(everything, shipped),
        "single": averaged([values(cell, by_network[key]) for key, cell in by_cell(alone["test"])]),
        "ships, old": values(everything, old),
    }


def over_folds(frame: pd.DataFrame, threshold: float | dict[int, float]) -> dict[str, float]:
    """The mean over folds."""
    cuts = threshold if isinstance(threshold, dict) else defaultdict(lambda: threshold)
    return averaged([values(rows, cuts[int(str(fold))]) for fold, rows in frame.groupby("fold")])


def averaged(found: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each metric."""
    return {name: float(np.mean([each[name] for each in found])) for name in METRIC_NAMES}


def values(rows: pd.DataFrame, threshold: float) -> dict[str, float]:
    """The metrics of some answers."""
    return {
        n: METRICS[n].value(rows["label"].to_numpy(), rows["probability"].to_numpy(), threshold) for n in METRIC_NAMES
    }


if __name__ == "__main__":
    main()
