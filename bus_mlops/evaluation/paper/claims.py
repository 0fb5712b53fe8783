"""Which rows are set against which to test each statement of the paper: a small declaration a finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bus_mlops.evaluation.results import PlannedRow

Select = Callable[[PlannedRow], bool]
# networks: treated against baseline, network by network; each: every kind of treated rows (named by `label`)
# against the baseline, over all networks; trend: slope over `dose`, network by network; all: one row against
# every other; choice: the chosen row of a family against the one with the paper's parameters; within: one metric
# minus another of the same row; size: slope of the gain over the size of the networks; factors: how much each other
# strategy changes the metric, minus how much this one does.
Kind = Literal["networks", "each", "trend", "all", "choice", "within", "size", "factors"]

AUGMENTATIONS = ("horizontal_flip", "height_shift", "width_shift", "zoom", "shear", "rotation")


@dataclass(frozen=True)
class Sides:
    """What is set against what: in words, and which planned rows they are."""

    subject: str
    against: str
    treated: Select
    baseline: Select


@dataclass(frozen=True)
class Comparison:
    """One finding: one side against the other.

    Attributes:
        name: Also that of the paper's statement in `claims.csv`.
        metric: A name in `METRICS`.
        direction: Expected to rise (1) or fall (-1).
        paper: Which rows of its table it rests on (the beginnings of both variants' names; for kind `all` the one row);
            empty where the paper prints none.
        minus: Of kind `within`, the metric that is subtracted.
        elsewhere: The strategies whose rows are the baseline, if not the own one.
    """

    name: str
    strategy: str
    kind: Kind
    metric: str
    direction: int
    sides: Sides
    paper: tuple[str, str] | None = None
    minus: str = ""
    elsewhere: tuple[str, ...] = ()


def active_augmentations(row: PlannedRow) -> list[str]:
    """Names of the augmentations that the row is trained with."""
    return [name for name in AUGMENTATIONS if row.training["augmentation"].get(name)]


def positive_weight(row: PlannedRow) -> float:
    """The dose of a trend: the weight of malignant cases in (weighted) cross-entropy."""
    return float(row.training["loss"]["positive_weight"])


def _weights(name: str) -> Select:
    return lambda row: row.training["weights"] == name


def _augmentations(low: int, high: int) -> Select:
    return lambda row: low <= len(active_augmentations(row)) <= high


def _chosen(family: str) -> Select:
    return lambda row: row.family == family and row.chosen


def _optimizer(name: str) -> Select:
    return lambda row: row.training["optimizer"]["name"] == name


def _task(name: str) -> Select:
    return lambda row: row.task == name


def _cross_entropy(row: PlannedRow) -> bool:
    return row.family in ("BCE", "WBCE") and not row.chosen_in


def _printed(family: str) -> Select:
    return lambda row: row.family == family and row.paper is not None and not row.chosen_in


def _claimed_lowest(row: PlannedRow) -> bool:
    return row.network == "efficientnetb0" and row.training["optimizer"]["name"] == "nadam"


def _mt_estan(row: PlannedRow) -> bool:
    return row.network == "mt_estan"


def _every(_: PlannedRow) -> bool:
    return True


def _other(select: Select) -> Select:
    return lambda row: not select(row)


TRANSFER = Sides("transfer learning", "training from scratch", _weights("imagenet"), _weights("random"))
COMBINED = Sides("the combined augmentation", "no augmentation", _augmentations(2, 6), _augmentations(0, 0))
SINGLE = Sides("a single augmentation", "no augmentation", _augmentations(1, 1), _augmentations(0, 0))
WEIGHTED = Sides("weighted cross-entropy", "cross-entropy", _chosen("WBCE"), _chosen("BCE"))
WEIGHT = Sides("a larger weight", "a smaller one", _cross_entropy, _cross_entropy)
FOCAL = Sides("focal loss", "weighted cross-entropy", _chosen("Focal"), _chosen("WBCE"))
OUR_WEIGHT = Sides("our weight", "the paper's", _chosen("WBCE"), _printed("WBCE"))
OUR_FOCAL = Sides("our gamma and alpha", "the paper's", _chosen("Focal"), _printed("Focal"))
SGD = Sides("SGD with momentum", "ADAM", _optimizer("sgd"), _optimizer("adam"))
NADAM = Sides("NADAM", "ADAM", _optimizer("nadam"), _optimizer("adam"))
LOWEST = Sides("EfficientNetB0 with NADAM", "all other rows", _claimed_lowest, _other(_claimed_lowest))
MULTI = Sides("multitask learning", "the single-task network", _task("multitask"), _task("classification"))
ESTAN = Sides("MT-ESTAN", "all other approaches", _mt_estan, _other(_mt_estan))
ESTAN_GENERIC = Sides("MT-ESTAN", "all generic networks, single-task and multitask", _mt_estan, _every)
BOTH = Sides("specificity", "sensitivity in multitask networks", _task("multitask"), _task("multitask"))
LEVELS = Sides("every other choice", "the optimizer", _every, _every)

TL, AUG, LOSS, OPT, MTL, OWN = "transfer_learning", "augmentation", "losses", "optimizers", "multitask", "approaches"
COMPARISONS = (
    Comparison("transfer_balanced_accuracy", TL, "networks", "balanced_accuracy", 1, TRANSFER, ("TL", "S")),
    Comparison("transfer_roc_auc", TL, "networks", "roc_auc", 1, TRANSFER),
    Comparison("transfer_by_size", TL, "size", "balanced_accuracy", -1, TRANSFER, ("TL", "S")),
    Comparison("augmentation_balanced_accuracy", AUG, "networks", "balanced_accuracy", 1, COMBINED, ("Aug", "No Aug")),
    Comparison("augmentation_roc_auc", AUG, "networks", "roc_auc", 1, COMBINED),
    Comparison("single_augmentations", AUG, "each", "balanced_accuracy", 1, SINGLE),
    Comparison("weighted_sensitivity", LOSS, "networks", "sensitivity", 1, WEIGHTED, ("WBCE", "BCE")),
    Comparison("weighted_specificity", LOSS, "networks", "specificity", -1, WEIGHTED, ("WBCE", "BCE")),
    Comparison("weight_trend_sensitivity", LOSS, "trend", "sensitivity", 1, WEIGHT),
    Comparison("weight_trend_specificity", LOSS, "trend", "specificity", -1, WEIGHT),
    Comparison("focal_sensitivity", LOSS, "networks", "sensitivity", 1, FOCAL, ("Focal", "WBCE")),
    Comparison("chosen_weight", LOSS, "choice", "f1", 1, OUR_WEIGHT),
    Comparison("chosen_focal", LOSS, "choice", "f1", 1, OUR_FOCAL),
    Comparison("sgd_balanced_accuracy", OPT, "networks", "balanced_accuracy", 1, SGD, ("SGD", "ADAM")),
    Comparison("nadam_sensitivity", OPT, "networks", "sensitivity", -1, NADAM, ("NADAM", "ADAM")),
    Comparison("nadam_lowest_sensitivity", OPT, "all", "sensitivity", -1, LOWEST, ("EfficientNetB0", "NADAM")),
    Comparison("optimizers_least", OPT, "factors", "balanced_accuracy", 1, LEVELS, elsewhere=(TL, AUG, LOSS)),
    Comparison("multitask_balanced_accuracy", MTL, "networks", "balanced_accuracy", 1, MULTI, ("Multi", "Single")),
    Comparison("multitask_roc_auc", MTL, "networks", "roc_auc", 1, MULTI),
    Comparison("multitask_sensitivity", MTL, "networks", "sensitivity", 1, MULTI, ("Multi", "Single")),
    Comparison("multitask_specificity", MTL, "networks", "specificity", 1, MULTI, ("Multi", "Single")),
    Comparison("multitask_specific", MTL, "within", "specificity", 1, BOTH, ("Multi", ""), minus="sensitivity"),
    Comparison("approaches_specific", OWN, "within", "specificity", 1, BOTH, ("Multi", ""), minus="sensitivity"),
    Comparison("mt_estan_balanced_accuracy", OWN, "all", "balanced_accuracy", 1, ESTAN, ("MT-ESTAN", "Multi")),
    Comparison("mt_estan_false_negative_rate", OWN, "all", "false_negative_rate", -1, ESTAN, ("MT-ESTAN", "Multi")),
    Comparison(
        *("mt_estan_generic", OWN, "all", "balanced_accuracy", 1, ESTAN_GENERIC, ("MT-ESTAN", "Multi")),
        elsewhere=(MTL,),
    ),
)
