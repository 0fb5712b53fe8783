"""`bus-mlops repair`: makes a store usable again after its project was moved, or the store or files of it were lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bus_mlops.config import TrackingConfig


def repair(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
) -> None:
    """Mend the store of params.yaml; says what is wrong and asks before each step.

    A database that is damaged, or deleted while its artifacts are there, is set aside. Addresses of a project that was
    moved or copied are rewritten. Results whose runs are lost are given up: `dvc repro` trains these runs anew.
    """
    from bus_mlops.project import load_config

    tracking = load_config().tracking
    _set_aside(tracking, yes)
    _relocate(tracking, yes)
    _give_up(tracking, yes)


def _set_aside(tracking: TrackingConfig, yes: bool) -> None:
    from bus_mlops.tracking.relocation import find_damage, set_aside

    damage = find_damage(tracking)
    print(f"database: {damage or 'it can be read'}")
    if damage:
        _ask("Is there really no copy to bring back? Set database and artifacts aside?", yes)
        for path in set_aside(tracking):
            print(f"database: what is left is in {path}")


def _relocate(tracking: TrackingConfig, yes: bool) -> None:
    from bus_mlops.tracking.relocation import find_moves, relocate

    moves = find_moves(tracking)
    if not moves:
        print("addresses: artifacts are where the database looks for them")
    for move in moves:
        print(f"addresses: {move.database} looks for the artifacts of runs and models in {move.old}")
        print(f"           tracking.artifacts of params.yaml is {move.new}")
        move.require_files()
        _ask(f"Make {move.addresses} addresses point to {move.new}?", yes)
        print(f"addresses: {relocate(move)} changed; nothing in {move.old} was touched")


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
    if not yes:
        typer.confirm(question, abort=True)
