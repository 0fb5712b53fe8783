"""`tables/subgroups.csv`: how each headline row does per source, case, size of lesion and scanner, with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bus_mlops.evaluation.cells import CELL
from bus_mlops.evaluation.intervals import subset_interval
from bus_mlops.evaluation.lesions import NO_MASK, SCANNER, THIRDS, cut_points, image_facts, third_of
from bus_mlops.evaluation.results import PlannedRow, split_rows
from bus_mlops.evaluation.tidy import Evaluated

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("strategy", "model", "variant", "grouping", "subgroup", "from_share", "to_share"),
    *("images", "cases", "groups", "malignant", "metric", "estimate", "low", "high", "method"),
)
# With fewer leakage groups of a class that a metric needs, an interval covers less than it says.
FEWEST_GROUPS = 10
METRICS = ("roc_auc", "sensitivity", "specificity", "dice")
ALL, SOURCE, CASE, SIZE = "all images", "source", "case", "lesion size"


@dataclass(frozen=True)
class Subgroup:
    """Test predictions that are looked at apart; of lesions, from which to which share of the image (0-1) they are."""

    grouping: str
    name: str
    frame: pd.DataFrame
    shares: tuple[float, float] = (float("nan"), float("nan"))


def subgroups(evaluated: Evaluated) -> pd.DataFrame:
    """A line for each headline row, subgroup and metric: ROC AUC, sensitivity and specificity at 0.5, and Dice.

    Estimate, low and high are fractions; the 95 % interval is `subset_interval`'s, over the pooled test predictions: it
    covers which cases were collected, not how trainings differ. `images`, `cases`, leakage `groups` and `malignant`
    images are those of the subgroup. A subgroup with fewer than `FEWEST_GROUPS` groups of a class that the metric needs
    has NaN, and `method` says why. The groupings:

    - `source`, and `scanner` where a source names it;
    - `case`: a case is called by the maximum or the mean of its images' probabilities, and is malignant when one of
      its images is; Dice is the mean over its images;
    - `lesion size`: thirds of the images with a mask, by the mask's area as a share of the image. Cut points are those
      of the row's own test images, so rows of one cohort share them; `from_share` is exclusive, `to_share` inclusive.
    """
    import pandas as pd

    facts = image_facts(evaluated.benchmark)
    records = []
    for strategy, rows in evaluated.plans.items():
        select = split_rows(evaluated.predictions[strategy])
        for row in filter(lambda row: row.headline, rows):
            for each in divided(select(row), facts):
                records += _lines(row, each)
    return pd.DataFrame.from_records(records, columns=COLUMNS)


def divided(part: pd.DataFrame, facts: pd.DataFrame | None) -> Iterator[Subgroup]:
    """The subgroups of one row's test predictions; without `image_facts` none by lesion size or scanner."""
    yield Subgroup(ALL, ALL, part)
    yield from (Subgroup(SOURCE, str(name), frame) for name, frame in part.groupby("source", sort=True))
    yield from (Subgroup(CASE, name, of_cases(part, name)) for name in ("maximum", "mean"))
    if facts is None:
        return
    scanner = part["image_id"].map(facts[SCANNER]).fillna("").to_numpy()
    yield from (Subgroup(SCANNER, name, part[scanner == name]) for name in sorted(set(scanner) - {""}))
    shares = part["image_id"].map(facts["share"]).to_numpy(dtype=float)
    cuts = cut_points(shares[~part["image_id"].duplicated().to_numpy()])
    thirds = third_of(shares, cuts)
    ends = (0.0, *cuts, 1.0)
    for number, name in enumerate(THIRDS):
        yield Subgroup(SIZE, name, part[thirds == name], (ends[number], ends[number + 1]))
    if (thirds == NO_MASK).any():
        yield Subgroup(SIZE, NO_MASK, part[thirds == NO_MASK])


def of_cases(part: pd.DataFrame, how: str) -> pd.DataFrame:
    """One line a case, fold and seed: the `maximum` or the `mean` of its images' probabilities."""
    cases = part.groupby([*CELL, "case_id"], sort=True)
    frame = cases.agg(
        probability=("probability", {"maximum": "max", "mean": "mean"}[how]),
        label=("label", "max"),
        group=("group", "first"),
        dice=("dice", "mean"),
    ).reset_index()
    if how == "maximum":
        frame["dice"] = float("nan")
    # What stands for the image in counts.
    return frame.assign(image_id=frame["case_id"])


def _lines(row: PlannedRow, subgroup: Subgroup) -> list[dict[str, Any]]:
    frame = subgroup.frame
    malignant = frame["label"] == 1
    identity = {
        **{"strategy": row.strategy, "model": row.model, "variant": row.variant},
        **{"grouping": subgroup.grouping, "subgroup": subgroup.name},
        **dict(zip(("from_share", "to_share"), subgroup.shares, strict=True)),
        "images": frame["image_id"].nunique(),
        "cases": frame["case_id"].nunique(),
        "groups": frame["group"].nunique(),
        "malignant": frame.loc[malignant, "image_id"].nunique(),
    }
    lines = []
    for metric in METRICS:
        if frame["dice"].isna().all() if metric == "dice" else not row.classifies:
            continue
        said = shortage(metric, frame)
        if said:
            values = dict.fromkeys(("estimate", "low", "high"), float("nan"))
        else:
            interval = subset_interval(metric, frame)
            values = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
            said = interval.method
        lines.append({**identity, "metric": metric, **values, "method": said})
    return lines


def shortage(metric: str, frame: pd.DataFrame) -> str:
    """Why a subgroup is too small for a metric of `METRICS`; "" if it is not."""
    few = {what: count for what, count in _needed(metric, frame).items() if count < FEWEST_GROUPS}
    if not few:
        return ""
    what, count = min(few.items(), key=lambda each: each[1])
    return f"too small: {count} leakage group{'' if count == 1 else 's'} with {what}, {FEWEST_GROUPS} are needed"


def _needed(metric: str, frame: pd.DataFrame) -> dict[str, int]:
    """How many leakage groups there are of each kind of image that a metric needs."""
    kinds = {
        "malignant images": frame["label"] == 1,
        "benign images": frame["label"] == 0,
        "masks": frame["dice"].notna(),
    }
    of_metric = {
        "roc_auc": ("malignant images", "benign images"),
        "sensitivity": ("malignant images",),
        "specificity": ("benign images",),
        "dice": ("masks",),
    }
    return {what: int(frame.loc[kinds[what], "group"].nunique()) for what in of_metric[metric]}
