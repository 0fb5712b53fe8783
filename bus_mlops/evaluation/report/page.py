"""The report: one self-contained HTML page with every table, figure and number of a reproduction."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.dataset.benchmark import flow_notes
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.families import compose, with_choice
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.report import plots
from bus_mlops.evaluation.report.audit_pictures import Exclusions, excluded_sentence, read_conflicts, read_excluded
from bus_mlops.evaluation.report.drawing import data_address
from bus_mlops.evaluation.report.rows import (
    audit_facts,
    columns,
    finding_groups,
    flow_rows,
    gate_values,
    is_headline,
    leakage_rows,
    leakage_text,
    mask_columns,
    table_rows,
    tests_made,
)
from bus_mlops.evaluation.report.searches import search_sections
from bus_mlops.evaluation.report.sections import tabled_sections
from bus_mlops.evaluation.report.tabled import Section
from bus_mlops.evaluation.results import (
    Heading,
    check_collected,
    read_curves,
    read_headings,
    read_plans,
    read_predictions,
    select_row,
)
from bus_mlops.evaluation.samples import Samples, read_samples
from bus_mlops.evaluation.searched import SearchResult, read_results
from bus_mlops.files import read_json

if TYPE_CHECKING:
    import pandas as pd

TEMPLATE = "templates/report.html.j2"


@dataclass(frozen=True)
class StrategyResults:
    """What the report shows of one strategy; curves may be empty, samples None."""

    heading: Heading
    table: pd.DataFrame
    predictions: pd.DataFrame
    curves: pd.DataFrame
    samples: Samples | None


@dataclass(frozen=True)
class ReportInputs:
    """All that the page is made of; None where a stage has not run (the page says so or leaves it out).

    `notes` say why a stage that has run had nothing to do: a search without its network, a promotion without a rival.
    """

    benchmark: dict[str, Any]
    strategies: dict[str, StrategyResults]
    provenance: dict[str, str]
    audit: dict[str, Any] | None = None
    leakage: dict[str, Any] | None = None
    searches: dict[str, SearchResult] = field(default_factory=dict)
    gate: dict[str, Any] | None = None
    findings: list[dict[str, Any]] = field(default_factory=list)
    conflicts: list[list[dict[str, Any]]] = field(default_factory=list)
    excluded: Exclusions = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tabled: list[Section] = field(default_factory=list)


def read_inputs(data: Path, results: Path, provenance: dict[str, str]) -> ReportInputs:
    """Collect the inputs under the project's `data` and `results` folders.

    Audit, leakage, search and gate are shown where they are.

    Raises:
        EvaluationError: Plans, predictions, tables or findings are missing.
    """
    benchmark = _json(data / "benchmark" / "benchmark.json")
    if benchmark is None:
        raise EvaluationError(f"{data / 'benchmark' / 'benchmark.json'} is missing: run `dvc repro assemble`.")
    findings = results / "findings.json"
    if not findings.is_file():
        raise EvaluationError(f"{findings} is missing: run `dvc repro evaluate`.")
    audit = _json(data / "audit" / "audit.json")
    searches = read_results(results)
    promotion = _json(results / "promotion" / "promotion.json")
    excluded, flow = read_excluded(data, benchmark["flow"])
    return ReportInputs(
        benchmark={**benchmark, "flow": flow},
        strategies=_read_strategies(results),
        provenance=provenance,
        findings=read_json(findings),
        audit=audit,
        conflicts=read_conflicts(data, audit) if audit else [],
        excluded=excluded,
        leakage=_json(data / "leakage.json"),
        searches=searches,
        gate=_json(results / "promotion" / "gate.json"),
        tabled=tabled_sections(results / "tables"),
        notes=[
            *(f"Search {name}: {each.note}" for name, each in searches.items() if each.note),
            *([promotion["note"]] if promotion and "note" in promotion else []),
        ],
    )


def _read_strategies(results: Path) -> dict[str, StrategyResults]:
    folder = results / "predictions"
    headings, plans = read_headings(results / "plan"), read_plans(results / "plan")
    check_collected(folder, headings)
    curves = read_curves(folder, headings)
    strategies = {}
    for name, heading in headings.items():
        table = results / "tables" / f"{name}.csv"
        samples = folder / f"{name}_samples.npz"
        predictions = read_predictions(folder / f"{name}.parquet")
        rows = with_choice(predictions, plans[name])
        strategies[name] = StrategyResults(
            heading=heading,
            table=_read_table(table),
            predictions=compose(predictions, rows),
            curves=compose(curves[curves["strategy"] == name], rows),
            samples=read_samples(samples) if samples.is_file() else None,
        )
    return strategies


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise EvaluationError(f"{path} is missing: run `dvc repro evaluate`.")
    table = pd.read_csv(path)
    for name in METRICS:
        if f"{name}_mean" not in table.columns:
            raise EvaluationError(f"{path} lacks the metric {name!r}, which was added since: run `dvc repro evaluate`.")
    return table


def render_report(inputs: ReportInputs) -> str:
    """The whole page as a string of HTML without a single external reference."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = resources.files("bus_mlops.evaluation.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    phantom = inputs.benchmark["kind"] == "phantom"
    headings, flow = flow_rows(inputs.benchmark["flow"])
    strategies = [_strategy(name, each) for name, each in inputs.strategies.items()]
    return environment.from_string(text).render(
        phantom=phantom,
        title=_title(phantom),
        columns=columns(),
        further_columns=columns(further=True),
        mask_columns=mask_columns(),
        flow_headings=headings,
        flow=flow,
        flow_notes=[line for source in inputs.benchmark["flow"] for line in flow_notes(inputs.benchmark, source)],
        sources=list(inputs.benchmark["flow"]),
        highlights=_highlights(inputs),
        findings=finding_groups(
            inputs.findings,
            {name: each.table for name, each in inputs.strategies.items()},
            {name: each.heading.title for name, each in inputs.strategies.items()},
        ),
        tests_made=tests_made(inputs.findings),
        conflicts=len(inputs.benchmark.get("label_conflicts", [])),
        audit=audit_facts(inputs.audit) if inputs.audit else [],
        conflict_clusters=[
            [{**image, "picture": data_address(image["picture"])} for image in each] for each in inputs.conflicts
        ],
        excluded_sentence=excluded_sentence(inputs.excluded),
        leakage=leakage_rows(inputs.leakage) if inputs.leakage else [],
        leakage_text=leakage_text(inputs.leakage) if inputs.leakage else "",
        leaks=any(row["leaks"] for each in strategies for row in each["rows"]),
        validation_leaks=any(row["validation_leaks"] for each in strategies for row in each["rows"]),
        strategies=strategies,
        searches=_drawn(search_sections(inputs.searches)),
        tabled=inputs.tabled,
        gate=gate_values(inputs.gate) if inputs.gate else None,
        notes=inputs.notes,
        provenance=inputs.provenance,
    )


def _drawn(searches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sections of searches with their figures as addresses."""
    for network in (each for search in searches for each in search["networks"]):
        network["figures"] = {title: data_address(drawn) for title, drawn in network["figures"].items()}
    return searches


def _title(phantom: bool) -> str:
    if phantom:
        return "PHANTOMS: synthetic images; numbers say nothing about patients"
    return "Breast ultrasound classification benchmark"


def _highlights(inputs: ReportInputs) -> list[tuple[str, str, str]]:
    images = sum(counts["kept"] for counts in inputs.benchmark["flow"].values() if "kept" in counts)
    rows = [
        (record, each.heading.title) for each in inputs.strategies.values() for record in each.table.to_dict("records")
    ]
    cards = [
        (f"{len(inputs.benchmark['flow'])}", "sources", f"{images} images kept" if images else ""),
        (f"{len(rows)}", "table rows", f"in {len(inputs.strategies)} strategies"),
    ]
    for metric in (METRICS["roc_auc"], METRICS["dice"]):
        known = [(record[f"{metric.name}_mean"], record, title) for record, title in rows]
        known = [each for each in known if each[0] == each[0]]
        if known:
            value, record, title = max(known, key=lambda each: float(each[0]))
            best = metric.format_with_unit(value), f"best {metric.heading}"
            cards.append((*best, f"{record['model']} {record['variant']} ({title})"))
    if inputs.findings:
        shown = sum(each["verdict"] == "shown" for each in inputs.findings)
        cards.append((f"{shown} of {len(inputs.findings)}", "expected effects show", "each with its test"))
    return cards


def _strategy(name: str, results: StrategyResults) -> dict[str, Any]:
    rows = table_rows(results.table)
    shown = [record for record in results.table.to_dict("records") if is_headline(record)]
    test = {
        (record["model"], record["variant"]): select_row(results.predictions, record["model"], record["variant"])
        for record in shown
        if record["task"] != "segmentation"
    }
    titles = {(record["model"], record["variant"]) for record in shown}
    kept = [each in titles for each in zip(results.curves["model"], results.curves["variant"], strict=True)]
    return {
        "name": name,
        "title": results.heading.title,
        "explanation": results.heading.explanation,
        "rows": [row for row in rows if row["headline"]],
        "grid": rows if len(shown) < len(rows) else [],
        "scope": f"{_range(results.table['images'])} test images in {_range(results.table['folds'])} folds",
        "many": len(test) > plots.MOST_CURVES,
        "has_masks": any(cell["ours"] for row in rows for cell in row["masks"]),
        "methods": list(dict.fromkeys(row["interval"] for row in rows if row["interval"])),
        "has_paper": any(cell["paper"] for row in rows for cell in row["cells"]),
        "roc": data_address(plots.roc_figure(test)) if test else "",
        "confusion": data_address(plots.confusion_figure(test)) if test else "",
        "calibration": data_address(plots.calibration_figure(test)) if test else "",
        "curves": data_address(plots.learning_figure(results.curves[kept])) if any(kept) else "",
        "samples": _samples(results.samples) if results.samples else [],
    }


def _range(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def _samples(samples: Samples) -> list[tuple[str, str]]:
    shown = []
    for model in dict.fromkeys(samples.model):
        indices = [i for i, each in enumerate(samples.model) if each == model]
        shown.append((model, data_address(plots.samples_figure(samples, indices))))
    return shown


def _json(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None
