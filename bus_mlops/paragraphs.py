"""Sentences on a terminal: wrapped between words, under where they began; whole where a program reads them."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from typing import TextIO

_HARD_SPACE = "\N{NO-BREAK SPACE}"


def say(text: str, hang: int = 2) -> None:
    """Print a line, whose own indentation and `hang` more spaces its continuations get where a person reads it."""
    print(wrapped(text, width_of(sys.stdout), hang))


def tell(stage: str, text: str) -> None:
    """Print what a stage of the pipeline found, under its name; lines after the first are details."""
    say(f"[{stage}] {text}")


def wrapped(text: str, width: int | None, hang: int = 2) -> str:
    """A line broken between words, or as it is where there is no width; line breaks of its own stay.

    >>> print(wrapped("  every source: passed (limit: 0.5).", 25))
      every source: passed
        (limit: 0.5).
    """
    if width is None:
        return text
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()))
        after = indent + " " * hang
        whole = re.sub(r"(?<=\d) (?=%|(?:s|min|h)\b)", _HARD_SPACE, line.strip())  # a number stays with its unit
        broken = textwrap.wrap(
            whole,
            max(width, 20),
            initial_indent=indent,
            subsequent_indent=after,
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += broken or [""]
    return "\n".join(lines).replace(_HARD_SPACE, " ")


def width_of(stream: TextIO) -> int | None:
    """The characters of a line where a person reads the stream; else None: programs look for whole sentences."""
    return shutil.get_terminal_size().columns if stream.isatty() else None
