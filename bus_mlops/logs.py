"""What a process of ours says on its way: messages on standard output, warnings and errors on standard error.

The library only logs, a logger a module; whether anything is shown is decided by the entry point, or by the program
that uses the library. Results of commands (tables, JSON) are output, and no messages.
"""

from __future__ import annotations

import io
import logging
import sys

PLAIN = "%(message)s"
# With the place that speaks.
DETAILED = "%(levelname)-7s %(name)s: %(message)s"
_OURS = logging.getLogger("bus_mlops")


def show(level: int = logging.INFO) -> None:
    """Show what bus_mlops logs from this level on, in this process; other libraries' loggers stay as they are."""
    for stream in (sys.stdout, sys.stderr):  # a file's name that the terminal's encoding lacks must not end a command
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    handler = _Streams()
    handler.setFormatter(logging.Formatter(DETAILED if level < logging.INFO else PLAIN))
    _OURS.handlers = [handler]
    _OURS.setLevel(level)
    # A handler that another library has put on the root logger would say everything twice.
    _OURS.propagate = False


def are_shown() -> bool:
    """Whether messages, and with them live progress, are wanted."""
    return _OURS.isEnabledFor(logging.INFO)


class _Streams(logging.Handler):
    """Writes to what sys.stdout and sys.stderr are at that moment: a live view redirects them for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        try:
            stream.write(self.format(record) + "\n")
            stream.flush()
        except Exception:  # a closed pipe must not stop a training
            self.handleError(record)
