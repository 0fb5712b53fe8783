"""The reference of the command line, made from its own parser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# Told once, at the top of the page.
OF_EVERY_COMMAND = {"quiet", "verbose", "help"}


def page() -> str:
    """Every command with its arguments and options, by the groups of `bus-mlops --help`."""
    import typer

    from bus_mlops.cli.app import app

    program: Any = typer.main.get_command(app)
    groups: dict[str, list[Any]] = {}
    for command in program.commands.values():
        groups.setdefault(str(command.rich_help_panel), []).extend(_commands(command, "bus-mlops"))
    context = program.make_context("bus-mlops", [], resilient_parsing=True)
    shared = _table(program, context, shared=True)
    options = _table(program, context)
    parts = [f"## Of every command\n\n{shared}\n\n## Before the command\n\n{options}"]
    for group, commands in groups.items():
        parts += [f"## {group}", *commands]
    return "\n\n".join(parts) + "\n"


def _commands(command: Any, before: str) -> Iterator[str]:
    name = f"{before} {command.name}"
    if hasattr(command, "commands"):
        for each in command.commands.values():
            yield from _commands(each, name)
        return
    context = command.make_context(name, [], resilient_parsing=True)
    usage = command.get_usage(context).removeprefix("Usage: ").strip()
    yield f"### `{name}`\n\n{(command.help or '').strip()}\n\n```text\n{usage}\n```\n\n{_table(command, context)}"


def _table(command: Any, context: Any, *, shared: bool = False) -> str:
    """The arguments and options of a command that are its own, or those that every command has."""
    parameters = [each for each in command.get_params(context) if not each.hidden]
    records = [each.get_help_record(context) for each in parameters if (each.name in OF_EVERY_COMMAND) is shared]
    rows = [f"| `{_cell(term)}` | {_cell(text)} |" for term, text in records]
    return "\n".join(["| argument or option | meaning |", "|---|---|", *rows]) if rows else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
