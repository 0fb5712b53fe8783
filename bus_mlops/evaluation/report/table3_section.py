"""The section that sets Table 3 of the paper beside our networks."""

from __future__ import annotations

from pathlib import Path

from bus_mlops.evaluation.paper.table3 import NOTE
from bus_mlops.evaluation.report.tabled import Section, render


def table3_section(tables: Path) -> Section | None:
    """`table3.csv`; None where no cost was measured, or no network is in the paper's table."""
    import pandas as pd

    path = tables / "table3.csv"
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["paper_megabytes"])
    table = table.dropna(subset=["paper_megabytes"])
    if table.empty:
        return None
    rows = [
        {
            "architecture": each["architecture"],
            "model": each["paper_model"],
            "parameters": f"{each['parameters_millions']:.2f}",
            "paper_parameters": f"{each['paper_parameters_millions']:g}",
            "megabytes": f"{each['megabytes']:.1f}",
            "with_optimizer": f"{each['with_optimizer_megabytes']:.1f}",
            "paper_megabytes": f"{each['paper_megabytes']:g}",
        }
        for each in table.to_dict("records")
    ]
    lead = "Size and parameters of the networks, as the paper prints them and as they are here."
    return Section("table3", "Table 3 beside ours", render("table3", rows=rows, note=NOTE), lead)
