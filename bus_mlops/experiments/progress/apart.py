"""Keeps what libraries and worker processes write to a terminal's standard error from tearing a live view."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

STDERR = 2


@contextmanager
def apart(show: Callable[[str], None]) -> Iterator[None]:
    """Give `show` each line that anything below Python, or a process started meanwhile, writes to standard error.

    Where standard error is no terminal nothing is done: what goes to a file tears nothing. A process that outlives the
    block is heard until it ends.
    """
    if not os.isatty(STDERR):
        yield
        return
    sys.stderr.flush()
    kept = os.dup(STDERR)
    reading, writing = os.pipe()
    os.dup2(writing, STDERR)
    os.close(writing)
    threading.Thread(target=_read, args=(reading, show), daemon=True).start()
    try:
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)


def _read(reading: int, show: Callable[[str], None]) -> None:
    with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.strip():
                with suppress(Exception):  # what cannot be shown must not block those who write
                    show(line.rstrip())
