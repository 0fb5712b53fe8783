"""The command line `bus-mlops`: everything that is not a DVC stage, put together from a file for each group."""

from __future__ import annotations

from typing import Annotated

import typer

from bus_mlops import __version__, logs
from bus_mlops.cli import consumer, data, project_folder, registry, repair, reproduce, verbosity
from bus_mlops.cli.folds import folds_app
from bus_mlops.cli.search import search_app
from bus_mlops.cli.sources import sources_app
from bus_mlops.error_messages import readable_errors

app = typer.Typer(
    name="bus-mlops",
    help="The breast ultrasound classification benchmark: reproduce it, compare runs, use what was promoted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_GROUPS = {
    "Reproduce the benchmark": (
        project_folder.init,
        reproduce.profile,
        reproduce.plan,
        reproduce.train,
        reproduce.reconcile,
        repair.repair,
        repair.relocate,
        reproduce.summary,
        reproduce.ui,
        reproduce.models,
    ),
    "Data": (data.audit,),
    "Registry": (
        registry.gate,
        registry.promote,
        registry.history,
        registry.protocol,
        registry.rollback,
        registry.verify,
    ),
    "Use a promoted model": (consumer.predict, consumer.serve, consumer.export, consumer.pull),
}


def main() -> None:
    """Entry point: errors that a user can mend are one line and exit code 1."""
    import sys

    with readable_errors(debug="--debug" in sys.argv):
        app()


def _print_version(asked: bool) -> None:
    if asked:
        print(f"bus-mlops {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[  # noqa: ARG001 - see `_print_version`
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,  # noqa: ARG001 - see `main`
    quiet: verbosity.Quiet = False,
    verbose: verbosity.Verbose = False,
) -> None:
    """Options of every command."""
    logs.show()
    verbosity.choose(quiet, verbose)


for _panel, _commands in _GROUPS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.add_typer(search_app, name="search", rich_help_panel="Reproduce the benchmark")
app.add_typer(sources_app, name="sources", rich_help_panel="Data")
app.add_typer(folds_app, name="folds", rich_help_panel="Data")
for _each in (app, search_app, sources_app, folds_app):
    for _info in _each.registered_commands:
        if _info.callback is not None:
            _info.callback = verbosity.with_verbosity(_info.callback)
