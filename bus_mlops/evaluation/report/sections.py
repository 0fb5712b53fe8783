"""The sections of the report that are drawn from `results/tables` alone, in the order of the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bus_mlops.evaluation.report.curve_section import curve_section
from bus_mlops.evaluation.report.external_section import external_section
from bus_mlops.evaluation.report.leak_premium_section import leak_premium_section
from bus_mlops.evaluation.report.pairwise_section import pairwise_section
from bus_mlops.evaluation.report.probed_sections import cost_section, failures_section, robustness_section
from bus_mlops.evaluation.report.reproduced_section import reproduced_section
from bus_mlops.evaluation.report.subgroup_section import subgroup_section
from bus_mlops.evaluation.report.table3_section import table3_section
from bus_mlops.evaluation.report.tabled import Section

# Each takes the folder `results/tables`, and returns None where the page has nothing to say.
SECTIONS: tuple[Callable[[Path], Section | None], ...] = (
    subgroup_section,
    curve_section,
    pairwise_section,
    external_section,
    failures_section,
    robustness_section,
    cost_section,
    leak_premium_section,
    table3_section,
    reproduced_section,
)


def tabled_sections(tables: Path) -> list[Section]:
    """The sections that have something to say."""
    return [section for build in SECTIONS if (section := build(tables)) is not None]
