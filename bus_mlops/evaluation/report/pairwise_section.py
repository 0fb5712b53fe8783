"""The section on who beats whom: a matrix a strategy, each cell one row against another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.pairwise import EQUIVALENCE
from bus_mlops.evaluation.paper.sentences import points, probability
from bus_mlops.evaluation.report.tabled import Section, render

if TYPE_CHECKING:
    import pandas as pd

METRIC = "roc_auc"
# What must be more probable than this to be coloured.
SURE = 0.95


def pairwise_section(tables: Path) -> Section | None:
    """The matrices of `pairwise.csv`; None where no two rows can be compared."""
    import pandas as pd

    path = tables / "pairwise.csv"
    table = pd.read_csv(path, keep_default_na=False, na_values=["nan"]) if path.is_file() else pd.DataFrame()
    if table.empty:
        return None
    chosen = table[table["metric"] == METRIC]
    matrices = [_matrix(str(name), rows) for name, rows in chosen.groupby("strategy", sort=False)]
    known = {"metric": METRICS[METRIC].phrase, "points": f"{100 * EQUIVALENCE:g}", "sure": SURE}
    lead = "Each row against every other of its table, and how sure a difference that matters is."
    html = render("pairwise", matrices=matrices, **known)
    return Section("pairwise", "Who beats whom", html, lead)


def _matrix(strategy: str, rows: pd.DataFrame) -> dict[str, Any]:
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    wins: dict[str, int] = {}
    gains: dict[str, float] = {}
    for each in rows.to_dict("records"):
        first, other = f"{each['model']} {each['variant']}", f"{each['other_model']} {each['other_variant']}"
        cells[first, other] = _cell(each, 1)
        cells[other, first] = _cell(each, -1)
        for name, cell in ((first, cells[first, other]), (other, cells[other, first])):
            wins[name] = wins.get(name, 0) + (cell["state"] == "better")
        gains[first] = gains.get(first, 0) + each["difference"]
        gains[other] = gains.get(other, 0) - each["difference"]
    names = sorted(wins, key=lambda name: (-wins[name], -gains[name], list(wins).index(name)))
    return {
        "strategy": strategy,
        "pairs": len(rows),
        "names": names,
        "rows": [(name, wins[name], [cells.get((name, other)) for other in names]) for name in names],
    }


def _cell(pair: dict[Any, Any], side: int) -> dict[str, Any]:
    better, worse = (pair["better"], pair["worse"])[::side]
    state = "better" if better > SURE else "worse" if worse > SURE else "equal" if pair["equal"] > SURE else ""
    low, high = sorted((side * pair["low"], side * pair["high"]))
    return {
        "difference": points(side * pair["difference"]),
        "state": state,
        "significant": pair["p_adjusted"] < 0.05,
        "title": f"{points(low)} to {points(high)}, {probability(pair['p_adjusted'])} after Holm; "
        f"P(better) {better:.2f}, P(equal) {pair['equal']:.2f}, P(worse) {worse:.2f}",
    }
