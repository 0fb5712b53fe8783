"""The closing summary of a reproduction for the terminal, read from the files under `results/`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.metric import Metric
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.report.rows import incomplete, leaks
from bus_mlops.evaluation.report.searches import search_line
from bus_mlops.evaluation.results import read_headings
from bus_mlops.evaluation.searched import read_results
from bus_mlops.files import read_json

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

# A terminal has room for three.
_SHOWN = tuple(METRICS[name] for name in ("roc_auc", "sensitivity", "specificity"))


def render_summary(results: Path, phantom: bool, left_to_paper: Sequence[str] = ()) -> Group:
    """Results table, report, the gate's verdict with the failing rule's numbers, and commands to try.

    A pure function of the files under `results` and of what the profile leaves to the profile `paper`.

    Raises:
        EvaluationError: No table has been written.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [Text()]
    if phantom:
        parts.append(Text("PHANTOMS: synthetic images; numbers say nothing about patients", style="bold yellow"))
    parts.append(_table(_records(results)))
    if left_to_paper:
        parts.append(_line("Left to the profile paper", "; ".join(left_to_paper)))
    parts += [_line(f"Search {name}", search_line(each)) for name, each in read_results(results).items()]
    report = results / "report.html"
    parts.append(_line("Report", str(report) if report.is_file() else "not written yet: dvc repro report"))
    gate, record = (_read(results / "promotion" / name) for name in ("gate.json", "promotion.json"))
    if gate:
        parts.append(_verdict(gate))
    elif record and "note" in record:
        parts.append(_line("Gate", record["note"], "yellow"))
    else:
        parts.append(_line("Gate", "not run yet: dvc repro promote"))
    return Group(*parts, *_next(gate, record, phantom))


def _read(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None


def _records(results: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of the planned strategies that have a table, under their titles and in the order of the tables."""
    records = {}
    for name, heading in read_headings(results / "plan").items():
        path = results / "tables" / f"{name}.csv"
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                records[heading.title] = list(csv.DictReader(file))
    if not records:
        raise EvaluationError(f"no results table in {results / 'tables'}: run `make reproduce` or `dvc repro` first.")
    return records


def _table(tables: dict[str, list[dict[str, str]]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("mean ± std over folds\n95 % interval of the mean", overflow="fold", min_width=18)
    for metric in _SHOWN:
        table.add_column(metric.title, justify="right", min_width=13, no_wrap=True)
        if metric.paper:
            table.add_column("paper", justify="right", min_width=5, no_wrap=True, style="dim")
    for title, records in tables.items():
        table.add_row(Text(title, style="bold"))
        for record in records:
            cells = [text for metric in _SHOWN for text in _cells(record, metric)]
            note = f" [red]({leaks(record)})[/red]" if leaks(record) else ""
            softer = (leaks(record, "validation_leaks"), incomplete(record))
            note += "".join(f" [yellow]({mark})[/yellow]" for mark in softer if mark)
            table.add_row(f"  {record['model']} {record['variant']}{note}", *cells)
    return table


def _verdict(gate: dict[str, Any]) -> Text:
    if gate["passed"]:
        champion = f"{gate['model_name']}@champion"
        return _line("Gate", f"promoted: {gate['candidate']} beats {gate['baseline']}; {champion} is set", "green")
    text = _line("Gate", f"refused: {gate['candidate']} against {gate['baseline']}", "red")
    for rule in gate["rules"]:
        if not rule["passed"]:
            text.append(f"\n  {rule['id']} {rule['title']} ({rule['limit']}): {rule['sentence']}")
    return text


def _next(gate: dict[str, Any] | None, record: dict[str, Any] | None, phantom: bool) -> list[Text]:
    from rich.text import Text

    lines = [
        Text("\nNext", style="bold"),
        Text.assemble("  ", ("make ui", "cyan"), ("  see every run, curve and model in MLflow", "dim")),
    ]
    if gate:
        # A refused version has no alias: it can be tried by its number.
        by_number = record is not None and not record.get("alias") and record.get("version")
        model = f"{gate['model_name']}/{by_number}" if by_number else f"{gate['model_name']}@champion"
        lines.append(Text.assemble("  ", (f"bus-mlops predict --model models:/{model} IMAGE", "cyan")))
    last = "bus-mlops profile busi" if phantom else "dvc metrics diff"
    why = "switch to real images (README: your own data)" if phantom else "what changed since the last commit"
    return [*lines, Text.assemble("  ", (last, "cyan"), (f"  {why}", "dim"))]


def _line(name: str, value: str, style: str = "") -> Text:
    from rich.text import Text

    return Text.assemble((f"{name}  ", "bold"), (value, style))


def _cells(record: dict[str, str], metric: Metric) -> list[str]:
    """Mean and deviation of a row, its interval below, and of a metric that the paper prints, its number."""
    mean, deviation = (record[f"{metric.name}_{part}"] for part in ("mean", "std"))
    # A network that only draws masks has none, a single fold no deviation.
    ours = metric.format_spread(float(mean), float(deviation or "nan")) if mean else ""
    low, high = (record.get(f"{metric.name}_{end}", "") for end in ("low", "high"))
    if low and high:
        ours += f"\n[dim]{metric.format(float(low))} to {metric.format(float(high))}[/dim]"
    if not metric.paper:
        return [ours]
    published = record[f"paper_{metric.name}"]
    return [ours, metric.format_published(float(published)) if published else ""]
