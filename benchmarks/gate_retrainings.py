"""How often the gate's rules are wrong, and what they see, on thousands of networks that were really trained.

    python benchmarks/gate_retrainings.py CACHE --data ../shared/data --weights ../shared/weights --cohorts 60

The images of BUSI and of half of BUS-BRA (1,574) go once through a MobileNet with ImageNet weights; what it answers is
kept in the folder CACHE. Then, for each number of images, `--cohorts` times: leakage groups (patients and the audit's
near-duplicates) are drawn, divided into grouped folds, and in each fold networks of one hidden layer are trained on
the features with early stopping on the fold's validation part, which also calibrates them.

*Equal* are three pairs of ensembles a cohort of one procedure with other seeds, each pair in both directions. *Better*
is that procedure than one with fewer features, with wrong labels, or with two hidden units; how much better is the mean
over all cohorts. *Unlike* are two procedures that see different halves of the features, each claim held against their
true difference: groups are then drawn with replacement (copies of a group stay in one fold), so that all images are the
population and the true difference is known.

Errors behind +- are Monte Carlo standard errors over cohorts. In one run: the corrected resampled t-test of single
networks (the rule until now), the same of ensembles, and the clustered test without the variance between seeds, with
all of it, and with what of it cases do not change already; sensitivity at Youden's points and at 90 % specificity;
calibration.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from bus_mlops.dataset.audit import components
from bus_mlops.dataset.folds.partition import group_features, partition
from bus_mlops.dataset.near_duplicates import near_duplicates
from bus_mlops.evaluation.clustered_test import (
    Difference,
    Network,
    PairedImages,
    Trainings,
    chance_to_find,
    clustered_difference,
)
from bus_mlops.evaluation.comparison import corrected_resampled_test, paired_bootstrap_difference
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.resampling import weights_within
from bus_mlops.evaluation.roc import threshold_at_specificity, youden_threshold
from bus_mlops.gate.calibration import fit_calibration
from bus_mlops.gate.calibration_error import calibration_difference, expected_error
from bus_mlops.images.geometry import prepare
from bus_mlops.spec import CellKey

Array = npt.NDArray[Any]
# Images, folds, seeds; then also the kind of pair, its number, and the test.
Condition = tuple[int, int, int]
Key = tuple[int, int, int, str, int, str]

SINGLE, WHOLE, CASES = "resampled t, single", "resampled t, ensembles", "cases"
TWICE, BOTH = "cases + seeds, whole", "cases + seeds"
TESTS = (SINGLE, WHOLE, CASES, TWICE, BOTH)
BEFORE, YOUDEN = "Youden, pooled networks", "Youden, ensembles"
FIXED, FIXED_TWICE = "90 % specificity", "90 % specificity + seeds, whole"
FIXED_SEEDS, EXCESS = "90 % specificity + seeds", "excess calibration error"
MARGINS = (BEFORE, YOUDEN, FIXED, FIXED_TWICE, FIXED_SEEDS, EXCESS)
COLUMNS = (
    *("images", "folds", "cohort", "seeds", "pair", "number", "test"),
    *("estimate", "case_error", "seed_error", "degrees_of_freedom"),
)
NORMAL, Z = 1e9, 1.959964
SIDE, COMPONENTS = 128, 96
ALPHA, MARGIN, SPECIFICITY = 0.05, 0.05, 0.9
SEEDS, ENSEMBLES, VALIDATION = 3, 6, 0.2
STEPS, RATE, DECAY, SHARE = 120, 0.003, 0.01, 0.3


class Procedure(NamedTuple):
    """How a network is trained: the features it sees, its hidden units, the share of its labels that are wrong."""

    features: range = range(COMPONENTS)
    width: int = 16
    noise: float = 0.0


BASE = Procedure()
WORSE = {
    "half of the features": Procedure(range(COMPONENTS // 2)),
    "two hidden units": Procedure(width=2),
    "15 % wrong labels": Procedure(noise=0.15),
    "an eighth of the features": Procedure(range(COMPONENTS // 8)),
}
UNLIKE = (Procedure(range(0, COMPONENTS, 2)), Procedure(range(1, COMPONENTS, 2)))


@dataclass(frozen=True)
class Images:
    """Features (N, COMPONENTS), labels, leakage groups and sources of all images."""

    features: Array
    frame: pd.DataFrame


@dataclass(frozen=True)
class Answer:
    """What networks of one procedure and fold say, calibrated: (networks, images) of validation and test."""

    validation: Array
    test: Array


@dataclass(frozen=True)
class Fold:
    """Labels and groups of a fold's validation and test part, its size of training, and the answers by procedure."""

    known: Array
    labels: Array
    groups: Array
    trained: int
    answers: Mapping[Procedure, Answer]


def main() -> None:
    """Print the tables of docs/explanation/gate-statistics.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "cache", type=Path, help="a folder for the features and for what was found: a run that was broken off goes on"
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds busi and busbra")
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"))
    parser.add_argument("--images", type=int, nargs="+", default=[220, 647, 1200])
    parser.add_argument("--folds", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--cohorts", type=int, default=60)
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    weights = arguments.weights / "mobilenet_1_0_224_notop.weights.h5"
    missing = [path for path in (arguments.data / "busi", arguments.data / "busbra", weights) if not path.exists()]
    if missing:
        print(f"skipped: {missing[0]} is not there, and without real images there is nothing to train on")
        return
    images = load(arguments.cache / "features.npz", arguments.data, weights)
    results = arguments.cache / f"differences-{arguments.resamples}.csv"
    tasks = [(n, k, cohort) for cohort in range(arguments.cohorts) for n in arguments.images for k in arguments.folds]
    done = set(read_results(results)) if results.exists() else set()
    with ProcessPoolExecutor(arguments.workers) as pool:
        for rows in pool.map(partial(cohort_results, images, arguments.resamples), [t for t in tasks if t not in done]):
            rows.to_csv(results, mode="a", header=not results.exists(), index=False)
    found: dict[Key, list[Difference]] = defaultdict(list)
    for task, cells in read_results(results).items():
        if task in tasks:
            for key, difference in cells.items():
                found[key].append(difference)
    conditions = [(n, k, s) for n in arguments.images for k in arguments.folds for s in (1, SEEDS)]
    networks = sum(k * (SEEDS * (ENSEMBLES + len(WORSE) + len(UNLIKE))) for _, k, _ in tasks)
    print(f"{networks:,} networks, {arguments.cohorts} cohorts a condition, one-sided level {ALPHA}, all in per cent\n")
    superiority_tables(found, conditions)
    margin_table(found, conditions)


def load(path: Path, data: Path, weights: Path) -> Images:
    """The features from the cache, or from the network where there are none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        frame, pixels = read(data)
        columns: dict[str, Any] = {str(name): frame[name].to_numpy(str) for name in frame}
        np.savez(path, features=features_of(pixels, weights), **columns)
    stored = np.load(path)
    frame = pd.DataFrame({name: stored[name] for name in ("image_id", "source", "group", "label")})
    centred = stored["features"] - stored["features"].mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    scaled = left[:, :COMPONENTS] * np.sqrt(len(centred)) * 3 * values[:COMPONENTS] / values[0]
    return Images(scaled.astype(np.float32), frame.assign(label=frame["label"].astype(int)))


def read(data: Path) -> tuple[pd.DataFrame, list[Array]]:
    """Both collections as the audit would group them, and their gray pixels."""
    from PIL import Image

    rows = [
        (path, "busi", path.stem, label)
        for label, name in enumerate(("benign", "malignant"))
        for path in sorted((data / "busi" / name).glob("*.png"))
        if "mask" not in path.name
    ]
    for row in pd.read_csv(data / "busbra" / "bus_data.csv").itertuples():
        path = data / "busbra" / "Images" / f"{row.ID}.png"
        rows.append((path, "busbra", str(row.Case), int(str(row.Pathology) == "malignant")))
    pixels = [np.asarray(Image.open(path).convert("L")) for path, *_ in rows]
    frame = pd.DataFrame(
        [(f"{source}/{path.stem}", source, case, label) for path, source, case, label in rows],
        columns=["image_id", "source", "case", "label"],
    )
    groups = np.empty(len(frame), dtype=object)
    for source, own in frame.groupby("source"):
        shown = [pixels[i] for i in own.index]
        thumbnails = np.stack([prepare(each, 64) for each in shown])
        links = list(near_duplicates(thumbnails, [p.shape[1] for p in shown], [p.shape[0] for p in shown]))
        first = own.reset_index().groupby("case")["case"].transform(lambda rows: rows.index[0])
        links += [(int(one), number) for number, one in enumerate(first)]
        groups[own.index] = [f"{source}/{root}" for root in components(len(own), links)]
    return frame.assign(group=groups), pixels


def features_of(pixels: Sequence[Array], weights: Path) -> Array:
    """The mean activations of MobileNet's last layer, (N, 1024)."""
    import keras

    network = keras.applications.MobileNet(
        include_top=False, input_shape=(SIDE, SIDE, 3), weights=str(weights), pooling="avg"
    )
    gray = np.stack([prepare(each, SIDE) for each in pixels]).astype(np.float32)[..., None] / 127.5 - 1
    return np.asarray(network.predict(np.repeat(gray, 3, axis=-1), batch_size=32, verbose=0))


def cohort_results(images: Images, resamples: int, task: tuple[int, int, int]) -> pd.DataFrame:
    """Of one drawn cohort: what each test finds on each pair, a row each."""
    size, count, cohort = task
    rng = np.random.default_rng([size, count, cohort])
    plans = {BASE: SEEDS * ENSEMBLES, **dict.fromkeys(WORSE.values(), SEEDS)}
    pairs: dict[tuple[str, int], tuple[tuple[Procedure, int], ...]] = {
        ("equal", i): ((BASE, 2 * i * SEEDS), (BASE, (2 * i + 1) * SEEDS)) for i in range(ENSEMBLES // 2)
    }
    pairs |= {(name, 0): ((BASE, 0), (worse, 0)) for name, worse in WORSE.items()}
    folds = list(trained(images, *drawn(images.frame, size, rng, replace=False), count, plans, rng))
    of_unlike = dict.fromkeys(UNLIKE, SEEDS)
    unlike = list(trained(images, *drawn(images.frame, size, rng, replace=True), count, of_unlike, rng))
    rows = [
        (size, count, cohort, seeds, kind, number, test, *asdict(difference).values())
        for seeds in (1, SEEDS)
        for (kind, number), sides in [*pairs.items(), (("unlike", 0), tuple((each, 0) for each in UNLIKE))]
        for test, difference in judged(unlike if kind == "unlike" else folds, sides, seeds, resamples).items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def read_results(path: Path) -> dict[tuple[int, int, int], dict[Key, Difference]]:
    """What was found, by task and pair."""
    found: dict[tuple[int, int, int], dict[Key, Difference]] = defaultdict(dict)
    for n, k, cohort, seeds, kind, number, test, *values in pd.read_csv(path).itertuples(index=False):
        found[n, k, cohort][n, k, seeds, kind, number, test] = Difference(*values)
    return found


def drawn(frame: pd.DataFrame, size: int, rng: np.random.Generator, *, replace: bool) -> tuple[Array, Array]:
    """Rows of whole groups, about `size`, and what counts as a group of its own among them (a copy does)."""
    of_group = [np.asarray(rows) for rows in frame.groupby("group").indices.values()]
    order = rng.integers(0, len(of_group), 2 * len(of_group)) if replace else rng.permutation(len(of_group))
    lengths = np.cumsum([len(of_group[i]) for i in order])
    taken = order[: int(np.searchsorted(lengths, size)) + 1]
    rows = np.concatenate([of_group[i] for i in taken])
    return rows, np.repeat(np.arange(len(taken)), [len(of_group[i]) for i in taken])


def trained(
    images: Images, rows: Array, copies: Array, count: int, plans: Mapping[Procedure, int], rng: np.random.Generator
) -> Iterator[Fold]:
    """Each grouped fold with so many networks of each procedure."""
    frame = images.frame.iloc[rows].reset_index(drop=True)
    x, y = images.features[rows], frame["label"].to_numpy()
    features, of_row = group_features(frame)
    tested = partition(features, [1 / count] * count, rng)
    for number in range(count):
        role = np.full(len(features), 2)
        training = np.flatnonzero(tested != number)
        role[training] = partition(features[training], [1 - VALIDATION, VALIDATION], rng)
        a, v, t = (np.flatnonzero(role[of_row] == part) for part in range(3))
        kinds = [procedure for procedure, networks in plans.items() for _ in range(networks)]
        answered = train(x[a], y[a], (x[v], x[t]), y[v], kinds, rng)
        answers = {}
        for procedure in plans:
            own = [calibrated(y[v], *(each[i] for each in answered)) for i, k in enumerate(kinds) if k == procedure]
            answers[procedure] = Answer(*(np.stack(part) for part in zip(*own, strict=True)))
        yield Fold(y[v], y[t], copies[t].astype(str), a.size, answers)


def train(
    x: Array, y: Array, others: tuple[Array, Array], known: Array, kinds: Sequence[Procedure], rng: np.random.Generator
) -> tuple[Array, Array]:
    """Train a network of each kind at once, by Adam on random thirds of the images; the best step by validation loss.

    Args:
        x: (N, COMPONENTS).
        y: (N,), 0 or 1.
        others: Features of the validation and the test part.
        known: Labels of the validation part.
        kinds: Of the networks.
        rng: Of initial weights, wrong labels and batches.

    Returns:
        Probabilities of both parts, (networks, images) each.
    """
    networks, width = len(kinds), max(kind.width for kind in kinds)
    seen = np.zeros((x.shape[1], networks, width), np.float32)
    for i, kind in enumerate(kinds):
        seen[list(kind.features), i, : kind.width] = 1
    labels = np.where(rng.random((y.size, networks)) < [kind.noise for kind in kinds], 1 - y[:, None], y[:, None])
    open_ = seen.any(axis=0)
    first = rng.standard_normal(seen.shape, np.float32) * np.sqrt(2 / seen[:, :, 0].sum(axis=0))[:, None] * seen
    last = rng.standard_normal((networks, width), np.float32) * open_ / np.sqrt(open_.sum(axis=1, keepdims=True))
    flat = (x.shape[1], networks * width)
    mask = seen.reshape(flat)
    weights = [first.reshape(flat), np.zeros(flat[1]), last, np.zeros(networks)]
    weights = [each.astype(np.float32) for each in weights]
    moments = [(np.zeros_like(each), np.zeros_like(each)) for each in weights]
    both, cut = np.concatenate(others), len(others[0])
    best, answers = np.full(networks, np.inf), np.zeros((networks, len(both)))

    def forward(inputs: Array) -> tuple[Array, Array]:
        hidden = np.maximum(inputs @ weights[0] + weights[1], 0)
        return hidden, (hidden.reshape(len(inputs), networks, width) * weights[2]).sum(axis=2) + weights[3]

    for step in range(1, STEPS + 1):
        hidden, logits = forward(x)
        residual = (1 / (1 + np.exp(-logits)) - labels) * (rng.random(logits.shape, np.float32) < SHARE)
        residual = (residual / (SHARE * len(x))).astype(np.float32)
        back = (residual[:, :, None] * weights[2]).reshape(len(x), -1) * (hidden > 0)
        outer = np.einsum("nb,nbh->bh", residual, hidden.reshape(len(x), networks, width))
        slopes = [(x.T @ back + DECAY * weights[0]) * mask, back.sum(axis=0), outer + DECAY * weights[2]]
        for weight, slope, (mean, square) in zip(weights, [*slopes, residual.sum(axis=0)], moments, strict=True):
            mean += 0.1 * (slope - mean)
            square += 0.01 * (slope**2 - square)
            weight -= RATE * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
        if step % 2 == 0:
            p = 1 / (1 + np.exp(-forward(both)[1].astype(np.float64)))
            loss = -np.log(np.where(known[:, None] == 1, p[:cut], 1 - p[:cut]) + 1e-9).mean(axis=0)
            better = loss < best
            best[better], answers[better] = loss[better], p.T[better]
    return answers[:, :cut], answers[:, cut:]


def calibrated(known: Array, validation: Array, test: Array) -> tuple[Array, Array]:
    """Both by Platt's curve of the validation part."""
    curve = fit_calibration(known, validation)
    return curve.apply(validation), curve.apply(test)


def judged(
    folds: Sequence[Fold], sides: Sequence[tuple[Procedure, int]], seeds: int, resamples: int
) -> dict[str, Difference]:
    """What each test finds on one pair of models: so many networks of a procedure, from a place on, each."""
    answers = [[_answer(fold, procedure, slice(place, place + seeds)) for fold in folds] for procedure, place in sides]
    pairs, strict = (_paired(folds, answers, at) for at in (False, True))
    values = {
        metric: [_values(metric, folds, each, seeds) for each in answers] for metric in ("roc_auc", "sensitivity")
    }
    whole = {m: [Trainings(each, seeds) for each in both] if seeds > 1 else [] for m, both in values.items()}
    alone = [_alone(folds, each, seeds) for each in answers]
    trainings = {
        metric: [replace(each, alone=said) for each, said in zip(both, alone, strict=True)] if both else []
        for metric, both in whole.items()
    }
    ratio = float(np.mean([fold.labels.size / fold.trained for fold in folds]))
    ensembles = [
        [METRICS["roc_auc"].value(f.labels, each.test.mean(axis=0)) for f, each in zip(folds, own, strict=True)]
        for own in answers
    ]
    area = clustered_difference("roc_auc", pairs, trainings["roc_auc"], resamples)
    found = {
        SINGLE: _resampled([list(each.values()) for each in values["roc_auc"]], ratio),
        WHOLE: _resampled(ensembles, ratio),
        CASES: replace(area, seed_error=0.0, degrees_of_freedom=NORMAL),
        TWICE: clustered_difference("roc_auc", pairs, whole["roc_auc"], resamples),
        BOTH: area if seeds > 1 else _resampled(ensembles, ratio),
        YOUDEN: clustered_difference("sensitivity", pairs, [], resamples),
        FIXED: clustered_difference("sensitivity", strict, [], resamples),
        FIXED_TWICE: clustered_difference("sensitivity", strict, whole["sensitivity"], resamples),
        FIXED_SEEDS: clustered_difference("sensitivity", strict, trainings["sensitivity"], resamples)
        if seeds > 1
        else _resampled([list(each.values()) for each in values["sensitivity"]], ratio),
    }
    return found | _pooled(folds, answers, resamples)


def _answer(fold: Fold, procedure: Procedure, networks: slice) -> Answer:
    own = fold.answers[procedure]
    return Answer(own.validation[networks], own.test[networks])


def _paired(folds: Sequence[Fold], answers: Sequence[Sequence[Answer]], at_specificity: bool) -> PairedImages:
    """Two ensembles on the test parts, at thresholds that are chosen on each fold's validation part."""
    sizes = [fold.labels.size for fold in folds]
    said = [np.concatenate([each.test.mean(axis=0) for each in own]) for own in answers]
    cuts = [
        [_cut(fold.known, each.validation.mean(axis=0), at_specificity) for fold, each in zip(folds, own, strict=True)]
        for own in answers
    ]
    labels, groups = (np.concatenate([getattr(fold, name) for fold in folds]) for name in ("labels", "groups"))
    numbers = np.repeat(np.arange(1, len(folds) + 1), sizes)
    thresholds = [np.repeat(each, sizes) for each in cuts]
    return PairedImages(numbers, labels, said[0], said[1], groups, thresholds[0], thresholds[1])


def _cut(known: Array, validation: Array, at_specificity: bool) -> float:
    if at_specificity:
        return threshold_at_specificity(known, validation, SPECIFICITY)
    return youden_threshold(known, validation)


def _values(metric: str, folds: Sequence[Fold], answers: Sequence[Answer], seeds: int) -> dict[CellKey, float]:
    """The metric of each network alone, sensitivity at its own 90 % specificity."""
    return {
        CellKey(number, s): METRICS[metric].value(fold.labels, own.test[s], _cut(fold.known, own.validation[s], True))
        for number, (fold, own) in enumerate(zip(folds, answers, strict=True), 1)
        for s in range(seeds)
    }


def _alone(folds: Sequence[Fold], answers: Sequence[Answer], seeds: int) -> dict[CellKey, Network]:
    """What each network says of its test part, at its own 90 % specificity."""
    return {
        CellKey(number, s): Network(
            fold.labels,
            own.test[s],
            fold.groups,
            np.full(fold.labels.size, _cut(fold.known, own.validation[s], at_specificity=True)),
        )
        for number, (fold, own) in enumerate(zip(folds, answers, strict=True), 1)
        for s in range(seeds)
    }


def _resampled(sides: Sequence[Sequence[float]], ratio: float) -> Difference:
    test = corrected_resampled_test(sides[0], sides[1], ratio)
    reach = stats.t.ppf(0.975, test.degrees_of_freedom)
    return Difference(test.difference, (test.high - test.low) / 2 / reach, 0.0, test.degrees_of_freedom)


def _pooled(folds: Sequence[Fold], answers: Sequence[Sequence[Answer]], resamples: int) -> dict[str, Difference]:
    """The rules until now, on all networks' answers together, and the calibration of ensembles."""
    seeds = len(answers[0][0].test)
    labels, groups = (
        np.concatenate([np.tile(getattr(f, name), seeds) for f in folds]) for name in ("labels", "groups")
    )
    single = [np.concatenate([each.test.ravel() for each in own]) for own in answers]
    cuts = [np.concatenate([_cuts(fold, each) for fold, each in zip(folds, own, strict=True)]) for own in answers]
    before = paired_bootstrap_difference(
        "sensitivity", labels, single[0], single[1], groups, cuts[0], cuts[1], resamples=resamples
    )
    mean = [np.concatenate([each.test.mean(axis=0) for each in own]) for own in answers]
    truth, group = (np.concatenate([getattr(f, name) for f in folds]) for name in ("labels", "groups"))
    weights = weights_within(np.repeat(np.arange(len(folds)), [f.labels.size for f in folds]), group, resamples, 0)
    expected = [expected_error(each, group, 200) for each in mean]
    excess = calibration_difference(truth, mean[0], mean[1], weights, expected[0] - expected[1])
    return {
        BEFORE: Difference(before.estimate, (before.estimate - before.low) / Z, 0.0, NORMAL),
        EXCESS: Difference(-excess.estimate, (excess.high - excess.estimate) / Z, 0.0, NORMAL),
    }


def _cuts(fold: Fold, answer: Answer) -> Array:
    """Youden's of each network alone, one an image of the test part."""
    return np.repeat([_cut(fold.known, each, False) for each in answer.validation], fold.labels.size)


def superiority_tables(found: Mapping[Key, Sequence[Difference]], conditions: Sequence[Condition]) -> None:
    """Wrong claims and found gains of G2 by each test."""
    for what in ("equal", "unlike"):
        print(f"\nG2: wrong claims on {what} pairs\n\n| images | folds x seeds | {' | '.join(TESTS)} |")
        print("|---|---|" + "---|" * len(TESTS))
        for condition in conditions:
            cells = []
            for test in TESTS:
                pairs = [found[*condition, what, i, test] for i in range(ENSEMBLES // 2 if what == "equal" else 1)]
                true = 0.0 if what == "equal" else float(np.mean([d.estimate for d in pairs[0]]))
                claims = np.array([[[claimed(d, true, sign) for sign in (1, -1)] for d in each] for each in pairs])
                cells.append(share(claims.mean(axis=(0, 2))))
            print(f"| {condition[0]} | {condition[1]} x {condition[2]} | {' | '.join(cells)} |", flush=True)
    print("\nG2: gains found; *said* is what the verdict says of the true gain, on average\n")
    print("| images | folds x seeds | worse by | true gain | " + " | ".join(TESTS) + " | said |")
    print("|---|---|---|---|" + "---|" * (len(TESTS) + 1))
    for condition in conditions:
        for name in WORSE:
            differences = {test: found[*condition, name, 0, test] for test in TESTS}
            true = float(np.mean([d.estimate for d in differences[BOTH]]))
            said = [chance_to_find(true, d.standard_error, d.degrees_of_freedom, ALPHA) for d in differences[BOTH]]
            cells = [share([claimed(d, 0) for d in each]) for each in differences.values()]
            print(
                f"| {condition[0]} | {condition[1]} x {condition[2]} | {name} | {true:+.3f} | {' | '.join(cells)} | "
                f"{100 * np.mean(said):.0f} |",
                flush=True,
            )


def margin_table(found: Mapping[Key, Sequence[Difference]], conditions: Sequence[Condition]) -> None:
    """Of G3 and G5: how often the bound lies on the wrong side of the truth, and how often equal models pass."""
    print(
        "\nG3 and G5, equal pairs: the bound is wrong (should be 2.5) / they pass at the margin, as the verdict says\n"
    )
    print(f"| images | folds x seeds | {' | '.join(MARGINS)} |\n|---|---|" + "---|" * len(MARGINS))
    for condition in conditions:
        cells = []
        for test in MARGINS:
            both = [found[*condition, "equal", pair, test] for pair in range(ENSEMBLES // 2)]
            signs = (1,) if test == BEFORE else (1, -1)  # its bootstrap is not symmetric
            bounds = np.array([[[bound(d, sign) for sign in signs] for d in each] for each in both])
            wrong, passed = ((bounds > limit).mean(axis=(0, 2)) for limit in (0, -MARGIN))
            errors = [(d.standard_error, d.degrees_of_freedom) for each in both for d in each]
            said = np.mean([chance_to_find(MARGIN, *each, level=0.025) for each in errors])
            cells.append(f"{share(wrong)} / {100 * passed.mean():.0f}, {100 * said:.0f}")
        print(f"| {condition[0]} | {condition[1]} x {condition[2]} | {' | '.join(cells)} |", flush=True)


def claimed(difference: Difference, true: float, sign: int = 1) -> bool:
    """Whether a test claims more than the true difference, for the candidate (1) or for the baseline (-1)."""
    return replace(difference, estimate=sign * (difference.estimate - true)).p_one_sided < ALPHA


def bound(difference: Difference, sign: int) -> float:
    """The lower end of the two-sided 95 % interval, candidate and baseline in this or in the other order."""
    return replace(difference, estimate=sign * difference.estimate).interval()[0]


def share(values: Iterable[float]) -> str:
    """A mean over cohorts in per cent with its Monte Carlo standard error."""
    array = 100 * np.asarray(list(values), dtype=np.float64)
    return f"{array.mean():.1f} +- {array.std(ddof=1) / np.sqrt(array.size):.1f}"


if __name__ == "__main__":
    main()
