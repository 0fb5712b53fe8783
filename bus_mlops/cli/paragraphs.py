"""Sentences on a terminal: wrapped between words, under where they began; whole where a program reads them."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap


def say(text: str, hang: int = 2) -> None:
    """Print a line, whose own indentation and `hang` more spaces its continuations get where a person reads it."""
    print(wrapped(text, _width(), hang))


def wrapped(text: str, width: int | None, hang: int = 2) -> str:
    """A line broken between words, or as it is where there is no width; line breaks of its own stay.

    >>> print(wrapped("  G1 floors: passed (limit: 0.5).", 22))
      G1 floors: passed
        (limit: 0.5).
    """
    if width is None:
        return text
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()))
        after = indent + " " * hang
        broken = textwrap.wrap(
            line.strip(), max(width, 20), initial_indent=indent, subsequent_indent=after, break_long_words=False
        )
        lines += broken or [""]
    return "\n".join(lines)


def _width() -> int | None:
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return shutil.get_terminal_size().columns
    return None
