"""The report: one self-contained HTML page with every table, figure and number of a reproduction."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup

from bus_mlops.dataset.benchmark import flow_notes
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.families import compose, with_choice
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.report import plots
from bus_mlops.evaluation.report.audit_pictures import Exclusions, excluded_sentence, read_conflicts, read_excluded
from bus_mlops.evaluation.report.drawing import data_address
from bus_mlops.evaluation.report.found import finding_lines, tests_made
from bus_mlops.evaluation.report.leaderboard import METRIC, SHOWN, leaderboard, ranked_by, ranking
from bus_mlops.evaluation.report.rows import (
    audit_facts,
    columns,
    confused,
    flow_rows,
    gate_values,
    is_headline,
    leakage_rows,
    leakage_text,
    left_out_rows,
    mask_columns,
    table_rows,
)
from bus_mlops.evaluation.report.searches import search_sections
from bus_mlops.evaluation.report.sections import tabled_sections
from bus_mlops.evaluation.report.tabled import Section
from bus_mlops.evaluation.report.verdicts import challenger_lines, read_challengers, roles, verdict
from bus_mlops.evaluation.results import (
    RUNS_FILE,
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
from bus_mlops.evaluation.training_variance import ONE_SEED
from bus_mlops.files import read_json

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StrategyResults:
    """What the report shows of one strategy; curves may be empty, samples None."""

    heading: Heading
    table: pd.DataFrame
    predictions: pd.DataFrame
    curves: pd.DataFrame
    samples: Samples | None
    experiment: str = ""
    """Of MLflow, that its runs lie in; empty where an earlier version collected them."""


@dataclass(frozen=True)
class ReportInputs:
    """All that the page is made of; None where a stage has not run (the page says so or leaves it out).

    `notes` say why a stage that has run had nothing to do: a search without its network. `baseline` is what the
    parameters call the gate's baseline, `mlflow` the address at which MLflow's pages are to be had, `mlflow_starts` the
    command without which nothing is there; empty of a server.
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
    promotion: dict[str, Any] | None = None
    challengers: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    baseline: str = ""
    mlflow: str = ""
    mlflow_starts: str = ""


def read_inputs(
    data: Path, results: Path, provenance: dict[str, str], baseline: str = "", mlflow: str = ""
) -> ReportInputs:
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
        notes=[f"Search {name}: {each.note}" for name, each in searches.items() if each.note],
        promotion=promotion,
        challengers=read_challengers(results / "promotion"),
        left_out=left_out_rows(results / "plan" / "left_out.csv"),
        baseline=baseline,
        mlflow=mlflow.rstrip("/"),
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
            experiment=str(read_json(folder / RUNS_FILE.format(name)).get("experiment", "")),
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
    """The whole page as a string of HTML; all that it refers to are csv files beside it, and MLflow's pages."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    folder = resources.files("bus_mlops.evaluation.report").joinpath("templates")
    phantom = inputs.benchmark["kind"] == "phantom"
    headings, flow = flow_rows(inputs.benchmark["flow"])
    strategies = [_strategy(name, each, inputs) for name, each in inputs.strategies.items()]
    first, further = finding_lines(inputs.findings)
    known = roles(inputs.gate, inputs.promotion, inputs.challengers)
    metric = ranked_by(each.table for each in inputs.strategies.values())
    ranked = ranking(metric, ((name, each.table, each.predictions) for name, each in inputs.strategies.items()))
    return environment.from_string(
        folder.joinpath("report.html.j2").read_text(encoding="utf-8")
    ).render(
        css=Markup(folder.joinpath("report.css").read_text(encoding="utf-8")),  # noqa: S704 - a file of ours
        phantom=phantom,
        title=_title(phantom),
        verdict=verdict(inputs.gate, inputs.promotion),
        challengers=challenger_lines(inputs.challengers),
        boards=[leaderboard(metric, ranked[:SHOWN], known), leaderboard(metric, ranked[SHOWN:], known, SHOWN + 1)],
        mixed=len({int(each.record["images"]) for each in ranked}) > 1,
        board_metric=metric.title,
        baseline=_baseline(inputs),
        mlflow_starts=inputs.mlflow_starts,
        columns=columns(),
        further_columns=columns(further=True),
        mask_columns=mask_columns(),
        flow_headings=headings,
        flow=flow,
        flow_notes=[line for source in inputs.benchmark["flow"] for line in flow_notes(inputs.benchmark, source)],
        sources=list(inputs.benchmark["flow"]),
        findings=first,
        further_findings=further,
        titles={name: each.heading.title for name, each in inputs.strategies.items()},
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
        left_out=[{**row, "strategy": name} for name, rows in inputs.left_out.items() for row in rows],
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


def _baseline(inputs: ReportInputs) -> str:
    """Where the gate's baseline comes from, as a sentence; empty where no parameter says so."""
    meant = {
        "": "",
        "champion": "The baseline is the champion, or while there is none the best other approach by validation.",
        "best": "The baseline is the best other approach by validation.",
    }
    named = f"The baseline is the network {inputs.baseline}, which the profile names (promotion.baseline)."
    return meant.get(inputs.baseline, named)


def _strategy(name: str, results: StrategyResults, inputs: ReportInputs) -> dict[str, Any]:
    rows = [{**row, "runs": _runs(row["fingerprint"], results, inputs.mlflow)} for row in table_rows(results.table)]
    shown = [record for record in results.table.to_dict("records") if is_headline(record)]
    test = {
        (record["model"], record["variant"]): select_row(results.predictions, record["model"], record["variant"])
        for record in shown
        if record["task"] != "segmentation"
    }
    areas = {(each["model"], each["variant"]): METRIC.format(each["roc_auc_mean"]) for each in shown}
    titles = {(record["model"], record["variant"]) for record in shown}
    kept = [each in titles for each in zip(results.curves["model"], results.curves["variant"], strict=True)]
    title = results.heading.title
    return {
        "name": name,
        "title": title,
        "explanation": results.heading.explanation,
        "rows": [row for row in rows if row["headline"]],
        "grid": rows if len(shown) < len(rows) else [],
        "left_out": inputs.left_out.get(name, []),
        "leak_mark": next(filter(None, (row["leaks"] for row in rows)), ""),
        "scope": f"{_range(results.table['images'])} test images in {_range(results.table['folds'])} folds",
        "linked": any(row["runs"] for row in rows),
        "has_masks": any(cell["ours"] for row in rows for cell in row["masks"]),
        "one_seed": any(ONE_SEED in row["interval"] for row in rows),
        "methods": list(dict.fromkeys(row["interval"] for row in rows if row["interval"])),
        "has_paper": any(cell["paper"] for row in rows for cell in row["cells"]),
        "roc": plots.roc_figure(test, areas, f"ROC curves: {title}") if test else "",
        "calibration": plots.calibration_figure(test, f"Calibration: {title}") if test else "",
        "confusion": [
            (*key, confused(part["label"].to_numpy(), part["probability"].to_numpy())) for key, part in test.items()
        ],
        "curves": plots.learning_figure(results.curves[kept], f"Learning curves: {title}") if any(kept) else "",
        "samples": plots.outlined(results.samples) if results.samples else [],
    }


def _runs(fingerprint: str, results: StrategyResults, mlflow: str) -> str:
    """The address of a row's runs in MLflow; empty of a row that stands for several, and where it is not known."""
    if not (mlflow and results.experiment and fingerprint):
        return ""
    found = quote(f"tags.fingerprint LIKE '{fingerprint}%'")
    return f"{mlflow}/#/experiments/{results.experiment}/runs?workflowType=machine_learning&searchFilter={found}"


def _range(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def _json(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None
