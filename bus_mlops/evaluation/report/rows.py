"""From tables and records to the strings that the report prints; nothing is computed here but formatting."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.dataset.folds.leakage import Leaks
from bus_mlops.dataset.folds.sealed import sealed_words
from bus_mlops.evaluation.metric import Metric
from bus_mlops.evaluation.metrics import METRICS, PAPER_METRICS, confusion
from bus_mlops.evaluation.paper.sentences import points
from bus_mlops.sources.registry import SOURCES

if TYPE_CHECKING:
    import pandas as pd


SLOPE = "calibration_slope"
# A network whose answers hardly vary has a slope of any size and sign: it says nothing about calibration.
STEEPEST = 10.0


def columns(further: bool = False) -> list[Metric]:
    """The metrics of probabilities as the report shows them, in its first or its `further` table of a strategy.

    Those with an interval that the paper does not print, the paper's, then all others.
    """
    shown = [each for each in METRICS.values() if not each.of_masks and each.further == further]
    return sorted(shown, key=lambda each: (not each.interval, bool(each.paper)))


def mask_columns() -> list[Metric]:
    """The metrics of masks as the report shows them."""
    return [each for each in METRICS.values() if each.of_masks]


def is_headline(record: Mapping[Any, Any]) -> bool:
    """Whether a row is shown first: of a family (weights, focal pairs) only the one chosen on validation is."""
    return not _known(record["family"]) or bool(record["chosen"])


def table_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One entry a row: title, counts, and a cell for each of `columns` and `mask_columns`."""
    printed = {
        (record["model"], record["family"]): record["variant"]
        for record in table.to_dict("records")
        if _known(record["family"]) and _known(record["paper_table"]) and not _text(record["chosen_per_fold"])
    }
    return [
        {
            "model": record["model"],
            "variant": record["variant"],
            "images": record["images"],
            "folds": record["folds"],
            "headline": is_headline(record),
            "choice": _choice(record, printed.get((record["model"], record["family"]))),
            "cells": [_cell(record, metric) for metric in columns()],
            "further": [_cell(record, metric) for metric in columns(further=True)],
            "masks": [_cell(record, metric) for metric in mask_columns()],
            "interval": _text(record["interval"]),
            "leaks": leaks(record),
            "validation_leaks": leaks(record, "validation_leaks"),
            "incomplete": incomplete(record),
            "fingerprint": _text(record["fingerprint"]),
            "contradiction": _text(record["contradiction"]),
        }
        for record in table.to_dict("records")
    ]


def _choice(record: Mapping[Any, Any], printed: str | None) -> str:
    """What was chosen for each fold, by what, and what the paper chose; cross-entropy has no choice."""
    per_fold = _text(record["chosen_per_fold"])
    if per_fold and not _known(record["family"]):
        return f"{'chosen for each fold' if record['choice'] == 'nested' else 'FLAT choice'}: {per_fold}"
    if not _known(record["family"]) or record["family"] == "BCE":
        return ""
    value = f"validation F1 {record['validation_f1']:.3f}"
    if not record["chosen"]:
        return value + ("; the paper's choice" if printed == record["variant"] else "")
    said = f"{per_fold}; {value}" if per_fold else f"chosen: {value}"
    same = printed == record["variant"] or _known(record["paper_table"])
    return said if same or printed is None else f"{said}; the paper's choice: {printed}"


def incomplete(record: Mapping[Any, Any]) -> str:
    """`incomplete: my_hospital: 1003 of 2006 images` where files of a row's sources are not there, otherwise empty."""
    gaps = _text(record.get("incomplete"))
    return f"incomplete: {gaps}" if gaps else ""


def leaks(record: Mapping[Any, Any], count: Leaks = "leaks") -> str:
    """`leaks: 35 groups` where the folds of a row tear that many apart, `validation leaks: ...`, otherwise empty."""
    value: Any = record.get(count)
    # text where a table was read as csv
    number = int(float(value)) if _known(value) and value != "" else 0
    return f"{count.replace('_', ' ')}: {_groups(number)}" if number else ""


def _groups(number: int) -> str:
    return f"{number} group{'' if number == 1 else 's'}"


def leakage_text(leakage: Mapping[str, Any]) -> str:
    """What the leakage check of the folds found: on tested images, on validation, and what is in no fold."""
    sealed = [f"{words[0].upper()}{words[1:]}." for words in sealed_words(leakage.get("sealed", {}))]
    return " ".join([_leaks_text(leakage), *sealed])


def _leaks_text(leakage: Mapping[str, Any]) -> str:
    kind, tested, validated = leakage.get("kind", "grouped"), leakage["leaks"], leakage["validation_leaks"]
    if not tested and not validated:
        return f"Folds: {kind}. No leakage group and no case lies in two parts of a fold."
    sentences = [f"Folds: {kind}."]
    if tested:
        sentences.append(
            f"{_groups(tested)} {'lies' if tested == 1 else 'lie'} in a test part and in train or validation of the "
            f"same fold: {leakage['exposed_test_images']} of {_tested(leakage)} test images have a case-mate or "
            "near-duplicate there, and results on them are too good by an unknown amount."
        )
    else:
        sentences.append("No test image has a case-mate or near-duplicate in train or validation of its fold.")
    if validated:
        sentences.append(
            f"{_groups(validated)} {'lies' if validated == 1 else 'lie'} in train and in validation of a fold: epochs, "
            "thresholds and whatever else was chosen there was chosen on images that were partly known; by itself this "
            "makes no test result too good."
        )
    return " ".join(sentences)


def _tested(leakage: Mapping[str, Any]) -> int:
    return sum(parts["test"]["images"] for parts in leakage["folds"].values())


def _cell(record: Mapping[Any, Any], metric: Metric) -> dict[str, str]:
    name = metric.name
    cell = {"ours": _spread(record, metric), "interval": "", "paper": "", "difference": ""}
    if metric.interval and cell["ours"] != "not estimable":
        ends = record[f"{name}_low"], record[f"{name}_high"]
        # A row that only draws masks has no probabilities; one without masks says so by empty cells.
        undefined = f"{name} in fold" in str(record.get("undefined", ""))
        without = "undefined" if undefined else "" if metric.of_masks else "masks only"
        without = "not estimable" if undefined and name == SLOPE else without
        missing = "no interval" if cell["ours"] else without
        cell["interval"] = " to ".join(map(metric.format, ends)) if _known(ends[0]) else missing
    if name in PAPER_METRICS and _known(record[f"paper_{name}"]):
        cell["paper"] = metric.format_published(record[f"paper_{name}"])
        cell["difference"] = points(record[f"difference_{name}"] / 100)
    return cell


def _spread(record: Mapping[Any, Any], metric: Metric) -> str:
    mean, deviation = record[f"{metric.name}_mean"], record[f"{metric.name}_std"]
    if metric.name == SLOPE and _known(mean) and max(abs(mean), abs(deviation)) > STEEPEST:
        return "not estimable"
    return metric.format_spread(mean, deviation) if _known(mean) else ""


FLOW = ("listed", "read", "excluded", "kept", "cases", "benign", "malignant", "with_mask")


def flow_rows(flow: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and one line a source of the counts that assembly recorded, with a line of totals."""
    rows = [[_source_title(source), *(_count(counts.get(key)) for key in FLOW)] for source, counts in flow.items()]
    if len(flow) > 1:
        totals = [sum(_number(counts.get(key)) for counts in flow.values()) for key in FLOW]
        rows.append(["all", *(str(total) for total in totals)])
    return ["source", *(key.replace("_", " ") for key in FLOW)], rows


def _source_title(name: str) -> str:
    return SOURCES[name].title if name in SOURCES else name


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


def confused(labels: Any, probabilities: Any) -> list[dict[str, Any]]:
    """Of each true class how many images were called benign and malignant at 0.5, with their shares of the class."""
    tn, fp, fn, tp = (int(cell) for cell in confusion(labels, probabilities >= 0.5))
    pairs = ((tn, tn + fp), (fp, tn + fp), (fn, fn + tp), (tp, fn + tp))
    return [{"count": count, "share": round(100 * count / max(of, 1))} for count, of in pairs]


def left_out_rows(path: Path) -> dict[str, list[dict[str, str]]]:
    """The rows that a profile leaves out, by strategy: network, variant, reason; none where nothing says so."""
    rows: dict[str, list[dict[str, str]]] = {}
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row["strategy"], []).append(row)
    return rows


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
