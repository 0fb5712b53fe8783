"""Commands as they are printed, so that they work where they are pasted."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def command(program: str, *arguments: str) -> str:
    """A command line of a program of this environment, with its path unless a shell finds it.

    >>> command("no-such-program", "--name", "two words")
    "no-such-program --name 'two words'"
    """
    return shlex.join((_found(program), *arguments))


def _found(program: str) -> str:
    """The program's name where the environment is active; its path where it is not, or where `make` alone knows it."""
    # Not resolved: a virtual environment's python is a link to another folder's.
    own = Path(sys.executable).parent / program
    if not own.is_file() or _is_active(own):
        return program
    here = Path.cwd()
    return str(own.relative_to(here) if own.is_relative_to(here) else own)


def _is_active(own: Path) -> bool:
    if sys.prefix in (os.environ.get("VIRTUAL_ENV"), os.environ.get("CONDA_PREFIX")):
        return True
    found = shutil.which(own.name)
    # The Makefile puts the environment on the path of its own commands, not of the shell that it was called from.
    return "MAKELEVEL" not in os.environ and found is not None and Path(found).absolute() == own.absolute()
