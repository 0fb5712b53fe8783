"""From tables and records to the strings that the report prints; nothing is computed here but formatting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bus_mlops.evaluation.paper.sentences import METRICS, points, probability

if TYPE_CHECKING:
    import pandas as pd

# (metric, heading, printed as percent); the paper prints F1 as a fraction.
COLUMNS = (
    ("balanced_accuracy", "Balanced accuracy", True),
    ("accuracy", "Accuracy", True),
    ("sensitivity", "Sensitivity", True),
    ("specificity", "Specificity", True),
    ("f1", "F1", False),
    ("false_positive_rate", "FPR", True),
    ("false_negative_rate", "FNR", True),
)
SOURCE_NAMES = {
    "hmss": "HMSS",
    "busi": "BUSI",
    "busis": "BUSIS",
    "thammasat": "Thammasat",
    "dataset_b": "Dataset B",
}


def is_headline(record: Mapping[Any, Any]) -> bool:
    """Whether a row is shown first: of a family (weights, focal pairs) only the one chosen on validation is."""
    return not _known(record["family"]) or bool(record["chosen"])


def table_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One entry a row: title, counts, ROC area with interval, and a cell for each metric and the paper's."""
    rows = []
    printed = {
        (record["model"], record["family"]): record["variant"]
        for record in table.to_dict("records")
        if _known(record["family"]) and _known(record["paper_table"])
    }
    for record in table.to_dict("records"):
        rows.append(
            {
                "model": record["model"],
                "variant": record["variant"],
                "images": record["images"],
                "folds": record["folds"],
                "roc_auc": _plus_minus(record, "roc_auc", percent=False),
                "pooled": _interval(record),
                "headline": is_headline(record),
                "choice": _choice(record, printed.get((record["model"], record["family"]))),
                "cells": [_cell(record, name, percent) for name, _, percent in COLUMNS],
                "dice": _plus_minus(record, "dice", percent=True),
                "iou": _plus_minus(record, "iou", percent=True),
                "leaks": leaks(record),
                "contradiction": _text(record["contradiction"]),
            }
        )
    return rows


def _interval(record: Mapping[Any, Any]) -> str:
    if not _known(record["roc_auc_low"]):
        return "masks only"
    return f"{record['roc_auc_low']:.3f} to {record['roc_auc_high']:.3f}"


def _choice(record: Mapping[Any, Any], printed: str | None) -> str:
    """Whether a row of a family was chosen, by what, and which one the paper chose; cross-entropy has no choice."""
    if not _known(record["family"]) or record["family"] == "BCE":
        return ""
    value = f"validation F1 {record['validation_f1']:.3f}"
    if not record["chosen"]:
        return value + ("; the paper's choice" if printed == record["variant"] else "")
    if printed is None:
        return f"chosen: {value}"
    return f"chosen: {value}" + ("" if printed == record["variant"] else f"; the paper's choice: {printed}")


def finding_groups(
    findings: Sequence[Mapping[str, Any]], tables: Mapping[str, pd.DataFrame], titles: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The findings of each strategy in turn, with its title and, where its folds leak, the mark of its table."""
    groups = []
    for strategy in dict.fromkeys(each["strategy"] for each in findings):
        marks = [leaks(record) for record in tables[strategy].to_dict("records")]
        groups.append(
            {
                "strategy": strategy,
                "title": titles[strategy],
                "leaks": next(filter(None, marks), ""),
                "findings": [_finding(each) for each in findings if each["strategy"] == strategy],
            }
        )
    return groups


def _finding(finding: Mapping[str, Any]) -> dict[str, Any]:
    tests = [
        {
            "name": each["name"],
            "difference": points(each["difference"]),
            "interval": "" if each["low"] is None else f"{points(each['low'])} to {points(each['high'])}",
            "p": _p(each["p"]),
            "holm": _p(each["p_adjusted"]),
        }
        for each in finding["tests"]
    ]
    return {**finding, "tests": tests, "heading": METRICS[finding["metric"]].removeprefix("the ")}


def _p(value: float | None) -> str:
    return "" if value is None else probability(value).removeprefix("p ").removeprefix("= ")


def leaks(record: Mapping[Any, Any]) -> str:
    """`leaks: 35 groups` where the folds of a row tear leakage groups apart, otherwise empty."""
    value: Any = record.get("leaks")
    # text where a table was read as csv
    count = int(float(value)) if _known(value) and value != "" else 0
    return f"leaks: {count} group{'' if count == 1 else 's'}" if count else ""


def leakage_text(leakage: Mapping[str, Any]) -> str:
    """One sentence on what the leakage check of the folds found."""
    kind, found = leakage.get("kind", "grouped"), leaks(leakage)
    if not found:
        return f"Folds: {kind}. No leakage group and no case lies in two parts of a fold."
    return (
        f"Folds: {kind}; {found}. They lie in more than one part of a fold, and "
        f"{leakage['exposed_test_images']} test images have a case-mate or near-duplicate in train or validation: "
        "every number below is too good by an unknown amount."
    )


def _cell(record: Mapping[Any, Any], name: str, percent: bool) -> dict[str, str]:
    published, points = record[f"paper_{name}"], record[f"difference_{name}"]
    if not _known(published):
        return {"ours": _plus_minus(record, name, percent), "paper": "", "difference": ""}
    return {
        "ours": _plus_minus(record, name, percent),
        "paper": f"{100 * published:.1f}" if percent else f"{published:.2f}",
        "difference": f"{points:+.1f}".replace("-", "−"),
    }


def _plus_minus(record: Mapping[Any, Any], name: str, percent: bool) -> str:
    mean, deviation = record[f"{name}_mean"], record[f"{name}_std"]
    if not _known(mean):
        return ""
    scale, digits = (100, 1) if percent else (1, 3)
    text = f"{scale * mean:.{digits}f}"
    return f"{text} ± {scale * deviation:.{digits}f}" if _known(deviation) else text


FLOW = ("listed", "read", "excluded", "kept", "cases", "benign", "malignant", "with_mask")


def flow_rows(flow: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and one line a source of the counts that assembly recorded, with a line of totals."""
    rows = [
        [SOURCE_NAMES.get(source, source), *(_count(counts.get(key)) for key in FLOW)]
        for source, counts in flow.items()
    ]
    if len(flow) > 1:
        totals = [sum(_number(counts.get(key)) for counts in flow.values()) for key in FLOW]
        rows.append(["all", *(str(total) for total in totals)])
    return ["source", *(key.replace("_", " ") for key in FLOW)], rows


def audit_facts(audit: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the audit found, as (name, value) lines for people."""
    clusters, conflicts = audit["clusters"], audit["conflicts"]
    share = f"{clusters['images']} images ({100 * clusters['fraction_of_images']:.1f} %)"
    return [
        ("images", str(audit["images"])),
        ("cases", str(audit["cases"])),
        ("leakage groups", str(audit["groups"])),
        ("largest group", f"{audit['largest_group']} images"),
        ("identical pairs", str(audit["exact_duplicate_pairs"])),
        ("near-duplicate clusters", f"{clusters['count']} over {share}"),
        ("clusters with both labels", _conflicts(conflicts["clusters"])),
        ("cases with both labels", _conflicts(conflicts["cases"])),
    ]


def leakage_rows(leakage: Mapping[str, Any]) -> list[list[str]]:
    """One line a fold: images, leakage groups and the malignant share of each part."""
    rows = []
    for name, parts in leakage["folds"].items():
        cells = [
            f"{part['images']} / {part['groups']} / {100 * part['malignant_fraction']:.0f} %"
            for part in (parts[key] for key in ("train", "validation", "test"))
        ]
        rows.append([name.removeprefix("fold_"), *cells])
    return rows


def _conflicts(found: Sequence[Mapping[str, Any]]) -> str:
    """How many, and which images of the first few."""
    shown = "; ".join(", ".join([*each["benign"], *each["malignant"]]) for each in found[:8])
    return f"{len(found)}: {shown}" if found else "none"


def gate_values(gate: Mapping[str, Any]) -> dict[str, Any]:
    """The gate's verdict for people: model, candidate, baseline, rules, notes."""
    failed = [rule for rule in gate["rules"] if not rule["passed"]]
    return {**gate, "failed_text": ", ".join(f"{rule['id']} ({rule['title']})" for rule in failed)}


def _count(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {count}" for key, count in value.items()) or "0"
    return "" if value is None else str(value)


def _number(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(_number(each) for each in value.values())
    return int(value) if isinstance(value, int | float) else 0


def _known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
