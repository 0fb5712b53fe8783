"""Libraries' own messages quote what they read, names of patients among it: they are not let through."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silenced(*loggers: logging.Logger) -> Iterator[None]:
    """Let nothing of these loggers through for a block."""
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, state in zip(loggers, before, strict=True):
            logger.disabled = state
