"""`bus-mlops export-runs` and `import-runs`: finished cells travel between ledgers in a file. Heavy imports inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bus_mlops.config import TrackingConfig

Experiment = Annotated[
    str | None, typer.Option("--experiment", help="Another one of the store than tracking.experiment of params.yaml.")
]


def export_runs(
    file: Annotated[Path, typer.Argument(help="Where to; what is there is replaced when all of it is written.")],
    finished: Annotated[
        bool, typer.Option("--finished", help="What is finished by now, though other cells are still being trained.")
    ] = False,
    without_networks: Annotated[
        bool,
        typer.Option(
            "--without-networks",
            help="Leave the networks behind: no table needs them, and the file is small enough to be published.",
        ),
    ] = False,
    experiment: Experiment = None,
) -> None:
    """Write all finished trainings into one file.

    With parameters, metrics, tags and files, each of which is compared with its sha256. `import-runs` adds them to
    another store, where they are not trained again.
    """
    from bus_mlops.tracking.ledger import Ledger
    from bus_mlops.tracking.run_transfer import export_runs as write

    tracking = _tracking(experiment)
    done = write(Ledger(tracking), file, tracking.experiment, finished, not without_networks)
    what = f"{done.files} files{', without networks' if without_networks else ''}"
    print(f"{done.runs} runs of {done.specs} specs with {what}, {file.stat().st_size / 1e6:,.1f} MB: {file}")
    print(f"sha256 {done.sha256}")


def import_runs(
    file: Annotated[Path, typer.Argument(help="What export-runs has written, here or elsewhere.")],
    experiment: Experiment = None,
) -> None:
    """Add the finished trainings of a file.

    Everything in it is checked before anything is written: sha256 of every file, metrics against predictions, specs
    against fingerprints. What is there already stays as it is; the same import again adds nothing. A run that had come
    without its network gets it from an export that has it.
    """
    from bus_mlops.promotion.repair import against_metrics
    from bus_mlops.tracking.ledger import Ledger
    from bus_mlops.tracking.run_transfer import import_runs as read

    done = read(Ledger(_tracking(experiment)), file, against_metrics)
    print(f"{done.added} runs imported, {done.there} were there already; all as they were recorded: {file}")
    if done.completed:
        print(f"{done.completed} of those that were there had come without their network, and have it now")
    if done.other_results:
        print(
            f"{done.other_results} of those that were there have other files than the export's; they stay as they are"
        )
    if done.added:
        print("Next: dvc repro, which trains what is still missing")


def _tracking(experiment: str | None) -> TrackingConfig:
    from bus_mlops.project import load_config

    tracking = load_config().tracking
    return tracking if experiment is None else tracking.model_copy(update={"experiment": experiment})
