"""`bus-mlops audit`: duplicates and label conflicts of the benchmark, also in pictures. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def audit(
    contact_sheets: Annotated[
        Path | None,
        typer.Option(help="Folder for pages (PNG) of the clusters, conflicts first; a new one, or one of such pages."),
    ] = None,
) -> None:
    """Find duplicates and label conflicts in the benchmark.

    Changes nothing of the pipeline's.
    """
    from bus_mlops.dataset.audit import audit as find
    from bus_mlops.dataset.audit import describe
    from bus_mlops.dataset.benchmark import Benchmark
    from bus_mlops.dataset.contact_sheets import write_contact_sheets
    from bus_mlops.dataset.exclusions import count_excluded, list_exclusions
    from bus_mlops.paths import BENCHMARK

    benchmark = Benchmark.open(BENCHMARK)
    found = find(benchmark)
    print(describe(found.metrics))
    exclusions = list_exclusions(benchmark.frame, found.clusters, found.groups)
    for choice, counts in count_excluded(benchmark.frame, exclusions).items():
        print(f"audit.exclude: {choice} would leave out {sum(counts.values())} images")
    if contact_sheets is not None:
        pages = write_contact_sheets(benchmark, found, contact_sheets)
        print(f"{len(pages)} contact sheets in {contact_sheets}" if pages else "no clusters, so no contact sheets")
