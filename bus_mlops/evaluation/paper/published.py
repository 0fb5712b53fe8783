"""The paper's published rows (Tables 4 to 9) as fractions, where a row contradicts itself, and what it claims."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from bus_mlops.evaluation.metrics import METRICS, PAPER_METRICS

PAPER_TABLES = (4, 5, 6, 7, 8, 9)

# How far two numbers of a row may lie apart before rounding and the mean over folds no longer explain it:
# (column of consistency.csv, tolerance, sentence). Percentage points, except F1.
_CHECKS = (
    ("auc_minus_ba", 0.06, 'its "AUC" {} lies {} points from the mean of its sensitivity and specificity'),
    ("fpr_minus_100_spec", 0.15, "its false positive rate lies {1} points from 100 - specificity"),
    ("fnr_minus_100_sens", 0.15, "its false negative rate lies {1} points from 100 - sensitivity"),
    ("acc_minus_pred", 0.7, "its accuracy lies {1} points from what its sensitivity and specificity imply"),
    ("f1_minus_pred", 0.0105, "its F1 lies {1} from what its sensitivity and specificity imply"),
)


def paper_row(table: int, model: str, variant: str) -> dict[str, float] | None:
    """One published row, all values fractions (0-1) under our names; None when the paper has no such row.

    `balanced_accuracy` is the paper's "AUC" column.

    >>> paper_row(9, "MT-ESTAN", "Multi")["sensitivity"]
    0.904
    """
    return _rows().get((table, model, variant))


def contradictions(table: int, model: str, variant: str) -> list[str]:
    """Sentences that say where a published row contradicts itself beyond rounding; empty for most rows.

    >>> contradictions(9, "MT-ESTAN", "Multi")
    []
    """
    row = _consistency().get((table, model, variant))
    if row is None:
        return []
    found = []
    for column, tolerance, sentence in _CHECKS:
        if abs(float(row[column])) > tolerance:
            found.append(sentence.format(row["auc"], row[column]))
    return found


def paper_table(table: int) -> dict[tuple[str, str], dict[str, float]]:
    """All rows of one published table by (model, variant), in its order, values as in `paper_row`."""
    return {(model, variant): row for (number, model, variant), row in _rows().items() if number == table}


@dataclass(frozen=True)
class Claim:
    """What the paper says: the table it rests on, the section, the statement, and what is wrong with it."""

    table: int
    section: str
    claim: str
    note: str


@lru_cache(maxsize=1)
def _sources() -> dict[int, frozenset[str]]:
    return {int(line["table"]): frozenset(line["sources"].split()) for line in _read("sources.csv")}


def paper_sources(table: int) -> frozenset[str]:
    """The sources of whose images a published table is.

    >>> len(paper_sources(4)), len(paper_sources(9))
    (5, 2)
    """
    return _sources()[table]


@dataclass(frozen=True)
class PublishedSize:
    """A row of Table 3: millions of parameters, and megabytes of the trained model's file."""

    model: str
    parameters_millions: float
    megabytes: float


@lru_cache(maxsize=1)
def paper_sizes() -> dict[str, PublishedSize]:
    """Table 3 by our name of the network.

    Its parameters are those of the original networks with a thousand classes, cut off and not rounded; its files are
    those of the changed networks with the state of their optimizer. MT-ESTAN is not in it.

    >>> paper_sizes()["mobilenet"].parameters_millions
    4.2
    """
    return {
        line["network"]: PublishedSize(line["model"], float(line["parameters_millions"]), float(line["megabytes"]))
        for line in _read("table3.csv")
    }


@lru_cache(maxsize=1)
def paper_claims() -> dict[str, Claim]:
    """The paper's statements by the name of the finding that tests them; `claim` is empty where it says nothing.

    >>> paper_claims()["focal_sensitivity"].section
    '5.1'
    """
    return {
        line["finding"]: Claim(int(line["table"]), line["section"], line["claim"], line["note"])
        for line in _read("claims.csv")
    }


@lru_cache(maxsize=1)
def _rows() -> dict[tuple[int, str, str], dict[str, float]]:
    columns = [(METRICS[name], 100 if METRICS[name].unit == "percent" else 1) for name in PAPER_METRICS]
    rows = {}
    for table in PAPER_TABLES:
        for line in _read(f"table{table}.csv"):
            values = {each.name: round(float(line[each.paper.lower()]) / scale, 6) for each, scale in columns}
            rows[table, line["model"], line["variant"]] = values
    return rows


@lru_cache(maxsize=1)
def _consistency() -> dict[tuple[int, str, str], dict[str, str]]:
    return {(int(r["table"]), r["model"], r["variant"]): r for r in _read("consistency.csv")}


def _read(name: str) -> list[dict[str, str]]:
    text = resources.files("bus_mlops.evaluation.paper").joinpath("tables", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
