"""`-q` and `-v`, which every command takes, before its name or after it."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Annotated, Any

import typer

from bus_mlops import logs
from bus_mlops.error_messages import STOPPED, fail
from bus_mlops.errors import ConfigError

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.", show_default=False)]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show also what helps to find an error.", show_default=False)
]


def choose(quiet: bool, verbose: bool) -> None:
    """Show what was asked for; what was shown before, if nothing was asked for."""
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose contradict each other: give one of them.")
    if quiet or verbose:
        logs.show(logging.WARNING if quiet else logging.DEBUG)


def with_verbosity(command: Callable[..., None]) -> Callable[..., None]:
    """The command with two more options, `-q` and `-v`."""

    @functools.wraps(command)
    def run(*, quiet: bool, verbose: bool, **values: Any) -> None:
        choose(quiet, verbose)
        try:
            command(**values)
        except KeyboardInterrupt:  # which typer would turn into a silent exit
            fail(STOPPED, code=130)

    parameters = [
        *inspect.signature(command, eval_str=True).parameters.values(),
        *(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
            for name, annotation in {"quiet": Quiet, "verbose": Verbose}.items()
        ),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
