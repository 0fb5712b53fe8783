"""The command line `bus-mlops`: everything that is not a DVC stage, put together from a file for each group."""

from __future__ import annotations

from typing import Annotated

import typer

from bus_mlops import __version__, logs
from bus_mlops.cli import (
    acceptance,
    consumer,
    data,
    drift,
    layout,
    project_folder,
    registry,
    repair,
    reproduce,
    signing,
    transfer,
    verbosity,
)
from bus_mlops.cli.completion import PROGRAM, answer_shells, completion
from bus_mlops.cli.folds import folds_app
from bus_mlops.cli.search import search_app
from bus_mlops.cli.sources import sources_app
from bus_mlops.error_messages import readable_errors

app = typer.Typer(
    name=PROGRAM,
    help="The breast ultrasound classification benchmark: reproduce it, compare runs, use what was promoted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=layout.EXIT_CODES,
    cls=layout.Group,
)
PLAN, RESULTS, STORE, DATA, COMPLETION = "Plan and train", "See results", "Keep the store whole", "Data", "Your shell"
_GROUPS = {
    PLAN: (project_folder.init, reproduce.profile, reproduce.plan, reproduce.train, reproduce.models),
    RESULTS: (reproduce.summary, reproduce.ui),
    DATA: (data.audit,),
    "Judge and promote": (
        registry.gate,
        registry.promote,
        registry.history,
        registry.protocol,
        registry.rollback,
        registry.verify,
        signing.sign,
    ),
    "Use a promoted model": (
        consumer.predict,
        acceptance.accept,
        consumer.serve,
        consumer.watch,
        drift.drift,
        consumer.export,
        consumer.pull,
    ),
    STORE: (reproduce.reconcile, repair.repair, repair.relocate, transfer.export_runs, transfer.import_runs),
    COMPLETION: (completion,),
}


def main() -> None:
    """Entry point: errors that a user can mend are one line and exit code 1."""
    import sys

    with readable_errors(debug="--debug" in sys.argv):
        answer_shells()
        app(prog_name=PROGRAM)


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
_SUBGROUPS = {
    "search": (search_app, PLAN),
    "sources": (sources_app, DATA),
    "folds": (folds_app, DATA),
    "keys": (signing.keys_app, "Use a promoted model"),
}
for _name, (_group, _panel) in _SUBGROUPS.items():
    app.add_typer(_group, name=_name, rich_help_panel=_panel, cls=layout.Group)
for _before, _each in {"": app, **{f"{name} ": group for name, (group, _) in _SUBGROUPS.items()}}.items():
    for _info in _each.registered_commands:
        if _info.callback is not None:
            _called = f"{_before}{_info.name or _info.callback.__name__.replace('_', '-')}"
            _info.cls, _info.help = layout.Command, layout.paragraphs(_info.callback.__doc__)
            _info.epilog = f"Example: {layout.EXAMPLES[_called]}"
            _info.callback = verbosity.with_verbosity(_info.callback)
