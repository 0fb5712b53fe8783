"""`bus-mlops completion`: what a shell needs to complete commands, options, and names out of params.yaml."""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import typer

PROGRAM = "bus-mlops"
# By which a shell's script asks the program for what may come next.
VARIABLE = "_BUS_MLOPS_COMPLETE"


class Shell(StrEnum):
    """Shells whose scripts there are."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="The shell that you type in.")]) -> None:
    """Print the completion script of a shell.

    bash, zsh: add `eval "$(bus-mlops completion bash)"` (or zsh) to ~/.bashrc (~/.zshrc).

    fish: `bus-mlops completion fish > ~/.config/fish/completions/bus-mlops.fish`.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # typer names no exports

    script = get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value)  # nosec B604 - a name
    if shell is Shell.ZSH:
        # Where it is evaluated, a zsh may not have loaded what completes yet. Typer doubles the apostrophes of help
        # texts, which is one apostrophe where this option is set, and none where it is not.
        script = "autoload -Uz compinit && (( $+functions[compdef] )) || compinit\n" + script.replace(
            "  eval $(", "  setopt localoptions rc_quotes\n  eval $("
        )
    print(script)


def answer_shells() -> None:
    """Let the program answer a script of above, where it was called by one."""
    if VARIABLE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]  # likewise

        completion_init()


def profiles() -> Iterable[str]:
    """Names of profiles, for a shell."""
    from bus_mlops.profiles import NAMES

    return NAMES


def strategies() -> Iterable[str]:
    """Names of strategies in params.yaml, for a shell."""
    return (*_names("strategies"), "all")


def searches() -> Iterable[str]:
    """Names of searches in params.yaml, for a shell."""
    return _names("searches")


def _names(section: str) -> tuple[str, ...]:
    """The names in a section; none where the file is not there or no yaml, for nobody wants an error while typing."""
    import yaml

    from bus_mlops.paths import PARAMS

    try:
        return tuple(map(str, yaml.safe_load(PARAMS.read_text(encoding="utf-8"))[section] or ()))
    except (OSError, UnicodeError, yaml.YAMLError, LookupError, TypeError):
        return ()
