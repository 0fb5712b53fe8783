"""Which score tells breast ultrasound from other pictures, on scanners that it was not fitted to.

    python benchmarks/refusal.py --data ../shared/data --weights ../shared/weights --photographs FOLDER...
    python benchmarks/refusal.py --data ../shared/data --triage predictions.csv...

Each score is fitted to BUSI alone and to BUS-BRA alone (of each half), with its threshold from images held out in
whole cases, and asked about the other source and about drawn and real pictures. *AUC* is that of other pictures over
the other source, *refused* the shares at the threshold; `at 2 %` is the share of other pictures refused at the
threshold that refuses 2 % of the other source, which nobody knows beforehand.

`--members` are networks trained for the task (`model.keras` of a run), whose features and energy are scores, too.
`--triage` takes the `predictions.csv` of runs whose test part is another source (folds.kind: source) and prints what
triage, calibrated on the validation part, does there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from real_pictures import photographs, scans_of_pydicom
from threadpoolctl import threadpool_limits

from bus_mlops.consumer.refusal import conformal_cut
from bus_mlops.gate.calibration import fit_calibration
from bus_mlops.images.color import color_share
from bus_mlops.images.geometry import prepare
from bus_mlops.images.picture_statistics import picture_statistics
from bus_mlops.promotion import refusal
from bus_mlops.promotion.odd_pictures import Pixels, drawn

Floats = npt.NDArray[np.float64]
Score = Callable[[Floats], Floats]
SIDE = 96
RATE = 0.02


def gray_square(path: Path) -> Pixels:
    """A file as the network gets it."""
    with Image.open(path) as picture:
        return prepare(np.asarray(picture.convert("L")), SIDE)


def breasts(data: Path) -> tuple[dict[str, Pixels], dict[str, npt.NDArray[np.str_]]]:
    """Squares and cases of both sources, and of BUSI's images without a lesion."""
    paths = {
        "busi": [p for kind in ("benign", "malignant") for p in sorted((data / "busi" / kind).glob("*).png"))],
        "busbra": sorted((data / "busbra/Images").glob("*.png")),
        "normal": sorted((data / "busi/normal").glob("*).png")),
    }
    cases = pd.read_csv(data / "busbra/bus_data.csv").set_index("ID")["Case"].astype(str)
    names = {kind: [cases.get(p.stem, p.name) for p in found] for kind, found in paths.items()}
    squares = {kind: np.stack([gray_square(p) for p in found]) for kind, found in paths.items()}
    return squares, {kind: np.array(found, np.str_) for kind, found in names.items()}


def others(folders: list[Path]) -> Iterator[tuple[str, Pixels, float]]:
    """(kind, square, share that is coloured) of pictures that should be refused: drawn anew, and real ones."""
    for found in (drawn(20, seed=100), photographs(folders), scans_of_pydicom()):
        for kind, _, pixels in found:
            picture = Image.fromarray(pixels)
            gray = np.asarray(picture.convert("L"))
            if refusal._shows_anything(gray):  # noqa: SLF001 - what does not is refused before any score
                yield kind, prepare(gray, SIDE), color_share(picture)


def mahalanobis(own: Floats) -> Score:
    """Distance from the mean, a tenth of the covariance shrunk to the identity."""
    center, scale = own.mean(axis=0), own.std(axis=0) + 1e-6

    def standard(x: Floats) -> Floats:
        return np.asarray(np.clip((x - center) / scale, -10, 10))

    covariance = np.cov(standard(own).T)
    values, vectors = np.linalg.eigh(0.9 * covariance + 0.1 * np.eye(len(covariance)))
    return lambda x: np.square(standard(x) @ (vectors / np.sqrt(values))).sum(axis=1)


def neighbours(own: Floats, count: int = 5) -> Score:
    """Mean distance to the nearest training images."""
    center, scale = own.mean(axis=0), own.std(axis=0) + 1e-6

    def standard(x: Floats) -> Floats:
        return np.asarray(np.clip((x - center) / scale, -10, 10))

    known = standard(own)

    def score(x: Floats) -> Floats:
        far = np.square(standard(x)).sum(axis=1)[:, None] + np.square(known).sum(axis=1) - 2 * standard(x) @ known.T
        return np.asarray(np.sqrt(np.maximum(np.sort(far, axis=1)[:, :count], 0)).mean(axis=1))

    return score


def energy(_: Floats) -> Score:
    """How undecided the logit is: all that the energy of a single output says."""
    return lambda logits: -np.abs(logits[:, 0])


def features(network: Any, layers: list[str], squares: Pixels, scaled: bool) -> dict[str, Floats]:
    """Pooled outputs of layers, mean and standard deviation over places; `scaled`: the input goes from -1 to 1."""
    import keras

    known = {layer.name for layer in network.layers}
    chosen = [name for name in layers if name in known]
    inner = keras.Model(network.inputs[0], [network.get_layer(name).output for name in chosen])
    rows: list[list[Floats]] = []
    for start in range(0, len(squares), 64):
        batch = np.repeat(squares[start : start + 64, ..., None], 3, axis=-1).astype(np.float32)
        found = inner.predict_on_batch(batch / 127.5 - 1 if scaled else batch)
        pooled = [np.asarray(x, np.float64) for x in (found if isinstance(found, list) else [found])]
        rows.append([np.hstack([x.mean((1, 2)), x.std((1, 2))]) if x.ndim == 4 else x for x in pooled])
    return {name: np.concatenate([row[k] for row in rows]) for k, name in enumerate(chosen)}


def networks(weights: Path, members: list[Path]) -> Iterator[tuple[str, Any, list[str], bool]]:
    """(name, network, layers, whether its input must be scaled) of the shared encoder and of trained members."""
    import keras

    from bus_mlops.packaging.onnx_export import load_network

    path = weights / "mobilenet_1_0_224_notop.weights.h5"
    if path.is_file():
        encoder = keras.applications.MobileNet(include_top=False, input_shape=(SIDE, SIDE, 3), weights=str(path))
        yield "MobileNet, ImageNet", encoder, ["conv_pw_3_relu", "conv_pw_13_relu"], True
    for member in members:
        yield member.stem, load_network(member), ["class_pool", "class_dense_2", "malignancy_logit"], False


def compare(name: str, fit: Callable[[Floats], Score], own: dict[str, Floats], cases: dict[str, Any]) -> Iterator[Any]:
    """A row for each source that the score is fitted to."""
    from sklearn.metrics import roc_auc_score

    for source, other in (("busi", "busbra"), ("busbra", "busi")):
        groups = np.unique(cases[source], return_inverse=True)[1]
        held = np.empty(len(groups))
        for part in range(5):
            out = groups % 5 == part
            held[out] = fit(own[source][~out])(own[source][out])
        cut = conformal_cut(-held, RATE)
        threshold = -cut if cut is not None else held.max()
        score = fit(own[source])
        yield row_of(name, source, other, {key: score(x) for key, x in own.items()}, threshold, roc_auc_score)


def row_of(name: str, source: str, other: str, scores: dict[str, Floats], cut: float, area: Any) -> dict[str, Any]:
    """AUC and shares refused."""
    odd = np.concatenate([scores[kind] for kind in scores if kind not in ("busi", "busbra", "normal")])
    both = np.concatenate([scores[other], odd])
    known = {
        "score": name,
        "fitted to": source,
        "AUC": area(np.arange(len(both)) >= len(scores[other]), both),
        "at 2 %": 100 * float((odd > np.quantile(scores[other], 0.98)).mean()),
        other: 100 * float((scores[other] > cut).mean()),
    }
    kinds = {kind: 100 * float((values > cut).mean()) for kind, values in scores.items() if kind not in (source, other)}
    return {**known, "all others": 100 * float((odd > cut).mean()), **kinds}


def shipped(own: dict[str, Pixels], cases: dict[str, Any], colors: dict[str, list[float]]) -> Iterator[Any]:
    """The rules that packages carry, with their threshold: of all pictures in gray, and of them as they are stored."""
    from sklearn.metrics import roc_auc_score

    for source, other in (("busi", "busbra"), ("busbra", "busi")):
        rule = refusal.fit_oddity(own[source], cases[source], np.full(len(cases[source]), source), RATE)
        assert rule is not None  # noqa: S101 - there are cases enough
        scores = {k: rule.of(np.array([picture_statistics(s) for s in squares])) for k, squares in own.items()}
        yield row_of("statistics, discriminant", source, other, scores, rule.threshold, roc_auc_score)
        for kind, shares in colors.items():
            scores[kind] = np.where(np.array(shares) > refusal.MOST_COLOR, 1e6, scores[kind])
        yield row_of("the same, and colour", source, other, scores, rule.threshold, roc_auc_score)


def triage(path: Path) -> None:
    """What triage does on the test part of a run."""
    rows = pd.read_csv(path)
    validation = rows[rows["part"] == "validation"]
    calibration = fit_calibration(validation["label"].to_numpy(), validation["probability"].to_numpy())
    rows["probability"] = calibration.apply(rows["probability"].to_numpy())
    rule = refusal.fit_triage(rows[rows["part"] == "validation"], 0.05, 0.1)
    test = rows[rows["part"] == "test"]
    print(f"\n{path.name}: tested on {', '.join(sorted(test['source'].unique()))}; low below {rule.low}, high above "
          f"{rule.high}; negative predictive value on calibration images {rule.nominal_npv}")  # fmt: skip
    for name, share in refusal.measured_triage(rule, test).items():
        print(f"  {name}: {share}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"))
    parser.add_argument("--photographs", type=Path, nargs="*", default=[])
    parser.add_argument("--members", type=Path, nargs="*", default=[])
    parser.add_argument("--triage", type=Path, nargs="*", default=[])
    chosen = parser.parse_args()
    for path in chosen.triage:
        triage(path)
    if chosen.triage:
        return
    squares, cases = breasts(chosen.data)
    colors: dict[str, list[float]] = {}
    for kind, square, color in others(chosen.photographs):
        squares[kind] = np.concatenate([squares[kind], square[None]]) if kind in squares else square[None]
        colors.setdefault(kind, []).append(color)
    lines = list(shipped(squares, cases, colors))
    statistics = {kind: np.array([picture_statistics(s) for s in found]) for kind, found in squares.items()}
    for name, fit in (("Mahalanobis", mahalanobis), ("5 neighbours", neighbours)):
        lines += compare(f"statistics, {name}", fit, statistics, cases)
    for title, network, layers, scaled in networks(chosen.weights, chosen.members):
        found = {kind: features(network, layers, x, scaled) for kind, x in squares.items()}
        for layer in found["busi"]:
            own = {kind: each[layer] for kind, each in found.items()}
            if "logit" in layer:
                lines += compare(f"{title}, energy", energy, own, cases)
            else:
                lines += compare(f"{title} {layer}, 5 neighbours", neighbours, own, cases)
    pd.set_option("display.width", 400, "display.max_columns", 40)
    print(pd.DataFrame(lines).round(3).set_index(["score", "fitted to"]).T.to_string(float_format="%.3g"))


if __name__ == "__main__":
    with threadpool_limits(limits=1, user_api="blas"):
        main()
