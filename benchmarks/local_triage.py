"""Whether triage that is calibrated on a few local cases keeps its nominal rates there, where a package's does not.

    python benchmarks/local_triage.py predictions.csv...

Takes the `predictions.csv` of runs whose test part is another source (folds.kind: source). Of its cases k are drawn
again and again, triage is calibrated on them, and asked about the others. *gap* is the share of benign images among
all that those draws call low, minus what the calibrations say of it, with an interval over whole cases (of which as
many are drawn anew, with replacement, as there are); *one draw* says between which two the gaps of 95 of 100 draws lie.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import numpy.typing as npt
import pandas as pd

from bus_mlops.consumer.local_triage import called_by, fit_rule
from bus_mlops.gate.calibration import fit_calibration

DRAWS, RESAMPLES, REDRAWS = 300, 60, 30
MISS, FALSE_ALARM = 0.05, 0.1


def drawn(rows: pd.DataFrame, count: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Of one draw, as shares of the other images: benign low, low; and by the calibration: benign low, low."""
    cases = rng.permutation(rows["case"].unique())[:count]
    inside = rows["case"].isin(cases)
    own, rest = rows[inside], rows[~inside]
    labels, answers = own["label"].to_numpy(), own["probability"].to_numpy()
    rule = fit_rule(labels, answers, own["case"].to_numpy(np.str_), MISS, FALSE_ALARM)
    low = called_by(rule, rest["probability"].to_numpy()) == "low"
    expected = float((called_by(rule, answers) == "low")[labels == 0].sum() / len(labels))
    whole = expected / rule.nominal_npv if rule.nominal_npv else 0.0
    return float((low & (rest["label"].to_numpy() == 0)).mean()), float(low.mean()), expected, whole


def gap_of(draws: npt.NDArray[np.float64]) -> float:
    """Of all that is called low in draws (n, 4), the share that is benign, minus that by the calibrations."""
    benign, low, expected, whole = draws.sum(axis=0)
    return float(benign / low - expected / whole) if low and whole else np.nan


def resampled(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """As many cases, drawn with replacement, each of its own name."""
    parts = [part for _, part in rows.groupby("case")]
    places = rng.integers(0, len(parts), len(parts))
    again: pd.DataFrame = pd.concat([parts[place].assign(case=str(name)) for name, place in enumerate(places)])
    return again


def line(rows: pd.DataFrame, count: int) -> dict[str, Any]:
    """What so many local cases give."""
    rng = np.random.default_rng(count)
    found = np.array([drawn(rows, count, rng) for _ in range(DRAWS)])
    gaps = []
    for _ in range(RESAMPLES):
        again = resampled(rows, rng)
        gaps.append(gap_of(np.array([drawn(again, count, rng) for _ in range(REDRAWS)])))
    least, most = np.nanquantile(gaps, [0.025, 0.975]).tolist()
    low, high = np.nanquantile([gap_of(one[None]) for one in found], [0.025, 0.975]).tolist()
    benign, called, expected, whole = found.sum(axis=0)
    return {
        "k": count,
        "benign among low": f"{100 * benign / called:.1f} %",
        "nominal": f"{100 * expected / whole:.1f} %",
        "gap": f"{100 * gap_of(found):+.1f} ({100 * least:+.1f} to {100 * most:+.1f})",
        "one draw": f"{100 * low:+.1f} to {100 * high:+.1f}",
        "low": f"{100 * found[:, 1].mean():.1f} %",
    }


def main() -> None:
    """Print a table for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, nargs="+")
    parser.add_argument("--cases", type=int, nargs="*", default=[100, 200, 300])
    chosen = parser.parse_args()
    for path in chosen.predictions:
        rows = pd.read_csv(path)
        rows["case"] = rows["group" if "group" in rows else "case_id"].astype(str)
        known, test = rows[rows["part"] == "validation"], rows[rows["part"] == "test"].copy()
        calibration = fit_calibration(known["label"].to_numpy(), known["probability"].to_numpy())
        test["probability"] = calibration.apply(test["probability"].to_numpy())
        print(f"\n{path.name}: {len(test)} images, {test['case'].nunique()} cases")
        counts = [count for count in chosen.cases if count < test["case"].nunique()]
        print(pd.DataFrame([line(test, count) for count in counts]).to_string(index=False))


if __name__ == "__main__":
    main()
