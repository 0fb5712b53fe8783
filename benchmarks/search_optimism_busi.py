"""What a flat and a nested choice of the loss claim on real images, from the predictions of a finished strategy.

    python benchmarks/search_optimism_busi.py PROJECT     # after `dvc repro train@losses` there

Nothing is trained. For the weights, the focal pairs and all of them it is chosen by `evaluation/choice.py` on the
validation part of one fold, for each fold in turn (flat), on those of all folds (flat), and for each fold on its own
(nested), with the paper's row as the first. Each line has what was chosen, the mean over the folds of the metric on
the test parts, and its difference from plain cross-entropy with a 95 % interval (whole leakage groups are drawn). The
last line is the best on the test parts, which nobody may choose: no flat choice can claim more.

Then what each search of the project has chosen (`dvc repro tuned`): the same numbers of its tuned row.

At the end the shares of variance that `search_optimism.py --shares` takes, from correlations of logits within a class.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd

from bus_mlops.evaluation.choice import Candidate, choose, mean_value
from bus_mlops.evaluation.intervals import bootstrap_values, percentiles
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.resampling import group_weights
from bus_mlops.evaluation.search_words import words
from bus_mlops.evaluation.searched import SearchResult
from bus_mlops.files import read_json

BASELINE = "BCE"
# The rows that are chosen from, and the one that the paper prints for MobileNet.
SEARCHES = {
    "weight of cross-entropy": ("*BCE*", "WBCE(w_z=3)"),
    "focal gamma and alpha": ("Focal*", "Focal(gamma=3,alpha=0.8)"),
    "all losses": ("*", "BCE"),
}
RESAMPLES = 2000
# Of each part, seed and fold of one row: the trainings of that fold.
Steps = Mapping[int, Sequence[pd.DataFrame]]


def main() -> None:
    """Print what each choice claims, and the shares of variance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--strategy", default="losses")
    parser.add_argument("--model", default="MobileNet", help="its name in the table")
    parser.add_argument("--objective", default="roc_auc", help="what is chosen by and reported")
    parser.add_argument("--standard-errors", type=float, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    path = arguments.project / "results" / "predictions" / f"{arguments.strategy}.parquet"
    if not path.exists():
        parser.error(f"{path} is missing: run `dvc repro train@{arguments.strategy}` in {arguments.project}")
    frame = pd.read_parquet(path)
    frame = frame[frame["model"] == arguments.model]
    if frame.empty:
        parser.error(f"{path} has no rows of {arguments.model!r}")
    validation, test = (
        {variant: steps_of(rows) for variant, rows in frame[frame["part"] == part].groupby("variant", sort=False)}
        for part in ("validation", "test")
    )
    folds = sorted(next(iter(test.values())))
    images = frame.loc[frame["part"] == "test", "image_id"].nunique()
    print(f"{arguments.model}: {images} images tested in {len(folds)} folds, {arguments.objective}")
    for name, (pattern, first) in SEARCHES.items():
        if not {first, BASELINE} <= set(test):
            print(f"\n{name}: left out, since {path} has no {first} or no {BASELINE}")
            continue
        variants = [first, *(each for each in test if fnmatchcase(each, pattern) and each != first)]
        print(f"\n{name}: {len(variants)} rows")
        chosen = {"the paper's": [first] * len(folds), "plain cross-entropy": [BASELINE] * len(folds)}
        for errors in arguments.standard_errors:
            chosen |= choices(variants, validation, folds, arguments.objective, errors)
        value = {v: np.mean([claimed(test[v][fold], arguments.objective) for fold in folds]) for v in variants}
        best = max(variants, key=lambda each: METRICS.get_known(arguments.objective).direction * value[each])
        chosen["best on the test parts"] = [best] * len(folds)
        for title, of_fold in chosen.items():
            print(f"  {title:34} {in_words(test, folds, of_fold, arguments.objective)}")
    for search in sorted(path.parent.glob("tuned-*.parquet")):
        rows = pd.read_parquet(search)
        rows = rows[(rows["model"] == arguments.model) & (rows["part"] == "test")]
        if rows.empty:
            continue
        name = search.stem.removeprefix("tuned-")
        result = SearchResult.model_validate(read_json(arguments.project / "results" / "search" / name / "best.json"))
        of_fold = [words(result.choice(rows["network"].iloc[0], fold).parameters) for fold in folds]
        kind = "nested" if result.nested else "flat"
        tuned = {BASELINE: test[BASELINE], **{title: steps_of(rows) for title in of_fold}}
        print(f"\n{name}, {kind}, {result.sampler}: {in_words(tuned, folds, of_fold, arguments.objective)}")
    print("\nshares of variance: " + ", ".join(f"{k} {v:.2f}" for k, v in shares(frame).items()))


def steps_of(rows: pd.DataFrame) -> Steps:
    """The predictions of each seed of each fold, sorted by image."""
    result: dict[int, list[pd.DataFrame]] = {}
    for (fold, _), cell in rows.sort_values("image_id").groupby(["fold", "seed"], sort=True):
        result.setdefault(int(str(fold)), []).append(cell)
    return result


def choices(
    variants: Sequence[str], validation: Mapping[str, Steps], folds: Sequence[int], objective: str, errors: float
) -> dict[str, list[str]]:
    """Of each procedure the row that it chooses for each fold."""

    def chosen(on: Sequence[int]) -> str:
        candidates = []
        for number, variant in enumerate(variants):
            steps = [step for fold in on for step in validation[variant][fold]]
            candidates.append(Candidate(number, {}, mean_value(steps, objective), steps))
        return variants[choose(candidates, objective, errors).number]

    rule = f"{errors:g} s.e."
    result = {f"flat, fold {fold}, {rule}": [chosen([fold])] * len(folds) for fold in folds}
    result[f"flat, all folds, {rule}"] = [chosen(folds)] * len(folds)
    result[f"nested, {rule}"] = [chosen([fold]) for fold in folds]
    return result


def claimed(steps: Sequence[pd.DataFrame], objective: str) -> float:
    """The mean of the metric over the seeds of a fold."""
    return mean_value(steps, objective)


def in_words(test: Mapping[str, Steps], folds: Sequence[int], of_fold: Sequence[str], objective: str) -> str:
    """The metric on the test parts, its difference from the baseline with its interval, and the rows."""
    pairs = list(zip(folds, of_fold, strict=True))
    value = float(np.mean([claimed(test[variant][fold], objective) for fold, variant in pairs]))
    baseline = float(np.mean([claimed(test[BASELINE][fold], objective) for fold in folds]))
    drawn = np.zeros(RESAMPLES)
    for fold, variant in pairs:
        seeds = list(zip(test[variant][fold], test[BASELINE][fold], strict=True))
        weights = group_weights(seeds[0][0]["group"], RESAMPLES, seed=fold)
        for both in seeds:
            ours, theirs = (
                bootstrap_values(objective, each["label"].to_numpy(), each["probability"].to_numpy(), weights)
                for each in both
            )
            drawn += (ours - theirs) / len(seeds) / len(folds)
    low, high, _ = percentiles(drawn, 0.95)
    named = of_fold[0] if len(set(of_fold)) == 1 else "; ".join(of_fold)
    return f"{value:.4f}  {value - baseline:+.4f} ({low:+.4f} to {high:+.4f})  {named}"


def shares(frame: pd.DataFrame) -> dict[str, float]:
    """u, w, v and e of `search_optimism.py`: what correlates between rows and folds, and what does not."""
    probability = frame["probability"].clip(1e-6, 1 - 1e-6)
    table = frame.assign(logit=np.log(probability / (1 - probability)))
    column = ["variant", "fold", "seed"]
    table["logit"] -= table.groupby([*column, "label"])["logit"].transform("mean")
    known = table.pivot_table(index="image_id", columns=column, values="logit").corr(min_periods=20)
    variant, fold = (known.columns.get_level_values(name).to_numpy() for name in ("variant", "fold"))
    same_variant, same_fold = variant[:, None] == variant, fold[:, None] == fold
    values = known.to_numpy()
    other = float(np.nanmean(values[~same_variant & ~same_fold]))
    of_fold = float(np.nanmean(values[~same_variant & same_fold])) - other
    own = float(np.nanmean(values[same_variant & ~same_fold])) - other
    return {"u": other, "w": of_fold, "v": own, "e": 1 - other - of_fold - own}


if __name__ == "__main__":
    main()
