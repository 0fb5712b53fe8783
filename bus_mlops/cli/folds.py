"""`bus-mlops folds`: what is in them, and bringing in those of others. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

folds_app = typer.Typer(help="What is in the folds; the benchmark's official ones.", no_args_is_help=True)


@folds_app.callback()
def folds() -> None:
    """What is in the folds; the benchmark's official ones."""


@folds_app.command("show")
def show_folds(
    json_: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Count what is in each part of each fold, and what is in none.

    In none are the locked part and external sources.
    """
    import json

    from bus_mlops import paths
    from bus_mlops.dataset.folds.assignment import Folds
    from bus_mlops.dataset.folds.leakage import check_leakage, describe

    checked = check_leakage(Folds.open(paths.FOLDS / "folds.csv"), tolerate=True)
    print(json.dumps(checked, indent=2) if json_ else describe(checked))


@folds_app.command("import")
def import_folds(
    path: Annotated[
        Path,
        typer.Argument(
            help="folds.zip as downloaded from the benchmark's site, or its folder; or a source's own table of folds."
        ),
    ],
    json_: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
) -> None:
    """Read the benchmark's folds.zip, or a source's own folds; reports every defect, repairs none.

    Their names are matched to the images of the assembled benchmark.
    """
    import json

    from bus_mlops import paths
    from bus_mlops.dataset.audit import read_groups
    from bus_mlops.dataset.benchmark import Benchmark
    from bus_mlops.dataset.folds.official import (
        IMPORTED_FILE,
        REPORT_FILE,
        match,
        read_official,
        read_published,
        write_imported,
    )
    from bus_mlops.dataset.folds.official_report import defects, describe
    from bus_mlops.files import replacing, write_json
    from bus_mlops.sources.registry import SOURCES

    if path.suffix.lower() == ".csv":
        source, rows = read_published(path, SOURCES.values())
        kind, named = "published", [source]
    else:
        kind, named, rows = "official", list(SOURCES), read_official(path)
    manifest = Benchmark.open(paths.BENCHMARK).frame
    groups = read_groups(paths.AUDIT / "groups.csv")
    matched = match(rows, manifest)
    # of the images of sources that the folds are not about, nothing is to be reported
    found = defects(matched, manifest[manifest["source"].isin(named)], groups, named, kind)
    with replacing(paths.OFFICIAL_FOLDS / IMPORTED_FILE) as temporary:
        write_imported(matched, temporary)
    write_json(paths.OFFICIAL_FOLDS / REPORT_FILE, found)
    if json_:
        print(json.dumps(found, indent=2))
        return
    print(describe(found))
    print(f"All of it: {paths.OFFICIAL_FOLDS / REPORT_FILE}. To use these folds as they are, set folds.kind to {kind}")
    count = f" and folds.count to {max(row.fold for row in rows)}" if kind == "published" else ""
    print(f"{count[1:]} in params.yaml and run `dvc repro`; their leaks stay with every run and every table.".lstrip())
    if any(found["validation_leaks"].values()):
        print(
            "training.validation: 0.2 (or another share) divides anew what a fold trains and validates on, groups whole"
        )
