"""`bus-mlops search`: which searches there are, and how far one is. Heavy imports happen inside the commands."""

from __future__ import annotations

from typing import Annotated

import typer

from bus_mlops.cli.completion import searches

search_app = typer.Typer(help="The searches of params.yaml, and how far each is.", no_args_is_help=True)


@search_app.callback()
def search() -> None:
    """The searches of params.yaml, and how far each is."""


@search_app.command("list")
def list_searches() -> None:
    """List the searches of params.yaml and how far each is."""
    from rich.console import Console

    from bus_mlops.paths import RESULTS
    from bus_mlops.project import load_config
    from bus_mlops.search.status import read_states, render_list

    states = read_states(load_config(), RESULTS)
    if not states:
        print("no searches in params.yaml: docs/how-to/search.md shows how to write one")
        return
    Console().print(render_list(states))


@search_app.command()
def status(name: Annotated[str, typer.Argument(help="A search of params.yaml.", autocompletion=searches)]) -> None:
    """Show the trials of a search, the best so far, and the time left.

    Also while it runs; after it, what was chosen for each fold.
    """
    from rich.console import Console

    from bus_mlops.paths import RESULTS
    from bus_mlops.project import load_config
    from bus_mlops.search.status import read_states, render_state

    Console().print(render_state(read_states(load_config(), RESULTS, name)[name]))
