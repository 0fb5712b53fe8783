"""Tidy tables beside those of the strategies: `results/tables/NAME.csv`, computed once, drawn by the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bus_mlops.evaluation.curves import decision_curve, reliability, scores
from bus_mlops.evaluation.leak_premium import premium_table
from bus_mlops.evaluation.pairwise import pairwise_table
from bus_mlops.evaluation.paper.reproduced import reproduced_table
from bus_mlops.evaluation.paper.table3 import table3
from bus_mlops.evaluation.probed import cost_table, explanation_table, failure_table, robustness_table
from bus_mlops.evaluation.subgroups import subgroups
from bus_mlops.evaluation.tidy import Evaluated

if TYPE_CHECKING:
    import pandas as pd

# Name of the file without .csv -> what computes it; a table without rows is written with its columns.
TIDY_TABLES: dict[str, Callable[[Evaluated], pd.DataFrame]] = {
    "subgroups": subgroups,
    "decision_curve": decision_curve,
    "reliability": reliability,
    "scores": scores,
    "explanations": explanation_table,
    "failures": failure_table,
    "robustness": robustness_table,
    "cost": cost_table,
    "leak_premium": premium_table,
    "pairwise": pairwise_table,
    "reproduced": reproduced_table,
    "table3": table3,
}
