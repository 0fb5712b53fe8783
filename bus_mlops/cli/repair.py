"""`bus-mlops repair`: makes a store usable again after its project was moved, or files of it were lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bus_mlops.config import Config


def repair(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
) -> None:
    """Mend the store of params.yaml: addresses of a project that was moved or copied. Asks first.

    Nothing outside the project is changed.
    """
    from bus_mlops.project import load_config

    config = load_config()
    _relocate(config, yes)


def _relocate(config: Config, yes: bool) -> None:
    from bus_mlops.tracking.relocation import find_moves, relocate

    moves = find_moves(config.tracking)
    if not moves:
        print("addresses: artifacts are where the database looks for them")
    for move in moves:
        print(f"addresses: {move.database} looks for the artifacts of runs and models in {move.old}")
        print(f"           tracking.artifacts of params.yaml is {move.new}")
        move.require_files()
        if not yes:
            typer.confirm(f"Make {move.addresses} addresses point to {move.new}?", abort=True)
        print(f"addresses: {relocate(move)} changed; nothing in {move.old} was touched")
