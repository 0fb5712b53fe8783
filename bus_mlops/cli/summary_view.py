"""The summary of a reproduction for a terminal of any width: the verdict first, commands that can be copied last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus_mlops.cli.summary import RANKED_BY, SHOWN_METRICS, Finding, Row, Summary, Verdict

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

# Rows of the ranking that are printed; the report has all.
RANKED = 10
# Characters that verdict and difference of a finding take beside its text.
BESIDE = 27
# Characters of a terminal from which on intervals and numbers of images are shown, too.
WIDE = 76
_STYLES = {
    **{"promoted": "bold green", "forced": "bold yellow", "refused": "bold red", "none": "yellow"},
    **{"shown": "green", "opposite": "red", "not shown": "yellow", "not tested": "dim"},
}


def show_summary(summary: Summary, console: Console) -> None:
    """Print a summary: verdict, ranking, findings, what was left out, times, and what to do next."""
    from rich.text import Text

    _show_verdict(summary.verdict, console)
    for name, verdict in summary.challengers.items():
        _show_verdict(verdict, console, name)
    if summary.phantom:
        warning = "SYNTHETIC images (phantoms): the numbers say nothing about patients."
        _hanging(Text(warning, style="bold yellow"), console)
    _heading("Ranking by ROC AUC, means over folds", console)
    console.print(_ranking(summary.ranking, console.width >= WIDE))
    _notes(summary, console)
    if summary.findings:
        counts = {each: sum(f.verdict == each for f in summary.findings) for each in _STYLES}
        told = ", ".join(f"{count} {each}" for each, count in counts.items() if count)
        _heading(f"Findings of the paper: {told}", console)
        console.print(_findings(summary.highlights, console.width))
    rest = _rest(summary)
    if rest:
        console.print()
    for name, value in rest.items():
        _hanging(Text.assemble((f"{name}: ", "bold"), value), console)
    _heading("Next", console)
    for each in summary.next:
        console.print(Text(f"  # {each.purpose}", style="dim"), soft_wrap=True)
        # A line, however long: what is wrapped by the terminal alone can be copied.
        console.print(Text(f"  {each.command}", style="cyan"), soft_wrap=True)
    if summary.report is not None:
        console.print(Text.assemble(("\nReport: ", "bold"), summary.report), soft_wrap=True)


def _heading(text: str, console: Console) -> None:
    from rich.text import Text

    console.print(Text(f"\n{text}", style="bold"))


def _hanging(text: Text, console: Console, indent: int = 0) -> None:
    """Print a paragraph whose later lines are indented by two more characters, without spaces at their ends."""
    from rich.text import Text

    for number, line in enumerate(text.wrap(console, max(console.width - indent - 2, 20))):
        line.rstrip()
        console.print(Text(" " * (indent + (2 if number else 0))) + line)


def _show_verdict(verdict: Verdict, console: Console, name: str = "") -> None:
    from rich.text import Text

    first = f"{name}: " if name else ""
    word = ("no promotion" if verdict.decision == "none" else verdict.decision).upper()
    if verdict.decision == "none":
        _hanging(Text.assemble(first, (word, _STYLES["none"]), f"  {verdict.note}"), console)
        return
    verb = "beats" if verdict.decision == "promoted" else "against"
    text = Text.assemble(first, (word, _STYLES.get(verdict.decision, "bold")), f"  {verdict.candidate} {verb} ")
    _hanging(text.append(verdict.baseline), console)
    state = "champion" if verdict.is_champion else "not champion"
    _hanging(Text(f"{verdict.model} version {verdict.version} is {state}"), console, 2)
    for reason in _main_reason(verdict.reasons) if name else verdict.reasons:
        _hanging(Text(reason), console, 2)


def _main_reason(reasons: tuple[str, ...]) -> tuple[str, ...]:
    """Of a challenger what the report says of it, too: superiority, if that is among several; its gate.md has all."""
    if len(reasons) < 2:
        return reasons
    main = next((each for each in reasons if " superiority: " in each), reasons[0])
    more = len(reasons) - 1
    return (f"{main} {more} further rule{'s' if more > 1 else ''} refused it too.",)


def _ranking(rows: tuple[Row, ...], wide: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("", justify="right")
    table.add_column("", overflow="fold", min_width=16)
    headings = {RANKED_BY: "ROC AUC", "sensitivity": "sens. %", "specificity": "spec. %"}
    for name in SHOWN_METRICS:
        table.add_column(headings[name], justify="right", no_wrap=True)
        if wide and name == RANKED_BY:
            table.add_column("95 % interval", no_wrap=True)
    if wide:
        table.add_column("images", justify="right", no_wrap=True)
    for row in rows[:RANKED]:
        cells = []
        for name in SHOWN_METRICS:
            value = row.metrics[name]
            cells.append(_number(value["mean"], name))
            if wide and name == RANKED_BY:
                cells.append(f"{_number(value['low'], name)} to {_number(value['high'], name)}" if value["low"] else "")
        title = Text(row.title, style="bold" if row.rank == 1 else "")
        for mark in row.marks:
            title.append(f" ({mark})", style="red")
        table.add_row(str(row.rank), title, *cells, *([str(row.images)] if wide else []))
    return table


def _number(value: float | None, name: str) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if name == RANKED_BY else f"{100 * value:.0f}"


def _notes(summary: Summary, console: Console) -> None:
    from rich.text import Text

    shown = summary.ranking[:RANKED]
    if len(summary.ranking) > len(shown):
        console.print(Text(f"and {len(summary.ranking) - len(shown)} more rows: see the report", style="dim"))
    if len({row.images for row in shown}) > 1:
        note = "Rows with other numbers of images were tested on other sources: compare them with care."
        _hanging(Text(note, style="dim"), console)


def _findings(findings: list[Finding], width: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(no_wrap=True, justify="right")
    for each in findings:
        points = "" if each.difference is None else f"{each.difference:+.1f} points".replace("-", "−")
        # Against what can be left out sooner than that it is a line.
        text = each.text if len(each.text) <= width - BESIDE else each.text.partition(" against ")[0]
        table.add_row(Text(each.verdict, style=_STYLES[each.verdict]), text, points)
    return table


def _rest(summary: Summary) -> dict[str, str]:
    """Further lines, of which there may be none."""
    from bus_mlops.experiments.progress.grid_state import duration

    lines = {}
    if summary.left_out:
        reasons: dict[str, list[str]] = {}
        for row in summary.left_out:
            reasons.setdefault(row["reason"], []).append(f"{row['network']} {row['variant']} ({row['strategy']})")
        lines["Left out"] = "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())
    if summary.left_to_paper:
        lines["Left to the profile paper"] = "; ".join(summary.left_to_paper)
    lines |= {f"Search {name}": line for name, line in summary.searches.items()}
    if summary.time is not None:
        wall, cpu = (duration(summary.time[name]) for name in ("wall_seconds", "cpu_seconds"))
        lines["Time"] = f"{wall} by the clock, {cpu} of the processor"
    return lines
