"""`bus-mlops repair`: makes a store usable again after its project was moved, or the store or files of it were lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bus_mlops.config import TrackingConfig
    from bus_mlops.tracking.inspection import Advance, Inspection
    from bus_mlops.tracking.ledger import Ledger


def repair(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list runs and versions that are damaged; exits with 1 if any is.")
    ] = False,
    record: Annotated[
        bool,
        typer.Option(
            "--record",
            help="Record the files of runs of earlier versions as they are, where they agree with the run's metrics.",
        ),
    ] = False,
    without_networks: Annotated[
        bool, typer.Option("--without-networks", help="Forget also runs that were imported without their network.")
    ] = False,
) -> None:
    """Mend the store of params.yaml; asks before each step.

    A database that is damaged, or deleted while its artifacts are there, is set aside. Addresses of a project that was
    moved or copied are rewritten. Runs whose files are missing or damaged are forgotten, registered versions are kept.
    Results whose runs are lost are given up: `dvc repro` trains these runs anew.
    """
    from bus_mlops.project import load_config

    tracking = load_config().tracking
    if not dry_run:
        _set_aside(tracking, yes)
        _relocate(tracking, yes)
    _forget_damaged(tracking, yes, dry_run, record, without_networks)
    if not dry_run:
        _give_up(tracking, yes)


def relocate(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done; exits with 1 if anything would.")
    ] = False,
) -> None:
    """Make the store of a moved project find its files again.

    Also of one that was copied or renamed.
    MLflow keeps the whole path of every artifact folder: those in the database are rewritten to `tracking.artifacts` of
    params.yaml, all or none, and only if the files are there. Decisions, evidence and checksums stay as they are.
    """
    from bus_mlops.project import load_config

    if _relocate(load_config().tracking, yes, dry_run) and dry_run:
        raise typer.Exit(1)


def _set_aside(tracking: TrackingConfig, yes: bool) -> None:
    from bus_mlops.tracking.relocation import find_damage, set_aside

    damage = find_damage(tracking)
    print(f"database: {damage or 'it can be read'}")
    if damage:
        _ask("Is there really no copy to bring back? Set database and artifacts aside?", yes)
        for path in set_aside(tracking):
            print(f"database: what is left is in {path}")


def _relocate(tracking: TrackingConfig, yes: bool, dry_run: bool = False) -> int:
    """Rewrite the addresses of each move; returns how many moves there are."""
    from bus_mlops.tracking.relocation import find_moves, relocate

    moves = find_moves(tracking)
    if not moves:
        print("addresses: artifacts are where the database looks for them")
    for move in moves:
        print(f"addresses: {move.database} looks for the artifacts of runs and models in {move.old}")
        print(f"           tracking.artifacts of params.yaml is {move.new}")
        move.require_files()
        if move.missing:
            print(f"           {len(move.missing)} folders of runs and models are in neither: {_first(move.missing)}")
            print("           `bus-mlops repair --dry-run` says which runs and versions these are")
        if dry_run:
            print(f"           {move.addresses} addresses would be changed")
            continue
        _ask(f"Make {move.addresses} addresses point to {move.new}?", yes)
        print(f"addresses: {relocate(move)} changed; nothing in {move.old} was touched")
    return len(moves)


def _first(paths: Sequence[Path], most: int = 3) -> str:
    return ", ".join(str(path) for path in paths[:most]) + (" ..." if len(paths) > most else "")


def _forget_damaged(tracking: TrackingConfig, yes: bool, dry_run: bool, record: bool, networks: bool) -> None:
    from bus_mlops.files import sqlite_file
    from bus_mlops.tracking.holdings import give_up, resting_on
    from bus_mlops.tracking.inspection import forget, inspect, remove_extra
    from bus_mlops.tracking.ledger import Ledger
    from bus_mlops.tracking.run_files import EXTRA

    file = sqlite_file(tracking.uri)
    if file is not None and not file.exists():
        print(f"files: {file} is not there yet, so there are no runs")
        return
    ledger = Ledger(tracking)
    found = inspect(ledger, progress("runs"), networks)
    if record:
        found = _record(ledger, found, yes or dry_run, dry_run, networks)
    print(f"files: {found.sentence}")
    for line in (*found.unreachable, *(damage.sentence for damage in found.damages)):
        print(f"files: {line}")
    if found.unreachable:
        print(f"files: {len(found.unreachable)} runs could not be looked at; they are left as they are")
    broken = show_versions(ledger)
    if dry_run:
        if found.damages or found.unreachable or broken:
            raise typer.Exit(1)
        return
    extra = found.of_kind(EXTRA)
    if extra:
        _ask(f"Delete the {len(extra)} files that no run has recorded?", yes)
        remove_extra(ledger, extra)
    if found.lost:
        names = "\n  ".join(found.lost)
        _ask(f"Forget {len(found.lost)} runs, so that the next `dvc repro` trains exactly these?\n  {names}\n", yes)
        forget(ledger, found.lost, "its files were missing or damaged; forgotten by bus-mlops repair")
        give_up(resting_on(found.lost))
        print(f"files: {len(found.lost)} runs forgotten, what rests on them removed. Next: dvc repro")


def _record(ledger: Ledger, found: Inspection, yes: bool, dry_run: bool, networks: bool) -> Inspection:
    from bus_mlops.promotion.repair import record_undocumented
    from bus_mlops.tracking.inspection import inspect
    from bus_mlops.tracking.run_files import UNRECORDED

    count = len(found.of_kind(UNRECORDED))
    if not count or dry_run:
        print(f"record: {count} runs have no sha256 of their files on record")
        return found
    _ask(f"Record the files of {count} runs as they are now? What the gate and verify say of them will name it.", yes)
    for line in record_undocumented(ledger, found):
        print(f"record: {line}")
    return inspect(ledger, progress("runs"), networks)


def show_versions(ledger: Ledger) -> int:
    """Print what does not hold of each registered version; returns how many are broken."""
    from bus_mlops.promotion.repair import inspect_versions

    states = inspect_versions(ledger, progress("versions"))
    for state in states:
        print(f"version: {'FAILED' if state.failed else 'holds '} {state.sentence}")
    return sum(bool(state.failed) for state in states)


def progress(what: str) -> Advance:
    """Say on a terminal how far something is; elsewhere nothing."""
    import sys

    def advance(done: int, count: int) -> None:
        if sys.stderr.isatty():
            # Back to the beginning of the line each time, so that an error in between does not stand behind it.
            end = "\n" if done == count else "\r"
            print(f"{what}: {done} of {count} checked", end=end, file=sys.stderr, flush=True)

    return advance


def _give_up(tracking: TrackingConfig, yes: bool) -> None:
    from bus_mlops.tracking.holdings import find_lost, give_up

    lost = find_lost(tracking)
    if not lost:
        print("results: the store holds what they rest on")
        return
    for line in lost.lines():
        print(f"results: {line}")
    _ask("Remove these results, so that the next `dvc repro` trains exactly these runs?", yes)
    give_up(lost)
    print("results: removed. Next: dvc repro")


def _ask(question: str, yes: bool) -> None:
    """Raise Exit unless the answer is yes."""
    if yes:
        return
    try:
        agreed = typer.confirm(question)
    except typer.Abort:  # nobody is there to answer
        print("\nNothing of this was changed: --yes does it without asking.")
        agreed = False
    if not agreed:
        raise typer.Exit(1)
